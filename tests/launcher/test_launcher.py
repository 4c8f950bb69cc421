"""`ipi-driver run` with real i-PI and client processes: it runs to the end, counts, resumes, and cleans up."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest

from ipi_driver.cli import main
from ipi_driver.observables.reading.folder import Run
from ipi_driver.shipped import shipped_folder, shipped_names

MODEL = "anisotropic?l=2&amplitude=0.05"
COMMAND = [sys.executable, "-m", "ipi_driver", "run"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def run(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, words)], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=120
    )


def start(*words: object, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *map(str, words)],
        cwd=cwd,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def children(folder: Path) -> dict[str, int]:
    """Process ids of i-PI and the client that run in ``folder``."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            here = (entry / "cwd").resolve() == folder.resolve()
        except OSError:
            continue
        if here and any(word.endswith(b"i-pi") for word in words):
            found["i-PI"] = int(entry.name)
        elif here and b"serve" in words:
            found["client"] = int(entry.name)
    return found


def sockets_of(pid: int) -> Path:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return Path(words[words.index(b"-S") + 1].decode())


def wait_for_steps(folder: Path, seconds: float = 60.0) -> None:
    """Until the run has written a few rows."""
    deadline = time.monotonic() + seconds
    path = folder / "simulation.out"
    while time.monotonic() < deadline:
        if path.is_file() and len([x for x in path.read_text().splitlines() if not x.startswith("#")]) > 3:
            return
        time.sleep(0.1)
    raise AssertionError(f"{folder} wrote no steps")


