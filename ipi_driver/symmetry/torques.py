"""Mean torque that a potential exerts on an isolated molecule, against the average over rotations.

For an equivariant potential ``T = sum_i (r_i - R) x F_i`` vanishes; the mean of |T| over structures measures
how much of the symmetry error an average leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.potentials.base import Potential
from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.rotations.quadrature import Quadrature
from ipi_driver.structure import FloatArray, Structure


@dataclass(frozen=True, eq=False)
class MeanTorque:
    """Torque under one average.

    Attributes
    ----------
    average
        Its name.
    n_rotations
        Evaluations per structure.
    mean, error
        Mean modulus over the structures and its standard error, eV.
    moduli
        (n_structures,) in eV.
    """

    average: str
    n_rotations: int
    mean: float
    error: float
    moduli: FloatArray

    @property
    def rms(self) -> float:
        """Root mean square of the modulus over the structures, eV."""
        return float(np.sqrt((self.moduli**2).mean()))

    @property
    def rms_error(self) -> float:
        """Standard error of `rms`, eV."""
        error = (self.moduli**2).std(ddof=1) / np.sqrt(len(self.moduli))
        return float(error / (2.0 * self.rms)) if self.rms else 0.0


def torque_against_average(
    potential: Potential,
    structures: Sequence[Structure],
    averages: Sequence[Quadrature],
    progress: Callable[[], None] = lambda: None,
) -> list[MeanTorque]:
    """Mean torque on structures for each average.

    Parameters
    ----------
    potential
        Without averaging.
    structures
        Isolated molecules (not periodic). They count as independent: take them further apart than the
        correlation time of the rotation.
    averages
        The averages.
    progress
        Called after each structure and average.

    Raises
    ------
    UserError
        If there are fewer than 2 structures or one is periodic.
    """
    if len(structures) < 2:
        raise UserError(f"a mean torque with its error needs at least 2 structures, got {len(structures)}")
    if any(structure.periodic for structure in structures):
        raise UserError(
            "a torque is defined for isolated molecules, got a periodic structure: take gas-phase ones"
        )
    results = []
    for average in averages:
        averaged = RotationalAverage(potential, average)
        moduli = np.empty(len(structures))
        for k, structure in enumerate(structures):
            torque = averaged.predict(structure).net_torque
            moduli[k] = np.nan if torque is None else np.linalg.norm(torque)
            progress()
        error = float(moduli.std(ddof=1) / np.sqrt(len(moduli)))
        results.append(
            MeanTorque(averaged.average, averaged.n_rotations, float(moduli.mean()), error, moduli)
        )
    return results
