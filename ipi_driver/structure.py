"""What goes into a potential and what comes out: `Structure`, `RotatedResults`, `Prediction`.

Units: Å, eV. Cell vectors are rows. ``virial = -dE/dstrain`` with ``strain`` acting as
``positions @ (1 + strain).T``; ``stress = -virial / volume``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ase
import ase.data
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ipi_driver.errors import UserError
from ipi_driver.units import MILLI

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Structure:
    """Atoms in space.

    Attributes
    ----------
    numbers
        (n_atoms,) atomic numbers.
    positions
        (n_atoms, 3) in Å.
    cell
        (3, 3) cell vectors as rows, Å; zero rows along directions that are not periodic are allowed.
    pbc
        (3,) whether each cell direction is periodic.
    charge
        Total charge in units of e; None: not given, which models that need it take as 0.
    spin
        Multiplicity 2S + 1; None: not given, which models that need it take as 1.

    Raises
    ------
    UserError
        If shapes do not fit or a value is not finite.
    """

    numbers: IntArray
    positions: FloatArray
    cell: FloatArray = field(default_factory=lambda: np.zeros((3, 3)))
    pbc: BoolArray = field(default_factory=lambda: np.zeros(3, dtype=bool))
    charge: float | None = None
    spin: int | None = None

    def __post_init__(self) -> None:
        numbers = np.asarray(self.numbers, dtype=np.int64).reshape(-1)
        # copies: a neighbor list compares with the structure before, which the caller's array must not change
        positions = np.array(self.positions, dtype=np.float64, order="C")
        cell = np.array(self.cell, dtype=np.float64, order="C")
        pbc = np.full(3, self.pbc, dtype=bool)
        if positions.shape != (len(numbers), 3):
            raise UserError(f"`positions` must have shape ({len(numbers)}, 3), got {positions.shape}")
        if cell.shape != (3, 3):
            raise UserError(f"`cell` must have shape (3, 3), got {cell.shape}")
        if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
            raise UserError("`positions` and `cell` must be finite, got NaN or infinity")
        if self.spin is not None and self.spin < 1:
            raise UserError(f"`spin` is the multiplicity 2S + 1, a number from 1, got {self.spin}")
        if self.charge is not None and not np.isfinite(self.charge):
            raise UserError(f"`charge` must be finite, got {self.charge}")
        for name, value in (("numbers", numbers), ("positions", positions), ("cell", cell), ("pbc", pbc)):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        from ase.formula import Formula

        formula = Formula.from_list([ase.data.chemical_symbols[z] for z in self.numbers]).format("hill")
        return f"Structure({formula}, {'periodic' if self.periodic else 'isolated'})"

    @classmethod
    def from_atoms(cls, atoms: ase.Atoms) -> Structure:
        """From ASE, with ``charge`` and ``spin`` (or ``spin_multiplicity``) of its ``info``."""
        conditions = conditions_of(atoms.info)
        return cls(atoms.numbers, atoms.positions.copy(), np.array(atoms.cell), atoms.pbc, *conditions)

    def to_atoms(self) -> ase.Atoms:
        """For ASE; charge and spin stand in its ``info`` under the names that calculators look for."""
        atoms = ase.Atoms(numbers=self.numbers, positions=self.positions, cell=self.cell, pbc=self.pbc)
        if self.charge is not None:
            atoms.info["charge"] = int(self.charge) if self.charge == round(self.charge) else self.charge
        if self.spin is not None:
            atoms.info.update(spin=self.spin, spin_multiplicity=self.spin)
        return atoms

    @property
    def n_atoms(self) -> int:
        return len(self.numbers)

    @property
    def volume(self) -> float:
        """Volume of the cell in Å³ (0 where no cell is given)."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def periodic(self) -> bool:
        return bool(self.pbc.any())

    def rotated(self, rotation: ArrayLike) -> Structure:
        """The structure with positions **and cell** multiplied by ``rotation`` (3, 3), in O(3).

        An improper rotation would make a right-handed cell left-handed, which some models refuse and others answer
        with a stress of the wrong sign. A lattice is its own mirror image through the origin: where det R = -1 the
        cell is ``-(cell @ R.T)``, which spans the same lattice. A shift of S lattice vectors is then one of -S.
        """
        matrix = np.asarray(rotation, dtype=np.float64)
        sign = shift_sign(matrix)
        return replace(self, positions=self.positions @ matrix.T, cell=sign * (self.cell @ matrix.T))

    def conditioned(self, charge: float | None = None, spin: int | None = None) -> Structure:
        """The structure with another charge or spin where one is given."""
        if charge is None and spin is None:
            return self
        return replace(
            self,
            charge=self.charge if charge is None else charge,
            spin=self.spin if spin is None else spin,
        )

    def same_configuration(self, other: Structure) -> bool:
        """Whether both hold the same atoms at bitwise the same place."""
        return (
            np.array_equal(self.positions, other.positions)
            and np.array_equal(self.cell, other.cell)
            and np.array_equal(self.numbers, other.numbers)
            and np.array_equal(self.pbc, other.pbc)
            and (self.charge, self.spin) == (other.charge, other.spin)
        )


