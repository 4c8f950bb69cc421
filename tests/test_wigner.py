"""Real Wigner matrices against e3nn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from ipi_driver.errors import UserError
from ipi_driver.wigner import irreps_matrices, wigner_matrices

o3 = pytest.importorskip("e3nn.o3")
ROTATIONS = Rotation.random(5, random_state=1).as_matrix()


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 4, 7, 10])
def test_every_element_is_that_of_e3nn(degree: int) -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        expected = o3.wigner_D(degree, *o3.matrix_to_angles(torch.from_numpy(ROTATIONS))).numpy()
    finally:
        torch.set_default_dtype(before)
    found = wigner_matrices(ROTATIONS, degree)
    assert found == pytest.approx(expected, abs=1e-11)
    assert wigner_matrices(-ROTATIONS, degree) == pytest.approx(expected, abs=1e-11)  # the proper part


def test_representation() -> None:
    """D(R Q) = D(R) D(Q), orthogonal, to rounding."""
    products = ROTATIONS[:-1] @ ROTATIONS[1:]
    for degree in range(11):
        matrices = wigner_matrices(ROTATIONS, degree)
        assert wigner_matrices(products, degree) == pytest.approx(matrices[:-1] @ matrices[1:], abs=1e-12)
        assert matrices @ matrices.transpose(0, 2, 1) == pytest.approx(
            np.tile(np.eye(2 * degree + 1), (5, 1, 1)), abs=1e-12
        )


def test_irreps_are_those_of_e3nn() -> None:
    matrices = np.concatenate([ROTATIONS, -ROTATIONS])
    text = "0e+2x1o+1e+2o+3e"
    expected = o3.Irreps(text).D_from_matrix(torch.from_numpy(matrices))
    assert irreps_matrices(matrices, text) == pytest.approx(
        expected.numpy(), abs=1e-5
    )  # e3nn: single precision


def test_standard_order_is_that_of_chemistry() -> None:
    """p orbitals as y, z, x and d orbitals as xy, yz, 3z² - r², xz, x² - y², turned as functions of space."""
    points = np.random.default_rng(0).normal(size=(7, 3))

    def orbitals(r: np.ndarray) -> np.ndarray:
        x, y, z = r.T
        d = [x * y, y * z, (3 * z * z - (r * r).sum(1)) / np.sqrt(12.0), x * z, (x * x - y * y) / 2.0]
        return np.column_stack([y, z, x, *d])

    for rotation in (ROTATIONS[0], -ROTATIONS[1]):
        (matrix,) = irreps_matrices(rotation[None], "1o+2e", "standard")
        assert orbitals(points @ rotation.T) == pytest.approx(orbitals(points) @ matrix.T, abs=1e-12)


@pytest.mark.parametrize("text", ["", "1", "1x", "o1", "0e+2q"])
def test_bad_irreps(text: str) -> None:
    with pytest.raises(UserError, match=r"irreps must be like 0e\+2x1o\+2e"):
        irreps_matrices(ROTATIONS, text)
