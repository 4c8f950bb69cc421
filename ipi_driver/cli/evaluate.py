"""``ipi-driver evaluate MODEL DATA``: errors of a model on labelled structures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ipi_driver.cli.printing import add_printing, set_result
from ipi_driver.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from ipi_driver.potentials.base import Potential
    from ipi_driver.report.evaluation_tables import Source
    from ipi_driver.training.data import LabelledStructure
    from ipi_driver.training.evaluation import Evaluation

EPILOG = """\
Energies are compared absolutely and after subtraction of the mean offset; the symmetry error is the mean
absolute difference from the reference average. A structure costs one evaluation for each different rotation of
the averages and the reference (Ih: 120); --reference none leaves the symmetry error out.

examples:
  ipi-driver evaluate my-model water.extxyz --indices my-model/split.yaml
  ipi-driver evaluate pet-water-s2 water.extxyz --average none 2i --reference 3i
  ipi-driver evaluate pet-water-s2 test.extxyz --reference none --output errors
  ipi-driver evaluate my-model bulk.extxyz slabs.extxyz --indices my-model/split.yaml   # each file by itself as well
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.epilog = EPILOG
    add = parser.add_argument
    add("model", help="shipped model, model folder, exported .pt, ase:MODULE.CALCULATOR?KEY=VALUE, ...")
    add("data", nargs="+", type=Path, help="extended XYZ, n2p2 input.data or DeePMD folders")
    add("--average", nargs="+", action="extend", metavar="NAME", help="averages to evaluate (default: none)")
    add(
        "--reference",
        default="Ih",
        metavar="NAME",
        help="for the symmetry error (default Ih; none: no error)",
    )
    add("--indices", type=Path, metavar="SPLIT", help="split file that the training wrote (split.yaml)")
    add(
        "--part",
        choices=("train", "validation", "test"),
        help="part of the split to evaluate (default test)",
    )
    add("--max-structures", type=int, metavar="N", help="at most N structures, evenly spaced")
    add("--energy-key", default="energy", metavar="KEY", help="name in the comment line (default energy)")
    add("--forces-key", default="forces", metavar="KEY", help="name of the columns (default forces)")
    add("--stress-key", metavar="KEY", help="stress in the comment line, compared as virial")
    add("--virial-key", metavar="KEY", help="virial in the comment line")
    add(
        "--units",
        choices=("auto", "ev-angstrom", "atomic"),
        default="auto",
        help="of the data (default auto)",
    )
    add("--output", type=Path, metavar="DIR", help="folder for JSON, CSV and PNG (default evaluate-MODEL)")
    add("--device", default="cpu", help="torch device (default cpu)")
    add("--dtype", choices=("float32", "float64"), help="precision of the model (default float32)")
    add("--batch", type=int, metavar="N", help="rotations per call of the model (default: chosen)")
    add("--seed", type=int, default=0, help="seed of random rotations (default 0)")
    add_printing(parser)


def main(args: argparse.Namespace) -> int:
    """Evaluate, print the table, write the files."""
    from rich.console import Console

    from ipi_driver.cli.output_folder import output_folder
    from ipi_driver.potentials import load_potential
    from ipi_driver.report.evaluation_tables import (
        error_tables,
        noise_note,
        relatives_warning,
        write_evaluation,
    )
    from ipi_driver.report.parity_figures import plot_parity

    if args.part is not None and args.indices is None:
        raise UserError(f"--part {args.part} needs the split: add --indices SPLIT")
    if args.max_structures is not None and args.max_structures < 1:
        raise UserError(f"--max-structures must be at least 1, got {args.max_structures}")
    potential = load_potential(args.model, args.device, args.dtype)
    folder = output_folder(args.output, f"evaluate-{potential.name}")
    data, source = _read(args)
    _check_elements(potential, data, source)
    console = Console()
    result = _evaluate(args, potential, data)
    if result.metrics[0].virial_mae_per_atom is None and any(item.virial is not None for item in data):
        print(f"{potential.name} gives no virials: those of the data are not compared")
    for table in error_tables(result, source):
        console.print(table)
    written = [*write_evaluation(result, source, folder), plot_parity(result, folder / "parity.png")]
    console.print(f"Written to {folder}: " + ", ".join(path.name for path in written), highlight=False)
    if (note := noise_note(result)) is not None:
        console.print(note, highlight=False)
    if (warning := relatives_warning(source)) is not None:
        console.print(warning, style="yellow", highlight=False)
    _warn_about_training_data(args, console)
    set_result(args, folder / "evaluation.json", folder)
    return 0


