"""Farms: one input with several seeds and averages, here and as a Slurm array."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ipi_driver.cli import main, submit
from ipi_driver.cli import run as run_command
from ipi_driver.errors import UserError
from ipi_driver.rotations.quadrature import quadrature
from ipi_driver.runs.farm import (
    ClusterSettings,
    ensembles_of,
    members_of,
    parse_seeds,
    read_cluster,
    submit_farm,
    write_farm,
)
from ipi_driver.runs.local_farm import command_of, is_finished

MODEL = "anisotropic?l=2&amplitude=0.05"


def test_seeds() -> None:
    assert parse_seeds("4") == [4]
    assert parse_seeds("1-3, 9,11-12") == [1, 2, 3, 9, 11, 12]
    for wrong in ("", "a", "3-1", "1-2-3", "-4"):
        with pytest.raises(UserError, match="--seeds must be numbers"):
            parse_seeds(wrong)
    with pytest.raises(UserError, match="twice"):
        parse_seeds("1-3,2")


def test_models_and_scripts_of_a_farm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that a model names are found from the farm's folder; running jobs keep the script that they read."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.model", "b.pt"):
        Path(name).touch()
    here = tmp_path.resolve()
    for given, found in (
        ("mace:a.model", f"mace:{here}/a.model"),
        ("sum:b.pt+anisotropic", f"sum:{here}/b.pt+anisotropic"),
        ("b.pt?variant=x", f"{here}/b.pt?variant=x"),
        ("pet-water-s2", "pet-water-s2"),
    ):
        assert submit._absolute_model(["--steps", "5", "--model", given]) == [
            "--steps",
            "5",
            "--model",
            found,
        ]
    farm, names = tmp_path / "farm", ("farm.yaml", "members.txt", "job.sh", "slurm.sh")
    write_farm(farm, "gas-nve", members_of([1], []), [], read_cluster(None))
    before = [(farm / name).read_text() for name in names]
    for name in names[1:]:
        (farm / name).write_text("# of an earlier version\n")
        os.link(farm / name, tmp_path / name)  # as a job has it open
    write_farm(farm, "gas-nve", members_of([1], []), [], read_cluster(None))
    assert [(farm / name).read_text() for name in names] == before
    for name in names[1:]:
        assert (tmp_path / name).read_text() == "# of an earlier version\n"

    # what a run may be continued with, as after the watch over its physics has ended it
    words = ["--steps", "5", "--watch", "off", "--one-core", "--restarts", "0", "--launch", "srun -n 1"]
    write_farm(farm, "gas-nve", members_of([1], []), words, read_cluster(None))
    assert "--watch off --one-core" in (farm / "job.sh").read_text()
    with pytest.raises(UserError, match="a farm with other members or options"):
        write_farm(farm, "gas-nve", members_of([1], []), [*words, "--charge", "1.0"], read_cluster(None))


def test_members_are_named_by_average_and_seed() -> None:
    members = members_of([8, 12], [quadrature("none"), quadrature("2i")])
    assert [m.name for m in members] == ["none-08", "none-12", "2i-08", "2i-12"]
    assert members[2].words == ("--seed", "8", "--average", "2i")
    with pytest.raises(UserError, match="names one twice: 2i 2i"):
        members_of([1], [quadrature("2i"), quadrature("2i")])


def test_settings_of_the_cluster(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("partition: long\ngpus: 2\nsetup: [module load python]\n")
    assert read_cluster(file).gpus == 2
    file.write_text("partitoin: long\n")
    with pytest.raises(UserError, match=r"partitoin.*keys: time, cpus"):
        read_cluster(file)
    with pytest.raises(UserError, match="no cluster settings"):
        read_cluster(tmp_path / "other.yaml")


def test_a_farm_here_and_its_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        "submit",
        "gas-nve",
        "--seeds",
        "1-2",
        "--average",
        "none",
        "T",
        "--model",
        MODEL,
        "--output",
        "farm",
    ]
    assert main([*words, "--steps", "300", "--dry-run", "--cluster", str(_cluster(tmp_path))]) == 0
    script = (tmp_path / "farm" / "job.sh").read_text()
    for line in (
        "#SBATCH --array=1-4%2",
        "#SBATCH --gres=gpu:1",
        "#SBATCH --partition=long",
        "module load x",
    ):
        assert line in script
    assert subprocess.run(["bash", "-n", tmp_path / "farm" / "job.sh"]).returncode == 0
    assert not (tmp_path / "farm" / "T-1").exists()

    assert main([*words, "--steps", "300", "--local", "2"]) == 0
    starts = {
        name: (tmp_path / "farm" / name / "simulation.vel_0.xyz").read_text().splitlines()[:5]
        for name in ("none-1", "none-2", "T-1", "T-2")
    }
    assert starts["none-1"] != starts["none-2"]
    for name in starts:
        assert json.loads((tmp_path / "farm" / name / "summary.json").read_text())["steps"] == 300
    # a member without a summary that says so: of a replay, or it has failed
    (tmp_path / "farm" / "T-1" / "summary.json").unlink()
    assert main([*words, "--steps", "300", "--local", "2"]) == 0
    capsys.readouterr()
    assert main(["analyze", "farm", "--output", "analysis", "--no-viewer"]) == 0
    printed = capsys.readouterr().out
    assert "none (2 runs)" in printed
    assert "T (2 runs)" in printed
    # another model under the same folder would mix two farms
    assert main(["submit", "gas-nve", "--seeds", "1-2", "--output", "farm", "--dry-run"]) == 2


def test_a_member_goes_on_to_more_steps_than_it_has_finished(tmp_path: Path) -> None:
    assert not is_finished(tmp_path)
    (tmp_path / "summary.json").write_text(json.dumps({"finished": True, "steps": 300, "total_steps": 300}))
    assert is_finished(tmp_path)
    assert is_finished(tmp_path, 300)
    assert not is_finished(tmp_path, 320)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "summary.json").write_text('[{"cell": "a", "state": "converged"}]')
    assert not is_finished(tmp_path / "set")
    # a minimization that has converged has nothing left to do
    message = "I-PI reports success. Restartable as is: NO. Geometry optimization converged"
    (tmp_path / "i-pi.log").write_text(
        f"Soft exit has been requested with message: ' {message}'. Cleaning up"
    )
    assert is_finished(tmp_path, 320)


def test_a_member_keeps_its_words_when_it_goes_on() -> None:
    member, options = members_of([3], [quadrature("T")])[0], ["--restarts", "0", "--clients", "2"]
    words = command_of("gas-nve", member, options)
    assert words[words.index("run") :] == (
        [
            "run",
            "gas-nve",
            "--output",
            "T-3",
            "--continue",
            "--restarts",
            "0",
            "--clients",
            "2",
            "--seed",
            "3",
            "--average",
            "T",
        ]
    )


def test_members_count_as_begun_whatever_their_outputs_are_called(tmp_path: Path) -> None:
    (tmp_path / "farm.yaml").write_text("members: [T-1, T-2, T-3]\n")
    for number in (1, 2):
        folder = tmp_path / f"T-{number}"
        folder.mkdir()
        for name in ("input.xml", "driver.yaml", "md.out"):
            (folder / name).touch()
    assert ensembles_of(tmp_path) == {"T": [tmp_path / "T-1", tmp_path / "T-2"]}


def test_the_arrays_of_a_chain_follow_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their tasks do not: `singleton` goes by the name, which all tasks of an array share."""
    program = tmp_path / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@" >>asked\necho "$(($(wc -l <asked) + 40));cluster"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    folder, cluster = tmp_path / "farm", ClusterSettings(chain=3, requeue=False)
    write_farm(folder, "gas-nve", members_of([1, 2], []), [], cluster)
    assert "singleton" not in (folder / "job.sh").read_text()
    assert submit_farm(folder, cluster) == ["41", "42", "43"]
    asked = [line.split()[1:] for line in (folder / "asked").read_text().splitlines()]
    assert asked == [
        ["job.sh"],
        ["--dependency=afterany:41", "job.sh"],
        ["--dependency=afterany:42", "job.sh"],
    ]
    program.write_text('#!/bin/sh\n[ $# -eq 2 ] || { echo "limit" >&2; exit 1; }\necho 51\n')
    with pytest.raises(UserError, match=r"sbatch refused .*job.sh: limit; 51 of the chain are in the queue"):
        submit_farm(folder, cluster)


