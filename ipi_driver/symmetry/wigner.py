r"""Real Wigner matrices :math:`D^l(R)`, from :math:`Y_l(R x) = D^l(R)\, Y_l(x)`.

The spherical harmonics are orthonormal and real, with the components m = -l … l and the polar axis y, so that
:math:`Y_1` is parallel to (x, y, z) and :math:`D^1(R) = R`: the convention of e3nn. The harmonics of enough turned
points determine the matrix by least squares, to rounding.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import sph_harm_y

from ipi_driver.structure import FloatArray


def wigner_matrices(rotations: FloatArray, degree: int) -> FloatArray:
    """(n_rotations, 2l+1, 2l+1) real Wigner matrices of the proper parts of (n_rotations, 3, 3) rotations.

    >>> import numpy as np
    >>> quarter_turn = np.array([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    >>> bool(np.allclose(wigner_matrices(quarter_turn, 1), quarter_turn))
    True
    """
    return _of_bytes(np.ascontiguousarray(rotations, dtype=np.float64).tobytes(), degree)


@lru_cache(maxsize=256)
def _of_bytes(rotations: bytes, degree: int) -> FloatArray:
    matrices = np.frombuffer(rotations).reshape(-1, 3, 3)
    proper = matrices * np.linalg.det(matrices)[:, None, None]
    points = np.random.default_rng(degree).standard_normal((4 * (2 * degree + 1), 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    turned = real_harmonics(points @ proper.transpose(0, 2, 1), degree)
    found = (np.linalg.pinv(real_harmonics(points, degree)) @ turned).transpose(0, 2, 1)
    found.flags.writeable = False
    return found


def real_harmonics(points: FloatArray, degree: int) -> FloatArray:
    """(..., 2l+1) real spherical harmonics of unit vectors (..., 3), m = -l … l, polar axis y."""
    x, y, z = np.moveaxis(points, -1, 0)
    polar, azimuth = np.arccos(np.clip(y, -1.0, 1.0)), np.arctan2(x, z)
    columns = []
    for m in range(-degree, degree + 1):
        value = (
            sph_harm_y(degree, abs(m), polar, azimuth) * (-1) ** m
        )  # without the phase of Condon and Shortley
        columns.append(value.real if m == 0 else np.sqrt(2.0) * (value.real if m > 0 else value.imag))
    return np.stack(columns, axis=-1)
