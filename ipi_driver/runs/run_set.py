"""``ipi-driver run INPUT`` where the input is a set: its structures one after the other."""

from __future__ import annotations

import argparse
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from ipi_driver.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from ipi_driver.runs.execute import Outcome
    from ipi_driver.runs.prepare import Changes
    from ipi_driver.runs.sets import RunSet


def run_set(args: argparse.Namespace, runs: RunSet, changes: Changes, console: Console) -> int:
    """Run every structure that is not finished; a failure is reported and the next is run.

    Returns
    -------
    int
        Exit status: 130 interrupted, 2 a cell failed, 1 a cell was stopped early, 0 all finished.
    """
    from ipi_driver.report.set_summary import print_set, set_row, write_set
    from ipi_driver.runs.execute import Interrupted, caught_signals
    from ipi_driver.runs.sets import open_set

    output = args.output or runs.folder(changes)
    changes = open_set(runs, output, changes, args.resume)
    if runs.skipped:
        _say(console, f"not structures, left out: {', '.join(runs.skipped)}")
    status, states = 0, dict.fromkeys(runs.structures, "not run")
    with caught_signals() as between:  # two cells, where nothing runs
        for number, name in enumerate(runs.structures, start=1):
            if between.number:
                _say(console, f"interrupted by {signal.Signals(between.number).name}")
                status = 130
                break
            _say(console, f"cell {number} of {len(runs.structures)}: {name}")
            try:
                outcome = _run_cell(runs, name, output / name, changes, console, args.one_core)
            except Interrupted as error:
                _say(console, f"{name}: {error}")
                status = 130
                break
            except UserError as error:
                _say(console, f"error: {name}: {error}")
                states[name], status = "failed", 2
                continue
            if outcome is not None and outcome.interrupted:
                between.received.append(outcome.interrupted)
            if outcome is None or outcome.finished:
                states[name] = "finished"
                continue
            states[name] = "stopped"
            _say(console, f"{name}: stopped at step {outcome.steps} of {outcome.total}: {outcome.reason}")
            if outcome.interrupted:
                status = 130
                break
            status = max(status, 1)
    rows = [set_row(name, output / name, state) for name, state in states.items()]
    if output.is_dir():
        write_set(output, rows)
    print_set(output, rows)
    if status:
        done = sum(state == "finished" for state in states.values())
        words = ["ipi-driver", "run", str(args.input), *_option(args.structures), "--output", str(output)]
        command = shlex.join([*words, "--resume"])
        _say(console, f"{done} of {len(states)} cells are finished; continue with: {command}")
    return status


def _run_cell(
    runs: RunSet, name: str, folder: Path, changes: Changes, console: Console, one_core: bool | None
) -> Outcome | None:
    """Run one cell; None where it was finished before."""
    from ipi_driver.report.run_summary import summarise, write_summary
    from ipi_driver.runs.execute import run_simulation
    from ipi_driver.runs.folder import INPUT
    from ipi_driver.runs.sets import is_begun, prepare_cell

    begun = is_begun(folder)
    start_file = prepare_cell(runs, name, folder, changes)
    if start_file is None:
        _say(console, f"{name}: finished before")
        return None
    if begun and start_file == INPUT:
        _say(console, f"{name} has no checkpoint to go on from: it begins anew from step 0")
    outcome = run_simulation(folder, start_file, console, one_core)
    try:
        write_summary(folder, summarise(folder, outcome))
    except Exception as error:  # whatever it is, the run itself is good, and the other cells are waiting
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        _say(console, f"{name}: no summary: {reason}")
    return outcome


def _option(structures: Path | None) -> list[str]:
    return [] if structures is None else ["--structures", str(structures)]


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
