r"""Cheap forces for the inner step of multiple time stepping: how far they are from those of the outer step.

Direct forces of a model come without the derivatives of its energy. They are no derivatives of any energy, and alone
they heat a run; corrected at every outer step by the conservative ones they are a cheap inner step (Bigi, Langer,
Ceriotti, arXiv:2412.11569). The same holds for the forces of a smaller model. What the outer step has to correct is

.. math::  \Delta F = \bar F_{\rm outer} - F_{\rm inner} ,

and its spectrum along a trajectory gives the outer step, as in `ipi_driver.symmetry.outer_step`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.chunks import Progress, no_progress
from ipi_driver.potentials.derivatives import jacobian_asymmetry
from ipi_driver.structure import Structure


@dataclass(frozen=True)
class InnerForces:
    """Difference of inner and outer forces, both raw, on the structures of a data set.

    Attributes
    ----------
    inner, outer
        Names of the potentials.
    mae, largest
        Mean and largest modulus of the difference of components, eV/Å.
    rmse, scale
        Root mean square of the difference, and of the outer forces, eV/Å.
    jacobian_asymmetry
        Of the inner forces, see `ipi_driver.potentials.derivatives`.
    n_structures
        Structures compared.
    """

    inner: str
    outer: str
    mae: float
    largest: float
    rmse: float
    scale: float
    jacobian_asymmetry: float
    n_structures: int


def compare_inner(
    outer: Potential, inner: Potential, structures: Sequence[Structure], progress: Progress = no_progress
) -> InnerForces:
    """Compare the raw forces of two potentials.

    Raises
    ------
    UserError
        If one does not know an element of the structures.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from ipi_driver import Structure, load_potential
    >>> water = Structure.from_atoms(molecule("H2O"))
    >>> weak, strong = (load_potential(f"anisotropic?l=2&amplitude={a}") for a in (0.1, 0.2))
    >>> found = compare_inner(strong, weak, [water])
    >>> found.jacobian_asymmetry < 1e-3, 0.0 < found.mae < found.largest
    (True, True)
    """
    if not structures:
        raise UserError("no structures to compare inner and outer forces on")
    differences, forces = [], []
    for structure in structures:
        expected = outer.predict(structure).forces
        differences.append((inner.predict(structure).forces - expected).ravel())
        forces.append(expected.ravel())
        progress(2)
    difference, reference = np.concatenate(differences), np.concatenate(forces)
    rng = np.random.default_rng(0)
    return InnerForces(
        inner=inner.name,
        outer=outer.name,
        mae=float(np.abs(difference).mean()),
        largest=float(np.abs(difference).max()),
        rmse=float(np.sqrt((difference**2).mean())),
        scale=float(np.sqrt((reference**2).mean())),
        jacobian_asymmetry=jacobian_asymmetry(inner, structures[0], rng),
        n_structures=len(structures),
    )
