"""`ipi-driver symmetrize`: a network without symmetry learns its own average, measured by other code."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
import yaml
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from training_place import ARCHITECTURE, labelled_molecules

from ipi_driver.cli import main
from ipi_driver.networks.baseline import Baseline
from ipi_driver.networks.pet.config import PetConfig
from ipi_driver.networks.pet.network import PetNetwork
from ipi_driver.networks.storage import save_model
from ipi_driver.potentials import load_potential
from ipi_driver.rotations.augmentation import augmentation_rotations
from ipi_driver.structure import Structure
from ipi_driver.training import distillation
from ipi_driver.training.losses import StepResult
from ipi_driver.training.trainer import Trainer


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A random network, and two files with structures."""
    torch.manual_seed(1)
    network = PetNetwork(PetConfig(species=(1, 8), **ARCHITECTURE))
    save_model(tmp_path / "model", network, Baseline((1, 8), np.array([-1.0, -2.0]), 3.0))
    ase.io.write(tmp_path / "gas.extxyz", labelled_molecules(30))
    pairs = labelled_molecules(12, seed=3)
    for k, atoms in enumerate(pairs):
        other = labelled_molecules(12, seed=4)[k]
        other.positions += [2.9, 0.2, 0.1]
        atoms += other
        atoms.calc = None
    ase.io.write(tmp_path / "pairs.extxyz", pairs)
    return tmp_path


def spread(model: Path, structures: list[Structure]) -> float:
    """Mean absolute deviation of the forces in random frames from their mean, eV/Å."""
    potential = load_potential(model)
    rotations = augmentation_rotations("o3", 8, np.random.default_rng(9))
    forces = potential.evaluate(structures, rotations).forces
    return float(np.mean([np.abs(f - f.mean(axis=0)).mean() for f in forces]))


