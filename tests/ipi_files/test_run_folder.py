"""A run folder answers from files that are read once, and again where they have changed."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from ipi_driver.errors import UserError
from ipi_driver.ipi_files import Run
from ipi_driver.ipi_files.checkpoint import checkpoint_problem
from ipi_driver.ipi_files.remembered import remembered
from ipi_driver.ipi_files.run_folder import INPUT, SETTINGS, RunFolder, keep_checkpoint


def aged(path: Path, seconds: float = 10.0) -> None:
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


def test_a_file_is_read_again_only_where_it_has_changed(tmp_path: Path) -> None:
    path, reads = tmp_path / "file", []

    @remembered
    def read(file: Path) -> str:
        reads.append(file)
        return file.read_text()

    path.write_text("a")
    aged(path)
    assert [read(path), read(path), read(path)] == ["a"] * 3
    assert len(reads) == 1
    path.write_text("b")  # of the same size
    assert read(path) == "b"


def test_two_changes_within_one_tick_of_the_clock_are_seen(tmp_path: Path) -> None:
    """Size, time and inode may all be as before: a file that was just written is not remembered."""
    path = tmp_path / "file"
    read = remembered(Path.read_text)
    path.write_text("a")
    state = path.stat()
    assert read(path) == "a"
    path.write_text("b")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert read(path) == "b"


def test_errors_are_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "file"
    read = remembered(Path.read_text)
    with pytest.raises(FileNotFoundError):
        read(path)
    path.write_text("a")
    assert read(path) == "a"


def test_a_run_of_ipi(ipi_run: Path) -> None:
    folder = RunFolder(ipi_run)
    for name in ("input.xml", "RESTART"):
        aged(ipi_run / name)
    assert folder.input is folder.input  # read once
    assert folder.input is Run(ipi_run).settings
    assert folder.input.total_steps == 20
    assert folder.checkpoints() == {20: ipi_run / "RESTART"}
    assert folder.has_rows()
    assert {path.name for path in folder.outputs()} >= {"water.log", "water.x_0.xyz", "water.f_0.xyz"}
    assert (folder.settings, folder.is_run, folder.is_starting) == ({}, False, False)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert (folder.checkpoints(), folder.written_files(), folder.settings) == ({}, [], {})
    assert (folder.is_run, folder.is_starting, folder.is_begun) == (False, False, False)
    with pytest.raises(UserError, match="not a run folder"):
        _ = folder.input


def test_what_the_run_starts_from_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / INPUT).write_text(
        "<simulation><output prefix='sim'><checkpoint filename='chk'/></output>"
        "<system><initialize><file mode='chk'> sim.chk </file></initialize></system></simulation>"
    )
    (tmp_path / SETTINGS).write_text("model: m\nstructure: sim.chk_5\n")
    for name in ("sim.chk", "sim.chk_5", "RESTART"):
        (tmp_path / name).write_text("<simulation/>")
    assert [path.name for path in RunFolder(tmp_path).damaged_checkpoints()] == []
    assert [path.name for path in RunFolder(tmp_path).written_files()] == ["RESTART"]


def test_a_checkpoint_that_vanishes_while_it_is_read_is_none(
    ipi_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The launcher of a run removes older checkpoints while others look at the folder."""
    folder = tmp_path / "run"
    shutil.copytree(ipi_run, folder)
    kept = keep_checkpoint(folder / "RESTART", 20, copy=True)

    def removed_first(path: Path) -> str | None:
        if path == kept:
            path.unlink()
        return checkpoint_problem(path)

    monkeypatch.setattr("ipi_driver.ipi_files.run_folder.checkpoint_problem", removed_first)
    assert RunFolder(folder).checkpoint_steps() == {folder / "RESTART": 20}
    shutil.copyfile(folder / "RESTART", kept)
    assert RunFolder(folder).damaged_checkpoints() == {}
    assert not kept.exists()
