"""Profiles across a slab, against a density that is known, and under shifts that must not matter."""

from __future__ import annotations

import numpy as np
import pytest

from ipi_driver.errors import UserError
from ipi_driver.observables.molecules import heights
from ipi_driver.observables.profiles import SlabNormal, SlabProfiles, find_slab, surfaces

SQUARE = np.diag([10.0, 12.0, 60.0])
SLANTED = np.array([[10.0, 0.0, 0.0], [2.0, 12.0, 0.0], [3.0, 4.0, 60.0]])
SLAB = SlabNormal(axis=2, vacuum=40.0)
INSIDE, PLACE, WIDTH = 1.0, 8.0, 1.3
"""Of the density ``rho / 2 [1 - tanh((|z| - z_G) / d)]`` in g/cm³ and Å."""


def drawn(n: int, cell: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positions (n, 3) with that density, around the middle of the vacuum of a cell: everything is wrapped."""
    z = np.linspace(-25.0, 25.0, 20001)
    cumulative = np.cumsum(1.0 - np.tanh((np.abs(z) - PLACE) / WIDTH))
    fractions = rng.uniform(size=(n, 3))
    fractions[:, 2] = np.interp(rng.uniform(0.0, cumulative[-1], n), cumulative, z) / heights(cell)[2]
    return (fractions % 1.0) @ cell


def mass(n: int, cell: np.ndarray) -> float:
    """Dalton of each of n atoms, for the density inside."""
    area = np.linalg.norm(np.cross(cell[0], cell[1]))
    return INSIDE / 1.66053906660 * area * 2.0 * PLACE / n


@pytest.mark.parametrize("cell", [SQUARE, SLANTED], ids=["square", "slanted"])
def test_known_density_and_orientation(cell: np.ndarray) -> None:
    rng, n = np.random.default_rng(3), 2000
    profiles = SlabProfiles(SLAB, np.full(n, mass(n, cell)), np.arange(0, n, 2), cell)
    normal = np.cross(cell[0], cell[1])
    normal /= np.linalg.norm(normal)
    for _ in range(40):
        positions = drawn(n, cell, rng)
        height = positions[::2] @ normal
        side = np.where((height + 30.0) % 60.0 > 30.0, 1.0, -1.0)  # the slab lies around z = 0
        profiles.add(positions, cell, 0.3 * side[:, None] * normal)
    density = profiles.density(10.0)
    expected = 0.5 * INSIDE * (1.0 - np.tanh((np.abs(profiles.z) - PLACE) / WIDTH))
    filled = expected > 0.02
    pulls = (density.value - expected)[filled] / density.error[filled]
    assert np.abs(pulls).max() < 5.0
    assert np.sqrt((pulls**2).mean()) < 1.7
    found = density.derived(lambda values: surfaces(profiles.z, values))
    assert found.value == pytest.approx([INSIDE, PLACE, 2.19722 * WIDTH], rel=0.02)
    assert np.all(np.abs(found.value - [INSIDE, PLACE, 2.19722 * WIDTH]) < 4.0 * found.error)
    orientation = profiles.orientation(10.0)
    assert orientation is not None
    away = (expected > 0.1) & (np.abs(profiles.z) > 1.0)
    assert orientation.value[away] == pytest.approx(0.3 * np.sign(profiles.z[away]))
    assert np.isnan(orientation.value[[0, -1]]).all()


def test_shifts_and_images_do_not_matter() -> None:
    rng, n = np.random.default_rng(4), 300
    masses = rng.uniform(1.0, 16.0, n)
    first, second = (SlabProfiles(SLAB, masses, np.arange(n), SLANTED) for _ in range(2))
    for _ in range(20):
        positions = drawn(n, SLANTED, rng)
        moved = positions + rng.uniform(-80.0, 80.0, 3) + rng.integers(-2, 3, (n, 3)) @ SLANTED
        first.add(positions, SLANTED)
        second.add(moved, SLANTED)
    a, b = first.density(1.0).value, second.density(1.0).value
    # an atom at the edge of a bin may be counted in the next one
    assert np.abs(np.cumsum(a - b)).max() < 1e-2 * a.sum()
    total = a.sum() * (first.z[1] - first.z[0]) * np.linalg.norm(np.cross(SLANTED[0], SLANTED[1]))
    assert total / 1.66053906660 == pytest.approx(masses.sum())
    assert first.orientation(1.0) is None


def test_what_is_a_slab() -> None:
    rng = np.random.default_rng(5)
    found = find_slab(drawn(1500, SLANTED, rng), SLANTED)
    assert found is not None
    assert found.axis == 2
    assert 60.0 - 2 * PLACE - 4.0 < found.vacuum < 60.0 - 2 * PLACE + 2.0
    turned = SLANTED[[1, 2, 0]]
    other = find_slab(drawn(1500, SLANTED, rng), turned)
    assert other is not None
    assert other.axis == 1
    evaporated = np.vstack([drawn(1500, SQUARE, rng), [[5.0, 5.0, 30.0], [5.0, 6.0, 28.0], [4.0, 5.0, 29.0]]])
    assert find_slab(evaporated, SQUARE) is not None
    assert find_slab(rng.uniform(0.0, 12.0, (192, 3)), np.diag([12.0, 12.0, 12.0])) is None  # bulk
    assert find_slab(rng.uniform(0.0, 5.0, (30, 3)), np.zeros((3, 3))) is None
    assert find_slab(rng.uniform(0.0, 5.0, (30, 3)), np.diag([5.0, 5.0, 0.0])) is None


@pytest.mark.parametrize(("molecules", "length"), [(1, 20.0), (8, 20.0), (16, 30.0), (32, 50.0)])
def test_a_vapour_is_no_slab(molecules: int, length: float) -> None:
    rng = np.random.default_rng(6)
    for _ in range(200):
        places = rng.uniform(0.0, length, (molecules, 1, 3)) + rng.uniform(-0.9, 0.9, (molecules, 3, 3))
        assert find_slab(places.reshape(-1, 3), np.eye(3) * length) is None


def test_an_evaporated_molecule_does_not_move_the_slab() -> None:
    rng, n = np.random.default_rng(7), 400
    slab = drawn(n, SQUARE, rng)
    masses = np.ones(n + 1)
    densities = []
    for place in (20.0, 29.9, 30.1, 40.0):
        profiles = SlabProfiles(SLAB, masses, np.arange(n + 1), SQUARE)
        for _ in range(20):
            profiles.add(np.vstack([slab, [5.0, 5.0, place]]), SQUARE)
        z = profiles.z
        values = profiles.density(1.0).value
        densities.append((z * values)[np.abs(z) < 12.0].sum() / values[np.abs(z) < 12.0].sum())
    assert np.abs(densities).max() < 0.1


def test_no_slab_no_surface() -> None:
    z = np.linspace(-30.0, 30.0, 240)
    with pytest.raises(UserError, match="has not the form"):
        surfaces(z, np.full_like(z, np.nan))
    on_a_wall = np.where(np.abs(z + 9.0) < 3.0, 10.0, np.where(np.abs(z - 3.0) < 9.0, 1.0, 0.0))
    with pytest.raises(UserError, match="two like surfaces"):
        surfaces(z, on_a_wall)
