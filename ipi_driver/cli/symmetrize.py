"""``ipi-driver symmetrize MODEL STRUCTURES... --output NEW``: a raw model learns its own rotational average."""

from __future__ import annotations

import argparse
import signal
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ipi_driver.cli.printing import add_printing, set_result
from ipi_driver.errors import UserError
from ipi_driver.units import MILLI

if TYPE_CHECKING:
    from ipi_driver.structure import Structure
    from ipi_driver.training.data import LabelledStructure
    from ipi_driver.training.distillation import DistillConfig, SetReport, TeachingSet

EPILOG = """\
The average of the model over a grid is the teacher; the new model learns its energies and forces on the structures
given, in random orientations, and then is as symmetric there without any average. No labels are needed. A trajectory
of the system of interest serves best; every file counts the same. The last fifth of each file is held out, and the
symmetry error before and after is measured on it. A PET with `angular_basis` forgets x, y and z at once: its new model
is exactly invariant on any structure, and the training, where it needs one, brings it back to the average. Ctrl-C or
SIGTERM end the training within 100 steps: what it has learned is measured and kept (status 128 + the number of the
signal).

examples:
  ipi-driver symmetrize pet-water-s2 gas.extxyz --output my-gas-model
  ipi-driver symmetrize my-model gas.xyz liquid.xyz ice.xyz --output my-model-sym --minutes 20
  ipi-driver symmetrize my-model run/simulation.pos_0.xyz --data test.extxyz --output new   # errors on labels as well
"""


