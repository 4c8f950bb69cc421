"""``ipi-driver check``: the symmetry error of a model and the cheapest average that is good enough."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ipi_driver.cli.conditions import add_conditions, add_precision
from ipi_driver.cli.printing import add_printing, set_result
from ipi_driver.errors import UserError
from ipi_driver.units import MILLI

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from ipi_driver.potentials.base import Potential
    from ipi_driver.potentials.chunks import Progress
    from ipi_driver.symmetry.check import Stage

CARD = "card.html"

EPILOG = """\
Averages: none; the Euler-angle grids 2, 2i, 3, 3i, ...; i (inversion); the groups D2, D2h, T, Th, O, Oh, I,
Ih; lebedev-L; random, random-so3, random-NAME; ecse (isolated structures).

The table lists the mean and largest difference of every average from the reference. Below it, the error is
resolved by angular degree l and parity, with the share of each that passes an average. Forces and virial
are compared with finite differences. With --trajectory, the spectrum of the correction (averaged minus raw
forces) gives the outer step of multiple time stepping: the part of it that the outer step cannot resolve must
be below the tolerance. Of a liquid or solid, with snapshots at most 1.5 fs apart, it also gives how fast a
simulation heats with each outer step.

examples:
  ipi-driver check pet-water-s2 water.extxyz
  ipi-driver check pet-water-s2 gas.extxyz liquid.extxyz --average T Th 2i --tolerance 0.5
  ipi-driver check my-model gas.extxyz --drift --card            # the whole of it on one page, for a phone too
  ipi-driver check model.pt water.extxyz --inner 'model.pt?non_conservative=forces' --trajectory positions.xyz
  ipi-driver check my-model gas.extxyz --explain                 # is it a real field, or an error?
  ipi-driver check pet-water-s2 gas.xyz --no-pbc --trajectory run/simulation.pos_0.xyz --spacing 1
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.epilog = EPILOG
    add = parser.add_argument
    add("model", help="shipped model, model folder, exported .pt, ase:MODULE.CALCULATOR?KEY=VALUE, ...")
    add(
        "structures",
        nargs="+",
        type=Path,
        help="files that ASE reads, or i-PI trajectories",
    )
    add(
        "--average",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="averages to compare (default: none i D2 D2h T Th O Oh I Ih 2 2i 3 3i)",
    )
    add("--reference", default="Ih", metavar="NAME", help="average that counts as exact (default Ih)")
    add(
        "--tolerance",
        type=float,
        default=1.0,
        metavar="MEV",
        help="acceptable force error, meV/Å (default 1)",
    )
    add("--max-structures", type=int, default=10, metavar="N", help="structures of each file (default 10)")
    add(
        "--orientations",
        type=int,
        metavar="N",
        help="of each isolated structure: as it is, and N - 1 at random; along the axes, as files often have it, a "
        "molecule may have no error by symmetry (default: as many as make 8 with all structures of a file)",
    )
    add("--max-degree", type=int, metavar="L", help="resolve degrees up to L (default: what 30 s allow)")
    add("--trajectory", type=Path, metavar="FILE", help="snapshots at equal times, for the outer step")
    add(
        "--spacing",
        type=float,
        metavar="FS",
        help="time between its snapshots (default: from the steps of an i-PI file and the input.xml beside it)",
    )
    add("--time-step", type=float, default=0.5, metavar="FS", help="inner time step (default 0.5 fs)")
    add(
        "--max-snapshots",
        "--max-frames",
        type=int,
        default=1000,
        metavar="N",
        help="snapshots of --trajectory to use (default 1000)",
    )
    add(
        "--skip-snapshots",
        "--skip-frames",
        type=int,
        default=0,
        metavar="N",
        help="snapshots of --trajectory to leave out at the start (default 0)",
    )
    add(
        "--pbc",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="periodic or isolated, whatever the file states",
    )
    add(
        "--temperature",
        type=float,
        default=300.0,
        metavar="K",
        help="temperature of the orientational free energy of isolated molecules (default 300)",
    )
    add(
        "--explain",
        action="store_true",
        help="fit a relaxed network to the residual forces: a field (vector, pseudovector, tensor) or an artefact "
        "(needs e3nn; half a minute)",
    )
    add(
        "--drift",
        nargs="?",
        type=int,
        const=1000,
        default=0,
        metavar="STEPS",
        help="follow the total energy of a short run at constant energy from the first structure, at --temperature "
        "with --time-step (default 1000 steps)",
    )
    add(
        "--inner",
        metavar="MODEL",
        help="model of the inner step of multiple time stepping, such as 'model.pt?non_conservative=forces': how far "
        "its forces are from those of MODEL, and the outer step that this allows",
    )
    add(
        "--card",
        nargs="?",
        type=Path,
        const=Path(),
        metavar="FILE",
        help=f"one page on the model with verdicts, numbers and figures (default {CARD} in --output)",
    )
    add("--output", type=Path, metavar="DIR", help="folder for CSV, JSON and PNG (default check-MODEL)")
    add_conditions(parser)
    add("--device", default="cpu", help="torch device (default cpu)")
    add_precision(parser)
    add("--rotation-batch", type=int, metavar="N", help="rotations per call of the model (default: chosen)")
    add("--seed", type=int, default=0, help="of random rotations (default 0)")
    add_printing(parser)


