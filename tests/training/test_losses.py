"""The losses against their formulas in plain numpy, and the labels that they compare with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_place import labelled_molecules

from ipi_driver.networks.baseline import Baseline
from ipi_driver.rotations.augmentation import augmentation_rotations
from ipi_driver.structure import FloatArray, Structure
from ipi_driver.training.batch import Batch, Sample, collate, make_sample
from ipi_driver.training.config import LossConfig
from ipi_driver.training.data import LabelledStructure
from ipi_driver.training.losses import joint_loss, label_loss, symmetry_loss


def batch_of(copies: int) -> tuple[list[Sample], FloatArray, Batch]:
    """A water molecule and a hydroxyl with any labels, each in ``copies`` random frames."""
    rng = np.random.default_rng(0)
    samples = []
    for n_atoms in (3, 2):
        structure = Structure.from_atoms(labelled_molecules(1)[0][:n_atoms])
        labels = -3.0 * n_atoms, rng.normal(size=(n_atoms, 3)), rng.normal(size=(3, 3))
        item = LabelledStructure(structure, *labels)
        samples.append(make_sample(item, (1, 8), 3.0, Baseline((1, 8), np.zeros(2), 3.0)))
    samples = samples * copies
    rotations = augmentation_rotations("o3", len(samples), rng)
    return samples, rotations, collate(samples, rotations, torch.device("cpu"), torch.float64)


def predictions(
    samples: list[Sample], batch: Batch
) -> tuple[FloatArray, FloatArray, list[FloatArray], list[FloatArray]]:
    """Any energies and derivatives by the edge vectors, and the forces and virials that these are, edge by edge."""
    rng = np.random.default_rng(1)
    gradients = rng.normal(size=tuple(batch.vectors.shape))
    energies = rng.normal(size=len(samples)) - 7.0
    vectors = batch.vectors.numpy()
    forces, virials, edge = [], [], 0
    for sample in samples:
        force, virial = np.zeros((sample.n_atoms, 3)), np.zeros((3, 3))
        for i, j in zip(sample.edges.centers, sample.edges.neighbors, strict=True):
            force[i] += gradients[edge]
            force[j] -= gradients[edge]
            virial -= np.outer(gradients[edge], vectors[edge])
            edge += 1
        forces.append(force)
        virials.append(virial)
    return energies, gradients, forces, virials


def smooth(x: FloatArray, scale: float) -> float:
    """Mean of sqrt(|x|² + scale²) - scale over vectors along the last axis."""
    return float((np.sqrt((x**2).sum(axis=-1) + scale**2) - scale).mean())


def test_loss_on_labels_is_its_formula() -> None:
    samples, rotations, batch = batch_of(1)
    energies, gradients, forces, virials = predictions(samples, batch)
    config = LossConfig(forces=0.7, energy=3.0, virial=0.4, smoothing=0.02)
    force_errors, energy_errors, virial_errors = [], [], []
    for k, (sample, turn) in enumerate(zip(samples, rotations, strict=True)):
        force_errors += list(forces[k] - sample.forces @ turn.T)
        energy_errors.append([(energies[k] - sample.energy) / sample.n_atoms])
        virial_errors.append(((virials[k] - turn @ sample.virial @ turn.T) / sample.n_atoms).ravel())
    expected = 0.7 * smooth(np.array(force_errors), 0.02) + 3.0 * smooth(np.array(energy_errors), 0.001)
    expected += 0.4 * smooth(np.array(virial_errors), 0.02)
    found = label_loss(config)(torch.tensor(energies), torch.tensor(gradients), batch)
    assert float(found) == pytest.approx(expected, rel=1e-10)


def test_symmetry_penalty_is_its_formula() -> None:
    samples, rotations, batch = batch_of(3)
    energies, gradients, forces, _ = predictions(samples, batch)
    config = LossConfig(forces=0.7, energy=3.0, symmetry=2.0, symmetry_rotations=3, symmetry_smoothing=0.03)
    turned = [force @ turn for force, turn in zip(forces, rotations, strict=True)]
    frames = np.array([np.concatenate(turned[2 * k : 2 * k + 2]) for k in range(3)])
    per_atom = (energies / [sample.n_atoms for sample in samples]).reshape(3, 2, 1)
    expected = 2.0 * 0.7 * smooth(frames - frames.mean(axis=0), 0.03)
    expected += 2.0 * 3.0 * smooth(per_atom - per_atom.mean(axis=0), 0.0015)
    arguments = torch.tensor(energies), torch.tensor(gradients), batch
    assert float(symmetry_loss(config)(*arguments)) == pytest.approx(expected, rel=1e-10)
    labels = float(label_loss(config)(*arguments))
    assert float(joint_loss(config)(*arguments)) == pytest.approx(labels + expected, rel=1e-10)


def test_penalty_on_the_response_to_rotations_is_its_formula() -> None:
    samples, _, batch = batch_of(1)
    energies, gradients, _, virials = predictions(samples, batch)
    arguments = torch.tensor(energies), torch.tensor(gradients), batch
    expected = 2.5 * smooth(
        np.array(
            [
                np.array([v[1, 2] - v[2, 1], v[2, 0] - v[0, 2], v[0, 1] - v[1, 0]]) / sample.n_atoms
                for v, sample in zip(virials, samples, strict=True)
            ]
        ),
        0.05 * 0.02,
    )
    with_penalty = LossConfig(rotation_gradient=2.5, symmetry_smoothing=0.02)
    without = label_loss(LossConfig(symmetry_smoothing=0.02))(*arguments)
    found = label_loss(with_penalty)(*arguments) - without
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_labels_without_the_baseline_are_derivatives_of_each_other() -> None:
    """What is left of a virial, and of forces, are those of the energies that are left, by finite differences."""
    rng = np.random.default_rng(2)
    cell = np.diag([3.5, 3.6, 3.7])
    positions = labelled_molecules(1)[0].positions
    baseline = Baseline((1, 8), np.array([-1.0, -2.0]), 3.0, rng.normal(size=(3, 6)))

    def sample(deformed: FloatArray, moved: FloatArray) -> Sample:
        turned = Structure(np.array([8, 1, 1]), moved @ deformed.T, cell @ deformed.T, np.full(3, True))
        item = LabelledStructure(turned, 0.0, np.zeros((3, 3)), np.zeros((3, 3)))
        return make_sample(item, (1, 8), 3.0, baseline)

    here = sample(np.eye(3), positions)
    assert here.virial is not None
    assert here.forces is not None
    h, strain, direction = 1e-4, rng.normal(size=(3, 3)), rng.normal(size=(3, 3))
    ends = [sample(np.eye(3) + s * h * strain, positions).energy for s in (1, -1)]
    assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(-(here.virial * strain).sum(), rel=1e-5)
    ends = [sample(np.eye(3), positions + s * h * direction).energy for s in (1, -1)]
    assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(-(here.forces * direction).sum(), rel=1e-5)


def test_the_earlier_name_of_the_number_of_rotations(caplog: pytest.LogCaptureFixture) -> None:
    config = LossConfig.model_validate({"symmetry_frames": 4})
    assert config.symmetry_rotations == 4
    assert "`symmetry_frames` is now called `symmetry_rotations`" in caplog.text