def test_a_random_network_learns_its_average(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [place / "gas.extxyz", place / "pairs.extxyz"]
    command = ["symmetrize", str(place / "model"), *map(str, files), "--output", str(place / "new")]
    command += ["--steps", "500", "--learning-rate", "0.003", "--threads", "1", "--data", str(files[0])]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "before: force MAE" in shown
    content = json.loads((place / "new" / "symmetrize.json").read_text())
    assert content["parent"] == "model"
    assert [row["n_structures"] for row in content["held_out"]] == [6, 2]
    for path, row in zip(files, content["held_out"], strict=True):
        held_out = [Structure.from_atoms(a) for a in ase.io.read(path, ":")][-row["n_structures"] :]
        before, after = spread(place / "model", held_out), spread(place / "new", held_out)
        assert after < 0.4 * before
        # another measure of the same: random frames with their mean, here a grid with its average
        assert row["force_before"] == pytest.approx(1e3 * before, rel=0.5)
        assert row["force_after"] == pytest.approx(1e3 * after, rel=0.7)
        assert row["force_deviation"] < 0.5 * row["force_before"]
    provenance = yaml.safe_load((place / "new" / "model.yaml").read_text())["provenance"]
    assert provenance["symmetrized"]["average"] == "Th"
    assert not list((place / "new").glob("checkpoint*"))
    assert main([*command[:-2]]) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_network_that_is_told_angles_becomes_invariant(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(2)
    network = PetNetwork(PetConfig(species=(1, 8), **(ARCHITECTURE | {"angular_basis": 3})))
    save_model(place / "angles", network, Baseline((1, 8), np.array([-1.0, -2.0]), 3.0))
    command = ["symmetrize", str(place / "angles"), str(place / "gas.extxyz"), "--threads", "1"]
    assert main([*command, "--steps", "100", "--output", str(place / "new")]) == 0
    assert "forgets x, y and z" in capsys.readouterr().out
    (row,) = json.loads((place / "new" / "symmetrize.json").read_text())["held_out"]
    for path in ("gas.extxyz", "pairs.extxyz"):  # also where it was not taught
        structures = [Structure.from_atoms(a) for a in ase.io.read(place / path, ":")]
        assert spread(place / "new", structures) < 1e-5
    held_out = [Structure.from_atoms(a) for a in ase.io.read(place / "gas.extxyz", ":")][-6:]
    before = spread(place / "angles", held_out)
    teacher, student = load_potential(place / "angles"), load_potential(place / "new")
    rotations = augmentation_rotations("o3", 200, np.random.default_rng(5))
    off = []
    for structure in held_out:
        turned = teacher.evaluate([structure], rotations).forces[0]
        off.append(np.abs(turned.mean(axis=0) - student.predict(structure).forces).mean())
    assert row["force_deviation"] < 0.1 * row["force_before"]
    assert np.mean(off) < 0.2 * before  # of which a part is the scatter of 200 rotations
    assert load_potential(place / "new").network.config.cartesian is False

    # what depends little on x, y and z differs from its average by the square of that
    for name, weights in network.named_parameters():
        if name.endswith("edge_embedding.0.weight"):
            with torch.no_grad():
                weights[:, :3] *= 0.02
    save_model(place / "little", network, Baseline((1, 8), np.array([-1.0, -2.0]), 3.0))
    command[1] = str(place / "little")
    assert main([*command, "--output", str(place / "at-once")]) == 0
    assert "no training is needed" in capsys.readouterr().out
    (row,) = json.loads((place / "at-once" / "symmetrize.json").read_text())["held_out"]
    assert row["force_after"] < 1e-3 < row["force_before"]
    assert row["force_deviation"] < 0.1 * row["force_before"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--minutes", "0"], "--minutes must be positive, got 0"),
        (["--average", "random"], "expected a grid that holds the identity"),
        (["--max-structures", "3"], "gas holds 3 structures; expected at least 5"),
        (["--data", "absent.xyz"], "no file absent.xyz"),
        (["--seed", "-1"], "--seed must not be negative, got -1"),
        (["--data", "unlabelled.xyz"], "no 'energy'"),
        (["--data", "ammonia.xyz"], "--data: structure 0 holds N, the model has H, O"),
    ],
)
def test_bad_options_write_nothing(
    place: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    ammonia = molecule("NH3")
    ase.io.write("unlabelled.xyz", ammonia, format="extxyz")
    ammonia.calc = SinglePointCalculator(ammonia, energy=-1.0, forces=np.full((4, 3), 0.1))
    ase.io.write("ammonia.xyz", ammonia, format="extxyz")
    command = ["symmetrize", str(place / "model"), str(place / "gas.extxyz"), "--output", str(place / "new")]
    assert main([*command, *words]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert not (place / "new").exists()


def test_a_signal_keeps_what_has_been_learned(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = Trainer.train_step

    def interrupted(self: Trainer, indices: np.ndarray) -> StepResult:
        if self.step == 50:
            signal.raise_signal(signal.SIGINT)
        return step(self, indices)

    monkeypatch.setattr(Trainer, "train_step", interrupted)
    command = ["symmetrize", str(place / "model"), str(place / "gas.extxyz"), "--output", str(place / "new")]
    command += ["--steps", "200", "--learning-rate", "0.003", "--threads", "1", "--quiet", "--average", "O"]
    assert main(command) == 128 + signal.SIGINT
    (row,) = json.loads((place / "new" / "symmetrize.json").read_text())["held_out"]
    assert row["force_after"] < row["force_before"]
    assert not list((place / "new").glob("checkpoint*"))


def test_an_unknown_element_is_found_before_the_teacher_works(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ase.io.write(place / "others.extxyz", [*labelled_molecules(5), molecule("NH3")])
    monkeypatch.setattr(distillation, "teach", None)
    assert (
        main(
            ["symmetrize", str(place / "model"), str(place / "others.extxyz"), "--output", str(place / "new")]
        )
        == 2
    )
    assert "knows the elements H, O, but the structure holds N" in capsys.readouterr().err


def test_a_training_that_spoils_the_model_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["symmetrize", str(place / "model"), str(place / "gas.extxyz"), "--output", str(place / "new")]
    assert main([*command, "--steps", "100", "--learning-rate", "3", "--threads", "1", "--quiet"]) == 2
    error = capsys.readouterr().err
    assert "after 100 steps the model is no nearer to its average" in error
    assert error.endswith("new keeps the log of this try: give another --output\n")
    assert not (place / "new" / "model.yaml").exists()
