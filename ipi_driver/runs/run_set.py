"""``ipi-driver run INPUT`` where the input is a set: its structures one after the other."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from ipi_driver.errors import UserError
from ipi_driver.ipi_files.run_folder import INPUT, RunFolder
from ipi_driver.runs.changes import Changes
from ipi_driver.runs.execute import Interrupted, Outcome, caught_signals, run_simulation
from ipi_driver.runs.restarts import DEFAULT
from ipi_driver.runs.sets import RunSet, open_set, prepare_cell


@dataclass(frozen=True)
class SetOutcome:
    """How the runs of a set ended.

    Attributes
    ----------
    states
        Name of the cell to finished, failed, stopped or not run.
    status
        Exit status: 130 interrupted, 2 a cell failed, 1 a cell was stopped early, 0 all finished.
    """

    states: dict[str, str]
    status: int

    @property
    def n_finished(self) -> int:
        return sum(state == "finished" for state in self.states.values())


def run_set(
    runs: RunSet,
    output: Path,
    changes: Changes,
    console: Console,
    resume: bool | Literal["same"] = False,
    one_core: bool | None = None,
    restarts: int = DEFAULT,
    summarize: Callable[[Path, Outcome], object] = lambda folder, outcome: None,
) -> SetOutcome:
    """Run every structure that is not finished; a failure is reported and the next is run.

    Parameters
    ----------
    runs
        The set.
    output
        Folder of the set; each cell gets a folder in it.
    changes
        Of the command line.
    console
        Receives the messages.
    resume
        Go on with what is not finished; "same": only if the set was begun with these changes and no others.
    one_core, restarts
        As in `run_simulation`.
    summarize
        Called with the folder and the outcome of every cell that was run; its failure is reported and ends nothing.

    Raises
    ------
    UserError
        If the set cannot be begun or continued.
    """
    changes = open_set(runs, output, changes, resume)
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
                outcome = _run_cell(runs, name, output / name, changes, console, one_core, restarts)
            except Interrupted as error:
                _say(console, f"{name}: {error}")
                status = 130
                break
            except UserError as error:
                _say(console, f"error: {name}: {error}")
                states[name], status = "failed", 2
                continue
            if outcome is not None:
                _summarize(summarize, name, output / name, outcome, console)
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
    return SetOutcome(states, status)


def _run_cell(
    runs: RunSet,
    name: str,
    folder: Path,
    changes: Changes,
    console: Console,
    one_core: bool | None,
    restarts: int,
) -> Outcome | None:
    """Run one cell; None where it was finished before."""
    begun = RunFolder(folder).is_begun
    start_file = prepare_cell(runs, name, folder, changes)
    if start_file is None:
        _say(console, f"{name}: finished before")
        return None
    if begun and start_file == INPUT:
        _say(console, f"{name} has no checkpoint to go on from: it begins anew from step 0")
    return run_simulation(folder, start_file, console, one_core, restarts)


def _summarize(
    summarize: Callable[[Path, Outcome], object], name: str, folder: Path, outcome: Outcome, console: Console
) -> None:
    try:
        summarize(folder, outcome)
    except Exception as error:  # whatever it is, the run itself is good, and the other cells are waiting
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        _say(console, f"{name}: no summary: {reason}")


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
