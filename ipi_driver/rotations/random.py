"""Random rotations that are a function of (seed, configuration) only.

A restarted run meets the same configurations, and therefore draws the same rotations. No global random state is
changed.
The digest of positions and cell seeds a generator; a uniform rotation is a unit quaternion of four normal
deviates.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Literal

import numpy as np

from ipi_driver.structure import FloatArray, Structure


def random_frame(seed: int, structure: Structure, group: Literal["o3", "so3"]) -> FloatArray:
    """A (3, 3) matrix uniform over O(3) or SO(3), a function of ``seed``, positions and cell."""
    # imported here, as a client without random rotations does not need it
    from scipy.spatial.transform import Rotation

    digest = blake2b(structure.positions.tobytes(), digest_size=16)
    digest.update(structure.cell.tobytes())
    digest.update(str(seed).encode())
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest.digest(), "little")))
    matrix: FloatArray = Rotation.from_quat(generator.standard_normal(4)).as_matrix()
    if group == "o3" and generator.random() < 0.5:
        matrix = -matrix
    return matrix
