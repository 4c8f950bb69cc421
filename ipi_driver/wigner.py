r"""Real Wigner matrices :math:`D^l(R)`, from :math:`Y_l(R x) = D^l(R)\, Y_l(x)`.

The spherical harmonics are orthonormal and real, with the components m = -l … l and the polar axis y, so that
:math:`Y_1` is parallel to (x, y, z) and :math:`D^1(R) = R`: the convention of e3nn. The harmonics of enough turned
points determine the matrix by least squares, to rounding.

Chemistry and `metatensor` take z as the polar axis, with :math:`Y_1` parallel to (y, z, x): the order "standard" of
`irreps_matrices`. It is that of e3nn with the axes renamed.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.structure import FloatArray

Order = Literal["e3nn", "standard"]
"""Polar axis y, or z."""

_AXES = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])  # (x, y, z) to (y, z, x)


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
    from scipy.special import sph_harm_y  # here, as every client imports this module and few need harmonics

    x, y, z = np.moveaxis(points, -1, 0)
    polar, azimuth = np.arccos(np.clip(y, -1.0, 1.0)), np.arctan2(x, z)
    columns = []
    for m in range(-degree, degree + 1):
        value = (
            sph_harm_y(degree, abs(m), polar, azimuth) * (-1) ** m
        )  # without the phase of Condon and Shortley
        columns.append(value.real if m == 0 else np.sqrt(2.0) * (value.real if m > 0 else value.imag))
    return np.stack(columns, axis=-1)


def parse_irreps(text: str) -> list[tuple[int, int]]:
    """Degree and parity of each irrep of ``0e+2x1o``.

    >>> parse_irreps("0e+2x1o")
    [(0, 1), (1, -1), (1, -1)]

    Raises
    ------
    UserError
        If the text is not like this.
    """
    found: list[tuple[int, int]] = []
    for part in text.replace(" ", "").split("+"):
        match = re.fullmatch(r"(?:(\d+)x)?(\d+)([eo])", part)
        if match is None:
            raise UserError(f"irreps must be like 0e+2x1o+2e, got {part!r} in {text!r}")
        count, degree, parity = match.groups()
        found += [(int(degree), 1 if parity == "e" else -1)] * int(count or 1)
    return found


def irreps_matrices(rotations: FloatArray, irreps: str, order: Order = "e3nn") -> FloatArray:
    """(n_rotations, dim, dim) matrices of ``irreps`` for (n_rotations, 3, 3) rotations in O(3).

    >>> improper = np.diag([1.0, 1.0, -1.0])[None]
    >>> irreps_matrices(improper, "0o+1o")[0].diagonal().round(9).tolist()
    [-1.0, 1.0, 1.0, -1.0]
    """
    from scipy.linalg import block_diag

    parts = parse_irreps(irreps)
    signs = np.sign(np.linalg.det(rotations))[:, None, None]
    turned = rotations if order == "e3nn" else _AXES @ rotations @ _AXES.T
    # (-1)^l of the inversion is the natural parity of a harmonic
    blocks = {
        (degree, parity): wigner_matrices(turned, degree) * np.where(signs < 0, float(parity), 1.0)
        for degree, parity in set(parts)
    }
    return np.array([block_diag(*(blocks[part][k] for part in parts)) for k in range(len(rotations))])