def _read(args: argparse.Namespace) -> tuple[list[LabelledStructure], Source]:
    """The structures asked for."""
    import numpy as np

    from ipi_driver.report.evaluation_tables import Source, distinct_names
    from ipi_driver.training.data import read_ordered
    from ipi_driver.training.similarity import nearest
    from ipi_driver.training.splits import read_split

    split = None if args.indices is None else read_split(args.indices)
    keys = (args.energy_key, args.forces_key, args.stress_key, args.virial_key, args.units)
    # who names the energies wants them; files of forces alone are evaluated as well
    data, order = read_ordered(args.data, *keys, need_energy=args.energy_key != "energy")
    indices = np.arange(len(data))
    part = n_train = None
    if split is not None:
        split.check_data(order)
        split.check_range(len(data))
        part, n_train = args.part or "test", len(split.train)
        indices = split.part(part)
    if args.max_structures is not None and args.max_structures < len(indices):
        chosen = np.linspace(0, len(indices) - 1, args.max_structures).round().astype(int)
        indices = indices[chosen]
    chosen_data = [data[i] for i in indices]
    near = None
    if split is not None and part != "train":
        train = [data[i].structure for i in split.train]
        near = nearest([item.structure for item in chosen_data], train)
    source = Source(distinct_names(args.data), part, tuple(indices.tolist()), n_train, order.counts, near)
    for line in order.described():
        print(line)
    if unknown := sum(not np.isfinite(item.energy) for item in chosen_data):
        which = "no energies" if unknown == len(chosen_data) else f"no energies in {unknown} structures"
        print(f"{which}: forces alone are compared there")
    return chosen_data, source


def _check_elements(potential: Potential, data: list[LabelledStructure], source: Source) -> None:
    """An unknown element would be found in the midst of the evaluation, whose results were lost."""
    for index, item in zip(source.indices, data, strict=True):
        try:
            potential.check_species(item.structure)
        except UserError as error:
            raise UserError(f"structure {index}: {error}; leave it out") from error


def _evaluate(args: argparse.Namespace, potential: Potential, data: list[LabelledStructure]) -> Evaluation:
    """`evaluate_model` under a progress bar."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ipi_driver.rotations import quadrature, quadratures
    from ipi_driver.training.evaluation import evaluate_model, n_evaluations

    averages = quadratures(args.average or ["none"])
    reference = None if args.reference == "none" else quadrature(args.reference)
    if reference is not None and not reference.is_fixed:
        raise UserError(
            f"--reference {args.reference} is not the mean over rotations; expected a grid such as Ih, or none"
        )
    total = n_evaluations(len(data), averages, reference)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("evaluations"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        return evaluate_model(
            potential,
            data,
            averages,
            reference,
            seed=args.seed,
            rotation_batch=args.batch,
            progress=lambda rotations: bar.advance(task, rotations),
        )


def _warn_about_training_data(args: argparse.Namespace, console: Console) -> None:
    """Warn about errors on structures that the model was trained on."""
    split = Path(args.model) / "split.yaml"
    if args.indices is None and split.is_file():
        console.print(
            f"All structures of the data were evaluated; if the model was trained on some of them, add "
            f"--indices {split} for the test part alone.",
            style="yellow",
            highlight=False,
        )
    elif args.indices is not None and args.part == "train":
        console.print("These are the training structures: not a measure of accuracy.", style="yellow")
