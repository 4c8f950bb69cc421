"""``ipi-driver reproduce``: the published tests, from runs to one report."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ipi_driver.cli import reproduce_relaxed
from ipi_driver.cli.printing import add_printing, set_result
from ipi_driver.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from ipi_driver.studies.langer2024.plan import Part
    from ipi_driver.studies.langer2024.runner import Failure, Runs

EPILOG = """\
Runs one molecule at constant energy and temperature, liquid water (raw; averaged with multiple time stepping; in
random frames) and the relaxation of ice, measures the symmetry error against every average, and writes one report with
the published values beside those of this model: OUTPUT/report/report.html, table.csv, table.json.

small: 64 molecules of the liquid, 10 to 100 ps; within three hours on 2 cores. full: 512 molecules, longer: for a large
machine, see --dry-run. A call that was stopped is continued by the same call: runs that are complete are not repeated.

examples:
  ipi-driver reproduce                                    # all of it, small, into reproduction-small
  ipi-driver reproduce --fraction 0.01 --output trial     # try it: every run at 1 % of its length
  ipi-driver reproduce gas ice --model my-model --output my-reproduction
  ipi-driver reproduce --scale full --dry-run             # what it would run, and for how long
  ipi-driver reproduce --scale full liquid --jobs 3 --threads 16
  ipi-driver reproduce --scale full liquid --jobs 1 --device cuda
  ipi-driver reproduce --nmts 8 --seed 2 --output 4fs   # corrected every 4 instead of 5 fs, other random numbers
  ipi-driver reproduce --nmts 8 --seed 2 --output 4fs --only-report   # analyze again what has been run
  ipi-driver run liquid-nvt --nmts 6 --steps 5000 --output runs/3fs   # a run of yours: another step, another average
  ipi-driver reproduce --only-report --with runs/3fs      # beside those of the liquid
  ipi-driver reproduce --export my-report                 # copy the report (a few MB) to a folder of your own

hofgard2024 is another study, of networks that learn to break the symmetry (arXiv 2407.20471); it runs no simulation,
takes minutes, and writes a table, the weights and their signals on the sphere to reproduction-hofgard2024:

  ipi-driver reproduce hofgard2024
  ipi-driver reproduce hofgard2024 --fraction 0.1 --output trial

The report holds every complete run of OUTPUT, whichever systems are named. An OUTPUT keeps its --model, --scale,
--fraction, --seed and --nmts: a later call, also with --only-report, gives the same. A run may be continued beyond
its length: --only-report analyzes the whole of it and notes it. An example, which goes on where the plan ends (16 ps):

  ipi-driver run liquid-nvt --output reproduction-small/runs/liquid-2i --resume --steps 8000

exit status: 0 all runs named are complete (with --only-report: a report was written); 2 error, or a run failed (the
others are run and reported); 130 interrupted (the same command continues).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.epilog = EPILOG
    add = parser.add_argument
    add(
        "systems",
        nargs="*",
        metavar="SYSTEM",
        help="gas, liquid, ice (default: all of these); or hofgard2024",
    )
    add(
        "--scale",
        choices=("small", "full"),
        default="small",
        help="lengths of the runs, sizes of the boxes (default small)",
    )
    add("--model", default="pet-water-s2", help="as for `ipi-driver run` (default pet-water-s2)")
    add("-o", "--output", type=Path, metavar="DIR", help="folder to write (default reproduction-SCALE)")
    add("--jobs", type=int, metavar="N", help="runs at the same time (default: cores / threads)")
    add("--threads", type=int, default=1, metavar="N", help="threads of each model (default 1)")
    add("--device", help="torch device of the models of the runs (default cpu)")
    add("--seed", type=int, default=31415, help="seed of i-PI and of random rotations (default 31415)")
    add(
        "--fraction",
        type=float,
        default=1.0,
        metavar="F",
        help="multiply the lengths of all runs; of ice the smallest cells are taken, at least 3 (default 1)",
    )
    add(
        "--nmts",
        "--stride",
        dest="stride",
        type=int,
        metavar="N",
        help="inner steps (0.5 fs) per outer step of the averaged liquid, as `ipi-driver check` recommends; the number "
        "of outer steps stays (default 10, as published; less than 8 makes the small runs too short for the drift)",
    )
    add("--dry-run", action="store_true", help="print the runs and their estimated time, run nothing")
    add("--only-report", action="store_true", help="run nothing, analyze what is complete")
    add(
        "--export",
        type=Path,
        metavar="DIR",
        help="copy OUTPUT/report to this folder, which must be new or empty",
    )
    add(
        "--with",
        dest="others",
        action="append",
        type=Path,
        default=[],
        metavar="RUN",
        help="run folder of the same liquid to show beside those of OUTPUT, such as one with another average or "
        "--nmts; may be repeated",
    )
    add("--no-viewer", action="store_true", help="leave the structure viewer (1.3 MB) out of the report")
    add_printing(parser)