def main(args: argparse.Namespace) -> int:
    """Run the check; 0 also where no average suffices, as that is an answer."""
    from rich.console import Console

    from ipi_driver.cli.output_folder import output_folder
    from ipi_driver.ipi_files.structures import read_data_set, spacing_of
    from ipi_driver.potentials import load_potential, load_precise
    from ipi_driver.report.check_card import write_card
    from ipi_driver.report.check_figures import write_figures
    from ipi_driver.report.check_tables import print_check, write_check
    from ipi_driver.rotations import quadrature, quadratures
    from ipi_driver.symmetry.check import DEFAULT_AVERAGES, CheckSettings, run_check

    for option, least in (("max_structures", 1), ("max_snapshots", 1), ("skip_snapshots", 0)):
        if getattr(args, option) < least:
            raise UserError(
                f"--{option.replace('_', '-')} must be at least {least}, got {getattr(args, option)}"
            )
    data_sets = [
        read_data_set(path, args.pbc, sample=args.max_structures).conditioned(args.charge, args.spin)
        for path in args.structures
    ]
    trajectory = None
    if args.trajectory is not None:
        used = slice(args.skip_snapshots, args.skip_snapshots + args.max_snapshots)
        data = read_data_set(args.trajectory, args.pbc, part=used).conditioned(args.charge, args.spin)
        trajectory = (data, spacing_of(data, args.trajectory, args.spacing))
    potential = load_potential(args.model, args.device, args.dtype)
    potential.check_conditions(args.charge, args.spin)
    inner = None
    if args.inner is not None:
        inner = load_potential(args.inner, args.device)
        inner.check_conditions(args.charge, args.spin)
    folder = output_folder(args.output, f"check-{potential.name}")
    precise = potential if args.dtype == "float64" else load_precise(args.model, potential, args.device)
    settings = CheckSettings(
        averages=quadratures(args.average or DEFAULT_AVERAGES),
        reference=quadrature(args.reference),
        tolerance=args.tolerance / MILLI,
        max_degree=args.max_degree,
        orientations=args.orientations,
        seed=args.seed,
        rotation_batch=args.rotation_batch,
        time_step=args.time_step,
        temperature=args.temperature,
        explain=args.explain,
        drift_steps=args.drift,
    )
    console = Console()
    with _progress_bar() as bar:
        result = run_check(potential, data_sets, settings, trajectory, precise, _stages(bar), inner)
    written = [*write_check(result, folder), *write_figures(result, folder)]
    if args.card is not None:
        card = folder / CARD if args.card == Path() else args.card
        written.append(write_card(result, card, shlex.join(["ipi-driver", *sys.argv[1:]])))
    print_check(result, console)
    if result.recommendation.average != "none" and _can_be_invariant(potential):
        console.print(
            "Or once and for all: this model is told angles beside x, y and z, and without the latter it is exactly "
            f"invariant: ipi-driver symmetrize {args.model} {args.structures[0]} --output NEW"
        )
    console.print(
        f"Written to {folder}: " + ", ".join(_name(path, folder) for path in written), highlight=False
    )
    set_result(args, folder / "check.json", folder)
    return 0


def _name(path: Path, folder: Path) -> str:
    return path.name if path.parent == folder else str(path)


def _progress_bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("evaluations"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _can_be_invariant(potential: Potential) -> bool:
    """Whether `symmetrize` makes an exactly invariant model of it."""
    from ipi_driver.potentials.network import NetworkPotential

    return isinstance(potential, NetworkPotential) and potential.network.invariant() is not None


def _stages(bar: Bar) -> Stage:
    def stage(description: str, total: int) -> Progress:
        for task in bar.tasks:
            bar.update(task.id, visible=False)
        task_id = bar.add_task(description, total=total or None)

        def progress(rotations: int) -> None:
            bar.advance(task_id, rotations)

        return progress

    return stage
