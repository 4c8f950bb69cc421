r"""Numbers of one i-PI xyz snapshot from its bytes, without a Python object per number.

i-PI prints each atom as ``"%8s %12.5e %12.5e %12.5e\n"``: 48 bytes, so a whole snapshot is an (n_atoms, 48)
byte matrix and its digits are read by columns. The mantissa is an integer below 10^6 and the power of ten is
exact up to 10^22, so a single multiplication or division gives the correctly rounded number, bit for bit what
``float()`` gives.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ipi_driver.structure import FloatArray

LINE_LENGTH = 48
_FIELD_STARTS = np.array([9, 22, 35])
_COLUMNS = _FIELD_STARTS[:, None] + np.arange(12)[None, :]
_MANTISSA_PLACES = np.array([10**5, 10**4, 10**3, 10**2, 10, 1], dtype=np.int64)
_LARGEST_EXACT_POWER = 22


def parse_fixed_width(block: bytes, n_atoms: int) -> FloatArray | None:
    """Numbers of a snapshot in i-PI's own layout.

    Parameters
    ----------
    block
        n_atoms × 48 bytes, the atom lines of one snapshot.
    n_atoms
        Number of lines.

    Returns
    -------
    (n_atoms, 3) array, or None where the bytes do not have this layout (the caller then splits the lines).
    """
    if len(block) != n_atoms * LINE_LENGTH:
        return None
    lines: NDArray[np.uint8] = np.frombuffer(block, dtype=np.uint8).reshape(n_atoms, LINE_LENGTH)
    fields = lines[:, _COLUMNS]
    sign, exponent_sign = fields[..., 0], fields[..., 9]
    digits = fields[..., [1, 3, 4, 5, 6, 7]].astype(np.int64) - ord("0")
    exponent_digits = fields[..., [10, 11]].astype(np.int64) - ord("0")
    regular = (
        (lines[:, -1] == ord("\n")).all()
        and (lines[:, _FIELD_STARTS - 1] == ord(" ")).all()
        and (fields[..., 2] == ord(".")).all()
        and (fields[..., 8] == ord("e")).all()
        and ((sign == ord(" ")) | (sign == ord("-"))).all()
        and ((exponent_sign == ord("+")) | (exponent_sign == ord("-"))).all()
        and ((digits >= 0) & (digits <= 9)).all()
        and ((exponent_digits >= 0) & (exponent_digits <= 9)).all()
    )
    if not regular:
        return None
    mantissa = (digits @ _MANTISSA_PLACES).astype(np.float64)
    exponent = exponent_digits @ np.array([10, 1])
    power = np.where(exponent_sign == ord("-"), -exponent, exponent) - 5
    if np.abs(power).max(initial=0) > _LARGEST_EXACT_POWER:
        return None
    scale = 10.0 ** np.abs(power)
    values = np.where(power >= 0, mantissa * scale, mantissa / scale)
    return np.where(sign == ord("-"), -values, values)
