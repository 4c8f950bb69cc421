"""Mean torque under averages, with a potential whose symmetry breaking has a known degree."""

import numpy as np
import pytest
from ase.build import molecule
from scipy.spatial.transform import Rotation

from ipi_driver.errors import UserError
from ipi_driver.potentials.registry import load_potential
from ipi_driver.rotations import quadratures
from ipi_driver.structure import Structure
from ipi_driver.symmetry.torques import torque_against_average


def snapshots(n: int) -> list[Structure]:
    water = molecule("H2O")
    turned = Rotation.random(n, rng=0).as_matrix()
    return [Structure(water.numbers, water.positions @ matrix.T) for matrix in turned]


def test_averages_remove_the_degrees_they_integrate():
    potential = load_potential("anisotropic?l=2&amplitude=0.02")
    structures = snapshots(12)
    calls = []
    raw, d2, t = torque_against_average(
        potential, structures, quadratures(["none", "D2", "T"]), lambda: calls.append(1)
    )
    assert [result.n_rotations for result in (raw, d2, t)] == [1, 4, 12]
    assert [result.average for result in (raw, d2, t)] == ["none", "D2", "T"]
    assert len(calls) == 36
    # D2 integrates degree 1, T degree 2
    assert raw.mean > 5e-3
    assert d2.mean > 1e-4
    assert t.mean < 1e-9
    assert raw.rms == pytest.approx(np.sqrt(np.mean(raw.moduli**2)))
    halves = [np.sqrt(np.mean(np.delete(raw.moduli, k) ** 2)) for k in range(12)]  # jackknife
    assert raw.rms_error == pytest.approx(np.sqrt(11 * np.var(halves)), rel=0.1)
    assert raw.error == pytest.approx(raw.moduli.std(ddof=1) / np.sqrt(12))
    # against the definition: the torque is minus the derivative of the energy under rotation
    h, structure = 1e-4, structures[3]
    gradient = []
    for axis in np.eye(3):
        energies = [
            potential.predict(
                Structure(structure.numbers, Rotation.from_rotvec(s * h * axis).apply(structure.positions))
            ).energy
            for s in (1, -1)
        ]
        gradient.append((energies[0] - energies[1]) / (2 * h))
    assert raw.moduli[3] == pytest.approx(np.linalg.norm(gradient), rel=1e-4)


def test_bad_structures():
    potential = load_potential("anisotropic?l=2&amplitude=0.02")
    with pytest.raises(UserError, match="at least 2 structures"):
        torque_against_average(potential, snapshots(1), quadratures(["none"]))
    one = snapshots(1)[0]
    periodic = Structure(one.numbers, one.positions, np.eye(3) * 10, np.full(3, True))
    with pytest.raises(UserError, match="got a periodic structure"):
        torque_against_average(potential, [periodic, periodic], quadratures(["none"]))
