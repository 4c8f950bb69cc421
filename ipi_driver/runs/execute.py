"""Runs i-PI and the client together: private sockets, supervision of both, restarts, a progress bar, a clean end."""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.console import Console

from ipi_driver.client.record import RECORD, read_record
from ipi_driver.errors import UserError
from ipi_driver.ipi_files import edit as xml
from ipi_driver.ipi_files.run_folder import INPUT, STARTING, RunFolder, unused_name
from ipi_driver.runs.client_warnings import ClientWarnings
from ipi_driver.runs.console import lenient_console
from ipi_driver.runs.cores import core_of_its_own, one_core_suits
from ipi_driver.runs.ending import Ending, RunFailed, Statuses, clean_restart, read_ending
from ipi_driver.runs.events import add_event
from ipi_driver.runs.facts import RunFacts, read_facts
from ipi_driver.runs.interruption import Interrupted, Interruption, caught_signals
from ipi_driver.runs.keeper import CheckpointKeeper
from ipi_driver.runs.live import LiveStatus
from ipi_driver.runs.lock import locked
from ipi_driver.runs.monitor import PropertyMonitor
from ipi_driver.runs.pair import POLL, Clients, Pair, ipi_command
from ipi_driver.runs.private import socket_folder
from ipi_driver.runs.progress import ProgressDisplay
from ipi_driver.runs.refresh import Refresher
from ipi_driver.runs.relaxation import relaxation_of
from ipi_driver.runs.restarts import DEFAULT, Restarts
from ipi_driver.runs.sockets import shared_sockets
from ipi_driver.runs.symmetry_monitor import SymmetryMonitor
from ipi_driver.runs.watch import Alarm