def _cluster(folder: Path) -> Path:
    path = folder / "cluster.yaml"
    path.write_text("partition: long\ngpus: 1\nconcurrent: 2\nsetup: [module load x]\n")
    return path


def test_wrong_options_are_reported_before_anything_is_written(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "ipi_driver", "submit", "gas-nve", "--output", str(tmp_path / "farm")]
    for words, message in (
        (["--seed", "3"], "use --seeds"),
        (["--seeds", "x"], "--seeds must be"),
        (["--average", "2j"], "2j"),
        (["--local", "0"], "at least 1"),
        (["--steps", "0"], "positive"),
    ):
        done = subprocess.run([*program, *words], capture_output=True, text=True)
        assert done.returncode == 2
        assert message in done.stderr
        assert not (tmp_path / "farm").exists()


def test_an_option_that_is_given_twice_reaches_run_twice() -> None:
    submitted, run_itself = (argparse.ArgumentParser(conflict_handler="resolve") for _ in range(2))
    submit.add_arguments(submitted)
    run_command.add_arguments(run_itself)
    words = ["--endpoint", "a=2i", "--endpoint", "b=Th", "--steps", "5", "--one-core"]
    given = submitted.parse_args(["input.xml", "--seeds", "1-2", *words])
    found = run_itself.parse_args(["input.xml", *submit.run_options(submitted, given)])
    assert found.endpoint == ["a=2i", "b=Th"]
    assert (found.steps, found.one_core) == (5, True)
