"""Runs i-PI and the client together: private sockets, supervision of both, a progress bar, a clean end.

Both processes get sessions of their own, so that an interruption reaches the launcher alone; it then asks i-PI to
write a RESTART and to stop, and the client follows. Whatever happens, neither is left behind.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ipi_driver.errors import UserError
from ipi_driver.serving.launcher_monitor import PropertyMonitor
from ipi_driver.serving.launcher_prepare import total_steps

_POLL = 0.1
# Seconds for i-PI to finish its step and write RESTART after it has been asked to stop; an averaged step may be long.
_PATIENCE = 60.0
_LINE_EVERY = 10.0


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    steps
        Last step written.
    wall_seconds
        Duration of this run (of the last part, if resumed).
    first_step
        Step at which this part began.
    """

    steps: int
    wall_seconds: float
    first_step: int


class Interrupted(KeyboardInterrupt):
    """The run was interrupted by a signal, and stopped cleanly."""


def ipi_command() -> str:
    """Path of ``i-pi``: beside this Python, else on the PATH."""
    beside = Path(sys.executable).with_name("i-pi")
    found = str(beside) if beside.is_file() else shutil.which("i-pi")
    if found is None:
        raise UserError("the command i-pi is missing; install it with `pip install ipi`")
    return found


def last_line(path: Path, containing: str = "") -> str:
    """Last line of a log that is not empty and holds ``containing``; "" if there is none."""
    if not path.is_file():
        return ""
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line and containing in line), "")


def run_simulation(folder: Path, start_file: str = "input.xml", console: Console | None = None) -> Outcome:
    """Run i-PI on ``start_file`` in ``folder`` with the client of its ``driver.yaml`` until the end.

    Raises
    ------
    UserError
        If i-PI or the client fails; the message says which and why. The run can be resumed where a RESTART exists.
    Interrupted
        On SIGINT or SIGTERM, after both have been stopped.
    """
    total = total_steps((folder / start_file).read_text())
    # short, for the system's limit on the length of socket paths, and private, so that runs never meet
    with tempfile.TemporaryDirectory(prefix="ipi-", dir="/tmp") as sockets, _signals_as_exceptions():
        processes = _start(folder, start_file, f"{sockets}/")
        began = time.perf_counter()
        try:
            first, last = _watch(folder, processes, total, console or Console(stderr=True))
        except BaseException:
            _stop(processes)
            raise
    return Outcome(last, time.perf_counter() - began, first)


def _start(folder: Path, start_file: str, prefix: str) -> dict[str, subprocess.Popen[bytes]]:
    commands = {
        "i-PI": [ipi_command(), "-S", prefix, start_file],
        "client": [sys.executable, "-m", "ipi_driver", "serve", "--config", "driver.yaml", "-S", prefix]
        + ["--stats", "stats.json", "--deadline", "120"],
    }
    processes: dict[str, subprocess.Popen[bytes]] = {}
    for name, command in commands.items():
        with (folder / f"{name.lower()}.log").open("ab") as log:
            processes[name] = subprocess.Popen(
                command,
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
    return processes


def _watch(
    folder: Path, processes: dict[str, subprocess.Popen[bytes]], total: int, console: Console
) -> tuple[int, int]:
    """Follow the run until i-PI ends; returns the first and the last step seen."""
    monitor = PropertyMonitor(folder)
    first = monitor.update().step  # of an earlier part, if the run is resumed
    began, said = time.perf_counter(), time.perf_counter()
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(folder.name, total=total, rate="", state="starting")
        while processes["i-PI"].poll() is None:
            _check_client(folder, processes)
            now = monitor.update()
            if now.step >= 0:
                rate = (now.step - max(first, 0)) / (time.perf_counter() - began)
                state = f"T {now.temperature:.0f} K  conserved {now.conserved:.5f}"
                bar.update(task, completed=now.step, rate=f"{rate:.1f} steps/s", state=state)
                if not console.is_terminal and time.perf_counter() - said > _LINE_EVERY:
                    said = time.perf_counter()
                    left = (total - now.step) / rate if rate > 0 else float("inf")
                    console.print(
                        f"step {now.step}/{total}  {rate:.1f} steps/s  {left:.0f} s left  {state}",
                        highlight=False,
                    )
            time.sleep(_POLL)
        last = monitor.update()
        bar.update(task, completed=last.step)
    _check_end(folder, processes, last.step, total)
    return max(first, 0), last.step


def _check_client(folder: Path, processes: dict[str, subprocess.Popen[bytes]]) -> None:
    """Raise if the client has ended while i-PI goes on."""
    status = processes["client"].poll()
    if status is None:
        return
    time.sleep(3 * _POLL)  # at the end of a run the client may be the first to leave
    if processes["i-PI"].poll() is not None and status == 0:
        return
    # i-PI ends by itself when its last socket has closed, then it has a RESTART
    if status == 0 and _wait(processes["i-PI"], 10.0):
        return
    raise UserError(f"{_client_failure(folder, status)}; i-PI was stopped, its RESTART is in {folder}")


def _client_failure(folder: Path, status: int) -> str:
    if status < 0:
        return f"the client was killed by {signal.Signals(-status).name}"
    reason = last_line(folder / "client.log", "error:").removeprefix("error: ")
    log = folder / "client.log"
    return f"the client failed (status {status}): {reason or f'see {log}'}"


def _check_end(folder: Path, processes: dict[str, subprocess.Popen[bytes]], step: int, total: int) -> None:
    """Raise unless i-PI ended well and reached the last step."""
    status = processes["i-PI"].returncode
    if not _wait(processes["client"], 10.0):
        _stop(processes)
    client = processes["client"].returncode
    if status < 0:
        raise UserError(
            f"i-PI was killed by {signal.Signals(-status).name} at step {step} of {total}; the client has ended"
        )
    if client not in (0, None) and step < total:
        raise UserError(
            f"{_client_failure(folder, client)}; i-PI has stopped at step {max(step, 0)} of {total}"
        )
    if status != 0:
        reason = last_line(folder / "i-pi.log")
        raise UserError(f"i-PI failed (status {status}) at step {max(step, 0)} of {total}: {reason}")
    reached = _checkpoint_step(folder)
    if max(step, reached) < total - 1:
        raise UserError(f"i-PI stopped at step {max(step, reached, 0)} of {total}; continue with --resume")


def _checkpoint_step(folder: Path) -> int:
    """Step of the RESTART: the property file may have a stride that does not meet the last step."""
    path = folder / "RESTART"
    if not path.is_file():
        return -1
    head = path.read_text()
    found = head.partition("<step>")[2].partition("</step>")[0].strip()
    return int(found) if found.isdigit() else -1


def _wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _stop(processes: dict[str, subprocess.Popen[bytes]]) -> None:
    """End both: i-PI first, which writes its RESTART; what does not go is killed."""
    for name in ("i-PI", "client"):
        process = processes[name]
        if process.poll() is None:
            process.terminate()
            alone = name == "i-PI" and processes["client"].poll() is not None
            if not _wait(process, 10.0 if alone else _PATIENCE):
                process.kill()
                process.wait()


@contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """SIGINT and SIGTERM raise `Interrupted` here, so that both processes are stopped on the way out."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted(signal.Signals(number).name)

    try:
        before = {s: signal.signal(s, interrupt) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: whoever called has the signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