__all__ = ["Interrupted", "Outcome", "caught_signals", "ipi_command", "run_simulation"]


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    steps, first_step
        Steps done, and those that an earlier part had done.
    total
        Steps that the input asks for.
    wall_seconds
        Duration of this run (of the last part, if resumed).
    finished
        Whether i-PI did all that its input asks for.
    reason
        Why not.
    interrupted
        Number of the signal that ended it, or 0.
    """

    steps: int
    first_step: int
    total: int
    wall_seconds: float
    finished: bool
    reason: str = ""
    interrupted: int = 0


class Refresh(Protocol):
    """Writes the summary of a run that has come so far; `stop`, from another thread, makes it return at once."""

    def __call__(self, folder: Path, outcome: Outcome) -> None: ...

    def stop(self) -> None: ...


class _Part:
    """i-PI and the client from a start to their end; of a run that is restarted there are several."""

    def __init__(
        self,
        run: RunFolder,
        start_file: str,
        facts: RunFacts | None,
        sockets: Path,
        live: LiveStatus,
        refresher: Refresher | None,
    ) -> None:
        self.run, self._sockets, self._live, self._refresher = run, sockets, live, refresher
        folder = run.path
        self.first = _step(folder / start_file)
        self.last = self._looked_at = -1
        self.alarm: Alarm | None = None
        for path in folder.glob(f"{RECORD}*"):  # of the clients before
            path.unlink()
        self._monitor = PropertyMonitor(folder)
        self._keeper = CheckpointKeeper(run)
        self._watch = None if facts is None else facts.watch(folder)
        monitor = None if facts is None else facts.settings.monitor
        self._symmetry = None if monitor is None else SymmetryMonitor(folder, monitor.tolerance)
        self._warnings = ClientWarnings(folder)

    @property
    def made_a_step(self) -> bool:
        return self.last > self.first or max(self.run.checkpoint_steps().values(), default=0) > self.first

    def follow(self, pair: Pair, display: ProgressDisplay, interruption: Interruption) -> None:
        """Until one of both has ended, a signal has come, or the physics is wrong; then end both."""
        starting = self.run.path / STARTING
        while pair.running() and not interruption.number and self.alarm is None:
            self._look(display)
            if self.last >= 0 or (self._monitor.path is None and starting.exists() and self.run.has_rows()):
                starting.unlink(missing_ok=True)
            if self._keeper.look() and self._refresher is not None:
                self._refresher.checkpoint(max(self.last, 0))
            if not self._sockets.is_dir():
                raise UserError(
                    f"{self._sockets}, where the sockets of the run are, has been removed; run it again"
                    f"{'' if self.run.is_starting else ' with --resume'}"
                )
            time.sleep(POLL)
        if self.alarm is not None:
            pair.stop()
        elif interruption.number:
            display.report("stopping i-PI, which writes its RESTART; interrupt again not to wait for it")
            pair.stop()
        else:
            pair.follow()
        self._look(display, final=True)
        if self.last >= 0:
            starting.unlink(missing_ok=True)

    def _look(self, display: ProgressDisplay, final: bool = False) -> None:
        now = self._monitor.update()
        self.last = now.step
        if now.step > self.first:
            self._keeper.step_made()
        if self._watch is not None and self.alarm is None:
            self.alarm = self._watch.look(self._monitor.fresh, read_record(self.run.path / RECORD))
        if now.step > self._looked_at or final:
            self._look_at_symmetry(now.step, display)
        if self._looked_at <= 0 or final:  # it warns before its first answer
            for text in self._warnings.look():
                self._report(f"the client warns: {text}", "client", now.step, display)
        if now.step >= 0:
            display.update(now, final=final)
            self._live.update(now, display.speed, display.seconds_left)

    def _look_at_symmetry(self, step: int, display: ProgressDisplay) -> None:
        self._looked_at = step
        if self._symmetry is not None and (warning := self._symmetry.look()) is not None:
            self._report(warning, "symmetry", step, display)

    def _report(self, warning: str, kind: str, step: int, display: ProgressDisplay) -> None:
        display.report(f"warning: {warning}")
        self._live.report(warning)
        add_event(self.run.path, kind, warning, step if step >= 0 else None)

    def check(self, total: int) -> None:
        """Raise `UserError` where the physics is wrong; the states that it has reached are put aside."""
        if self.alarm is None:
            return
        steps = self.run.checkpoint_steps()
        for path in (path for path, step in steps.items() if step > self.alarm.good_step):
            path.rename(unused_name(path))
        good = max(self.run.checkpoint_steps().values(), default=0)
        add_event(self.run.path, "physics", self.alarm.reason, self.last)
        kept = f"the checkpoint of step {good} is from before" if good else "no checkpoint is from before"
        raise UserError(
            f"the run has gone wrong: {self.alarm.reason} (of {total}); {kept}. A shorter time step, another model or "
            "a relaxed start help; --watch sets the limits, `--watch off` takes them away"
        )

    def finish(self) -> None:
        """Remove what is of use while it runs only."""
        self._keeper.finish()
        for path in self.run.path.glob(f"{RECORD}*"):
            path.unlink(missing_ok=True)


def run_simulation(
    folder: Path,
    start_file: str = INPUT,
    console: Console | None = None,
    one_core: bool | None = None,
    restarts: int = DEFAULT,
    refresh: Refresh | None = None,
    clients: Clients | None = None,
) -> Outcome:
    """Run i-PI on ``start_file`` in ``folder`` with the client of its ``driver.yaml`` until the end.

    Both are kept on one core that no other run holds if ``one_core`` is True, or, where it is None, if the run is
    faster then (`one_core_suits`). ``clients``: how many clients are started, and how. One that dies is started again
    with i-PI, at most ``restarts`` times without progress (`Restarts`). ``refresh`` is called at checkpoints, now and
    then, with the state of the run so far. SIGINT, SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 end the run with a RESTART; a
    second one of the first three does not wait for it.

    Raises
    ------
    UserError
        If i-PI or the client fails, the physics is wrong (`PhysicsWatch`), or another launcher runs in the folder;
        `Interrupted` where there is no step yet.
    """
    total = xml.total_steps((folder / start_file).read_text(), folder / start_file)
    console = console or lenient_console(sys.stderr)
    clients = clients or Clients()
    if one_core is None:
        one_core = clients == Clients() and one_core_suits(folder)
    with (
        locked(folder),
        caught_signals() as interruption,
        socket_folder() as sockets,
        core_of_its_own(one_core) as core,
    ):
        (folder / "EXIT").unlink(
            missing_ok=True
        )  # i-PI stops at this file, also if it is that of an earlier run
        began, first = time.perf_counter(), _step(folder / start_file)
        live = LiveStatus(folder, total)

        def outcome(step: int, finished: bool, reason: str) -> Outcome:
            seconds = time.perf_counter() - began
            return Outcome(step, first, total, seconds, finished, reason, interruption.number)

        refresher = None
        if refresh is not None:
            refresher = Refresher(lambda step: refresh(folder, outcome(step, False, "running")), refresh.stop)
        try:
            ending = _run_parts(
                RunFolder(folder),
                start_file,
                console,
                restarts,
                live,
                refresher,
                interruption,
                sockets,
                core,
                clients,
            )
        except (UserError, OSError) as error:  # of a full disk, for example
            live.close("stopped" if interruption.number else "failed", str(error))
            raise
        finally:
            if refresher is not None:
                refresher.finish(interrupted=bool(interruption.number))
        live.close("finished" if ending.finished else "stopped", ending.reason, ending.step)
        return outcome(ending.step, ending.finished, ending.reason)


def _run_parts(
    run: RunFolder,
    start_file: str,
    console: Console,
    restarts: int,
    live: LiveStatus,
    refresher: Refresher | None,
    interruption: Interruption,
    sockets: Path,
    core: int | None,
    clients: Clients,
) -> Ending:
    """Run until the end, started again where that helps."""
    folder = run.path
    total, first, facts = live.total, _step(folder / start_file), read_facts(folder)
    relaxation = None if facts is None else relaxation_of(folder, facts.structure.n_atoms)
    endless = run.input.motion == "replay"
    with (
        ProgressDisplay(folder.name, first, total, console, relaxation, endless) as display,
        shared_sockets(lambda: run.input_text, sockets) as renew_sockets,
    ):
        if facts is not None:
            display.report(facts.text)

        def report(text: str) -> None:
            display.report(text)
            live.report(text)

        again = Restarts(run, restarts, report)
        while True:
            part = _Part(run, start_file, facts, sockets, live, refresher)
            renew_sockets()
            try:
                pair = Pair(run, start_file, f"{sockets}/", interruption, core, clients)
                try:
                    part.follow(pair, display, interruption)
                finally:
                    pair.stop()
                ending = _ending(part, pair.statuses(), total, interruption)
                break
            except RunFailed as failure:
                if interruption.number:
                    raise
                start_file = again.after(failure, start_file, part.made_a_step)
    part.finish()
    return ending


def _step(path: Path) -> int:
    return xml.steps_done(path.read_text())


def _ending(part: _Part, statuses: Statuses, total: int, interruption: Interruption) -> Ending:
    folder = part.run.path
    clean_restart(folder)
    part.check(total)
    if interruption.number:
        statuses = Statuses(None, None, statuses.log)
    ending = read_ending(folder, statuses, part.last, total)
    if ending.finished:  # a run without property file
        (folder / STARTING).unlink(missing_ok=True)
    elif interruption.number:
        name = signal.Signals(interruption.number).name
        if part.run.is_starting:
            raise Interrupted(f"interrupted by {name} before the first step")
        ending = Ending(ending.step, False, f"interrupted by {name}")
    return ending
