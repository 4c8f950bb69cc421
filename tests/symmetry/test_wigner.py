"""Real Wigner matrices against e3nn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from ipi_driver.symmetry.wigner import wigner_matrices

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
