"""Several structures in one call: the same results as one by one."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import molecule

from ipi_driver.potentials import chunks, load_potential
from ipi_driver.potentials.network import NetworkPotential
from ipi_driver.rotations import RotationalAverage
from ipi_driver.rotations.quadrature import quadrature
from ipi_driver.structure import Prediction, Structure


def different_structures() -> list[Structure]:
    """Beads of one molecule, a lone atom, a periodic box."""
    rng = np.random.default_rng(0)
    water = molecule("H2O")
    beads = [Structure(water.numbers, water.positions + 0.05 * rng.normal(size=(3, 3))) for _ in range(4)]
    box = Structure(
        np.tile(water.numbers, 2),
        np.concatenate([water.positions, water.positions + [2.7, 0.3, 0.1]]),
        np.diag([5.4, 4.0, 4.2]),
        True,
    )
    return [*beads[:2], Structure(np.array([8]), np.zeros((1, 3))), box, *beads[2:]]


def assert_same(one: Prediction, other: Prediction) -> None:
    assert one.energy == pytest.approx(other.energy, abs=1e-10)
    np.testing.assert_allclose(one.forces, other.forces, atol=1e-10)
    assert one.virial is not None
    assert other.virial is not None
    np.testing.assert_allclose(one.virial, other.virial, atol=1e-9)


@pytest.mark.parametrize("limit", [1, 700, 100_000])
def test_a_network_gives_each_what_it_gives_it_alone(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CPU_EDGES", limit)
    potential = load_potential("pet-water-s", dtype="float64")
    structures, rotations = different_structures(), quadrature("D2h").rotations
    for _ in range(2):  # the second time with what is kept
        together = potential.evaluate(structures, rotations)
        for k, structure in enumerate(structures):
            alone = load_potential("pet-water-s", dtype="float64").evaluate([structure], rotations)
            for rotation in range(len(rotations)):
                assert_same(together.prediction(rotation, k), alone.prediction(rotation))
        structures = [Structure(s.numbers, s.positions * 1.01, s.cell, s.pbc) for s in reversed(structures)]


@pytest.mark.parametrize("average", ["none", "i", "O", "random-D2"])
@pytest.mark.parametrize("known", ["none", "all", "some"])
def test_an_average_of_many_is_the_average_of_each(average: str, known: str) -> None:
    averaged = RotationalAverage(load_potential("pet-water-s", dtype="float64"), average)
    structures = different_structures()
    raws = [
        averaged.potential.predict(s) if known == "all" or (known == "some" and k % 2) else None
        for k, s in enumerate(structures)
    ]
    for found, structure in zip(averaged.predict_all(structures, raws), structures, strict=True):
        expected = averaged.predict(structure)
        assert_same(found, expected)
        assert found.energy_std == pytest.approx(expected.energy_std, abs=1e-9)
        assert found.n_rotations == expected.n_rotations
        assert (found.raw is None) == (expected.raw is None and known == "none") or known == "some"


def test_the_way_of_large_arrays_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU does with large arrays, here with the arrays of a CPU."""
    structures, rotations = different_structures(), quadrature("D2h").rotations
    potential = load_potential("pet-water-s", dtype="float64")
    expected = potential.evaluate(structures, rotations)
    monkeypatch.setattr(
        NetworkPotential,
        "_evaluate_together",
        lambda self, assembly, edges, turns, _: self._evaluate_on_device(
            assembly, np.concatenate([e.vectors for e in edges]), turns
        ),
    )
    found = potential.evaluate(structures, rotations)
    for k in range(len(structures)):
        for rotation in range(len(rotations)):
            assert_same(found.prediction(rotation, k), expected.prediction(rotation, k))
