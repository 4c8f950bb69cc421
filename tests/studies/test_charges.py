"""Charges in free space: forces are derivatives, the energy is invariant, and the data are what they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ipi_driver.studies.hofgard2024.charges import CHARGE, CLOSEST, charges, interaction
from ipi_driver.units import COULOMB


def test_forces_are_derivatives_and_turn_with_the_charges() -> None:
    (atoms,) = charges(1, 5, seed=3)
    signs = np.where(atoms.numbers == 11, CHARGE, -CHARGE)
    energy, forces = interaction(atoms.positions, signs)
    assert energy == pytest.approx(atoms.get_potential_energy())
    assert forces == pytest.approx(atoms.get_forces())
    direction = np.random.default_rng(0).normal(size=forces.shape)
    h = 1e-4
    ahead, behind = (interaction(atoms.positions + s * h * direction, signs)[0] for s in (1, -1))
    assert -(forces * direction).sum() == pytest.approx((ahead - behind) / (2 * h), rel=1e-6)
    turn = -Rotation.random(random_state=1).as_matrix()
    turned, turned_forces = interaction(atoms.positions @ turn.T, signs)
    assert turned == pytest.approx(energy)
    assert turned_forces == pytest.approx(forces @ turn.T)


def test_far_charges_are_those_of_coulomb() -> None:
    energy, _ = interaction(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 50.0]]), np.array([1.0, -1.0]))
    assert energy == pytest.approx(-COULOMB / 50.0, rel=1e-3)


def test_the_data() -> None:
    found = charges(4, 6, seed=1)
    assert len(found) == 4
    for atoms in found:
        assert sorted(atoms.get_chemical_symbols()) == ["Cl"] * 3 + ["Na"] * 3
        distances = atoms.get_all_distances()[np.triu_indices(6, 1)]
        assert distances.min() >= CLOSEST
    assert np.abs(found[0].positions - found[1].positions).max() > 0.1
    assert charges(1, 6, seed=1)[0].positions == pytest.approx(found[0].positions)
