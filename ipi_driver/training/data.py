"""Labelled structures from extended XYZ files.

Two forms are read by the same call: extended XYZ with energies in eV and forces in eV/Å, as ASE writes it, and the
native form of the water data of Cheng et al., PNAS 116, 1110 (2019): bohr and hartree, ``TotEnergy`` in the comment
and ``force`` columns.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ase
import numpy as np
from ase.io.extxyz import XYZError, read_xyz
from ase.stress import voigt_6_to_full_3x3_stress

from ipi_driver.errors import UserError
from ipi_driver.structure import FloatArray, Structure
from ipi_driver.training.plausibility import check_units
from ipi_driver.training.splits import DataOrder
from ipi_driver.units import BOHR, FORCE, HARTREE

Units = Literal["auto", "ev-angstrom", "atomic"]

_NATIVE_ENERGY, _NATIVE_FORCES = "TotEnergy", "force"
_DEFAULT_KEYS = ("energy", "forces")


@dataclass(frozen=True, eq=False)
class LabelledStructure:
    """A structure with what a model is to predict for it.

    Attributes
    ----------
    structure
        The atoms.
    energy
        eV, total.
    forces
        (n_atoms, 3), eV/Å.
    virial
        (3, 3) = -dE/dstrain in eV, or None.
    """

    structure: Structure
    energy: float
    forces: FloatArray
    virial: FloatArray | None = None


@dataclass(frozen=True)
class _Keys:
    """Names of the labels in the file, and the units that the user has chosen."""

    energy: str
    forces: str
    stress: str | None
    virial: str | None
    units: Units


def read_dataset(
    paths: Sequence[Path],
    energy_key: str = "energy",
    forces_key: str = "forces",
    stress_key: str | None = None,
    virial_key: str | None = None,
    units: Units = "auto",
) -> list[LabelledStructure]:
    """Read extended XYZ files, in the order given.

    Parameters
    ----------
    paths
        Files.
    energy_key, forces_key
        Names in the comment line and of the columns.
    stress_key
        Stress in the comment line (6 in Voigt order or 9 numbers, eV/Å³, dE/dstrain / volume as in ASE), or None.
    virial_key
        Virial in the comment line (9 numbers, eV, -dE/dstrain), or None.
    units
        Of the files: "ev-angstrom", "atomic" (bohr, hartree, hartree/bohr), or "auto": atomic for frames in the native
        form, eV and Å for all others.

    Raises
    ------
    UserError
        If a file is missing, empty or malformed, a label is missing, has the wrong shape or is not finite, an element
        is unknown, or the units are not plausible; the message names the file and the frame, counted from 0.
    """
    if units not in ("auto", "ev-angstrom", "atomic"):
        raise UserError(f"`units` must be auto, ev-angstrom or atomic, got {units!r}")
    if stress_key and virial_key:
        raise UserError(
            f"give `stress_key` or `virial_key`, not both (got {stress_key!r} and {virial_key!r})"
        )
    keys = _Keys(energy_key, forces_key, stress_key, virial_key, units)
    data: list[LabelledStructure] = []
    for path in map(Path, paths):
        found: list[LabelledStructure] = []
        atomic: list[bool] = []
        for frame, text in enumerate(_iterate_frames(path)):
            where = f"{path}, frame {frame}"
            labelled, in_atomic_units = _label(_parse(text, where), keys, where)
            found.append(labelled)
            atomic.append(in_atomic_units)
        if not found:
            raise UserError(f"{path} holds no structures; expected extended XYZ")
        check_units(path, [d.structure for d in found], [d.forces for d in found], atomic, units != "auto")
        data += found
    if not data:
        raise UserError("no data files were given; expected at least one extended XYZ file")
    return data


def read_ordered(
    paths: Sequence[Path],
    energy_key: str = "energy",
    forces_key: str = "forces",
    stress_key: str | None = None,
    virial_key: str | None = None,
    units: Units = "auto",
) -> tuple[list[LabelledStructure], DataOrder]:
    """As `read_dataset`, with what a split remembers of the files."""
    keys = (energy_key, forces_key, stress_key, virial_key, units)
    by_file = [read_dataset([path], *keys) for path in paths]
    order = DataOrder.of(paths, [[item.structure for item in part] for part in by_file])
    return [item for part in by_file for item in part], order


def is_native(atoms: ase.Atoms) -> bool:
    """Whether a frame has the names of the native form of the water data, which is in bohr and hartree."""
    return _NATIVE_ENERGY in atoms.info and _NATIVE_FORCES in atoms.arrays


def _iterate_frames(path: Path) -> Iterator[str]:
    """Text of each frame; the frames are cut here so that every message can tell the frame."""
    if not path.is_file():
        raise UserError(f"no data file {path}")
    try:
        lines = path.read_text().splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file; expected extended XYZ") from error
    if not any(line.strip() for line in lines):
        raise UserError(f"{path} is empty; expected extended XYZ")
    start = frame = 0
    while start < len(lines):
        header = lines[start].strip()
        if not header and not any(line.strip() for line in lines[start:]):
            return
        where = f"{path}, frame {frame} (line {start + 1})"
        if not header.isdigit():
            raise UserError(f"{where}: expected the number of atoms, got {header[:60]!r}")
        n_atoms = int(header)
        if n_atoms == 0:
            raise UserError(f"{where}: the structure has no atoms")
        stop = start + 2 + n_atoms
        if stop > len(lines):
            raise UserError(
                f"{where}: expected {n_atoms} atoms, the file ends after {max(0, len(lines) - start - 2)}"
            )
        yield "".join(lines[start:stop])
        start, frame = stop, frame + 1


def _parse(text: str, where: str) -> ase.Atoms:
    """One frame by ASE's reader."""
    try:
        (atoms,) = read_xyz(io.StringIO(text), 0)
    except KeyError as error:
        raise UserError(f"{where}: unknown element {error}; expected a chemical symbol") from error
    except (XYZError, ValueError, IndexError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{where}: not extended XYZ: {reason}") from error
    if (atoms.numbers <= 0).any():
        raise UserError(f"{where}: unknown element 'X'; expected a chemical symbol")
    return atoms


def _label(atoms: ase.Atoms, keys: _Keys, where: str) -> tuple[LabelledStructure, bool]:
    """Labels in eV and Å, and whether they were converted from atomic units."""
    found: dict[str, Any] = {**atoms.info, **atoms.arrays}
    if atoms.calc is not None:  # where ASE's reader puts the names that it knows
        found |= atoms.calc.results
    energy_key, forces_key = keys.energy, keys.forces
    by_default = (
        (energy_key, forces_key) == _DEFAULT_KEYS and energy_key not in found and forces_key not in found
    )
    if by_default and _NATIVE_ENERGY in found and _NATIVE_FORCES in found:
        energy_key, forces_key = _NATIVE_ENERGY, _NATIVE_FORCES
    named_native = (energy_key, forces_key) == (_NATIVE_ENERGY, _NATIVE_FORCES)
    atomic = keys.units == "atomic" or (keys.units == "auto" and named_native)
    length, energy_unit, force_unit = (BOHR, HARTREE, FORCE) if atomic else (1.0, 1.0, 1.0)

    energy = _numbers(found, energy_key, "energy_key", [()], where)
    forces = _numbers(found, forces_key, "forces_key", [(len(atoms), 3)], where)
    for name, value in (("positions", atoms.positions), ("the cell", np.array(atoms.cell))):
        _check_finite(value, name, where)
    cell = length * np.array(atoms.cell)
    if atoms.pbc.any() and (np.linalg.norm(cell[atoms.pbc], axis=1) == 0.0).any():
        raise UserError(f'{where}: periodic without a cell; give Lattice, or pbc="F F F"')
    structure = Structure(atoms.numbers, length * atoms.positions, cell, atoms.pbc)
    virial = _virial(found, keys, structure, energy_unit, length, where)
    return LabelledStructure(structure, float(energy_unit * energy), force_unit * forces, virial), atomic


def _virial(
    found: dict[str, Any], keys: _Keys, structure: Structure, energy_unit: float, length: float, where: str
) -> FloatArray | None:
    """(3, 3) virial in eV from a virial or a stress in units of energy_unit and energy_unit / length³."""
    if keys.virial is not None:
        virial = _numbers(found, keys.virial, "virial_key", [(3, 3), (9,)], where)
        return energy_unit * virial.reshape(3, 3)
    if keys.stress is None:
        return None
    stress = _numbers(found, keys.stress, "stress_key", [(6,), (3, 3), (9,)], where)
    if structure.volume == 0.0:
        raise UserError(f"{where}: a stress (`stress_key: {keys.stress}`) needs a cell with a volume")
    full = voigt_6_to_full_3x3_stress(stress) if stress.shape == (6,) else stress.reshape(3, 3)
    return np.asarray(-structure.volume * energy_unit / length**3 * full)


def _numbers(
    found: dict[str, Any], key: str, option: str, shapes: list[tuple[int, ...]], where: str
) -> FloatArray:
    """The finite numbers called ``key``, in one of the ``shapes``."""
    if key not in found:
        known = ", ".join(sorted(k for k in found if k not in ("numbers", "positions"))) or "nothing"
        raise UserError(f"{where}: no {key!r} (`{option}`); the frame has {known}")
    try:
        value = np.asarray(found[key], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {key!r} must be numbers, got {str(found[key])[:40]!r}") from error
    if value.shape not in shapes:
        expected = " or ".join(str(shape) if shape else "one number" for shape in shapes)
        raise UserError(f"{where}: {key!r} must have shape {expected}, got {value.shape}")
    _check_finite(value, repr(key), where)
    return value


def _check_finite(value: FloatArray, name: str, where: str) -> None:
    bad = ~np.isfinite(value)
    if bad.any():
        atom = f" at atom {int(np.argwhere(bad)[0, 0])}" if value.ndim == 2 and len(value) != 3 else ""
        raise UserError(f"{where}: {name} must be finite, got NaN or infinity{atom}; remove the frame")
