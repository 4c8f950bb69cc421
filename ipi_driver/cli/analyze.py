"""``ipi-driver analyze``: observables, figures and a report from runs."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ipi_driver.analysis.result import TORQUE_AVERAGES, Analysis, Options
from ipi_driver.cli.output_folder import output_folder
from ipi_driver.cli.printing import add_printing, set_result

if TYPE_CHECKING:  # it loads scipy
    from ipi_driver.analysis.compare import Comparison

EPILOG = """\
RUN is a folder in which i-PI ran (its input .xml and what <output> names), a folder of relaxations, or a farm (submit),
whose members of one average are joined.
What the run is - one molecule, a liquid (or a slab of it), ice - is recognized from its structure. Runs of one kind are
drawn over each other, and where ensemble and temperature are the same it is tested whether they agree: give the raw and
the averaged runs together. Needed in the output: positions; for angular momentum and temperatures velocities or
momenta; for torques forces; for the drift the properties step and conserved.

examples:
  ipi-driver analyze runs/liquid-raw runs/liquid-2i runs/liquid-random --output analysis
  ipi-driver analyze my-run --skip 5 --longest-lag 20
  ipi-driver analyze my-run --bandwidth 0.1 --map-bandwidth 0.1   # kernels of Langer et al. 2024
  ipi-driver analyze my-gas-run --axis 0 0 1                      # a molecule in a field along z
  ipi-driver analyze runs/liquid-remd               # each ensemble of replica exchange
  ipi-driver analyze runs/liquid-remd --system r1 r4
  ipi-driver analyze ice-none ice-2i                # relaxations are compared with those of the first
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.epilog = EPILOG
    default = Options()
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="run folder, folder of relaxations, or farm")
    add("-o", "--output", type=Path, help="folder to write (default: analysis)")
    add(
        "--skip",
        type=float,
        default=default.skip,
        metavar="PS",
        help="time left out at the start (default 0)",
    )
    add("--molecule", metavar="FORMULA", help="molecules to look at (default: the most frequent kind)")
    add(
        "--vector",
        metavar="A->B",
        help="orientation vector between elements (default: heaviest atom -> mean of others)",
    )
    add(
        "--axis",
        type=float,
        nargs=3,
        metavar=("X", "Y", "Z"),
        help="axis of an external field on one molecule: mean cos θ and free energy of its orientation against it",
    )
    add(
        "--longest-lag",
        type=float,
        default=default.longest_lag,
        metavar="PS",
        help="longest lag of time correlations (default 10)",
    )
    add(
        "--fit-start",
        type=float,
        default=default.fit_start,
        metavar="PS",
        help="start of the fits of D and tau (default 1)",
    )
    add(
        "--r-max",
        type=float,
        metavar="Å",
        help="largest distance of pair correlations (default: half the cell)",
    )
    add(
        "--pair-snapshots",
        "--pair-frames",
        type=int,
        default=default.pair_snapshots,
        metavar="N",
        help="snapshots for pair correlations (default 400)",
    )
    add(
        "--viscosity",
        type=float,
        default=default.viscosity,
        metavar="MPA_S",
        help="shear viscosity for the finite-size correction of D (default: 0.854 for water; none for other liquids)",
    )
    add(
        "--bandwidth",
        type=float,
        default=default.bandwidth,
        metavar="Å",
        help="Gaussian kernel of pair correlations, 0.1 as published (default 0: bins)",
    )
    add(
        "--map-bandwidth",
        type=float,
        default=default.map_bandwidth,
        metavar="H",
        help="Gaussian kernel of maps of orientations, in cos θ and φ / rad, 0.1 as published (default 0: bins)",
    )
    add(
        "--model",
        help="potential (as for serve): adds its orientational free energy by perturbation (liquids, gas runs at "
        "constant temperature) and its torque with each of --averages (gas runs)",
    )
    add(
        "--averages",
        nargs="+",
        default=list(TORQUE_AVERAGES),
        metavar="NAME",
        help=f"averages for the torque of --model (default: {' '.join(TORQUE_AVERAGES)})",
    )
    add(
        "--system",
        nargs="+",
        default=[],
        metavar="PREFIX",
        help="of runs of several systems (replica exchange): those with these prefixes (default: all)",
    )
    add("--no-viewer", action="store_true", help="leave the structure viewer (1.3 MB) out of the report")
    add_printing(parser)


