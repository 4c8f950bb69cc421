"""What `ipi-driver status` reads from run folders, and the line of progress."""

from __future__ import annotations

import gc
import json
import math
import os
import re
import signal
import threading
import time
import weakref
from pathlib import Path

import pytest
from runs_place import wait_for

from ipi_driver.api import refreshing
from ipi_driver.api.refreshing import SummaryProcess
from ipi_driver.cli import main
from ipi_driver.ipi_files.run_folder import STARTING
from ipi_driver.runs.ending import clean_restart
from ipi_driver.runs.execute import Outcome, run_simulation
from ipi_driver.runs.live import STATUS, LiveStatus, read_status
from ipi_driver.runs.monitor import Progress
from ipi_driver.runs.prepare import Changes, find_source, prepare
from ipi_driver.runs.progress import fitting
from ipi_driver.runs.refresh import Refresher
from ipi_driver.runs.relaxation import Relaxation
from ipi_driver.runs.status import find_runs, status_of

ROW = Progress(40, 312.5, -7.0, 0.0021, units=("K", "eV", "eV"))
PARTS = ["12:09 left", "conserved +0.0021 eV", "T 312.5 K", "3.4 steps/s"]


def begun(folder: Path, name: str = "gas-nvt") -> Path:
    prepare(find_source(name, Changes()), folder, Changes(model="anisotropic", steps=50))
    (folder / STARTING).unlink()
    (folder / "client.log").touch()
    return folder


def test_other_extras_are_no_deviation_of_forces(tmp_path: Path) -> None:
    folder = begun(tmp_path / "a")
    text = (folder / "input.xml").read_text()
    extra = "<trajectory filename='raw' extra_type='energy_raw'> extras_component_raw(0) </trajectory>"
    (folder / "input.xml").write_text(text.replace("<trajectory", f"{extra}<trajectory", 1))
    (folder / "simulation.raw").write_text(" #EXTRAS(a)# Step:  0\n 12.5\n")
    assert status_of(folder).symmetry_std is None
    (folder / "simulation.spread").write_text(" #EXTRAS(a)# Step:  0\n 2.5e-02\n")
    assert status_of(folder).symmetry_std == pytest.approx(25.0)


def test_states_of_runs(tmp_path: Path) -> None:
    folder = begun(tmp_path / "runs" / "a")
    (folder / "simulation.spread").write_text(
        "".join(f" #EXTRAS(a)# Step:  {k}\n {k}.5e-02\n" for k in range(4))
    )
    live = LiveStatus(folder, 50)
    live.update(ROW, 2.0, 5.0)
    status = status_of(folder)
    assert (status.state, status.step, status.total) == ("running", 40, 50)
    assert (status.speed, status.seconds_left) == (2.0, 5.0)
    assert (status.temperature, status.change) == ("312.5 K", "+0.0021 eV")
    assert status.symmetry_std == pytest.approx(35.0)
    values = json.loads((folder / STATUS).read_text())
    (folder / STATUS).write_text(json.dumps(values | {"updated": time.time() - 3600}))
    assert status_of(folder).state == "silent"  # killed, or its machine is gone
    live.close("failed", "the client failed (no such element)", 41)
    status = status_of(folder)
    assert (status.state, status.step, status.message) == (
        "failed",
        41,
        "the client failed (no such element)",
    )
    (folder / STATUS).write_text("{half")
    assert status_of(folder).state == "running"  # its output has just been written
    os.utime(folder / "simulation.spread", (0, 0))
    assert status_of(folder).state == "stopped"


def test_a_run_that_the_disk_has_ended_is_no_running_one(tmp_path: Path) -> None:
    """What cannot be written stands for a full disk: a file whose place a folder has taken."""
    folder = begun(tmp_path / "a")
    (folder / "i-pi.log").mkdir()
    with pytest.raises(OSError, match=r"i-pi\.log"):
        run_simulation(folder, refresh=None, restarts=0)
    assert read_status(folder)["state"] == "failed"
    assert "i-pi.log" in read_status(folder)["message"]
    (folder / "RESTART").write_text("<simulation sockets_prefix='/tmp/gone/'></simulation>")
    (folder / "RESTART.part").mkdir()
    clean_restart(folder)  # before the watch puts bad states aside, and how the run ended is read
    assert "/tmp/gone/" in (folder / "RESTART").read_text()
    (folder / "RESTART.part").rmdir()
    clean_restart(folder)
    assert "/tmp/gone/" not in (folder / "RESTART").read_text()


