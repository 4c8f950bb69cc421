import numpy as np
import pytest

from ipi_driver.errors import UserError
from ipi_driver.observables.crystals import (
    force_difference,
    pooled_norm,
    relative_energies,
    rmsd,
    rmse,
    root_sum_square,
)
from ipi_driver.structure import Structure

CELL = np.array([[9.0, 0.0, 0.0], [2.0, 8.0, 0.0], [-1.0, 2.0, 10.0]])


def crystal(seed: int) -> Structure:
    rng = np.random.default_rng(seed)
    return Structure(np.tile([8, 1, 1], 8), rng.uniform(size=(24, 3)) @ CELL, CELL, True)


@pytest.mark.parametrize("shift", [[0.0, 0.0, 0.0], [0.3, -1.7, 0.2], [4.49, 3.9, 5.1]])
def test_rmsd_without_translation_and_wrapping(shift):
    structure = crystal(0)
    rng = np.random.default_rng(1)
    displacement = rng.normal(size=(24, 3)) * 0.01
    displacement -= displacement.mean(axis=0)
    fractional = (structure.positions + displacement + shift) @ np.linalg.inv(CELL)
    moved = Structure(structure.numbers, (fractional % 1.0) @ CELL, CELL, True)
    assert rmsd(structure, moved) == pytest.approx(np.sqrt((displacement**2).sum() / 24), rel=1e-9)
    assert rmsd(structure, structure) == 0.0


def test_rmsd_of_different_systems_is_refused():
    structure = crystal(0)
    fewer = Structure(structure.numbers[:21], structure.positions[:21], CELL, True)
    with pytest.raises(UserError, match="different systems"):
        rmsd(structure, fewer)
    with pytest.raises(UserError, match="different cells"):
        rmsd(structure, Structure(structure.numbers, structure.positions, CELL * 1.01, True))


def test_relative_energies():
    np.testing.assert_allclose(
        relative_energies([-100.0, -202.0, -303.0], [10, 20, 30]), [0.2 / 3, -0.1 / 3, -0.1 / 3]
    )
    with pytest.raises(UserError, match="one energy and one number"):
        relative_energies([-1.0], [1, 2])


def test_force_differences():
    first = np.zeros((4, 3))
    second = np.zeros((4, 3))
    second[2] = [0.3, 0.0, 0.4]
    difference = force_difference(second, first)
    assert difference.maximum == pytest.approx(0.5)
    assert difference.rmse == pytest.approx(np.sqrt(0.25 / 12))
    assert difference.mae == pytest.approx(0.7 / 12)
    assert difference.magnitude == pytest.approx(np.sqrt(0.25 / 12))
    with pytest.raises(UserError, match="same shape"):
        rmse(np.zeros(3), np.zeros(4))


def test_published_norms_of_several_cells():
    """Atom by atom, of cells of different sizes."""
    rng = np.random.default_rng(3)
    cells = [rng.normal(size=(n, 3)) for n in (24, 48, 12)]
    everything = np.concatenate(cells)
    expected = np.sqrt(3.0 * sum(x @ x for x in everything) / len(everything))
    assert pooled_norm([(c**2).sum() for c in cells], [len(c) for c in cells]) == pytest.approx(expected)
    a, b = rng.normal(size=(2, 9))
    assert root_sum_square(a, b) == pytest.approx(np.linalg.norm(a - b))
    assert root_sum_square(a, b) == pytest.approx(3.0 * rmse(a, b))
