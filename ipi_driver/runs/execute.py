"""Runs i-PI and the client together: private sockets, supervision of both, a progress bar, a clean end.

Both processes get sessions of their own, so that an interruption reaches the launcher alone; it then asks i-PI to
write a RESTART and to stop, and the client follows. Whatever happens, neither is left behind.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from rich.console import Console

from ipi_driver.client.signals import OF_QUEUES, heeded_signals
from ipi_driver.errors import UserError
from ipi_driver.ipi_files import edit as xml
from ipi_driver.runs.cores import core_of_its_own, keep_on, one_core_suits
from ipi_driver.runs.ending import Ending, Statuses, clean_restart, read_ending
from ipi_driver.runs.folder import STARTING, has_rows, is_starting
from ipi_driver.runs.lock import locked
from ipi_driver.runs.monitor import PropertyMonitor
from ipi_driver.runs.orphans import deaf_to_queues, ending_with_parent
from ipi_driver.runs.progress import ProgressDisplay

_POLL = 0.1
_PATIENCE = 60.0
"""Seconds for i-PI to write its RESTART after it has been asked to stop; then it is killed."""
_FOLLOW = 10.0
"""Seconds for the one to end by itself after the other has ended."""
_NOTHING_TO_LOSE = 3.0
"""Both of these before the first step, where there is no RESTART and i-PI, which waits for forces, hears nothing."""


class Interrupted(UserError):
    """A signal ended the run before its first step."""

    status = 130


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


@dataclass
class Interruption:
    """Signals received so far."""

    received: list[int] = field(default_factory=list)

    @property
    def number(self) -> int:
        return self.received[0] if self.received else 0

    @property
    def impatient(self) -> bool:
        """Whether it was said twice; what a queue sends some time before its SIGTERM is not the first time."""
        return sum(number not in OF_QUEUES for number in self.received) > 1

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)


class _Pair:
    """i-PI and the client in a run folder."""

    def __init__(
        self, folder: Path, start_file: str, prefix: str, interruption: Interruption, core: int | None
    ) -> None:
        self.folder = folder
        self._interruption = interruption
        self._log_start = self._log.stat().st_size if self._log.is_file() else 0
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._stopped: set[str] = set()
        client = [sys.executable, "-m", "ipi_driver", "serve", "--config", "driver.yaml", "-S", prefix]
        client += ["--stats", "stats.json", *(() if core is None else ("--threads", "1"))]
        commands = {
            # i-PI alone: it may need the client to finish its step, and tells it to exit
            "i-pi": ending_with_parent([ipi_command(), "-S", prefix, "-V", "low", start_file]),
            "client": deaf_to_queues(client),
        }
        for name, command in commands.items():
            with (folder / f"{name}.log").open("ab") as log:
                self._processes[name] = subprocess.Popen(
                    command,
                    cwd=folder,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                    env=_environment(name),
                )
            if core is not None:
                keep_on(self._processes[name].pid, core)

    @property
    def _log(self) -> Path:
        return self.folder / "i-pi.log"

    def running(self) -> bool:
        """Whether both run."""
        return all(process.poll() is None for process in self._processes.values())

    def follow(self) -> None:
        """After one has ended give the other the time to do the same, else end it."""
        self._wait(
            lambda: all(p.poll() is not None for p in self._processes.values()), self._patience(_FOLLOW)
        )
        self.stop()

    def stop(self) -> None:
        """End both: i-PI first, which writes its RESTART and says EXIT to the client; what does not go is killed."""
        for name, patience in (("i-pi", self._patience(_PATIENCE)), ("client", self._patience(_FOLLOW))):
            process = self._processes.get(name)
            if process is None or process.poll() is not None:
                continue
            self._stopped.add(name)
            if name == "client" and self._wait(lambda p=process: p.poll() is not None, patience):  # type: ignore[misc]
                continue
            process.terminate()
            if not self._wait(lambda p=process: p.poll() is not None, patience):  # type: ignore[misc]
                process.kill()
                process.wait()

    def statuses(self) -> Statuses:
        """Of both, and what i-PI has said since they were started."""
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            text = log.read().decode(errors="replace")
        ipi, client = (
            None if name in self._stopped else self._processes[name].returncode for name in ("i-pi", "client")
        )
        return Statuses(ipi, client, text)

    def _patience(self, seconds: float) -> float:
        return _NOTHING_TO_LOSE if is_starting(self.folder) else seconds

    def _wait(self, done: Callable[[], bool], seconds: float) -> bool:
        """Whether ``done`` came true in time; a second signal ends the patience."""
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end or self._interruption.impatient:
                return False
            time.sleep(_POLL / 2)
        return True


def _environment(name: str) -> dict[str, str]:
    """One thread for i-PI, whose arrays are small: more only take time from the model."""
    if name != "i-pi":  # in the run folder, where relative paths would mean something else
        paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(os.path.abspath(p) for p in paths if p)}
    return {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} | os.environ


def ipi_command() -> str:
    """Path of ``i-pi``: beside this Python, else on the PATH."""
    beside = Path(sys.executable).with_name("i-pi")
    found = str(beside) if beside.is_file() else shutil.which("i-pi")
    if found is None:
        raise UserError("the command i-pi is missing; install it with `pip install ipi`")
    return found


def run_simulation(
    folder: Path,
    start_file: str = "input.xml",
    console: Console | None = None,
    one_core: bool | None = None,
) -> Outcome:
    """Run i-PI on ``start_file`` in ``folder`` with the client of its ``driver.yaml`` until the end.

    Both are kept on one core that no other run holds if ``one_core`` says so, or, where it is None, if the run is
    faster then (`one_core_suits`).
    SIGINT, SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 end the run with a RESTART; a second one of the first three does not
    wait for it.

    Raises
    ------
    UserError
        If i-PI or the client fails, or another launcher runs in the folder; `Interrupted` where there is no step yet.
    """
    text = (folder / start_file).read_text()
    total = xml.total_steps(text, folder / start_file)
    first = int(xml.value(text, "step") or 0)
    (folder / "EXIT").unlink(missing_ok=True)  # i-PI stops at this file, also if it is that of an earlier run
    # short, for the system's limit on the length of socket paths, and private, so that runs never meet
    with (
        locked(folder),
        caught_signals() as interruption,
        tempfile.TemporaryDirectory(prefix="ipi-", dir="/tmp", ignore_cleanup_errors=True) as sockets,
        core_of_its_own(one_core_suits(folder) if one_core is None else one_core) as core,
    ):
        pair = _Pair(folder, start_file, f"{sockets}/", interruption, core)
        began = time.perf_counter()
        try:
            with ProgressDisplay(folder.name, first, total, console or Console(stderr=True)) as display:
                last = _watch(folder, pair, display, interruption)
        finally:
            pair.stop()
        ending = _ending(folder, pair.statuses(), last, total, interruption)
        return Outcome(
            ending.step,
            first,
            total,
            time.perf_counter() - began,
            ending.finished,
            ending.reason,
            interruption.number,
        )


def _watch(folder: Path, pair: _Pair, display: ProgressDisplay, interruption: Interruption) -> int:
    """Follow the run until it ends; returns the last step seen."""
    monitor, starting = PropertyMonitor(folder), folder / STARTING
    while pair.running() and not interruption.number:
        now = monitor.update()
        if now.step >= 0 or (monitor.path is None and starting.exists() and has_rows(folder)):
            starting.unlink(missing_ok=True)
        if now.step >= 0:
            display.update(now)
        time.sleep(_POLL)
    if interruption.number:
        display.say("stopping i-PI, which writes its RESTART; interrupt again not to wait for it")
        pair.stop()
    else:
        pair.follow()
    last = monitor.update()
    if last.step >= 0:
        starting.unlink(missing_ok=True)
        display.update(last, final=True)
    return last.step


def _ending(folder: Path, statuses: Statuses, last: int, total: int, interruption: Interruption) -> Ending:
    clean_restart(folder)
    if interruption.number:
        statuses = Statuses(None, None, statuses.log)
    ending = read_ending(folder, statuses, last, total)
    if ending.finished:  # a run without property file
        (folder / STARTING).unlink(missing_ok=True)
    elif interruption.number:
        name = signal.Signals(interruption.number).name
        if is_starting(folder):
            raise Interrupted(f"interrupted by {name} before the first step")
        ending = Ending(ending.step, False, f"interrupted by {name}")
    return ending


@contextmanager
def caught_signals() -> Iterator[Interruption]:
    """Remember the signals that ask to end instead of dying of them."""
    interruption = Interruption()
    try:
        before = {number: signal.signal(number, interruption) for number in heeded_signals()}
    except ValueError:  # not the main thread: whoever called has the signals
        yield interruption
        return
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
