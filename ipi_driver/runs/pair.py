"""i-PI and its client, or clients, as processes in a run folder: started, watched, ended.

All get sessions of their own, so that an interruption reaches the launcher alone; it then asks i-PI to write a RESTART
and to stop, and the clients follow. Whatever happens, none is left behind. If one of several clients dies, the others
end as well: a killed one leaves i-PI waiting for ever.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ipi_driver.client.record import RECORD, read_record
from ipi_driver.errors import UserError
from ipi_driver.ipi_files.run_folder import RunFolder
from ipi_driver.runs.cores import keep_on
from ipi_driver.runs.ending import Statuses
from ipi_driver.runs.interruption import Interruption
from ipi_driver.runs.orphans import ending_with_parent, ignoring_queue_signals

POLL = 0.1
_PATIENCE = 60.0
"""Seconds for i-PI to write its RESTART after it has been asked to stop; then it is killed."""
_FOLLOW = 30.0
"""Seconds for the one to end by itself after the other has ended."""
_KILLED = 2.0
"""The same after the client was killed: i-PI, which sees its connection reset, then often waits for ever."""
_NOTHING_TO_LOSE = 3.0
"""Replaces both times before the first step: there is no RESTART, and i-PI waits for forces and handles no signal."""


WITHOUT_FOLDER = "import sys; sys.path[:] = filter(None, sys.path); "
"""Takes the working folder from the path of modules: a file of the run called random.py is not to be run."""
_CLIENT = WITHOUT_FOLDER + "from ipi_driver.cli import main; sys.exit(main())"


@dataclass(frozen=True)
class Clients:
    """How many clients answer the sockets of a run, and how they are started.

    Attributes
    ----------
    number
        Clients; i-PI hands out beads and replicas to them.
    launch
        Words before the command of each client, such as ``srun --nodes 1 --ntasks 1``.
    """

    number: int = 1
    launch: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """client, client-2, client-3, ..."""
        return [f"client-{k}" if k > 1 else "client" for k in range(1, self.number + 1)]


class Pair:
    """i-PI and the client, or clients, in a run folder."""

    def __init__(
        self,
        run: RunFolder,
        start_file: str,
        prefix: str,
        interruption: Interruption,
        core: int | None,
        clients: Clients,
    ) -> None:
        self.folder, self._run = run.path, run
        self._interruption = interruption
        self._log_start = self._log.stat().st_size if self._log.is_file() else 0
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._stopped: set[str] = set()
        self._clients = clients.names
        # i-PI alone ends with the launcher: it may need the client to finish its step, and sends it EXIT
        commands = {"i-pi": ending_with_parent([ipi_command(), "-S", prefix, "-V", "low", start_file])}
        for name in self._clients:
            end = name.removeprefix("client")
            client = [sys.executable, "-c", _CLIENT, "serve", "--config", "driver.yaml", "-S", prefix]
            client += ["--stats", f"stats{end}.json", "--record", f"{RECORD}{end}"]
            client += () if core is None else ("--threads", "1")
            commands[name] = ignoring_queue_signals([*clients.launch, *client])
        for name, command in commands.items():
            log_name = "i-pi.log" if name == "i-pi" else "client.log"
            with (run.path / log_name).open("ab") as log:
                self._processes[name] = subprocess.Popen(
                    command,
                    cwd=run.path,
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
        """Whether all run."""
        return all(process.poll() is None for process in self._processes.values())

    def process_id(self, name: str) -> int:
        """Of "i-pi" or "client"."""
        return self._processes[name].pid

    def follow(self) -> None:
        """After one has ended give the other the time to do the same, else end it."""
        killed = any((self._processes[name].poll() or 0) < 0 for name in self._clients)
        self._wait(
            lambda: all(p.poll() is not None for p in self._processes.values()),
            self._patience(_KILLED if killed else self._of_clients()),
        )
        self.stop()

    def stop(self) -> None:
        """End all: i-PI first, which writes its RESTART and sends EXIT to the clients; what does not end is killed."""
        for name in ("i-pi", *self._clients):
            patience = self._patience(_PATIENCE if name == "i-pi" else self._of_clients())
            process = self._processes.get(name)
            if process is None or process.poll() is not None:
                continue
            self._stopped.add(name)
            if name != "i-pi" and self._wait(lambda p=process: p.poll() is not None, patience):  # type: ignore[misc]
                continue
            process.terminate()
            if not self._wait(lambda p=process: p.poll() is not None, patience):  # type: ignore[misc]
                process.kill()
                process.wait()

    def statuses(self) -> Statuses:
        """Of i-PI and of the client that has failed, if one has, and the log of i-PI since they were started."""
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            text = log.read().decode(errors="replace")
        codes = {name: None if name in self._stopped else p.returncode for name, p in self._processes.items()}
        failed = next((name for name in self._clients if codes[name]), self._clients[0])
        if failed != "client":  # where the configuration of a failure is looked for
            with suppress(OSError):
                (self.folder / f"{RECORD}{failed.removeprefix('client')}").replace(self.folder / RECORD)
        return Statuses(codes["i-pi"], codes[failed], text)

    def _of_clients(self) -> float:
        """Patience with the clients: those without a request wait for i-PI, which may have ended without one."""
        asked = any(read_record(path) is not None for path in self.folder.glob(f"{RECORD}*"))
        return _FOLLOW if asked else _NOTHING_TO_LOSE

    def _patience(self, seconds: float) -> float:
        return _NOTHING_TO_LOSE if self._run.is_starting else seconds

    def _wait(self, done: Callable[[], bool], seconds: float) -> bool:
        """Whether ``done`` came true in time; a second signal ends the patience."""
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end or self._interruption.impatient:
                return False
            time.sleep(POLL / 2)
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
