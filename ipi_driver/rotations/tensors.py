r"""Averages of outputs with components: vectors, Cartesian tensors, spherical tensors.

An output of irreps, such as a dipole (1o) or the coefficients of a density, of the turned structure is turned back by
the inverse of its representation before the mean is taken,

.. math:: \bar y(x) = \sum_k w_k\, D(R_k)^T\, y(R_k x),

with D the Wigner matrices of its irreps, or the product of the rotations for Cartesian components. The mean turns with
the structure as far as the average is exact, whatever the model does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ipi_driver.errors import UserError
from ipi_driver.rotations.quadrature import Quadrature, quadrature
from ipi_driver.rotations.random import random_frame
from ipi_driver.structure import FloatArray, Structure
from ipi_driver.wigner import Order, irreps_matrices

CARTESIAN = "xyz"
"""One Cartesian component: ``xyz`` is a vector, ``xyz,xyz`` a (3, 3) tensor."""


@dataclass(frozen=True, eq=False)
class AveragedOutput:
    """Mean of an output over the rotations.

    Attributes
    ----------
    value
        In the laboratory frame, of the shape of the output.
    std
        Root-mean-square deviation of a component from the mean, over rotations and components.
    n_rotations
        Evaluations.
    """

    value: FloatArray
    std: float
    n_rotations: int


def turned_back(values: FloatArray, rotations: FloatArray, irreps: str, order: Order = "e3nn") -> FloatArray:
    """Outputs of turned structures in the laboratory frame.

    Parameters
    ----------
    values
        (n_rotations, ..., dim) with the components of ``irreps`` last, or (n_rotations, ..., 3, 3) for ``xyz,xyz``.
    rotations
        (n_rotations, 3, 3).
    irreps
        ``0e+1o+2e``, or ``xyz`` for each Cartesian component.
    order
        Of the spherical components.

    Raises
    ------
    UserError
        If the irreps are not of this form, or the values have another number of components.
    """
    n = len(rotations)
    parts = irreps.split(",")
    if set(parts) == {CARTESIAN}:
        rank = len(parts)
        if values.ndim < rank + 1 or values.shape[values.ndim - rank :] != (3,) * rank:
            raise UserError(f"an output of {irreps} must end with {(3,) * rank}, got {values.shape[1:]}")
        for axis in range(values.ndim - rank, values.ndim):
            moved = np.moveaxis(values, axis, -1)
            values = np.moveaxis((moved.reshape(n, -1, 3) @ rotations).reshape(moved.shape), -1, axis)
        return values
    matrices = irreps_matrices(rotations, irreps, order)
    if values.ndim < 2 or values.shape[-1] != matrices.shape[1]:
        raise UserError(
            f"an output of {irreps} has {matrices.shape[1]} components, got shape {values.shape[1:]}"
        )
    return np.asarray((values.reshape(n, -1, values.shape[-1]) @ matrices).reshape(values.shape))


class TensorAverage:
    """Any output of a structure averaged over rotations.

    Parameters
    ----------
    output
        Function of a structure: an array (..., dim), such as the dipole (3,) or charges' response (n_atoms, 3, 3).
    irreps
        Of its last axes, see `turned_back`.
    average
        Name or quadrature, as for `RotationalAverage`; not ``ecse``.
    seed
        Of random frames.
    order
        Of spherical components: "e3nn" (polar axis y) or "standard" (polar axis z, m from -l to l).

    Raises
    ------
    UserError
        If the average is unknown or has frames of its own.

    Examples
    --------
    >>> from ipi_driver.structure import Structure
    >>> water = Structure(np.array([8, 1, 1]), np.array([[0, 0, 0], [0.76, 0, 0.59], [-0.76, 0, 0.59]]))
    >>> def dipole(structure):  # that of the charges, and an error that stays in the laboratory
    ...     return np.array([-0.8, 0.4, 0.4]) @ structure.positions + np.array([0.1, 0.0, 0.0])
    >>> TensorAverage(dipole, "xyz", "T")(water).value.round(6).tolist()
    [0.0, 0.0, 0.472]
    """

    def __init__(
        self,
        output: Callable[[Structure], ArrayLike],
        irreps: str,
        average: str | Quadrature = "Ih",
        seed: int = 0,
        order: Order = "e3nn",
    ) -> None:
        self.output = output
        self.irreps = irreps
        self.quadrature = quadrature(average) if isinstance(average, str) else average
        if self.quadrature.own_frames:
            raise UserError(
                "the average `ecse` is for energies and their derivatives; use a fixed grid such as Ih"
            )
        self.seed = seed
        self.order = order

    def __call__(self, structure: Structure) -> AveragedOutput:
        """The average of one structure."""
        rotations = self.quadrature.rotations
        if self.quadrature.random is not None:
            rotations = rotations @ random_frame(self.seed, structure, self.quadrature.random)
        found = np.array(
            [self.output(structure.rotated(rotation)) for rotation in rotations], dtype=np.float64
        )
        found = turned_back(found, rotations, self.irreps, self.order)
        weights = self.quadrature.weights
        flat = found.reshape(len(found), -1)
        mean = weights @ flat
        std = float(np.sqrt(max(0.0, weights @ ((flat - mean) ** 2).mean(axis=1))))
        return AveragedOutput(mean.reshape(found.shape[1:]), std, len(rotations))
