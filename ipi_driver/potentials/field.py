r"""``field?electric=0,0,0.1&charges=O:-0.82,H:0.41``: fixed charges in a uniform electric field.

.. math::  E = -\sum_i q_{Z_i}\, \mathcal E \cdot r_i, \qquad F_i = q_{Z_i}\, \mathcal E

with the field :math:`\mathcal E` in V/Å, in the laboratory frame, and one charge for each element, in e. On top of a
model (``sum:pet-water-s2+(field?...)``) it is the simplest real breaking of rotational symmetry: a vector, l = 1 and
odd. The structure must be neutral, so that the energy does not depend on the origin, and isolated: a uniform field
has no periodic potential.
"""

from __future__ import annotations

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from ipi_driver.errors import UserError
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.spec import PotentialSpec
from ipi_driver.structure import FloatArray, RotatedResults, Structure

_NEUTRAL = 1e-9


class FieldPotential(Potential):
    """Fixed charges in a uniform electric field.

    Parameters
    ----------
    electric
        (3,) field, V/Å.
    charges
        Charge of each atomic number, e.

    Examples
    --------
    >>> water = Structure(np.array([8, 1, 1]), np.array([[0, 0, 0], [0.76, 0, 0.59], [-0.76, 0, 0.59]]))
    >>> field = FieldPotential(np.array([0.0, 0.0, 0.1]), {8: -0.82, 1: 0.41})
    >>> round(field.predict(water).energy, 5)  # minus the field times the dipole of 0.4838 e Å
    -0.04838
    """

    options = ("electric", "charges")
    directions = ("1o",)

    def __init__(self, electric: FloatArray, charges: dict[int, float]) -> None:
        self.electric = np.asarray(electric, dtype=np.float64)
        if self.electric.shape != (3,) or not np.isfinite(self.electric).all():
            raise UserError(f"field: `electric` must be three finite numbers in V/Å, got {electric}")
        if not charges:
            raise UserError("field: `charges` must give a charge for each element, such as O:-0.82,H:0.41")
        self.charges = dict(charges)
        self.species = tuple(sorted(charges))
        self.name = "field"

    @classmethod
    def from_spec(cls, spec: PotentialSpec, device: str = "cpu", dtype: str | None = None) -> FieldPotential:
        """From ``field?electric=X,Y,Z&charges=SYMBOL:CHARGE,...``."""
        example = "field?electric=0,0,0.1&charges=O:-0.82,H:0.41"
        if spec.name:
            raise UserError(f"field takes options and no name, got {spec.name!r}: {example}")
        if missing := [option for option in cls.options if option not in spec.options]:
            raise UserError(f"field: the option `{missing[0]}` is missing: {example}")
        try:
            electric = np.array([float(part) for part in spec.options["electric"].split(",")])
        except ValueError as error:
            raise UserError(f"field: `electric` must be three numbers in V/Å: {error}") from None
        return cls(electric, parse_charges(spec.options["charges"]))

    def dipole(self, structure: Structure) -> FloatArray:
        """(3,) dipole of the fixed charges, e Å.

        Raises
        ------
        UserError
            If the structure is periodic or not neutral.
        """
        charges = self._charges_of(structure)
        return np.asarray(charges @ structure.positions)

    def _charges_of(self, structure: Structure) -> FloatArray:
        if structure.periodic:
            raise UserError(
                "field: a uniform field has no periodic potential; expected an isolated structure"
            )
        charges = np.array([self.charges[int(z)] for z in structure.numbers])
        if abs(total := float(charges.sum())) > _NEUTRAL * max(1.0, float(np.abs(charges).sum())):
            raise UserError(
                f"field: the charges of {structure!r} must add up to zero, got {total:g} e: the energy of a charge in "
                "a field depends on the origin"
            )
        return charges

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        fields = self.electric @ rotations  # (n_rotations, 3): turning the field back is turning the atoms
        charges = [self._charges_of(structure) for structure in structures]
        dipoles = np.array([q @ s.positions for q, s in zip(charges, structures, strict=True)])
        return RotatedResults(
            -dipoles @ fields.T,
            tuple(q[None, :, None] * fields[:, None, :] for q in charges),
            np.einsum("ka,sb->skab", fields, dipoles),
        )


def parse_charges(text: str) -> dict[int, float]:
    """Charges by atomic number from ``O:-0.82,H:0.41``.

    Raises
    ------
    UserError
        If a symbol is unknown or given twice, or a charge is not a number.
    """
    found: dict[int, float] = {}
    for part in text.split(","):
        symbol, colon, value = part.strip().partition(":")
        if not colon or symbol not in atomic_numbers or symbol == chemical_symbols[0]:
            raise UserError(f"`charges` must be like O:-0.82,H:0.41, got {part!r}")
        try:
            charge = float(value)
        except ValueError:
            raise UserError(f"the charge of {symbol} must be a number in e, got {value!r}") from None
        if not np.isfinite(charge):
            raise UserError(f"the charge of {symbol} must be finite, got {value}")
        if atomic_numbers[symbol] in found:
            raise UserError(f"`charges` gives {symbol} twice, in {text!r}; leave one out")
        found[atomic_numbers[symbol]] = charge
    return found
