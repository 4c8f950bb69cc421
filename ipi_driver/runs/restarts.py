"""What the launcher does when a run breaks: starts it again from its last checkpoint, or ends it with the reason.

A client that was killed, ran out of memory or met an error that a new process heals is started again. One that
fails on the configuration on which the one before has failed is not: it would fail there again. A checkpoint from
which i-PI makes no step is replaced by the one before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import ase
import ase.io

from ipi_driver.client.record import RECORD, Recorded, read_record
from ipi_driver.errors import UserError
from ipi_driver.ipi_files import edit as xml
from ipi_driver.ipi_files.run_folder import CONTINUE, INPUT, RunFolder, kept_name, unused_name
from ipi_driver.ipi_files.template import read_template
from ipi_driver.ipi_files.units import BOHR
from ipi_driver.runs.changes import Changes
from ipi_driver.runs.ending import RunFailed
from ipi_driver.runs.events import add_event
from ipi_driver.runs.resume import go_on

DEFAULT = 3
"""Restarts one after the other without progress."""
_INTERVAL = 100
"""Steps that count as progress where the input has no <checkpoint>."""
_PAUSE = 2.0
"""Seconds between two restarts without progress, for what has run out to be free again; the first is at once."""


class Restarts:
    """Decides after each failure of a run whether it is started again.

    Parameters
    ----------
    run
        The run folder, locked.
    allowed
        Restarts without progress in between; 0: the first failure ends the run.
    report
        Receives the messages.
    """

    def __init__(self, run: RunFolder, allowed: int, report: Callable[[str], None]) -> None:
        self._run, self._allowed, self._report = run, allowed, report
        self._interval = min(run.input.checkpoint_strides, default=_INTERVAL)
        self._frame: Recorded | None = None
        self._step = 0
        self._in_row = 0
        self._unread: list[tuple[Path, Path]] = []
        self._first: RunFailed | None = None

    def after(self, failure: RunFailed, start_file: str, made_a_step: bool) -> str:
        """The file to start from again; raises ``failure``, or one with more detail, where the run ends.

        Parameters
        ----------
        failure
            What happened.
        start_file
            What the part that failed had started from.
        made_a_step
            Whether that part did at least one step.
        """
        if made_a_step:
            self._unread = []
        if failure.who == "i-PI" and not failure.killed:
            return self._older(failure, start_file, made_a_step)
        if not self._allowed or not (failure.killed or failure.began):
            raise failure
        frame = self._failed_frame(failure)
        if frame is not None and self._frame is not None and frame.same(self._frame):
            where = self._write_frame(frame) if failure.killed else ""
            raise UserError(
                f"{failure}; it has failed twice on the same configuration{where}: a restart does not help"
            )
        self._frame = frame
        self._in_row = 1 if failure.step >= self._step + self._interval else self._in_row + 1
        if self._in_row == 1:
            self._step = failure.step
        if self._in_row > self._allowed:
            raise UserError(
                f"{failure}; restarted {self._allowed} times in a row without the {self._interval} steps of a "
                "checkpoint in between (--restarts)"
            )
        time.sleep(_PAUSE * (self._in_row - 1))
        return self._again(failure)

    def _again(self, failure: RunFailed) -> str:
        start_file = go_on(self._run, Changes(), self._note)
        done = max(self._run.checkpoints(), default=0) if start_file == CONTINUE else 0
        text = f"{failure.what}; started again from step {done}"
        self._report(text)
        add_event(self._run.path, "restart", text, failure.step)
        return start_file

    def _older(self, failure: RunFailed, start_file: str, made_a_step: bool) -> str:
        """Go on from an older checkpoint where i-PI has made no step from this one."""
        self._first = self._first or failure
        steps = self._run.checkpoint_steps()
        begun = max(steps.values(), default=0)
        older = [step for step in steps.values() if 0 < step < begun]
        if made_a_step or start_file != CONTINUE or not older or "Errno" in str(failure):
            for aside, path in self._unread:  # it was not the checkpoints
                step = xml.steps_done(aside.read_text())
                aside.rename(kept_name(path, step) if path.exists() else path)
            raise self._first if self._unread else failure
        for path in [path for path, step in steps.items() if step == begun]:
            aside = unused_name(path)
            path.rename(aside)
            self._unread.append((aside, path))
        self._note(
            f"{failure.what}: i-PI makes no step from the checkpoint of step {begun}, which is kept as "
            f"{self._unread[-1][0].name}"
        )
        return self._again(failure)

    def _note(self, text: str) -> None:
        self._report(text)
        add_event(self._run.path, "checkpoint", text)

    def _failed_frame(self, failure: RunFailed) -> Recorded | None:
        return read_record(self._run.path / RECORD) if failure.who == "client" else None

    def _write_frame(self, frame: Recorded) -> str:
        """Where the configuration is now, for a message; empty where it could not be written."""
        path = self._run.path / "failed-frame.extxyz"
        try:
            template = read_template(self._run.path / INPUT)
            cell, pbc = frame.h.T * BOHR, template.pbc
            ase.io.write(
                path, ase.Atoms(template.numbers, frame.positions * BOHR, cell=cell, pbc=pbc), format="extxyz"
            )
        except (OSError, ValueError, UserError):
            return ""
        return f" ({path})"
