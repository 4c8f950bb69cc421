"""A kind of potential of another package, installed beside this one: `load_potential`, `check`, `run`, `serve`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest

from ipi_driver.cli import main
from ipi_driver.errors import UserError
from ipi_driver.potentials import (
    Potential,
    load_potential,
    parse_potential,
    potential_kinds,
    register_potential,
)
from ipi_driver.potentials.kinds import GROUP, OWN, potential_class

PLUGIN = Path(__file__).parents[1] / "plugin"
POSITIONS = np.array([[0.0, 0.0, 0.0], [0.97, 0.02, 0.1], [-0.24, 0.93, 0.05]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip has installed the package."""
    target = tmp_path_factory.mktemp("site")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
    ]
    subprocess.run([*pip, "--disable-pip-version-check", "--target", str(target), str(PLUGIN)], check=True)
    return target


@pytest.fixture
def folder(tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a structure; this process, and those that it starts, find the package."""
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.chdir(tmp_path)
    ase.io.write(tmp_path / "water.extxyz", ase.Atoms("OH2", POSITIONS))
    return tmp_path


def test_check(folder: Path) -> None:
    words = ["--average", "T", "--max-degree", "2", "--output", "out"]
    assert main(["check", "springs:soft?anisotropy=0.5", "water.extxyz", *words]) == 0
    found = json.loads((folder / "out" / "check.json").read_text())
    assert found["recommendation"]["average"] == "T"  # a quadratic form holds degrees 0 and 2
    assert found["consistency"]["water"]["force_deviation"] < 1e-6


def test_run_and_the_client_that_it_starts(folder: Path) -> None:
    words = ["--average", "T", "--steps", "2", "--structure", "water.extxyz", "--output", "run"]
    assert main(["run", "gas-nve", "--model", "springs:hard", *words]) == 0
    assert "model: springs:hard" in (folder / "run" / "driver.yaml").read_text()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("springs:medium", "springs: expected soft or hard, got 'medium'"),
        ("springs:soft?color=red", "unknown option 'color', expected one of anisotropy"),
        ("broken:x", "the kind of potential 'broken' (springs_potential:NotThere) cannot be imported"),
    ],
)
def test_what_is_wrong_is_one_line(
    folder: Path, model: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", model, "water.extxyz"]) == 2
    printed = capsys.readouterr().err.strip()
    assert printed.startswith("error: ")
    assert message in printed
    assert "\n" not in printed


def test_a_wrong_name_is_found_before_a_run_is_begun(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "gas-nve", "--model", "springs:medium", "--output", "run"]) == 2
    assert "springs: expected soft or hard" in capsys.readouterr().err
    assert not (folder / "run").exists()


def test_own_kinds_are_entry_points_too() -> None:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["entry-points"][GROUP] == OWN
    assert set(OWN) <= set(potential_kinds())
    for kind in OWN:
        assert issubclass(potential_class(kind), Potential)


def test_names_of_kinds() -> None:
    with pytest.raises(UserError, match=r"no kind of potential 'orbb'; there are network, metatomic, ase"):
        load_potential("orbb:orb-v3")
    with pytest.raises(UserError, match="exists already"):
        register_potential("ase", Potential)
    with pytest.raises(UserError, match=r"expected a model to run.*mtt export models/pet.ckpt -o pet.pt"):
        load_potential("models/pet.ckpt")


def test_paths_with_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b").mkdir()
    assert parse_potential("a:b").kind == "network"
    assert parse_potential("./c:d.pt").kind == "metatomic"
