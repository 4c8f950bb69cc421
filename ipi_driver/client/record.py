"""The configuration that the client evaluates, in a file that survives the process.

The file is mapped into memory: the numbers of the last request are there also after a segmentation fault or a kill by
the system, at the cost of a copy of the positions for each evaluation.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ipi_driver.structure import FloatArray

RECORD = ".last-request"
"""Name of the file in a run folder."""


@dataclass(frozen=True, eq=False)
class Recorded:
    """The last configuration that a client began to evaluate.

    Attributes
    ----------
    h
        (3, 3) cell vectors as columns, bohr.
    positions
        (n_atoms, 3), bohr.
    count
        Evaluations begun by that client.
    """

    h: FloatArray
    positions: FloatArray
    count: int

    def same(self, other: Recorded) -> bool:
        """Whether both are the same configuration, but for the rounding of a restart."""
        return self.positions.shape == other.positions.shape and np.allclose(
            self.positions, other.positions, rtol=0.0, atol=1e-6
        )


class Recorder:
    """Writes the configuration under evaluation: float64 count, h (9), positions (3 n_atoms).

    Parameters
    ----------
    path
        The file; what it held is lost.
    n_atoms
        Number of atoms.
    """

    def __init__(self, path: Path, n_atoms: int) -> None:
        with path.open("wb+") as file:
            file.truncate(8 * (10 + 3 * n_atoms))
            self._numbers = np.frombuffer(mmap.mmap(file.fileno(), 0), dtype=np.float64)

    def write(self, h: FloatArray, positions: FloatArray) -> None:
        """Record that (h, positions), in bohr, is evaluated now."""
        if positions.size != self._numbers.size - 10:
            return
        self._numbers[1:10] = np.ravel(h)
        self._numbers[10:] = np.ravel(positions)
        self._numbers[0] += 1.0


def read_record(path: Path) -> Recorded | None:
    """What a client has recorded; None where it has not evaluated anything."""
    try:
        numbers = np.frombuffer(path.read_bytes(), dtype=np.float64)
    except (OSError, ValueError):
        return None
    if numbers.size < 13 or numbers[0] < 1.0:
        return None
    return Recorded(numbers[1:10].reshape(3, 3), numbers[10:].reshape(-1, 3), int(numbers[0]))
