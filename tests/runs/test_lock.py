"""Two runs never write to one folder, whatever nodes they are on."""

from __future__ import annotations

import errno
import fcntl
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ipi_driver.errors import UserError
from ipi_driver.ipi_files.run_folder import LOCK
from ipi_driver.runs import lock
from ipi_driver.runs import prepare as preparing
from ipi_driver.runs.changes import Changes
from ipi_driver.runs.execute import run_simulation
from ipi_driver.runs.live import STATUS
from ipi_driver.runs.lock import locked
from ipi_driver.runs.prepare import find_source, prepare


def test_the_lock_is_on_a_regular_file(tmp_path: Path) -> None:
    """Which NFS shares between nodes; a lock on a folder holds on one of them alone."""
    with locked(tmp_path):
        with (tmp_path / LOCK).open("r+") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(UserError, match="another ipi-driver runs in"), locked(tmp_path):
            pass
    with locked(tmp_path):
        pass
    prepare(
        find_source("gas-nve", Changes()), tmp_path, Changes(model="anisotropic")
    )  # it is nothing to lose


def test_nothing_is_written_into_a_folder_that_another_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor while the files of a run are being made, in a new folder too."""
    write, refused = preparing.write_settings, []

    def write_and_look(output: Path, settings: dict[str, Any]) -> None:
        with pytest.raises(UserError, match="another ipi-driver runs in"), locked(output):
            pass
        refused.append(output)
        write(output, settings)

    monkeypatch.setattr(preparing, "write_settings", write_and_look)
    folder = tmp_path / "run"
    prepare(find_source("gas-nve", Changes()), folder, Changes(model="anisotropic"))
    assert refused == [folder]
    (folder / "EXIT").touch()  # for the run of the other
    with locked(folder), pytest.raises(UserError, match="another ipi-driver runs in"):
        run_simulation(folder)
    assert (folder / "EXIT").exists()


def test_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    for _ in range(2):
        with locked(tmp_path):
            pass
    assert capsys.readouterr().err.count("cannot be locked ([Errno 37] No locks available)") == 1


def test_a_run_on_another_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lock, "_LOOK", 0.05)

    def write(age: float) -> None:
        status = {"state": "running", "host": "another-node", "updated": time.time() - age}
        (tmp_path / STATUS).write_text(json.dumps(status))

    write(58.5)  # killed; it gives no further sign
    with locked(tmp_path):
        pass
    assert "that of a run on another-node" in capsys.readouterr().err
    monkeypatch.setattr(lock, "_ALIVE", 0.2)
    write(-3600.0)  # by a clock that is an hour ahead
    with locked(tmp_path):
        pass
    monkeypatch.undo()
    monkeypatch.setattr(lock, "_LOOK", 0.05)
    write(5.0)
    alive = threading.Timer(0.3, write, (0.0,))
    alive.start()
    with pytest.raises(UserError, match=r"another ipi-driver runs in .*, on another-node"), locked(tmp_path):
        pass
    alive.join()
    for values in (
        {"state": "stopped", "host": "another-node"},
        {"state": "running", "host": lock.platform.node()},
    ):
        (tmp_path / STATUS).write_text(json.dumps(values | {"updated": time.time()}))
        with locked(tmp_path):
            pass
