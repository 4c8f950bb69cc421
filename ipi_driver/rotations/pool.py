"""Rotations shared by several averages, each evaluated once.

The 120 rotations of Ih contain those of none, i, D2, D2h, T, Th and I; 2i contains 2, and so on. Averages over
the same structure therefore cost only the rotations that are different.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ipi_driver.potentials.chunks import Progress, RotationChunks, no_progress
from ipi_driver.rotations.average import RotationalAverage, weighted_mean
from ipi_driver.rotations.quadrature import Quadrature
from ipi_driver.rotations.random import random_frame
from ipi_driver.structure import FloatArray, IntArray, Prediction, Structure


class RotationPool:
    """The different rotations of several quadratures.

    Parameters
    ----------
    quadratures
        Their averages are what `averages` returns; those in a random frame are turned for each structure.
    seed
        Of the random frames.
    """

    def __init__(self, quadratures: Sequence[Quadrature], seed: int = 0) -> None:
        self.quadratures = tuple(quadratures)
        self.seed = seed
        fixed = [q for q in self.quadratures if q.is_fixed]
        self.rotations, places = _distinct([q.rotations for q in fixed])
        self._places = {id(q): place for q, place in zip(fixed, places, strict=True)}

    @property
    def n_evaluations(self) -> int:
        """Evaluations per structure."""
        return len(self.rotations) + sum(len(q) for q in self.quadratures if q.random is not None)

    def averages(
        self, chunks: RotationChunks, structure: Structure, progress: Progress = no_progress
    ) -> list[Prediction]:
        """The averages of one structure, in the order of the quadratures."""
        shared = chunks.evaluate(structure, self.rotations, progress) if len(self.rotations) else None
        results = []
        for quadrature in self.quadratures:
            if quadrature.own_frames:
                own = RotationalAverage(
                    chunks.potential, quadrature, rotation_batch=chunks.rotation_batch
                ).predict(structure)
                results.append(own)
                continue
            if quadrature.random is None:
                assert shared is not None
                chosen, evaluated = self._places[id(quadrature)], shared
            else:
                turned = quadrature.rotations @ random_frame(self.seed, structure, quadrature.random)
                evaluated = chunks.evaluate(structure, turned, progress)
                chosen = np.arange(len(turned))
            results.append(weighted_mean(structure, evaluated.select(chosen), quadrature.weights))
        return results


def _distinct(sets: list[FloatArray]) -> tuple[FloatArray, list[IntArray]]:
    """The different matrices of all sets, and where each set's matrices stand among them."""
    index: dict[bytes, int] = {}
    rotations: list[FloatArray] = []
    places = []
    for matrices in sets:
        # rotations of different grids are either equal to rounding or far apart
        keys = np.round(matrices, 7) + 0.0
        place = np.empty(len(matrices), dtype=np.int64)
        for k, (key, matrix) in enumerate(zip(keys, matrices, strict=True)):
            position = index.setdefault(key.tobytes(), len(rotations))
            if position == len(rotations):
                rotations.append(matrix)
            place[k] = position
        places.append(place)
    return np.array(rotations).reshape(-1, 3, 3), places
