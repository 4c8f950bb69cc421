"""After which failures a run is started again, and from what; without processes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from ipi_driver.analysis.run_statistics import client_counts
from ipi_driver.client.record import RECORD, Recorder, read_record
from ipi_driver.errors import UserError
from ipi_driver.ipi_files import edit as xml
from ipi_driver.ipi_files.run_folder import CONTINUE, STARTING, RunFolder
from ipi_driver.runs import restarts
from ipi_driver.runs.ending import RunFailed
from ipi_driver.runs.events import read_events
from ipi_driver.runs.prepare import Changes, find_source, prepare
from ipi_driver.runs.restarts import Restarts
from ipi_driver.runs.resume import prepare_resume
from ipi_driver.runs.sockets import shared_sockets
from ipi_driver.shipped import shipped_folder

STATE = """<system><beads natoms='1' nbeads='1'><q shape='(1, 3)'>[ 0.1, 0.2, 0.3 ]</q><p shape='(1, 3)'>[ 1, 2, 3 ]</p>
<m shape='(1)'> [ 1.0 ] </m><names shape='(1)'> [ H ] </names></beads>
<cell shape='(3, 3)'> [ 9.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 9.0 ] </cell></system></simulation>
"""


def checkpoint(folder: Path, name: str, step: int) -> str:
    text = f"<simulation>\n<step>{step}</step>\n<total_steps>500</total_steps>\n{STATE}"
    (folder / name).write_text(text)
    return text


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of 500 steps with checkpoints of steps 20, 40 and 60."""
    monkeypatch.setattr(restarts, "_PAUSE", 0.0)
    folder = tmp_path / "run"
    prepare(find_source("gas-nvt", Changes()), folder, Changes(model="anisotropic", steps=500))
    (folder / STARTING).unlink()
    for name, step in (("simulation.chk_1", 20), ("simulation.chk", 40), ("RESTART", 60)):
        checkpoint(folder, name, step)
    return folder


def failed(who: str, step: int = 60, killed: bool = False, began: bool = True) -> RunFailed:
    return RunFailed(f"{who} failed at step {step}", "", who, killed, step, began)


def step_of(folder: Path, name: str) -> int:
    return int(xml.value((folder / name).read_text(), "step") or 0)


def test_a_checkpoint_from_which_ipi_makes_no_step(folder: Path) -> None:
    """The one before is taken; where none helps they are what they were, and the first failure counts."""
    said: list[str] = []
    again = Restarts(RunFolder(folder), 3, said.append)
    assert prepare_resume(folder, Changes()) == CONTINUE
    assert step_of(folder, again.after(failed("i-PI"), CONTINUE, made_a_step=False)) == 40
    assert step_of(folder, again.after(failed("i-PI", 40), CONTINUE, made_a_step=False)) == 20
    assert sum("i-PI makes no step from the checkpoint of step" in text for text in said) == 2
    with pytest.raises(RunFailed, match="i-PI failed at step 60"):
        again.after(failed("i-PI", 20), CONTINUE, made_a_step=False)
    assert max(RunFolder(folder).checkpoints()) == 60
    assert {20, 40} <= {*RunFolder(folder).checkpoints()}

    full = RunFailed("i-PI failed: OSError: [Errno 28] No space left", "", "i-PI", False, 60, True)
    with pytest.raises(RunFailed, match="No space left"):
        Restarts(RunFolder(folder), 3, said.append).after(full, CONTINUE, made_a_step=False)
    with pytest.raises(RunFailed):  # in the middle of its work
        Restarts(RunFolder(folder), 3, said.append).after(failed("i-PI"), CONTINUE, made_a_step=True)


