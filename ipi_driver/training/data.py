"""Labelled structures from files of every form that is known here, in eV and Å.

Forms, recognized by content: extended XYZ (also with ``TotEnergy`` and ``force``), n2p2's ``input.data``, folders of
DeePMD-kit; text may be packed with gzip, xz or bzip2. The units are those that the form usually has, unless distances
fit the other ones alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ipi_driver.errors import UserError
from ipi_driver.lengths import fits_other_lengths
from ipi_driver.structure import FloatArray, Structure
from ipi_driver.training.formats.deepmd import read_deepmd
from ipi_driver.training.formats.extxyz import read_extxyz
from ipi_driver.training.formats.n2p2 import is_n2p2, read_n2p2
from ipi_driver.training.formats.raw import FileContent, LabelKeys, RawSnapshot
from ipi_driver.training.formats.text import read_lines
from ipi_driver.training.plausibility import check_units
from ipi_driver.training.splits import DataOrder
from ipi_driver.units import BOHR, FORCE, HARTREE

Units = Literal["auto", "ev-angstrom", "atomic"]


@dataclass(frozen=True, eq=False)
class LabelledStructure:
    """A structure with what a model is to predict for it.

    Attributes
    ----------
    structure
        The atoms.
    energy
        eV, total; NaN where it is neither known nor needed.
    forces
        (n_atoms, 3), eV/Å.
    virial
        (3, 3) = -dE/dstrain in eV, or None.
    group
        Number of the data set that it belongs to.
    """

    structure: Structure
    energy: float
    forces: FloatArray
    virial: FloatArray | None = None
    group: int = 0


def read_dataset(
    paths: Sequence[Path],
    energy_key: str = "energy",
    forces_key: str = "forces",
    stress_key: str | None = None,
    virial_key: str | None = None,
    units: Units = "auto",
    need_energy: bool = True,
) -> list[LabelledStructure]:
    """Read data files, in the order given.

    Parameters
    ----------
    paths
        Files, or folders of DeePMD-kit.
    energy_key, forces_key
        Names in the comment line and of the columns of extended XYZ.
    stress_key
        Stress in the comment line (6 in Voigt order or 9 numbers, eV/Å³, dE/dstrain / volume as in ASE), or None.
    virial_key
        Virial in the comment line (9 numbers, eV, -dE/dstrain), or None.
    units
        Of the files: "ev-angstrom", "atomic" (bohr, hartree, hartree/bohr), or "auto": those of the form. Extended
        XYZ and DeePMD are in eV and Å; n2p2's files and extended XYZ with ``TotEnergy`` and ``force`` are in bohr
        and hartree, except where their distances fit Å alone.
    need_energy
        Whether a structure without an energy is an error.

    Raises
    ------
    UserError
        If a file is missing, empty or malformed, a label is missing, has the wrong shape or is not finite, an element
        is unknown, or the units are not plausible; the message names the file and the structure, counted from 0.
    """
    keys = _keys(energy_key, forces_key, stress_key, virial_key, units)
    if not paths:
        raise UserError("no data files were given; expected at least one extended XYZ file")
    return [item for path in map(Path, paths) for item in _read(path, keys, units, need_energy)[0]]


def read_ordered(
    paths: Sequence[Path],
    energy_key: str = "energy",
    forces_key: str = "forces",
    stress_key: str | None = None,
    virial_key: str | None = None,
    units: Units = "auto",
    need_energy: bool = True,
) -> tuple[list[LabelledStructure], DataOrder]:
    """As `read_dataset`, with what a split remembers of the files."""
    keys = _keys(energy_key, forces_key, stress_key, virial_key, units)
    by_file = [_read(Path(path), keys, units, need_energy) for path in paths]
    structures = [[item.structure for item in part] for part, _ in by_file]
    order = DataOrder.of(paths, structures, tuple(form for _, form in by_file))
    return [item for part, _ in by_file for item in part], order


def read_content(path: Path, keys: LabelKeys | None = None, need_energy: bool = True) -> FileContent:
    """Snapshots of a file or folder in its own units, by the form that its content has."""
    keys = keys or LabelKeys()
    if path.is_dir():
        return read_deepmd(path, need_energy)
    lines = read_lines(path)
    if is_n2p2(lines):
        return read_n2p2(path, lines, need_energy)
    return read_extxyz(path, lines, keys, need_energy)


def _keys(energy: str, forces: str, stress: str | None, virial: str | None, units: str) -> LabelKeys:
    if units not in ("auto", "ev-angstrom", "atomic"):
        raise UserError(f"`units` must be auto, ev-angstrom or atomic, got {units!r}")
    if stress and virial:
        raise UserError(f"give `stress_key` or `virial_key`, not both (got {stress!r} and {virial!r})")
    return LabelKeys(energy, forces, stress, virial)


def _read(
    path: Path, keys: LabelKeys, units: Units, need_energy: bool
) -> tuple[list[LabelledStructure], str]:
    """Structures of one file, and its form and units for people."""
    content = read_content(path, keys, need_energy)
    if not content.snapshots:
        raise UserError(f"{path} holds no structures; expected extended XYZ")
    atomic, reason = choose_units(content.snapshots, units)
    found = [_convert(raw, in_atomic) for raw, in_atomic in zip(content.snapshots, atomic, strict=True)]
    check_units(path, [d.structure for d in found], [d.forces for d in found], atomic, units != "auto")
    names = "bohr and hartree" if all(atomic) else "eV and Å" if not any(atomic) else "mixed units"
    return found, f"{content.form}, {names}{reason}"


def choose_units(snapshots: Sequence[RawSnapshot], units: Units) -> tuple[list[bool], str]:
    """Whether each snapshot is in bohr and hartree, and why that differs from what its form usually has."""
    if units != "auto":
        return [units == "atomic"] * len(snapshots), ""
    atomic = [raw.atomic for raw in snapshots]
    # names such as `energy` and `forces` are those of ASE, which is in eV and Å: there a misfit is an error
    native = [raw for raw in snapshots if raw.atomic]
    structures = [Structure(raw.numbers, raw.positions, raw.cell, raw.pbc) for raw in native]
    if native and fits_other_lengths(structures):
        return [False] * len(snapshots), " (by its distances)"
    return atomic, ""


def _convert(raw: RawSnapshot, atomic: bool) -> LabelledStructure:
    length, energy, force = (BOHR, HARTREE, FORCE) if atomic else (1.0, 1.0, 1.0)
    return LabelledStructure(
        Structure(raw.numbers, length * raw.positions, length * raw.cell, raw.pbc, raw.charge, raw.spin),
        float("nan") if raw.energy is None else energy * raw.energy,
        force * raw.forces,
        None if raw.virial is None else energy * raw.virial,
    )
