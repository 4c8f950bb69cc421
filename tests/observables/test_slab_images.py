"""Minimum images where a cell vector is missing, as of a slab or a wire."""

from __future__ import annotations

import numpy as np
import pytest

from ipi_driver.observables.molecules import largest_radius, minimum_image

SLANTED = np.array([[6.0, 0.0, 0.0], [2.0, 5.0, 1.0], [0.0, 0.0, 0.0]])
FLAT = np.diag([6.0, 5.0, 0.0])
WIRE = np.diag([0.0, 0.0, 4.0])


@pytest.mark.parametrize("cell", [SLANTED, FLAT, WIRE], ids=["slanted", "flat", "wire"])
def test_images_of_a_slab_are_the_nearest_of_all(cell: np.ndarray) -> None:
    vectors = np.random.default_rng(1).uniform(-9.0, 9.0, size=(200, 3))
    wrapped = minimum_image(vectors, cell)
    shifts = np.stack(np.meshgrid(*3 * [np.arange(-4, 5)], indexing="ij"), axis=-1).reshape(-1, 3) @ cell
    shortest = np.linalg.norm(vectors[:, None] + shifts, axis=2).min(axis=1)
    near = shortest < largest_radius(cell)
    assert near.sum() > 3
    assert np.linalg.norm(wrapped, axis=1)[near] == pytest.approx(shortest[near])
    # across the missing vectors nothing moves
    given = cell[cell.any(axis=1)]
    across = np.linalg.svd(given)[2][len(given) :]
    assert (wrapped - vectors) @ across.T == pytest.approx(0.0, abs=1e-12)


def test_missing_vectors_do_not_limit_the_radius() -> None:
    assert largest_radius(FLAT) == pytest.approx(2.5)
    assert largest_radius(WIRE) == pytest.approx(2.0)
    area = np.linalg.norm(np.cross(SLANTED[0], SLANTED[1]))
    assert largest_radius(SLANTED) == pytest.approx(area / 6.0 / 2.0)
    assert largest_radius(np.zeros((3, 3))) == np.inf