def main(args: argparse.Namespace) -> int:
    """Run what is not complete, analyze, print the table; 2 if a run failed."""
    from rich.console import Console

    from ipi_driver.analysis.dispatch import find_runs
    from ipi_driver.studies.langer2024.plan import Settings, fingerprint, open_plan, parts_of
    from ipi_driver.studies.langer2024.runner import Runs

    if reproduce_relaxed.STUDY in args.systems:
        if len(args.systems) > 1:
            raise UserError(
                f"{reproduce_relaxed.STUDY} is a study of its own: leave {' '.join(args.systems[1:])} out"
            )
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        reproduce_relaxed.check_options(args, parser.parse_args([]))
        if not 0 < args.fraction <= 1:
            raise UserError(f"--fraction must be above 0 and at most 1, got {args.fraction:g}")
        return reproduce_relaxed.main(args, _command())
    for name in ("jobs", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} must be at least 1, got {value}")
    if args.seed < 0:  # i-PI has none
        raise UserError(f"--seed must not be negative, got {args.seed}")
    parts = parts_of(args.scale, args.systems, args.fraction, args.stride)
    everything = parts_of(args.scale, (), args.fraction, args.stride)
    output = args.output or Path(f"reproduction-{args.scale}")
    jobs = args.jobs or max(1, _cores() // args.threads)
    settings = Settings(
        args.model, fingerprint(args.model), args.scale, args.fraction, args.seed, args.stride
    )
    runs = Runs(output, settings, args.threads, args.device)
    console = Console(stderr=True)
    _check_export(args.export)
    for other in args.others:
        find_runs(other)
    if args.dry_run:
        open_plan(output, settings, parts, write=False)
        _print_plan(runs, parts, jobs)
        set_result(
            args,
            [
                {"run": part.name, "hours": part.seconds / 3600, "complete": runs.complete(part)}
                for part in parts
            ],
        )
        return 0
    _check_model(args.model)
    open_plan(output, settings, () if args.only_report else parts, write=not args.only_report)
    failures: list[Failure] = []
    if not args.only_report:
        failures = _execute(runs, parts, jobs, console)
    try:
        folder = _report(runs, everything, _command(), args, console)
        set_result(args, folder / "table.json", folder)
        if args.export is not None:
            shutil.copytree(folder, args.export, dirs_exist_ok=True)
            print(f"copied to {args.export}")
    finally:
        for failure in failures:
            print(
                f"error: {failure.part.name} ended with status {failure.status} before its end; see {failure.log}; "
                "the same command continues it",
                file=sys.stderr,
            )
    return 2 if failures else 0


def _command() -> str:
    return shlex.join(["ipi-driver", *sys.argv[1:]])


def _cores() -> int:
    """Cores that this process may use: a queue gives fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_export(folder: Path | None) -> None:
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--export must name a new or empty folder, got {folder}")


def _check_model(model: str) -> None:
    from ipi_driver.potentials import load_potential

    load_potential(model)


def _print_plan(runs: Runs, parts: Sequence[Part], jobs: int) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:  # a log file has no width of its own
        console = Console(width=120)
    table = Table()
    for title in ("run", "input", "average", "steps", "estimate / h", ""):
        table.add_column(title)
    for part in parts:
        steps = "to convergence" if part.steps is None else str(part.steps)
        state = "complete" if runs.complete(part) else ""
        average = part.average or "of the input"
        table.add_row(part.name, part.source, average, steps, f"{part.seconds / 3600:.2g}", state)
    console.print(table)
    waiting = [part.seconds / 3600 for part in parts if not runs.complete(part)]
    wall = max([sum(waiting) / jobs, *waiting])
    print(
        f"an estimate for a model as fast as pet-water-s2, with one thread each: {sum(waiting):.2g} core hours "
        f"are left, at least {wall:.2g} h with {jobs} run{'s' * (jobs > 1)} at a time"
    )


def _execute(runs: Runs, parts: Sequence[Part], jobs: int, console: Console) -> list[Failure]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    waiting = []
    for part in parts:
        if runs.complete(part):
            console.print(f"{part.name}: complete", highlight=False)
        else:
            waiting.append(part)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, speed_estimate_period=600) as bar:
        tasks: dict[str, object] = {}

        def watch(running: Sequence[Part]) -> None:
            for part in running:
                if part.name not in tasks:
                    if not console.is_terminal:
                        console.print(f"{part.name}: {runs.log(part)}", highlight=False, soft_wrap=True)
                    tasks[part.name] = bar.add_task(part.name, total=runs.progress(part)[1])
            for task in bar.tasks:
                part = next(p for p in parts if p.name == task.description)
                if not task.finished:
                    bar.update(task.id, completed=runs.progress(part)[0])
            for part in [p for p in waiting if p.name in tasks and p not in running]:
                waiting.remove(part)
                if not console.is_terminal:
                    console.print(
                        f"{part.name}: {'done' if runs.complete(part) else 'FAILED'}", highlight=False
                    )

        failures = runs.execute(tuple(waiting), jobs, watch)
        watch(())  # the last steps
        return failures


def _report(
    runs: Runs, parts: Sequence[Part], command: str, args: argparse.Namespace, console: Console
) -> Path:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ipi_driver.studies.langer2024.report import print_tables, write_reproduction

    complete = [part for part in parts if runs.complete(part)]
    if not complete:
        raise UserError(f"nothing to report: no run in {runs.output} is complete")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:

        def start(description: str, total: int):  # type: ignore[no-untyped-def]
            task = bar.add_task(description, total=total or None)
            return lambda n: bar.advance(task, n)

        result = write_reproduction(runs, complete, command, not args.no_viewer, start, args.others)
    print_tables(result)
    print(f"report: {result.page}")
    return result.page.parent
