"""--resume of a run folder: with the input that it was begun from, wherever that is by now, and with no other."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from runs_place import MODEL

from ipi_driver.cli import main
from ipi_driver.errors import UserError
from ipi_driver.ipi_files.run_folder import STARTING
from ipi_driver.runs.changes import Changes
from ipi_driver.runs.origin import ORIGIN, check_origin
from ipi_driver.runs.prepare import find_source, prepare
from ipi_driver.runs.sets import find_set, open_set, prepare_cell
from ipi_driver.shipped import shipped_folder


def copy_input(folder: Path) -> Path:
    shutil.copytree(shipped_folder("inputs") / "gas-nve", folder)
    return folder


def begin(source: Path | str, folder: Path) -> Path:
    """A run folder as a command line makes it that changes what it may."""
    changes = Changes(model=MODEL, steps=50, seed=3)
    prepare(find_source(source, changes), folder, changes)
    return folder


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edited(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return edited


DIFFERENT = {
    "time step": edit("input.xml", "> 0.5 <", "> 0.25 <"),
    "average": edit("driver.yaml", "endpoints:", "virial: nan\nendpoints:"),
    "start": edit("init.xyz", "O", "O "),
}
SAME = {
    "copy": lambda folder: None,
    "comment": edit("input.xml", "<simulation", "<!-- mine -->\n\n<simulation"),
    "length": edit("input.xml", "<total_steps>", "<total_steps> 9"),
    "device": edit("driver.yaml", "endpoints:", "device: cuda\nendpoints:"),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_another_input_is_refused(case: str, tmp_path: Path) -> None:
    mine, other = (copy_input(tmp_path / name / "gas") for name in ("mine", "other"))
    run = begin(mine, tmp_path / "run")
    DIFFERENT[case](other)
    for given in (other, other / "input.xml"):
        with pytest.raises(UserError) as caught:
            check_origin(run, given)
        assert str(caught.value) == (
            f"{run} was begun from {mine}/input.xml, got {other}/input.xml; give another --output for another run, or "
            f"continue this one with: ipi-driver run {run} --resume"
        )
    # at its own place it is what the run was begun from: a note, and it goes on
    DIFFERENT[case](mine)
    note = check_origin(run, mine)
    assert note is not None
    assert "has changed since" in note


@pytest.mark.parametrize("case", SAME)
def test_the_same_input_elsewhere_is_none_other(case: str, tmp_path: Path) -> None:
    mine, other = (copy_input(tmp_path / name / "gas") for name in ("mine", "other"))
    run = begin(mine, tmp_path / "run")
    SAME[case](other)
    assert check_origin(run, other) is None
    assert check_origin(begin("gas-nve", tmp_path / "shipped"), other) is None


def test_what_else_a_run_is_resumed_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine, run = copy_input(tmp_path / "gas"), tmp_path / "run"
    begin(mine, run)
    edit("input.xml", "> 0.5 <", "> 0.25 <")(run)  # corrected in its own folder
    for given in (run, "run", run / "input.xml", mine, "gas"):
        assert check_origin(run, given) is None
    prepare(find_source(run, Changes()), run, Changes(steps=7))  # begun again there
    assert check_origin(run, mine) is None
    mine.rename(tmp_path / "moved")
    assert check_origin(run, "gas") is None  # the name that it had
    assert check_origin(run, "moved") is None
    with pytest.raises(UserError, match=r"was begun from .*gas/input\.xml, got gsa, which is not there"):
        check_origin(run, "gsa")
    for broken in ("", "[]"):
        (run / ORIGIN).write_text(broken)
        assert check_origin(run, "gas-nvt") is None
    (run / ORIGIN).unlink()  # made by an earlier version
    assert check_origin(run, "gas-nvt") is None


def test_resume_by_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused before anything is changed, without a checkpoint as well."""
    monkeypatch.chdir(tmp_path)
    begin("gas-nve", Path("run"))
    before = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    assert main(["run", "gas-nvt", "--output", "run", "--resume", "--steps", "10"]) == 2
    errors = capsys.readouterr().err
    assert "error: run was begun from the shipped gas-nve, got " in errors
    assert len(errors.strip().splitlines()) == 1
    assert {path.name: path.read_bytes() for path in Path("run").iterdir()} == before


def test_a_run_folder_as_the_input_of_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--continue goes on with the run that it has begun, which is not the one that was its input."""
    monkeypatch.chdir(tmp_path)
    begin("gas-nve", Path("old/gas"))
    changes = Changes(steps=50, seed=3)
    prepare(find_source("old/gas", changes), Path("runs/gas"), changes)
    for folder in ("old/gas", "runs/gas"):
        (Path(folder) / STARTING).unlink()
        (Path(folder) / "client.log").touch()
    assert main(["run", "old/gas", "--seed", "4", "--continue"]) == 2
    assert "error: runs/gas was begun with --seed 3, got --seed 4" in capsys.readouterr().err


def test_a_set_is_not_continued_with_another_input(tmp_path: Path) -> None:
    cells, changes = tmp_path / "cells", Changes(model=MODEL)
    cells.mkdir()
    for name in "ab":
        shutil.copyfile(shipped_folder("inputs") / "gas-nve" / "structure.extxyz", cells / f"{name}.extxyz")
    runs, others = (find_set(name, changes, cells) for name in ("gas-nve", "gas-nvt"))
    assert runs is not None
    assert others is not None
    output = tmp_path / "set"
    prepare_cell(runs, "a", output / "a", open_set(runs, output, changes, resume=False))
    (output / "a" / STARTING).unlink()
    open_set(runs, output, changes, resume=True)
    with pytest.raises(UserError, match=r"was begun from the shipped gas-nve, got .*gas-nvt"):
        open_set(others, output, changes, resume=True)
