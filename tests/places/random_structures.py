"""Random structures without atoms that overlap."""

from __future__ import annotations

import numpy as np

from ipi_driver.structure import Structure


def random_structure(
    n: int = 9, seed: int = 0, box: float = 5.0, triclinic: bool = True, pbc: bool = True
) -> Structure:
    """Atoms at least 0.8 Å apart (images included) in a cell that may be triclinic."""
    rng = np.random.default_rng(seed)
    cell = np.eye(3) * box
    if triclinic:
        cell += rng.uniform(-0.8, 0.8, (3, 3))
    positions: list[np.ndarray] = []
    while len(positions) < n:
        candidate = rng.uniform(0, 1, 3) @ cell
        if all(_distance(candidate - p, cell if pbc else None) > 0.8 for p in positions):
            positions.append(candidate)
    numbers = np.where(rng.random(n) < 0.35, 8, 1)
    return Structure(numbers, np.array(positions), cell if pbc else np.zeros((3, 3)), pbc)


def _distance(vector: np.ndarray, cell: np.ndarray | None) -> float:
    if cell is None:
        return float(np.linalg.norm(vector))
    shifts = np.array([[i, j, k] for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)])
    return float(np.linalg.norm(vector + shifts @ cell, axis=1).min())