def test_mts_run_counts_averaged_evaluations(tmp_path: Path) -> None:
    """The averaged forces are evaluated once per outer step, and once before the first."""
    result = run("gas-nvt", "--model", MODEL, "--steps", 20, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "runs" / "gas-nvt"
    endpoints = json.loads((folder / "stats.json").read_text())["endpoints"]
    averaged, raw = endpoints["unix gas-nvt-averaged"], endpoints["unix gas-nvt-raw"]
    assert averaged["average"] == "2i"
    assert averaged["evaluations"] == 20 + 1
    assert averaged["frames"] == 36 * 21
    assert raw["evaluations"] == 10 * 20 + 1
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == 20
    assert summary["mean_force_spread"] > 0
    assert (folder / "summary.png").stat().st_size > 10_000
    assert "evaluations" in result.stdout
    assert not children(folder)


@pytest.mark.parametrize(
    "name", [n for n in shipped_names("inputs") if (shipped_folder("inputs") / n / "input.xml").is_file()]
)
def test_every_shipped_input_starts(name: str, tmp_path: Path) -> None:
    result = run(name, "--model", MODEL, "--steps", 2, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "runs" / name / "RESTART").is_file()


def test_resumed_run_follows_the_uninterrupted_one(tmp_path: Path) -> None:
    """At constant energy a run in two parts gives the trajectory of one."""
    assert run("gas-nve", "--model", MODEL, "--steps", 60, "--output", "whole", cwd=tmp_path).returncode == 0
    assert run("gas-nve", "--model", MODEL, "--steps", 30, "--output", "parts", cwd=tmp_path).returncode == 0
    result = run("gas-nve", "--resume", "--steps", 60, "--output", "parts", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    whole, parts = Run(tmp_path / "whole"), Run(tmp_path / "parts")
    np.testing.assert_array_equal(whole.properties.steps, parts.properties.steps)
    np.testing.assert_allclose(whole.properties["conserved"], parts.properties["conserved"], atol=1e-7)
    last = [list(r.frames(["positions"]))[-1].positions for r in (whole, parts)]
    np.testing.assert_allclose(last[0], last[1], atol=1e-5)
    again = run("gas-nve", "--resume", "--output", "parts", cwd=tmp_path)
    assert again.returncode == 2
    assert "larger --steps" in again.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_leaves_nothing_behind_and_can_be_resumed(
    number: signal.Signals, tmp_path: Path
) -> None:
    process = start("gas-nve", "--model", MODEL, "--steps", 1000000, "--output", "run", cwd=tmp_path)
    wait_for_steps(tmp_path / "run")
    sockets = sockets_of(children(tmp_path / "run")["i-PI"])
    assert sockets.is_dir()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in errors
    assert not children(tmp_path / "run")
    assert not sockets.exists()
    steps = Run(tmp_path / "run").properties.steps[-1]
    result = run("gas-nve", "--output", "run", "--resume", "--steps", int(steps) + 50, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("victim", ["client", "i-PI"])
def test_a_killed_process_ends_the_run(victim: str, tmp_path: Path) -> None:
    process = start("gas-nve", "--model", MODEL, "--steps", 1000000, "--output", "run", cwd=tmp_path)
    wait_for_steps(tmp_path / "run")
    os.kill(children(tmp_path / "run")[victim], signal.SIGKILL)
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 2
    message = [line for line in errors.splitlines() if line.startswith("error:")]
    assert len(message) == 1
    assert f"{victim} was killed by SIGKILL" in message[0]
    assert not children(tmp_path / "run")


def test_average_and_seed_are_applied_and_comments_survive(tmp_path: Path) -> None:
    result = run(
        "gas-nvt",
        "--model",
        MODEL,
        "--steps",
        2,
        "--average",
        "Th",
        "--seed",
        7,
        "--output",
        "run",
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    text = (tmp_path / "run" / "input.xml").read_text()
    assert re.search(r"<seed>\s*7\s*</seed>", text)
    assert "<!-- outer level: averaged - raw" in text
    endpoints = json.loads((tmp_path / "run" / "stats.json").read_text())["endpoints"]
    assert endpoints["unix gas-nvt-averaged"]["average"] == "Th"
    assert endpoints["unix gas-nvt-raw"]["average"] == "none"


def test_own_structure_in_a_triclinic_cell(tmp_path: Path) -> None:
    """The client and i-PI see the same distances, though i-PI turns the cell."""
    cell = [[0.0, 9.0, 0.5], [8.5, 0.0, 0.0], [1.0, 2.0, 10.0]]
    atoms = ase.Atoms("OH2", [[8.9, 8.8, 0.1], [9.7, 9.3, 0.1], [8.2, 9.4, 0.2]], cell=cell, pbc=True)
    ase.io.write(tmp_path / "mine.xyz", atoms, format="extxyz")
    result = run("liquid-nvt-raw", "--model", MODEL, "--steps", 2, "--structure", "mine.xyz", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "runs" / "liquid-nvt-raw"
    frame = next(iter(Run(folder).frames(["positions"])))
    started = ase.Atoms("OH2", frame.positions, cell=frame.cell, pbc=True)
    np.testing.assert_allclose(
        started.get_all_distances(mic=True), atoms.get_all_distances(mic=True), atol=2e-4
    )
    assert started.get_volume() == pytest.approx(atoms.get_volume(), rel=1e-5)


def test_new_copies_a_template(tmp_path: Path) -> None:
    assert main(["new", "gas-nve", str(tmp_path / "mine")]) == 0
    assert (tmp_path / "mine" / "input.xml").is_file()
    assert main(["new", "gas-nve", str(tmp_path / "mine")]) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no-such-input"], "not one of the shipped"),
        (["gas-nvt", "--model", "no-such-model"], "no model 'no-such-model'"),
        (["gas-nvt", "--model", MODEL, "--average", "2x"], "unknown average '2x'"),
        (["gas-nvt", "--model", MODEL, "--steps", "0"], "`--steps` must be a positive number"),
        (["gas-nvt", "--model", MODEL, "--structure", "absent.xyz"], "no structure file absent.xyz"),
        (["gas-nvt", "--model", MODEL, "--resume"], "nothing to resume"),
        (["gas-nvt", "--model", MODEL, "--output", "taken"], "is not empty"),
    ],
)
def test_bad_input_writes_nothing(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    assert main(["run", *words]) == 2
    captured = capsys.readouterr().err
    assert message in captured
    assert len(captured.strip().splitlines()) == 1
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "taken"]


def test_a_model_that_does_not_know_an_element_is_one_line(tmp_path: Path) -> None:
    atoms = ase.Atoms("CO", [[0, 0, 0], [0, 0, 1.1]], cell=[8, 8, 8], pbc=True)
    ase.io.write(tmp_path / "co.xyz", atoms, format="extxyz")
    torch = pytest.importorskip("torch")
    from ipi_driver.potentials.pet import PetConfig, PetNetwork
    from ipi_driver.potentials.pet.baseline import Baseline
    from ipi_driver.potentials.pet.storage import save_model

    torch.manual_seed(0)
    config = PetConfig(
        species=(1, 8), d_model=8, d_feedforward=8, d_head=8, n_gnn_layers=1, n_attention_layers=1
    )
    save_model(tmp_path / "model", PetNetwork(config), Baseline((1, 8), np.zeros(2)))
    result = run(
        "liquid-nvt-raw",
        "--model",
        "model",
        "--structure",
        "co.xyz",
        "--steps",
        5,
        "--output",
        "run",
        cwd=tmp_path,
    )
    assert result.returncode == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "knows the elements H, O" in errors[0]
    assert not children(tmp_path / "run")
