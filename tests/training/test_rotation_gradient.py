"""The response of the energy to a rotation, from one evaluation: against rotated structures, and as a penalty."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import molecule
from scipy.spatial.transform import Rotation
from training_place import ARCHITECTURE, labelled_molecules

from ipi_driver.networks.baseline import Baseline
from ipi_driver.networks.pet.config import PetConfig
from ipi_driver.networks.pet.network import PetNetwork
from ipi_driver.potentials import load_potential
from ipi_driver.structure import Structure
from ipi_driver.training.batch import collate, make_sample
from ipi_driver.training.config import LossConfig
from ipi_driver.training.losses import (
    accumulate_gradients,
    rotation_gradients,
    rotation_loss,
    structure_energies,
)


@pytest.mark.parametrize("periodic", [False, True])
def test_derivative_by_rotations_of_a_model_without_symmetry(periodic: bool) -> None:
    potential = load_potential("pet-water-noaug", dtype="float64")
    atoms = molecule("H2O")
    if periodic:
        atoms.set_cell([[3.3, 0.0, 0.0], [0.4, 3.6, 0.0], [-0.2, 0.3, 3.5]])
        atoms.pbc = True
    structure = Structure.from_atoms(atoms)
    found = potential.predict(structure).rotation_gradient
    assert found is not None
    assert np.abs(found).max() > 1e-3
    h = 1e-4
    for axis in range(3):
        ends = [
            potential.predict(structure.rotated(Rotation.from_rotvec(s * h * np.eye(3)[axis]).as_matrix()))
            for s in (1, -1)
        ]
        assert found[axis] == pytest.approx((ends[0].energy - ends[1].energy) / (2 * h), abs=1e-6)


@pytest.mark.parametrize("displacement", [None, 0.002])
def test_penalty_alone_makes_a_network_invariant(displacement: float | None) -> None:
    """A few steps on the penalty alone lower the response to rotations of a molecule in any orientation."""
    torch.manual_seed(0)
    network = PetNetwork(PetConfig(species=(1, 8), **ARCHITECTURE)).double()
    structures = [Structure.from_atoms(atoms) for atoms in labelled_molecules(4)]
    samples = [make_sample(s, (1, 8), 3.0, Baseline((1, 8), np.zeros(2), 3.0)) for s in structures]
    config = LossConfig(rotation_gradient=1.0, symmetry_smoothing=0.01)
    penalty = rotation_loss(config)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)

    def response(seed: int) -> float:
        rotations = Rotation.random(4, random_state=seed).as_matrix()
        batch = collate(samples, rotations, torch.device("cpu"), torch.float64)
        leaf = batch.vectors.requires_grad_(True)
        (gradients,) = torch.autograd.grad(structure_energies(network, leaf, batch).sum(), leaf)
        return float(rotation_gradients(gradients, batch).norm(dim=1).mean().detach())

    before = np.mean([response(k) for k in range(3)])
    for step in range(60):
        rotations = Rotation.random(4, random_state=100 + step).as_matrix()
        batch = collate(samples, rotations, torch.device("cpu"), torch.float64)
        accumulate_gradients(network, batch, penalty, displacement)
        optimizer.step()
        optimizer.zero_grad()
    assert np.mean([response(k) for k in range(3)]) < 0.3 * before
