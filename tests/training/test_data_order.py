"""A split knows the structures that its indices count, and in which order."""

from __future__ import annotations

from pathlib import Path

import ase.io
import pytest
import yaml
from training_place import labelled_molecules

from ipi_driver.cli import main
from ipi_driver.training.config import load_config
from ipi_driver.training.setup import build_trainer

NAMES = ("first.extxyz", "second.extxyz")
EMT_SPEC = "ase:ase.calculators.emt.EMT"


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """What a training writes before its first step."""
    for k, name in enumerate(NAMES):
        ase.io.write(tmp_path / name, labelled_molecules(4 + k, seed=k))
    config = {
        "data": {"files": list(NAMES), "validation": 2, "test": 3},
        "output": "model",
        "architecture": {
            "cutoff": 3.0,
            "d_model": 8,
            "n_heads": 2,
            "n_gnn_layers": 1,
            "n_attention_layers": 1,
        },
        "threads": 1,
    }
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(config))
    build_trainer(load_config(tmp_path / "train.yaml"))
    return tmp_path / "model" / "split.yaml"


def evaluate(split: Path, files: list[Path]) -> int:
    words = ["evaluate", EMT_SPEC, *map(str, files), "--indices", str(split), "--reference", "none"]
    return main([*words, "--output", str(split.parent / "errors")])


def test_other_data_and_another_order_are_refused(
    split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / name for name in NAMES]
    assert evaluate(split, files) == 0
    capsys.readouterr()
    other = tmp_path / "other.extxyz"
    ase.io.write(other, labelled_molecules(9, seed=2))
    for given, got in (
        (files[::-1], "second.extxyz (5), first.extxyz (4)"),
        ([other], "other.extxyz (9)"),
        (files[:1], "first.extxyz (4)"),
    ):
        assert evaluate(split, given) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "first.extxyz (4), second.extxyz (5), in this order" in line
        assert line.endswith(f"got {got}")


def test_the_same_structures_in_one_file_with_other_labels(split: Path, tmp_path: Path) -> None:
    frames = [atoms for name in NAMES for atoms in ase.io.read(tmp_path / name, ":")]
    for atoms in frames:
        atoms.calc.results["energy"] -= 1.0
    ase.io.write(tmp_path / "all.extxyz", frames)
    assert evaluate(split, [tmp_path / "all.extxyz"]) == 0


def test_a_split_that_does_not_know_its_data(
    split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / name for name in NAMES]
    content = yaml.safe_load(split.read_text())
    assert content["data"]["structures"] == [4, 5]
    split.write_text(yaml.safe_dump({k: v for k, v in content.items() if k != "data"}))
    assert evaluate(split, files[::-1]) == 0
    split.write_text(yaml.safe_dump(content | {"data": {"files": 3}}))
    capsys.readouterr()
    assert evaluate(split, files) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
