"""Random rotations for augmentation and for the symmetry penalty."""

from __future__ import annotations

import numpy as np

from ipi_driver.structure import FloatArray


def augmentation_rotations(kind: str, n: int, generator: np.random.Generator) -> FloatArray:
    """(n, 3, 3) matrices: identities ("none"), uniform rotations ("so3"), or those and inversions ("o3")."""
    from scipy.spatial.transform import Rotation  # here, as only training draws these

    if kind == "none":
        return np.tile(np.eye(3), (n, 1, 1))
    matrices: FloatArray = Rotation.random(n, rng=generator).as_matrix()
    if kind == "o3":
        matrices = matrices * generator.choice([-1.0, 1.0], size=n)[:, None, None]
    return matrices