def test_runs_of_a_set_and_a_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("set/a", "set/b"):
        begun(tmp_path / name, "ice" if name.endswith("a") else "gas-nve")
    training = tmp_path / "model"
    training.mkdir()
    (training / "log.csv").write_text("epoch,step,hours,val_force_mae,steps_per_second\n3,120,0.5,42.5,2.5\n")
    with (training / "log.csv").open("a") as log:
        log.write("4,1")  # is being written
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert [path.name for path in find_runs([tmp_path])] == ["model", "a", "b"]
    assert main(["status", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [Path(status["name"]).name for status in found] == ["model", "a", "b"]
    assert (found[0]["step"], found[0]["speed"], found[0]["message"]) == (
        120,
        2.5,
        "training: epoch 3, val_force_mae 42.5",
    )
    assert main(["status", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert re.search(
        r"model +running +step 120 +2.5 steps/s\n    training: epoch 3, val_force_mae 42.5\n", output
    )
    assert re.search(r"set/b +\w+ +0/50", output)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before  # nothing is touched
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()  # holds none
    assert main(["status"]) == 0
    (tmp_path / "farms").mkdir()
    (tmp_path / "set").rename(tmp_path / "farms" / "set")
    capsys.readouterr()
    assert main(["status"]) == 0
    assert re.findall(r"farms/set/\w", capsys.readouterr().out) == ["farms/set/a", "farms/set/b"]
    assert main(["status", str(tmp_path / "nowhere")]) == 2
    (tmp_path / "empty").mkdir()
    assert main(["status", str(tmp_path / "empty")]) == 2
    assert "no run, set, farm or training in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (20, "20/2500  12:09 left"),
        (60, "my-run  20/2500  12:09 left  conserved +0.0021 eV  T 312.5 K"),
        (80, "my-run  20/2500  12:09 left  conserved +0.0021 eV  T 312.5 K  3.4 steps/s"),
        (
            200,
            f"my-run  {'─' * 20}  20/2500  12:09 left  conserved +0.0021 eV  T 312.5 K  3.4 steps/s",
        ),
    ],
)
def test_the_line_of_progress_keeps_what_matters(width: int, line: str) -> None:
    assert fitting("my-run", 20, 2500, PARTS, width) == line
    assert len(line) <= width


def test_steps_that_a_relaxation_still_takes() -> None:
    """Of an energy that decays by a factor of two at each step, to 1e-6 eV."""
    relaxation = Relaxation(1e-6)
    for step in range(10):
        relaxation.add(Progress(step, potential=2.0**-step))
        assert (relaxation.steps_left is None) == (step < 4)
    assert relaxation.steps_left == pytest.approx(math.log2(1e6) - 9, abs=1.0)
    for step in range(10, 30):
        relaxation.add(Progress(step, potential=2.0**-10))
    assert relaxation.steps_left == 0


def test_a_summary_is_written_beside_a_run_once_at_a_time() -> None:
    seen, go = [], threading.Event()

    def write(step: int) -> None:
        seen.append(step)
        go.wait(20)
        raise ValueError("of a file that is half written")

    refresher = Refresher(write, every=0.0)
    for step in (10, 20):
        refresher.checkpoint(step)
    go.set()
    refresher.finish()
    assert seen == [10]
    Refresher(write, every=1e9).checkpoint(30)  # too early
    assert seen == [10]


def test_a_summary_does_not_hold_up_an_interrupted_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue kills its jobs some seconds after it has asked them to stop."""
    started = tmp_path / "started"
    program = f"import pathlib, time; pathlib.Path({str(started)!r}).touch(); time.sleep(250)"
    monkeypatch.setattr(refreshing, "_PROGRAM", program)
    write = SummaryProcess()
    outcome = Outcome(1, 0, 2, 1.0, False)
    refresher = Refresher(lambda step: write(tmp_path, outcome), write.stop, every=0.0)
    refresher.checkpoint(1)
    wait_for(started.exists)
    process = write._process
    refresher.finish(interrupted=True)  # before this test has run out of its time
    assert write.slow
    assert process is not None
    assert process.returncode == -signal.SIGKILL
    write(tmp_path, outcome)  # one that had been about to begin
    assert write._process is not process
    assert write._process.returncode == -signal.SIGKILL


def test_a_summary_leaves_nothing_in_memory() -> None:
    """Figures refer to themselves; without a collection each summary of a long run would keep 15 MB for long."""

    class Cycle:
        def __init__(self) -> None:
            self.itself = self

    made: list[weakref.ref[Cycle]] = []
    gc.disable()
    try:
        refresher = Refresher(lambda step: made.append(weakref.ref(Cycle())), every=0.0)
        refresher.checkpoint(10)
        refresher.finish()
    finally:
        gc.enable()
    assert [cycle() for cycle in made] == [None]


def test_a_misspelt_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["anaylze"]) == 2
    assert capsys.readouterr().err == "error: no command 'anaylze'; did you mean analyze?\n"
