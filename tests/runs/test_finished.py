"""The same command again where nothing is left to do."""

from __future__ import annotations

import json
import re

from runs_place import MODEL

from ipi_driver.ipi_files.run_folder import RunFolder

VIBRATIONS = (
    "<motion mode='vibrations'><vibrations mode='fd'><pos_shift> 0.01 </pos_shift><prefix> ph </prefix></vibrations>"
    "</motion>"
)


def test_a_finished_run_prints_its_summary_again(place) -> None:
    words = ("gas-nve", "--model", MODEL, "--steps", 30, "--output", "run", "--continue", "--json")
    first, second = place.run(*words), place.run(*words)
    assert (first[0], second[0]) == (0, 0), second[2]
    assert "finished before" in second[2]
    assert json.loads(second[1]) == json.loads(first[1])
    assert json.loads(first[1])["steps"] == 30
    (place.folder / "run" / "summary.json").unlink()
    summary = json.loads(place.run(*words)[1])
    assert (summary["finished"], summary["steps"], summary["folder"]) == (True, 30, "run")


def test_a_run_that_ends_before_its_last_step_is_finished(place) -> None:
    """i-PI ends vibrations by itself, and has nothing left to do however many steps are asked for."""
    place.copy("gas-nve", lambda text: re.sub(r"<motion.*</motion>", VIBRATIONS, text, flags=re.DOTALL))
    words = ("my-gas-nve", "--model", MODEL, "--output", "run", "--continue", "--steps")
    status, _, errors = place.run(*words, 1000)
    assert status == 0, errors
    folder = place.folder / "run"
    written = {path: path.stat().st_mtime_ns for path in folder.glob("simulation.ph.*")}
    assert len(written) == 5
    status, output, errors = place.run(*words, 2000, "--json")
    assert status == 0, errors
    assert json.loads(output)["steps"] == max(RunFolder(folder).checkpoints()) == 10
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*simulation.ph.*")} == written

    # i-PI ends before it has asked the client for anything, and its own files are written anew
    status, _, errors = place.run("run", "--resume")
    assert status == 0, errors
    assert "not cut" not in errors
    assert len(list(folder.glob("#simulation.ph.*"))) == 5
