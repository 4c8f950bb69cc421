"""Averages of dipoles, polarisabilities and spherical tensors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ipi_driver.errors import UserError
from ipi_driver.rotations import TensorAverage
from ipi_driver.structure import FloatArray, Structure
from ipi_driver.wigner import irreps_matrices

WATER = Structure(np.array([8, 1, 1]), np.array([[0.0, 0.0, 0.0], [0.97, 0.0, 0.1], [-0.2, 0.9, 0.3]]))
CHARGES = np.array([-0.8, 0.4, 0.4])
ROTATION = Rotation.random(random_state=4).as_matrix()


def dipole(structure: Structure) -> FloatArray:
    return np.asarray(CHARGES @ structure.positions)


def polarisability(structure: Structure) -> FloatArray:
    return np.einsum("ia,ib->ab", structure.positions, structure.positions)


def bent(structure: Structure) -> FloatArray:
    """A dipole with an error of low degree in the laboratory."""
    x, y, z = dipole(structure)
    return np.array([x + 0.3 * y * y, y + 0.2, z - 0.1 * x * z])


@pytest.mark.parametrize("average", ["T", "Oh", "2i", "random-Ih"])
def test_what_turns_with_the_structure_stays(average: str) -> None:
    found = TensorAverage(dipole, "1o", average)(WATER)
    assert found.value == pytest.approx(dipole(WATER), abs=1e-12)
    assert found.std < 1e-12
    found = TensorAverage(polarisability, "xyz,xyz", average)(WATER)
    assert found.value == pytest.approx(polarisability(WATER), abs=1e-12)


def test_the_mean_turns_with_the_structure() -> None:
    average = TensorAverage(bent, "xyz", "Ih")
    raw = np.abs(bent(WATER.rotated(ROTATION)) - ROTATION @ bent(WATER)).max()
    turned = average(WATER.rotated(ROTATION)).value
    assert raw > 0.1
    assert turned == pytest.approx(ROTATION @ average(WATER).value, abs=1e-12)
    assert average(WATER).std > 0.05


def test_spherical_components_are_the_cartesian_ones() -> None:
    """Of a symmetric traceless tensor, in the order of chemistry, with rows of atoms before them."""

    def spherical(structure: Structure) -> FloatArray:
        x, y, z = structure.positions.T
        r2 = (structure.positions**2).sum(1)
        d = [x * y, y * z, (3 * z * z - r2) / np.sqrt(12.0), x * z, (x * x - y * y) / 2.0]
        return np.column_stack([r2, *d]) + 0.1  # the constant is an error

    average = TensorAverage(spherical, "0e+2e", "Ih", order="standard")
    found = average(WATER)
    assert found.value[:, 1:] == pytest.approx(spherical(WATER)[:, 1:] - 0.1, abs=1e-12)
    (matrix,) = irreps_matrices(ROTATION[None], "0e+2e", "standard")
    assert average(WATER.rotated(ROTATION)).value == pytest.approx(found.value @ matrix.T, abs=1e-12)


def test_wrong_shapes_and_averages() -> None:
    for irreps, message in (
        ("1o+2e", "has 8 components"),
        ("xyz,xyz", "must end with"),
        ("xyz,1o", "irreps must be"),
    ):
        with pytest.raises(UserError, match=message):
            TensorAverage(dipole, irreps, "T")(WATER)
    with pytest.raises(UserError, match="`ecse` is for energies"):
        TensorAverage(dipole, "1o", "ecse")
