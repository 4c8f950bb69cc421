"""Denoising before the training: the labels are the displacements, and the network learns to undo them."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.build import molecule
from training_place import ARCHITECTURE, labelled_molecules, write_config

from ipi_driver.cli import main
from ipi_driver.networks.pet.config import PetConfig
from ipi_driver.networks.pet.network import PetNetwork
from ipi_driver.structure import Structure
from ipi_driver.training.config import PretrainConfig, load_config
from ipi_driver.training.denoising import DisplacedStructures
from ipi_driver.training.setup import build_trainer


def test_forces_are_springs_to_where_the_atoms_were() -> None:
    structure = Structure.from_atoms(molecule("H2O"))
    network = PetNetwork(PetConfig(species=(1, 8), **ARCHITECTURE))
    config = PretrainConfig(files=[Path("unused")], sigma=0.05, denoise=8.0)
    samples = DisplacedStructures([structure] * 200, network, config, seed=1)
    forces = []
    for sample in samples:
        assert sample.forces is not None
        assert not sample.energy_known
        # an edge vector is what it was, and the displacements of its ends
        moved = -sample.forces / 8.0
        i, j = sample.edges.centers, sample.edges.neighbors
        expected = structure.positions[j] - structure.positions[i] + moved[j] - moved[i]
        np.testing.assert_allclose(sample.edges.vectors, expected, atol=1e-12)
        np.testing.assert_allclose(sample.forces.sum(0), 0.0, atol=1e-12)
        forces.append(sample.forces)
    # two thirds of the variance are left without the motion of the whole
    assert np.std(forces) == pytest.approx(8.0 * 0.05 * np.sqrt(2 / 3), rel=0.05)
    assert not np.allclose(samples[0].forces, samples[0].forces)


def test_displacements_are_undone_and_the_training_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bonds of a rigid molecule show most of a displacement; that out of its plane leaves no trace."""
    path = write_config(tmp_path, pretrain={"files": ["shapes.extxyz"], "epochs": 40, "learning_rate": 0.01})
    ase.io.write(tmp_path / "shapes.extxyz", [molecule("H2O") for _ in range(40)])
    assert main(["train", str(path)]) == 0
    shown = capsys.readouterr().out
    (line,) = (line for line in shown.splitlines() if line.startswith("pre-training"))
    assert float(line.split()[1]) < 85.0
    log = (tmp_path / "model" / "pretrain" / "log.csv").read_text().splitlines()
    assert len(log) == 21
    assert (tmp_path / "model" / "weights.safetensors").is_file()
    assert (
        main(["train", str(path), "--resume", "--quiet"]) == 0
    )  # nothing is left to do, and nothing done again


def test_training_begins_with_the_features_and_no_energy(tmp_path: Path) -> None:
    path = write_config(tmp_path, pretrain={"files": ["data.extxyz"], "epochs": 2})
    plain = write_config(tmp_path / "plain")
    trainer, other = build_trainer(load_config(path)), build_trainer(load_config(plain))
    batch = trainer.evaluate(trainer.validation_samples, trainer.network.state_dict())
    labels = np.concatenate([np.abs(s.forces).ravel() for s in trainer.validation_samples])
    assert batch.force_mae == pytest.approx(labels.mean(), rel=1e-5)
    changed = [
        not torch.equal(a, b)
        for a, b in zip(trainer.network.parameters(), other.network.parameters(), strict=True)
    ]
    assert np.mean(changed) > 0.8


def test_too_few_structures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ase.io.write(tmp_path / "few.extxyz", labelled_molecules(3))
    path = write_config(tmp_path, pretrain={"files": ["few.extxyz"]})
    assert main(["train", str(path)]) == 2
    assert "`pretrain` needs at least 5 structures, got 3" in capsys.readouterr().err
