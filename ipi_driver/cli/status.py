"""``ipi-driver status [RUN ...]``: where runs, sets, farms, reproductions and trainings stand."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipi_driver.runs.status import RunStatus

EPILOG = """\
examples:
  ipi-driver status                          # all runs below runs/, farms/ or the current folder
  ipi-driver status runs/gas-nvt runs/ice-2i
  ipi-driver status farms/liquid-nvt --watch # again every 10 seconds, until interrupted
  ipi-driver status runs --json | jq '.[].step'

Nothing is written: the files are read that the runs write themselves, also of runs on other machines. A run
that has not ended and has written nothing for a minute is "silent": it was killed, or its machine is gone.
"""

_EVERY = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EPILOG
    parser.add_argument(
        "runs",
        nargs="*",
        type=Path,
        metavar="RUN",
        help="run folders, or folders that hold some (default: runs/ and farms/, or this folder)",
    )
    parser.add_argument("--watch", action="store_true", help=f"again every {_EVERY:g} seconds")
    parser.add_argument("--json", action="store_true", help="as JSON")


def main(args: argparse.Namespace) -> int:
    """Print a line for each run."""
    from ipi_driver.runs.status import find_runs, holds_runs, status_of

    usual = [path for path in (Path("runs"), Path("farms")) if holds_runs(path)]
    folders = args.runs or usual or [Path()]
    while True:
        found = [status_of(folder) for folder in find_runs(folders)]
        if args.json:
            print(json.dumps([status.as_json() for status in found], indent=2), flush=True)
        else:
            _print(found)
        if not args.watch:
            return 0
        try:
            time.sleep(_EVERY)
        except KeyboardInterrupt:
            return 0


def _print(found: list[RunStatus]) -> None:
    """A line for each run, and under it its last message."""
    from ipi_driver.runs.console import lenient_console

    console = lenient_console(sys.stdout)
    lines = [_cells(status) for status in found]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for status, cells in zip(found, lines, strict=True):
        words = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True) if width]
        console.print("  ".join(words).rstrip(), highlight=False, markup=False, soft_wrap=True)
        if status.message:
            console.print(f"    {status.message}", highlight=False, markup=False, soft_wrap=True)


def _cells(status: RunStatus) -> list[str]:
    from ipi_driver.runs.progress import clock

    running = status.state == "running"
    return [
        os.path.relpath(status.name),
        status.state,
        f"{status.step}/{status.total}" if status.total else f"step {status.step}",
        f"{clock(status.seconds_left)} left" if running and status.seconds_left is not None else "",
        f"{status.speed:.3g} steps/s" if running and status.speed is not None else "",
        f"T {status.temperature}" if status.temperature else "",
        f"conserved {status.change}" if status.change else "",
        f"std of forces {status.symmetry_std:.3g} meV/Å" if status.symmetry_std is not None else "",
    ]
