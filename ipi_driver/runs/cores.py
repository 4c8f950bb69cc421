"""One core for i-PI and the client where they only ever wait for each other.

For a molecule with one rotation per evaluation a message between two cores costs as much as i-PI's own work: each time
the other core has to be woken. On one core it does not, the step is shorter, and the other core is free. Runs started
by one user on one machine take different cores; the kernel frees a core when its run has ended, however that was.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ipi_driver.client.settings import ServeSettings, make_settings, read_yaml
from ipi_driver.errors import UserError
from ipi_driver.ipi_files.run_folder import INPUT, SETTINGS
from ipi_driver.ipi_files.template import read_template

MAX_ATOMS = 12
"""Above, the model takes so long that a second thread helps it and the messages do not matter."""
_SAMPLE = 0.1
"""Seconds over which the cores are watched."""


def one_core_suits(folder: Path) -> bool:
    """Whether the run of this folder is faster on one core: few atoms, one endpoint, one rotation, one thread."""
    try:
        settings = make_settings(read_yaml(folder / SETTINGS), SETTINGS)
        if len(settings.endpoints) > 1 or settings.device != "cpu" or (settings.threads or 1) > 1:
            return False
        return len(settings.endpoints[0].quadrature) == 1 and _n_atoms(folder, settings) <= MAX_ATOMS
    except UserError:  # the client reports what is wrong
        return False


def _n_atoms(folder: Path, settings: ServeSettings) -> int:
    source = settings.structure or settings.input or folder / INPUT
    return read_template(source, settings.pbc).n_atoms


@contextmanager
def core_of_its_own(wanted: bool) -> Iterator[int | None]:
    """Number of a core that no other run holds, the least busy one; None if not wanted or none is left."""
    handle = core = None
    if wanted and hasattr(os, "sched_setaffinity"):
        with suppress(OSError):  # a file system without locks, or a folder of somebody else
            handle, core = _take()
    try:
        yield core
    finally:
        if handle is not None:
            os.close(handle)


def keep_on(process: int, core: int) -> None:
    """Let a process that has just been started, and all threads that it will have, run on ``core`` alone."""
    with suppress(OSError):  # it has ended, or the system does not allow it: the run is no worse for it
        os.sched_setaffinity(process, {core})


def _take() -> tuple[int | None, int | None]:
    locks = Path(tempfile.gettempdir()) / f"ipi-driver-cores-{os.getuid()}"
    locks.mkdir(mode=0o700, exist_ok=True)
    allowed = os.sched_getaffinity(0)
    busy = _busy()
    for core in sorted(allowed, key=lambda core: (busy.get(core, 0), core)):
        handle = os.open(locks / str(core), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
        else:
            return handle, core
    return None, None


def _busy() -> dict[int, int]:
    """Clock ticks that each core worked during the sample."""
    before = _ticks()
    time.sleep(_SAMPLE)
    return {core: ticks - before.get(core, ticks) for core, ticks in _ticks().items()}


def _ticks() -> dict[int, int]:
    """Clock ticks that each core has worked; empty where the system does not report them."""
    worked = {}
    with suppress(OSError):
        for line in Path("/proc/stat").read_text().splitlines():
            name, _, numbers = line.partition(" ")
            if name.startswith("cpu") and name[3:].isdigit():
                user, nice, system = numbers.split()[:3]
                worked[int(name[3:])] = int(user) + int(nice) + int(system)
    return worked
