"""Rotations of one structure, evaluated in chunks that fit the memory and the cache.

For a small molecule most of the time of a call is overhead, so many rotations go into one call. A large box fills the
caches with a single rotation, and several rotations in one call are slower than one after the other. The size of a
chunk is therefore chosen by edges × rotations. The result does not depend on the chunks: they are only gathered here,
and sums are done afterwards.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.potentials.base import Potential
from ipi_driver.structure import FloatArray, RotatedResults, Structure

CPU_EDGES = 2000
"""Edges × rotations per call and thread on a CPU: near the optimum of networks (flat within a factor 2)."""

GPU_EDGES = 400_000
"""Edges × rotations per call that saturate a large GPU."""

BYTES_PER_EDGE = 200_000
"""A network's memory per edge with its backward pass, generous (eight transformer layers of width 128)."""


Progress = Callable[[int], None]
"""Receives the number of rotations evaluated since the last call."""


def no_progress(rotations: int) -> None:
    """Report nothing."""


class RotationChunks:
    """Evaluates rotations of a potential in chunks.

    Parameters
    ----------
    potential
        Its `Potential.edges_hint` and `Potential.device` choose the chunks.
    rotation_batch
        Rotations per call; None chooses by the number of edges.
    """

    def __init__(self, potential: Potential, rotation_batch: int | None = None) -> None:
        if rotation_batch is not None and rotation_batch < 1:
            raise UserError(f"`rotation_batch` must be at least 1, got {rotation_batch}")
        self.potential = potential
        self.rotation_batch = rotation_batch
        self._limit: int | None = None  # edges × rotations, lowered where memory ran out

    def evaluate(
        self, structure: Structure, rotations: FloatArray, progress: Progress = no_progress
    ) -> RotatedResults:
        """`RotatedResults` of one structure for (n_rotations, 3, 3) ``rotations``, in their order.

        ``progress`` is called after each chunk: a progress bar does not change the chunks.

        Raises
        ------
        UserError
            If not even one rotation fits into the memory.
        """
        n_rotations = len(rotations)
        size = n_rotations
        if n_rotations > 1:
            edges = self._edges(structure)
            size = self._chunk(edges, n_rotations)
        parts: list[RotatedResults] = []
        start = 0
        while start < n_rotations:
            try:
                part = self.potential.evaluate([structure], rotations[start : start + size])
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                if size == 1:
                    raise UserError(
                        f"out of memory with a single rotation of {structure.n_atoms} atoms: use a smaller "
                        f"structure, model or precision, or another device ({str(error).splitlines()[0]})"
                    ) from error
                size = max(1, size // 2)
                self._limit = size * self._edges(structure)
                _free_device_memory()
                continue
            parts.append(part)
            progress(len(part.energies[0]))
            start += size
        return RotatedResults.concatenate(parts)

    def evaluate_all(self, structures: Sequence[Structure], rotations: FloatArray) -> list[RotatedResults]:
        """`evaluate` of each structure, small ones together in one call."""
        found: list[RotatedResults] = []
        # an estimate, because the potential's own count would make neighbor lists that the call makes again
        sizes = [len(rotations) * Potential.edges_hint(self.potential, s) for s in structures]
        limit = edges_per_call(self.potential.device)
        for group in groups(sizes, limit if self._limit is None else min(limit, self._limit)):
            together = list(structures[group])
            if len(together) > 1 and self.rotation_batch is None:
                try:
                    results = self.potential.evaluate(together, rotations)
                    found.extend(results.of_structure(k) for k in range(len(together)))
                    continue
                except (MemoryError, RuntimeError) as error:
                    if not out_of_memory(error):
                        raise
                    _free_device_memory()
            found.extend(self.evaluate(structure, rotations) for structure in together)
        return found

    def _edges(self, structure: Structure) -> int:
        return max(1, int(self.potential.edges_hint(structure)))

    def _chunk(self, edges: int, n_rotations: int) -> int:
        if self.rotation_batch is not None:
            target = self.rotation_batch * edges
        elif edges * n_rotations <= CPU_EDGES:
            target = CPU_EDGES  # fits anywhere
        else:
            target = edges_per_call(self.potential.device)
        if self._limit is not None:
            target = min(target, self._limit)
        return int(np.clip(target // edges, 1, n_rotations))


def edges_per_call(device: object) -> int:
    """Edges × rotations that a call on this device should have; on a GPU it asks for the free memory."""
    torch = sys.modules.get("torch")  # a potential without torch must not pay for its import
    if torch is None:
        return CPU_EDGES
    if str(device).startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return min(GPU_EDGES, int(0.6 * (free + cached)) // BYTES_PER_EDGE)
    return CPU_EDGES * int(torch.get_num_threads())


def groups(sizes: Sequence[int], limit: int) -> list[slice]:
    """Consecutive items together while their ``sizes`` sum to at most ``limit``; an item that is larger alone.

    >>> groups([3, 4, 9, 1, 1], limit=8)
    [slice(0, 2, None), slice(2, 3, None), slice(3, 5, None)]
    """
    found, start, total = [], 0, 0
    for k, size in enumerate(sizes):
        if k > start and total + size > limit:
            found.append(slice(start, k))
            start, total = k, 0
        total += size
    return [*found, slice(start, len(sizes))]


def out_of_memory(error: BaseException) -> bool:
    """Whether an error reports too little memory; fewer rotations at once may then fit."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    message = str(error).lower()
    return "out of memory" in message or "can't allocate memory" in message or "not enough memory" in message


def _free_device_memory() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
