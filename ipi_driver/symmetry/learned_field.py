r"""The uniform field that a relaxed network has learned, in V/Å.

A uniform field :math:`\mathcal E` on charges q gives forces :math:`F_i = q_i \mathcal E`. In a relaxed network it is
the part of the forces that is odd in the non-scalar weights,

.. math:: F^-_i = \tfrac12 \left[F_i(\theta) - F_i(-\theta)\right],

to all orders, as an energy that is linear in the field changes its sign with it. The field is the least-squares
solution over atoms and structures,

.. math:: \mathcal E = \frac{\sum_i q_i F^-_i}{\sum_i q_i^2} .

The weights alone give its direction; their size is multiplied by other weights, so that the size of the field needs the
forces, and the charges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols

from ipi_driver.errors import UserError
from ipi_driver.potentials.base import Potential
from ipi_driver.structure import FloatArray, Structure


@dataclass(frozen=True, eq=False)
class LearnedField:
    """A uniform field that was read from forces.

    Attributes
    ----------
    electric
        (3,) V/Å.
    explained
        Share of the mean square of the odd forces that it explains: 1 for a uniform field.
    """

    electric: FloatArray
    explained: float

    @property
    def size(self) -> float:
        """V/Å."""
        return float(np.linalg.norm(self.electric))


def learned_field(
    ahead: Potential, behind: Potential, structures: Sequence[Structure], charges: Mapping[int, float]
) -> LearnedField:
    """Field of a relaxed network.

    Parameters
    ----------
    ahead, behind
        The network with its weights, and with the non-scalar ones of the opposite sign (``?theta_scale=-1``).
    structures
        In various orientations.
    charges
        Charge of each atomic number, e.

    Raises
    ------
    UserError
        If an element has no charge, or all charges are zero.
    """
    forces, weights = [], []
    for structure in structures:
        missing = [chemical_symbols[z] for z in structure.numbers.tolist() if z not in charges]
        if missing:
            raise UserError(f"the field needs a charge for each element, got none for {missing[0]}")
        weights.append(np.array([charges[z] for z in structure.numbers.tolist()]))
        forces.append(0.5 * (ahead.predict(structure).forces - behind.predict(structure).forces))
    q, odd = np.concatenate(weights), np.concatenate(forces)
    if not (q**2).sum() > 0.0:
        raise UserError("the field needs charges that are not all zero")
    electric = q @ odd / (q @ q)
    left = odd - q[:, None] * electric
    total = float((odd**2).sum())
    explained = 1.0 - float((left**2).sum()) / total if total > 0.0 else 0.0
    return LearnedField(electric, explained)
