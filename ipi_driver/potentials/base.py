r"""The contract of every potential: structures × rotations in, results in the laboratory frame out.

A rotation R acts as ``positions @ R.T``, ``cell @ R.T``; the forces and the virial of the rotated structure come
back as ``forces @ R`` and ``R.T @ virial @ R``. For an equivariant potential the result does not depend on R.

An own potential is one class with one method, `Potential._evaluate`. Here springs between all atoms, stiffer along z:

.. math::  E = \frac12 \sum_i (r_i - \bar r) K (r_i - \bar r)^T, \qquad K = \mathrm{diag}(1, 1, 1 + a) .

>>> import numpy as np
>>> from ipi_driver.potentials import Potential, register_potential
>>> from ipi_driver.structure import RotatedResults, Structure
>>> class Springs(Potential):
...     name = "my-springs"
...     options = ("a",)  # what may follow the question mark in my-springs?a=0.1
...
...     def __init__(self, a=0.1):
...         self.stiffness = np.diag([1.0, 1.0, 1.0 + a])
...
...     @classmethod
...     def from_spec(cls, spec, device="cpu", dtype=None):
...         return cls(float(spec.options.get("a", "0.1")))
...
...     def _evaluate(self, structures, rotations):
...         energies, forces, virials = [], [], []
...         for structure in structures:
...             relative = structure.positions - structure.positions.mean(axis=0)
...             turned = relative @ rotations.transpose(0, 2, 1)     # (n_rotations, n_atoms, 3)
...             pull = -turned @ self.stiffness                       # forces on the turned structure
...             energies.append(-0.5 * (pull * turned).sum(axis=(1, 2)))
...             forces.append(pull @ rotations)                       # back to the laboratory frame
...             virials.append(np.swapaxes(forces[-1], 1, 2) @ relative)
...         return RotatedResults(np.array(energies), tuple(forces), np.array(virials))

It is averaged, served and checked as every other potential. `check_potential` tests whether it keeps the contract, and
a name makes it known to `load_potential` (an entry point does so for the commands, see
`ipi_driver.potentials.kinds`):

>>> from ipi_driver.potentials.testing import check_potential
>>> water = Structure(np.array([8, 1, 1]), np.array([[0, 0, 0], [0.97, 0, 0.1], [-0.2, 0.9, 0]]))
>>> deviations = check_potential(Springs(), water)
>>> register_potential("my-springs", Springs)
>>> from ipi_driver import RotationalAverage, load_potential
>>> average = RotationalAverage(load_potential("my-springs?a=0.3"), "T")
>>> round(average.predict(water).energy, 4)
0.7315
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import ArrayLike

from ipi_driver.errors import UserError
from ipi_driver.potentials.spec import PotentialSpec
from ipi_driver.structure import FloatArray, Prediction, RotatedResults, Structure


class Potential(ABC):
    """An energy function of atoms, evaluated under many rotations at once.

    Attributes
    ----------
    name
        For logs and reports.
    cutoff
        Range of the neighbor list in Å, or None.
    species
        Atomic numbers that the potential knows, or None for any.
    device
        Where it is evaluated, by torch's name.
    warm_up
        Evaluations of a new size after which the next one takes its usual time.
    conditions
        Which of "charge" and "spin" of a structure it depends on; None: whatever its code reads of them.
    directions
        Irreps of O(3), such as "1o", in which it depends on the orientation on purpose: those of an external field, or
        of relaxed weights that a training has found. An average removes them.
    takes_device
        Whether `from_spec` takes another device than "cpu" (``--device``).
    precision
        Whether ``--dtype`` does not apply ("none"), must be that of the model ("fixed"), or chooses it ("chosen").
    options
        Names of the options that `from_spec` reads; None: any.
    """

    name: str = "potential"
    cutoff: float | None = None
    species: tuple[int, ...] | None = None
    conditions: tuple[str, ...] | None = ()
    device: Any = "cpu"
    warm_up: int = 1
    directions: tuple[str, ...] = ()

    takes_device: ClassVar[bool] = False
    precision: ClassVar[Literal["none", "fixed", "chosen"]] = "none"
    options: ClassVar[tuple[str, ...] | None] = ()

    @classmethod
    def from_spec(cls, spec: PotentialSpec, device: str, dtype: str | None) -> Potential:
        """Make the potential that a user names; a kind of potential that users can name defines it.

        Parameters
        ----------
        spec
            Its ``name`` and ``options``, of which `options` are allowed.
        device
            "cpu" where the class does not set `takes_device`.
        dtype
            "float32", "float64" or None; None where `precision` is "none".
        """
        raise UserError(f"{cls.__name__} is not made from text: it has no `from_spec`")

    @classmethod
    def located(cls, spec: PotentialSpec, folder: Path) -> PotentialSpec:
        """The spec with the paths that it names made absolute where they exist in ``folder``."""
        return spec.located(folder)

    @classmethod
    def with_options(cls, spec: PotentialSpec, options: Mapping[str, str]) -> PotentialSpec:
        """The spec with more options; one that is there already is replaced."""
        return spec.with_options(options)

    @classmethod
    def check_spec(cls, spec: PotentialSpec) -> None:
        """Raise `UserError` where what the spec names is not there; quick, nothing is loaded."""
        return

    def with_derivatives(self) -> Potential | None:
        """The same model with derivatives of its energy for forces, where its own are none; else None."""
        return None

    def edges_hint(self, structure: Structure) -> int:
        """Work of one rotation in edges, from which the number of rotations in a call is chosen; here estimated."""
        n_atoms = structure.n_atoms
        cutoff = self.cutoff or 5.0
        if structure.pbc.all():
            per_atom = 4.0 / 3.0 * np.pi * cutoff**3 * n_atoms / max(structure.volume, 1e-9)
        else:  # condensed matter holds about 0.1 atoms/Å3; an isolated one has at most all pairs
            per_atom = min(n_atoms - 1.0, 0.4 * cutoff**3)
        return max(1, int(n_atoms * max(per_atom, 1.0)))

    def evaluate(self, structures: Sequence[Structure], rotations: ArrayLike) -> RotatedResults:
        """Energies, forces and virials of every structure under every rotation, turned back to the laboratory frame.

        Parameters
        ----------
        structures
            n_structures structures, which may differ in size.
        rotations
            (n_rotations, 3, 3) matrices in O(3).

        Returns
        -------
        RotatedResults
            energies (n_structures, n_rotations) in eV, forces n_structures × (n_rotations, n_atoms, 3) in eV/Å,
            virials (n_structures, n_rotations, 3, 3) in eV.

        Raises
        ------
        UserError
            If an element is unknown or a matrix is not orthogonal.
        """
        matrices = np.asarray(rotations, dtype=np.float64)
        if matrices.ndim != 3 or matrices.shape[1:] != (3, 3):
            raise UserError(f"`rotations` must have shape (n_rotations, 3, 3), got {matrices.shape}")
        if np.abs(matrices @ matrices.transpose(0, 2, 1) - np.eye(3)).max(initial=0.0) > 1e-8:
            raise UserError("`rotations` must be orthogonal matrices, got one with R R^T != 1")
        for structure in structures:
            self.check_species(structure)
        return self._evaluate(list(structures), matrices)

    @abstractmethod
    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        """`evaluate` after validation."""

    def predict(self, structure: Structure) -> Prediction:
        """Result for one structure as it stands (for a wrapper: with its averaging)."""
        self.check_species(structure)
        return self._evaluate([structure], np.eye(3)[None]).prediction()

    def check_species(self, structure: Structure) -> None:
        """Raise `UserError` where the structure holds an element that the potential does not know."""
        if self.species is None:
            return
        unknown = sorted(set(structure.numbers.tolist()) - set(self.species))
        if unknown:
            known = ", ".join(chemical_symbols[z] for z in self.species)
            got = ", ".join(chemical_symbols[z] for z in unknown)
            raise UserError(
                f"the model {self.name} knows the elements {known}, but the structure holds {got}"
            )

    def check_conditions(self, charge: float | None = None, spin: int | None = None) -> None:
        """Raise `UserError` where a charge or spin is asked for that the potential does not depend on."""
        for name, value in (("charge", charge), ("spin", spin)):
            if value is not None and self.conditions is not None and name not in self.conditions:
                raise UserError(
                    f"the model {self.name} does not depend on the {name}, got --{name} {value:g}; leave it out, or "
                    "take a model that was trained with it"
                )
