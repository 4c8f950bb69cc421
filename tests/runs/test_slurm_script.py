"""The job script: out of time it stops the run, and asks Slurm to bring the job back, which then continues."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ipi_driver.ipi_files.outputs import Run
from ipi_driver.ipi_files.run_folder import RunFolder
from ipi_driver.runs.changes import Changes
from ipi_driver.runs.resume import prepare_resume
from ipi_driver.shipped import shipped_folder

MODEL = "anisotropic?l=2&amplitude=0.05"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A Slurm job whose ``scontrol`` writes down what it was asked for."""
    commands = tmp_path / "commands"
    commands.mkdir()
    (commands / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    (commands / "ipi-driver").write_text(f'#!/bin/sh\nexec {sys.executable} -m ipi_driver "$@"\n')
    for path in commands.iterdir():
        path.chmod(0o755)
    job = {"SLURM_JOB_ID": "42", "SLURM_JOB_NAME": "water", "SLURM_CPUS_PER_TASK": "1"}
    return os.environ | job | {"PATH": f"{commands}:{os.environ['PATH']}"}


def submit(words: list[str], cwd: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    script = shipped_folder("inputs") / "slurm.sh"
    return subprocess.Popen(
        ["bash", str(script), *words],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_steps(path: Path) -> None:
    deadline = time.monotonic() + 240.0
    while not path.is_file() or path.read_text().count("\n") < 20:
        assert time.monotonic() < deadline, f"{path} has no steps"
        time.sleep(0.1)


def run_out_of_time(words: list[str], place: Path, folder: Path, environment: dict[str, str]) -> None:
    """A job that is told by Slurm, while it runs in ``folder``, that its time is over."""
    job = submit(words, place, environment)
    wait_for_steps(folder / "simulation.out")
    job.send_signal(signal.SIGUSR1)
    output, _ = job.communicate(timeout=240)
    assert job.returncode == 130, output
    assert (place / "asked").read_text() == "requeue 42\n"


def test_job_out_of_time_continues_until_it_is_done(tmp_path: Path, environment: dict[str, str]) -> None:
    folder = tmp_path / "runs" / "water"
    words = ["gas-nve", "--model", MODEL, "--seed", "3"]
    run_out_of_time([*words, "--steps", "1000000"], tmp_path, folder, environment)

    done = int(Run(folder).properties.steps[-1])
    job = submit([*words, "--steps", str(done + 100)], tmp_path, environment)
    output, _ = job.communicate(timeout=240)
    assert job.returncode == 0, output
    assert Run(folder).properties.steps[-1] >= done + 90
    assert (tmp_path / "asked").read_text() == "requeue 42\n"  # not once more


def test_job_of_a_set_continues_until_all_cells_are_done(tmp_path: Path, environment: dict[str, str]) -> None:
    cells = tmp_path / "cells"
    cells.mkdir()
    for name in "ab":
        shutil.copyfile(shipped_folder("inputs") / "gas-nve" / "structure.extxyz", cells / f"{name}.extxyz")
    first, second = (tmp_path / "runs" / "water" / name for name in "ab")
    words = ["gas-nve", "--structures", "cells", "--model", MODEL, "--seed", "3"]
    run_out_of_time([*words, "--steps", "1000000"], tmp_path, first, environment)
    assert not second.exists()

    done = int(Run(first).properties.steps[-1])
    job = submit([*words, "--steps", str(done + 100)], tmp_path, environment)
    output, _ = job.communicate(timeout=240)
    assert job.returncode == 0, output
    for folder in (first, second):
        steps = Run(folder).properties.steps
        assert list(steps) == list(range(0, steps[-1] + 1, 10))  # no row twice, and none left out
        assert steps[-1] >= done + 90
    assert (tmp_path / "asked").read_text() == "requeue 42\n"  # not once more


def test_job_whose_node_died_goes_on(tmp_path: Path, environment: dict[str, str]) -> None:
    """Before the first checkpoint of a part that was resumed, and before the first of all."""
    folder = tmp_path / "runs" / "water"
    words = ["gas-nve", "--model", MODEL, "--seed", "3", "--steps"]
    for steps in (20, 40, 30):
        if steps == 40:
            prepare_resume(folder, Changes(steps=steps))
            assert [path.name for path in RunFolder(folder).checkpoints().values()] == ["continue.xml"]
        elif steps == 30:
            for path in RunFolder(folder).checkpoints().values():
                path.unlink()
        job = submit([*words, str(steps)], tmp_path, environment)
        output, _ = job.communicate(timeout=240)
        assert job.returncode == 0, output
        assert ("begins anew" in output) == (steps == 30)
        assert list(Run(folder).properties.steps) == list(range(0, steps + 1, 10))


def test_cancelled_job_does_not_come_back(tmp_path: Path, environment: dict[str, str]) -> None:
    job = submit(["gas-nve", "--model", MODEL, "--steps", "1000000"], tmp_path, environment)
    wait_for_steps(tmp_path / "runs" / "water" / "simulation.out")
    job.send_signal(signal.SIGTERM)
    output, _ = job.communicate(timeout=240)
    assert job.returncode == 130, output
    assert not (tmp_path / "asked").exists()


def test_a_job_of_other_words_does_not_go_on_with_a_run(tmp_path: Path, environment: dict[str, str]) -> None:
    """Under one name: another seed, none, another structure in the same file; where it runs may change."""
    structure = tmp_path / "mine.extxyz"
    shutil.copyfile(shipped_folder("inputs") / "gas-nve" / "structure.extxyz", structure)
    words = ["gas-nve", "--model", MODEL, "--structure", "mine.extxyz", "--steps", "20"]

    def job(*more: str) -> tuple[int, str]:
        process = submit([*words, *more], tmp_path, environment)
        output, _ = process.communicate(timeout=240)
        return process.returncode, output

    status, output = job("--seed", "3")
    assert status == 0, output
    folder = tmp_path / "runs" / "water"
    before = {path: path.read_bytes() for path in folder.iterdir()}
    was = "runs/water was begun with --seed 3, got"
    for more, got in ((["--seed", "4"], "--seed 4"), ([], "none")):
        status, output = job(*more)
        assert status == 2
        assert f"error: {was} {got}; give another --output (a job: another --job-name)" in output
    status, output = job("--seed", "3", "--threads", "2")
    assert (status, "finished before" in output) == (0, True)
    structure.write_text(structure.read_text().replace("O ", "O  "))
    status, output = job("--seed", "3")
    assert status == 2
    assert "was begun with --structure mine.extxyz (" in output
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert not (tmp_path / "asked").exists()


def test_jobs_of_different_inputs_do_not_meet(tmp_path: Path, environment: dict[str, str]) -> None:
    """Without --job-name Slurm gives the name of the script; under one name the second input is refused."""
    unnamed = environment | {"SLURM_JOB_NAME": "slurm.sh"}
    other = tmp_path / "mine" / "gas"
    shutil.copytree(shipped_folder("inputs") / "gas-nve", other)
    text = (other / "input.xml").read_text()
    (other / "input.xml").write_text(text.replace("> 0.5 <", "> 0.25 <"))
    assert (other / "input.xml").read_text() != text
    words = ["--model", MODEL, "--steps", "20"]
    for given, chosen, name in (
        ("mine/gas/input.xml", unnamed, "gas"),
        ("gas-nve", environment, "water"),
    ):
        job = submit([given, *words], tmp_path, chosen)
        output, _ = job.communicate(timeout=240)
        assert job.returncode == 0, output
        assert Run(tmp_path / "runs" / name).properties.steps[-1] == 20
    before = {path: path.read_bytes() for path in (tmp_path / "runs" / "water").iterdir()}
    job = submit(["mine/gas", "--model", MODEL, "--steps", "40"], tmp_path, environment)
    output, _ = job.communicate(timeout=240)
    assert job.returncode == 2
    assert (
        f"error: runs/water was begun from the shipped gas-nve, got {other}/input.xml; give another" in output
    )
    assert {path: path.read_bytes() for path in (tmp_path / "runs" / "water").iterdir()} == before
    assert "#SBATCH --job-name" not in (shipped_folder("inputs") / "slurm.sh").read_text()


def test_failure_is_the_status_of_the_job(tmp_path: Path, environment: dict[str, str]) -> None:
    job = submit(["gas-nve", "--model", "no-such-model"], tmp_path, environment)
    output, _ = job.communicate(timeout=240)
    assert job.returncode == 2
    assert "no model 'no-such-model'" in output
    job = submit([], tmp_path, environment)
    output, _ = job.communicate(timeout=240)
    assert job.returncode == 2
    assert "usage" in output
