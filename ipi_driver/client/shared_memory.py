"""The shared-memory segments of i-PI's ``<ffsocket mode='shm'>``, owned by i-PI.

The socket carries the headers and the extras; the numbers lie in six segments, each for a whole batch:
positions, h, its inverse, energies, forces, virials.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.structure import FloatArray

if TYPE_CHECKING:
    from ipi_driver.client.protocol import Reply


def _attach(name: str) -> SharedMemory:
    """Open a segment that i-PI owns; Python would otherwise remove it when this process ends."""
    try:
        if sys.version_info >= (3, 13):
            return SharedMemory(name=name, track=False)
        segment = SharedMemory(name=name)
        resource_tracker.unregister(segment._name, "shared_memory")  # type: ignore[attr-defined]
        return segment
    except FileNotFoundError:
        raise UserError(
            f"no shared memory {name!r}: i-PI must run on this machine; use --inet across machines"
        ) from None


class SharedSegments:
    """Views of i-PI's segments, attached when their names arrive."""

    KINDS = ("positions", "h", "inverse", "energies", "forces", "virials")

    def __init__(self) -> None:
        self._segments: list[SharedMemory] = []
        self._views: dict[str, FloatArray] = {}

    @property
    def attached(self) -> bool:
        return bool(self._views)

    def attach(self, names: Sequence[str], batch_size: int, n_atoms: int) -> None:
        """Open the segments, given in the order of `KINDS`, for ``batch_size`` structures of ``n_atoms``."""
        atoms, matrix = (batch_size, n_atoms, 3), (batch_size, 3, 3)
        shapes = (atoms, matrix, matrix, (batch_size,), atoms, matrix)
        for kind, name, shape in zip(self.KINDS, names, shapes, strict=True):
            segment = _attach(name)
            self._segments.append(segment)
            self._views[kind] = np.ndarray(shape, dtype=np.float64, buffer=segment.buf)

    def configurations(self) -> list[tuple[FloatArray, FloatArray]]:
        """Copies of h (3, 3) and positions (n_atoms, 3), bohr, of every structure of the batch."""
        return list(zip(self._views["h"].copy(), self._views["positions"].copy(), strict=True))

    def store(self, replies: Sequence[Reply]) -> None:
        """Write the results for i-PI to read once ``FORCEREADY`` is sent."""
        for i, reply in enumerate(replies):
            self._views["energies"][i] = reply.energy
            self._views["forces"][i] = reply.forces
            self._views["virials"][i] = reply.virial

    def close(self) -> None:
        """Let go of the segments; i-PI removes them."""
        self._views.clear()
        for segment in self._segments:
            segment.close()
        self._segments.clear()