def main(args: argparse.Namespace) -> int:
    """Analyze, write, print the table."""
    from ipi_driver.api.analyzing import analyze_all
    from ipi_driver.report.comparison import comparisons_of
    from ipi_driver.report.writer import write_report

    options = _options(args)
    folder = output_folder(args.output, "analysis")
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:

        def start(description: str, total: int) -> Callable[[int], None]:
            task = progress.add_task(description, total=total)
            return lambda n: progress.advance(task, n)

        analyses = analyze_all(args.runs, options, start)
    command = shlex.join(["ipi-driver", *sys.argv[1:]]) if sys.argv[1:] else "ipi-driver analyze"
    compared = comparisons_of(analyses)
    with_viewer = not args.no_viewer
    page = write_report(analyses, folder, command, with_viewer, comparisons=compared)
    _print(analyses)
    _print_comparisons(compared)
    for analysis in analyses:
        for note in analysis.notes:
            print(f"note: {analysis.label}: {note}", file=sys.stderr)
    print(f"report: {page}")
    set_result(args, folder / "analysis.json", folder)
    return 0


def _options(args: argparse.Namespace) -> Options:
    from ipi_driver.potentials import load_potential
    from ipi_driver.rotations import quadratures

    return Options(
        molecule=args.molecule,
        vector=args.vector,
        skip=args.skip,
        axis=None if args.axis is None else tuple(args.axis),
        longest_lag=args.longest_lag,
        fit_start=args.fit_start,
        r_max=args.r_max,
        pair_snapshots=args.pair_snapshots,
        viscosity=args.viscosity,
        bandwidth=args.bandwidth,
        map_bandwidth=args.map_bandwidth,
        model=None if args.model is None else load_potential(args.model),
        averages=quadratures(args.averages),
        systems=tuple(args.system),
    )


def _print(analyses: list[Analysis]) -> None:
    from ipi_driver.report.tables import formatted, in_one_row

    console = Console()
    if not console.is_terminal:  # a log file has no width of its own
        console = Console(width=140)
    for kind in dict.fromkeys(analysis.kind for analysis in analyses):
        same = [analysis for analysis in analyses if analysis.kind == kind]
        table = Table(title=escape(f"{kind}: {same[0].system}"))
        table.add_column("quantity", min_width=32)
        for analysis in same:
            table.add_column(escape(analysis.label), justify="right")
        table.add_column("unit", no_wrap=True)
        for key in dict.fromkeys(key for analysis in same for key in analysis.scalars):
            known = [analysis.scalars.get(key) for analysis in same]
            first = next(scalar for scalar in known if scalar is not None)
            label, own = in_one_row(known)
            cells = ["–" if scalar is None else formatted(scalar.value, scalar.error) for scalar in known]
            cells = [f"{cell}\n{addition}".rstrip() for cell, addition in zip(cells, own, strict=True)]
            table.add_row(*map(escape, (label, *cells, first.unit)))  # a label may hold the name of a model
        console.print(table)


def _print_comparisons(found: dict[str, list[Comparison]]) -> None:
    from ipi_driver.report.comparison import comparison_table

    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    for runs, rows in found.items():
        header, cells = comparison_table(rows)
        shown = [header.index(name) for name in ("quantity", "verdict", "would have been found")]
        table = Table(title=escape(f"{runs}: do the runs agree?"))
        for k in shown:
            table.add_column(header[k], overflow="fold")
        for row in cells:
            table.add_row(*(escape(row[k]) for k in shown))
        console.print(table)