_EXACT = 1e-3
"""Symmetry error of forces, meV/Å, that is rounding of float32."""
_ROUNDING = 1e-5
"""Spread of the forces over rotations, eV/Å, below which there is nothing to learn."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.epilog = EPILOG
    add = parser.add_argument
    add("model", help="shipped model or model folder")
    add(
        "structures",
        nargs="+",
        type=Path,
        help="files that ASE reads, or i-PI's trajectories of positions",
    )
    add("--output", type=Path, required=True, metavar="NEW", help="folder of the new model")
    add("--average", default="Th", metavar="NAME", help="of the teacher (default Th, 24 rotations)")
    add(
        "--minutes",
        type=float,
        default=10.0,
        help="time of the training after that of the teacher (default 10)",
    )
    add("--steps", type=int, metavar="N", help="train for N steps, in whole hundreds, however long they take")
    add(
        "--max-structures",
        type=int,
        default=200,
        metavar="N",
        help="of each file, evenly spaced (default 200)",
    )
    add("--data", nargs="+", type=Path, metavar="FILE", help="labelled structures: errors before and after")
    add("--learning-rate", type=float, default=2e-4, help="at its highest (default 2e-4)")
    add("--threads", type=int, help="of torch (default: all cores)")
    add("--seed", type=int, default=0, help="of everything random (default 0)")
    add_printing(parser)


def main(args: argparse.Namespace) -> int:
    """Teach, train, measure, write."""
    import torch

    from ipi_driver.networks.storage import load_model
    from ipi_driver.potentials.network import NetworkPotential
    from ipi_driver.rotations.quadrature import quadrature
    from ipi_driver.shipped import find_shipped
    from ipi_driver.training.distillation import DistillConfig, Distiller, finish, report_set
    from ipi_driver.training.stopping import signals_that_stop

    _check(args)
    average = quadrature(args.average)
    if average.identity is None:
        raise UserError(
            f"--average {args.average}: expected a grid that holds the identity, such as Th or 2i"
        )
    config = DistillConfig(
        average, args.minutes, args.steps, args.learning_rate, seed=args.seed, threads=args.threads
    )
    if args.threads:
        torch.set_num_threads(args.threads)
    folder = find_shipped("models", args.model)
    files = [_read(path, args.max_structures) for path in args.structures]
    names = _names(args.structures)
    network, baseline = load_model(folder)
    before = NetworkPotential(network, baseline, name=folder.name)
    if before.directions:
        raise UserError(
            f"{args.model} depends on the orientation on purpose (relaxed weights {', '.join(before.directions)}), "
            "which its average would unlearn; expected a model whose dependence is an error"
        )
    labelled = _labelled(args.data or [], network.config.species)
    for structure in (structure for structures in files for structure in structures):
        before.check_species(structure)
    sets = _teach(before, names, files, config, args.quiet)
    spread = max(prediction.forces_std for part in sets for prediction in part.taught)
    if spread < _ROUNDING:
        raise UserError(
            f"{args.model} is equivariant already: its forces differ by {1000 * spread:.1g} meV/Å between rotations; "
            "expected a model with a symmetry error"
        )
    args.output.mkdir(parents=True, exist_ok=True)
    student, baseline = load_model(folder)
    invariant = student.invariant()
    if invariant is not None:
        print(f"{args.model} is told angles: the new model forgets x, y and z, and is exactly invariant")
    distiller = Distiller(
        config, invariant or student, baseline, sets, args.output, invariant=invariant is not None
    )
    distiller.resumable = False
    try:
        with signals_that_stop() as distiller.stopping:
            distiller.run(quiet=args.quiet)
    except UserError as error:
        raise UserError(f"{error}; {args.output} keeps the log of this try: give another --output") from error
    if distiller.step == 0:
        print(
            f"its forces are {MILLI * distiller.best_force_mae:.2g} meV/Å from the average, those of the raw model "
            f"{MILLI * distiller.raw_error:.2g} (validation structures): no training is needed"
        )
    after = NetworkPotential.load(args.output)
    reports = [report_set(after, part, config.average) for part in sets]
    _show(reports, args.average)
    finish(args.output, folder.name, config, reports, {})
    errors = _errors(labelled, before, after) if labelled else {}
    if errors:
        finish(args.output, folder.name, config, reports, errors)
    set_result(args, {"model": str(args.output), "sets": [asdict(r) for r in reports], "errors": errors})
    if distiller.stopped:
        name = signal.Signals(distiller.stopping.number).name
        print(f"stopped by {name} after {distiller.step} steps: the model is the best of these")
    print(f"The model is in {args.output}; next: ipi-driver check {args.output} {args.structures[0]}")
    return 128 + distiller.stopping.number if distiller.stopped else 0


def _check(args: argparse.Namespace) -> None:
    """Raise what would otherwise be found only after the training."""
    if args.output.exists() and (not args.output.is_dir() or any(args.output.iterdir())):
        raise UserError(f"--output {args.output} exists already; choose a new folder, nothing is overwritten")
    for name in ("minutes", "steps", "learning_rate", "max_structures", "threads"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise UserError(f"--{name.replace('_', '-')} must be positive, got {value:g}")
    if args.seed < 0:
        raise UserError(f"--seed must not be negative, got {args.seed}")
    for path in [*args.structures, *(args.data or [])]:
        if not path.exists():
            raise UserError(f"no file {path}")


def _names(paths: list[Path]) -> list[str]:
    """A name for each file; files of the same name are distinguished by their folders."""
    names = [path.name.split(".")[0] for path in paths]
    return [
        name if names.count(name) == 1 else f"{path.parent.name}-{name}-{k}"
        for k, (name, path) in enumerate(zip(names, paths, strict=True))
    ]


def _read(path: Path, most: int) -> list[Structure]:
    """At most so many structures, evenly spaced."""
    import numpy as np

    from ipi_driver.training.unlabelled import read_unlabelled

    structures = read_unlabelled([path])
    chosen = np.unique(np.linspace(0, len(structures) - 1, min(most, len(structures))).round().astype(int))
    return [structures[k] for k in chosen]


def _teach(
    potential: object, names: list[str], files: list[list[Structure]], config: DistillConfig, quiet: bool
) -> list[TeachingSet]:
    """Evaluate the teacher under a progress bar."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ipi_driver.potentials.base import Potential
    from ipi_driver.training.distillation import teach

    assert isinstance(potential, Potential)
    columns = (TextColumn("teacher"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as bar:
        task = bar.add_task("", total=sum(len(structures) for structures in files))
        return [
            teach(potential, name, structures, config, lambda: bar.advance(task))
            for name, structures in zip(names, files, strict=True)
        ]


def _show(reports: list[SetReport], average: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"raw − {average} on held-out structures, mean absolute values",
        caption="deviation: the new raw model less the average of the old one",
    )
    table.add_column("")
    for name in ("structures", "force (meV/Å)\nbefore → after", "lower by", "energy (meV)\nbefore → after"):
        table.add_column(name, justify="right")
    table.add_column("deviation\nforce, energy", justify="right")
    for r in reports:
        table.add_row(
            r.name,
            str(r.n_structures),
            f"{r.force_before:.3g} → {r.force_after:.2g}",
            f"{r.force_before / r.force_after:.1f}" if r.force_after > _EXACT else "exact",
            f"{r.energy_before:.3g} → {r.energy_after:.2g}",
            f"{r.force_deviation:.2g}, {r.energy_deviation:.2g}",
        )
    Console().print(table)


def _labelled(paths: list[Path], species: tuple[int, ...]) -> list[LabelledStructure]:
    """Labelled structures of elements that the model knows: found wrong before the training, not after it."""
    from ase.data import chemical_symbols

    from ipi_driver.training.data import read_dataset

    data = read_dataset(paths) if paths else []
    for k, item in enumerate(data):
        if unknown := sorted(set(item.structure.numbers.tolist()) - set(species)):
            have = ", ".join(chemical_symbols[z] for z in species)
            raise UserError(
                f"--data: structure {k} holds {chemical_symbols[unknown[0]]}, the model has {have}; leave it out"
            )
    return data


def _errors(data: list[LabelledStructure], before: object, after: object) -> dict[str, dict[str, float]]:
    """Errors of both raw models on labelled structures, as a table and by name."""
    from ipi_driver.potentials.base import Potential
    from ipi_driver.rotations import quadratures
    from ipi_driver.training.evaluation import evaluate_model

    found = {}
    for name, potential in (("before", before), ("after", after)):
        assert isinstance(potential, Potential)
        (metrics,) = evaluate_model(potential, data, quadratures(["none"])).metrics
        found[name] = asdict(metrics)
        print(
            f"{name}: force MAE {MILLI * metrics.force_mae:.1f} / RMSE {MILLI * metrics.force_rmse:.1f} meV/Å, "
            f"energy − offset {MILLI * metrics.shifted_energy_mae_per_atom:.2f} meV/atom, {len(data)} structures"
        )
    return found