def test_a_client_that_dies(folder: Path) -> None:
    said: list[str] = []
    again = Restarts(RunFolder(folder), 2, said.append)
    assert step_of(folder, again.after(failed("client", killed=True), "input.xml", True)) == 60
    assert said[-1] == "client failed at step 60; started again from step 60"
    assert read_events(folder)[-1]["kind"] == "restart"
    again.after(failed("client", 61), CONTINUE, True)
    with pytest.raises(UserError, match="restarted 2 times in a row without the 100 steps of a checkpoint"):
        again.after(failed("client", 62), CONTINUE, True)
    for step in (200, 301, 402):  # far enough from each other
        again = again if step > 200 else Restarts(RunFolder(folder), 1, said.append)
        again.after(failed("client", step), CONTINUE, True)
    with pytest.raises(RunFailed):
        Restarts(RunFolder(folder), 0, said.append).after(failed("client", killed=True), CONTINUE, True)
    with pytest.raises(RunFailed):  # a wrong setting, or an element that the model does not know
        Restarts(RunFolder(folder), 3, said.append).after(
            failed("client", 0, began=False), "input.xml", False
        )


def test_a_client_that_dies_before_the_first_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happened, and what the client counted, is not lost with the steps; a new run begins without."""
    monkeypatch.setattr(restarts, "_PAUSE", 0.0)
    run = tmp_path / "run"
    prepare(find_source("gas-nve", Changes()), run, Changes(model="anisotropic"))
    again = Restarts(RunFolder(run), 5, lambda text: None)
    for number in range(3):
        (run / "client.log").touch()
        (run / "stats.json").write_text(f'{{"model_seconds": {10**number}, "endpoints": {{}}}}')
        assert again.after(failed("client", number, killed=True), CONTINUE, True) == "input.xml"
    steps = [event["step"] for event in read_events(run) if event["kind"] == "restart"]
    assert steps == [0, 1, 2]
    assert client_counts(run, [])["model_seconds"] == 111
    assert not (run / "stats.json").exists()
    (run / "client.log").touch()
    prepare(find_source("gas-nve", Changes()), run, Changes(model="anisotropic"))
    assert not read_events(run)
    assert not client_counts(run, [])


def test_sockets_inside_another_force_field_after_a_start_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They get other names then, and the links by which the client finds them follow."""
    monkeypatch.setattr(restarts, "_PAUSE", 0.0)
    text = (shipped_folder("inputs") / "gas-nve" / "input.xml").read_text()
    text = text.replace("<ffsocket name='model'", "<ffcommittee name='model'> <ffsocket name='member'")
    (tmp_path / "input.xml").write_text(text.replace("</ffsocket>", "</ffsocket> </ffcommittee>"))
    shutil.copyfile(shipped_folder("inputs") / "gas-nve" / "init.xyz", tmp_path / "init.xyz")
    changes, run, links = (
        Changes(model="anisotropic", pbc=False),
        RunFolder(tmp_path / "run"),
        tmp_path / "links",
    )
    prepare(find_source(tmp_path / "input.xml", changes), run.path, changes)
    links.mkdir()
    seen = []
    with shared_sockets(lambda: run.input_text, links) as renew:
        for _ in range(2):
            renew()
            seen.append([path.name for path in links.iterdir()])
            assert seen[-1] == [run.settings["endpoints"][0]["unix"]]
            assert (links / seen[-1][0]).readlink() == Path(f"/tmp/ipi_{seen[-1][0]}")
            Restarts(run, 1, lambda text: None).after(failed("client", 0, killed=True), "input.xml", False)
    assert seen[0] != seen[1]


def test_the_same_configuration_twice(folder: Path) -> None:
    shutil.copyfile(folder / "structure.extxyz", folder / "kept.extxyz")
    h, positions = np.diag([9.0, 9.0, 9.0]), np.arange(9.0).reshape(3, 3)

    def evaluate(x: np.ndarray) -> None:
        Recorder(folder / RECORD, 3).write(h, x)

    assert read_record(folder / RECORD) is None
    again = Restarts(RunFolder(folder), 3, lambda text: None)
    evaluate(positions)
    again.after(failed("client", killed=True), CONTINUE, True)
    evaluate(positions + 0.1)
    again.after(failed("client", killed=True), CONTINUE, False)
    evaluate(positions + 0.1 + 1e-9)
    with pytest.raises(UserError, match=r"failed twice on the same configuration \(.*failed-frame.extxyz\)"):
        again.after(failed("client", killed=True), CONTINUE, False)
    assert (folder / "failed-frame.extxyz").is_file()