def shift_sign(rotation: FloatArray) -> float:
    """Sign of lattice shifts in a structure that `Structure.rotated` has turned: -1 for an improper rotation."""
    return -1.0 if np.linalg.det(rotation) < 0 else 1.0


def conditions_of(info: Mapping[str, Any]) -> tuple[float | None, int | None]:
    """Charge and multiplicity in the ``info`` of ASE's atoms; None where there is none, or it cannot be one."""
    spin = _number(info, "spin_multiplicity", "spin")
    whole = spin is not None and spin >= 1 and spin == round(spin)
    return _number(info, "charge"), int(spin) if spin is not None and whole else None


def _number(info: Mapping[str, Any], *keys: str) -> float | None:
    """The first of the keys that is there, if it is a finite number: files hold anything under these names."""
    for key in keys:
        if key in info:
            try:
                value = float(info[key])
            except (TypeError, ValueError):
                return None
            return value if np.isfinite(value) else None
    return None


@dataclass(frozen=True, eq=False)
class RotatedResults:
    """Results of structures under many rotations, all turned back to the laboratory frame.

    Attributes
    ----------
    energies
        (n_structures, n_rotations), eV.
    forces
        One (n_rotations, n_atoms, 3) array per structure, eV/Å; structures may differ in size.
    virials
        (n_structures, n_rotations, 3, 3), eV, or None where the potential has none for these structures.
    extras
        Further quantities by name: one (n_rotations, ...) array per structure, in the laboratory frame.
    """

    energies: FloatArray
    forces: tuple[FloatArray, ...]
    virials: FloatArray | None
    extras: Mapping[str, tuple[FloatArray, ...]] = field(default_factory=dict)

    @property
    def n_rotations(self) -> int:
        return self.energies.shape[1]

    def select(self, rotations: IntArray | slice) -> RotatedResults:
        """The results of some rotations, by their indices."""
        return RotatedResults(
            self.energies[:, rotations],
            tuple(forces[rotations] for forces in self.forces),
            None if self.virials is None else self.virials[:, rotations],
            {name: tuple(array[rotations] for array in values) for name, values in self.extras.items()},
        )

    def of_structure(self, index: int) -> RotatedResults:
        """The results of one structure."""
        virials = None if self.virials is None else self.virials[index : index + 1]
        extras = {name: (values[index],) for name, values in self.extras.items()}
        return RotatedResults(self.energies[index : index + 1], (self.forces[index],), virials, extras)

    def prediction(self, rotation: int = 0, structure: int = 0) -> Prediction:
        """The result of one structure under one rotation."""
        virial = None if self.virials is None else self.virials[structure, rotation]
        extras = {name: values[structure][rotation] for name, values in self.extras.items()}
        energy = float(self.energies[structure, rotation])
        return Prediction(energy, self.forces[structure][rotation], virial, extras=extras)

    def inserted(self, rotation: int, known: Prediction) -> RotatedResults:
        """The results of one structure with a known one put in at index ``rotation``.

        Raises
        ------
        UserError
            If the known result has no virial and the others have one.
        """
        virials = None
        if self.virials is not None:
            if known.virial is None:
                raise UserError(
                    "the known result has no virial, but the potential gives one under other rotations"
                )
            virials = np.insert(self.virials, rotation, known.virial, axis=1)
        return RotatedResults(
            np.insert(self.energies, rotation, known.energy, axis=1),
            (np.insert(self.forces[0], rotation, known.forces, axis=0),),
            virials,
            {
                name: (np.insert(values[0], rotation, known.extras[name], axis=0),)
                for name, values in self.extras.items()
            },
        )

    @staticmethod
    def concatenate(parts: Sequence[RotatedResults]) -> RotatedResults:
        """The results of the same structures under the rotations of all parts, in their order."""
        if len(parts) == 1:
            return parts[0]
        virials = [part.virials for part in parts if part.virials is not None]
        return RotatedResults(
            np.concatenate([part.energies for part in parts], axis=1),
            tuple(np.concatenate(forces) for forces in zip(*(part.forces for part in parts), strict=True)),
            np.concatenate(virials, axis=1) if len(virials) == len(parts) else None,
            {
                name: tuple(
                    np.concatenate(values)
                    for values in zip(*(part.extras[name] for part in parts), strict=True)
                )
                for name in parts[0].extras
            },
        )

    @staticmethod
    def joined(parts: Sequence[RotatedResults]) -> RotatedResults:
        """The results of the structures of all parts, in their order, under the same rotations."""
        if len(parts) == 1:
            return parts[0]
        virials = [part.virials for part in parts if part.virials is not None]
        return RotatedResults(
            np.concatenate([part.energies for part in parts]),
            tuple(forces for part in parts for forces in part.forces),
            np.concatenate(virials) if len(virials) == len(parts) else None,
            {name: tuple(v for part in parts for v in part.extras[name]) for name in parts[0].extras},
        )

    @staticmethod
    def from_predictions(rows: Sequence[Sequence[Prediction]]) -> RotatedResults:
        """From one row of predictions (one per rotation) for each structure."""
        virials = [[p.virial for p in row if p.virial is not None] for row in rows]
        complete = all(len(found) == len(row) for found, row in zip(virials, rows, strict=True))
        return RotatedResults(
            np.array([[p.energy for p in row] for row in rows]),
            tuple(np.array([p.forces for p in row]) for row in rows),
            np.array(virials) if complete else None,
            {
                name: tuple(np.array([p.extras[name] for p in row]) for row in rows)
                for name in rows[0][0].extras
            }
            if rows and rows[0]
            else {},
        )


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the simulation sees of one structure.

    Attributes
    ----------
    energy
        eV.
    forces
        (n_atoms, 3), eV/Å.
    virial
        (3, 3), eV, or None where the potential has none.
    n_rotations
        Number of rotations averaged.
    energy_std
        Weighted standard deviation of the energy over the rotations, eV.
    forces_std
        Root-mean-square (over rotations, atoms, components) deviation of the forces from their mean, eV/Å.
    virial_std
        Root-mean-square deviation of the virial from its mean, eV; None without virial.
    raw
        Result of the unrotated structure, where the identity is among the rotations.
    net_force
        (3,), eV/Å.
    net_torque
        (3,) about the center of mass, eV; None for periodic structures.
    extras
        Further quantities of the potential by name, averaged over the rotations.
    """

    energy: float
    forces: FloatArray
    virial: FloatArray | None
    n_rotations: int = 1
    energy_std: float = 0.0
    forces_std: float = 0.0
    virial_std: float | None = None
    raw: Prediction | None = None
    net_force: FloatArray | None = None
    net_torque: FloatArray | None = None
    extras: Mapping[str, FloatArray] = field(default_factory=dict)

    def __repr__(self) -> str:
        largest = float(np.abs(self.forces).max(initial=0.0))
        text = f"Prediction(energy {self.energy:.6f} eV, largest force {largest:.4f} eV/Å"
        if self.n_rotations > 1:
            text += f", {self.n_rotations} rotations, force std {MILLI * self.forces_std:.3g} meV/Å"
        return text + ")"

    @property
    def rotation_gradient(self) -> FloatArray | None:
        """(3,) derivative of the energy by a rotation of atoms and cell, eV/rad; None without virial.

        Zero for an invariant model. See `rotation_gradient`; a virial that was made symmetric shows nothing.
        """
        return None if self.virial is None else rotation_gradient(self.virial)


def rotation_gradient(virial: FloatArray) -> FloatArray:
    r"""Derivative of the energy by an infinitesimal rotation, which every evaluation with a virial has for free.

    A rotation by the vector :math:`\omega` moves the edge vectors by :math:`\omega \times d_e`, so that with
    :math:`G_e = \partial E / \partial d_e`

    .. math:: \partial E / \partial \omega = \sum_e d_e \times G_e,

    the antisymmetric part of :math:`\sum_e G_e \otimes d_e`, which is minus the virial. It holds with and without
    periodic directions, the cell turns with the atoms.

    Parameters
    ----------
    virial
        (..., 3, 3) = -dE/dstrain in eV, not made symmetric.

    Returns
    -------
    FloatArray
        (..., 3), eV/rad.

    Examples
    --------
    >>> rotation_gradient(np.array([[1.0, 0.5, 0.0], [0.2, 1.0, 0.0], [0.0, 0.0, 1.0]])).round(3).tolist()
    [0.0, 0.0, 0.3]
    """
    x = virial[..., 1, 2] - virial[..., 2, 1]
    y = virial[..., 2, 0] - virial[..., 0, 2]
    z = virial[..., 0, 1] - virial[..., 1, 0]
    return np.stack([x, y, z], axis=-1)
