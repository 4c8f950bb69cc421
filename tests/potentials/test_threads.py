"""The threads that a user has configured are those of the process, whatever was evaluated before."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from ase.build import molecule

from ipi_driver.potentials import load_potential
from ipi_driver.structure import Structure


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_a_small_molecule_leaves_the_threads_as_they_were() -> None:
    potential = load_potential("pet-water-s")
    water = Structure.from_atoms(molecule("H2O"))
    potential.evaluate([water], np.eye(3)[None])
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)  # a user's own choice is not undone either
    potential.evaluate([water], np.eye(3)[None])
    assert torch.get_num_threads() == 1


def test_threads_may_share_a_potential() -> None:
    """As the images of a nudged elastic band do: one list of neighbors, and one recorded pass, for all of them."""
    water = Structure.from_atoms(molecule("H2O"))
    rng = np.random.default_rng(3)
    structures = [
        Structure(water.numbers, water.positions + 0.2 * rng.normal(size=(3, 3))) for _ in range(120)
    ]
    expected = [load_potential("pet-water-s2").predict(structure).forces for structure in structures[:3]]
    shared = load_potential("pet-water-s2")
    alone = [shared.predict(structure).forces for structure in structures]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda structure: shared.predict(structure).forces, structures))
    for a, b in zip(found, alone, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    for a, b in zip(expected, alone, strict=False):
        np.testing.assert_allclose(a, b, atol=2e-5)
    np.testing.assert_allclose(copy.deepcopy(shared).predict(structures[0]).forces, expected[0], atol=2e-5)


@pytest.mark.parametrize("model", ["anisotropic", "ase:ase.calculators.lj.LennardJones?sigma=1.0"])
def test_threads_may_share_what_keeps_the_last_structure(model: str) -> None:
    """Neighbors, or the atoms of a calculator: threads that change often found those of each other."""
    rng = np.random.default_rng(0)
    start = 6.0 * rng.random((20, 3))
    structures = [Structure(np.resize([8, 1], 20), start + 0.3 * rng.normal(size=(20, 3))) for _ in range(60)]
    expected = [load_potential(model).predict(structure).energy for structure in structures]
    shared = copy.deepcopy(load_potential(model))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda structure: shared.predict(structure).energy, structures))
    finally:
        sys.setswitchinterval(interval)
    assert found == pytest.approx(expected)


def test_arrays_that_are_changed_in_place_are_seen() -> None:
    potential = load_potential("pet-water-s2")
    changed = Structure.from_atoms(molecule("H2O"))
    before = potential.predict(changed).energy
    for _ in range(12):  # beyond the skin, step by step
        changed.positions[1, 2] += 0.1
        fresh = Structure(changed.numbers, changed.positions)
        assert potential.predict(changed).energy == pytest.approx(
            load_potential("pet-water-s2").predict(fresh).energy, abs=2e-6
        )
    assert abs(potential.predict(changed).energy - before) > 1.0
