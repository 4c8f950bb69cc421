"""Extended XYZ, as ASE writes it, and with the names of the water data of Cheng et al., PNAS 116, 1110 (2019).

The second has ``TotEnergy`` in the comment and ``force`` columns. The original files are in bohr and hartree, files
that others redistribute in eV and Å.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.io.extxyz import XYZError, read_xyz
from ase.stress import voigt_6_to_full_3x3_stress

from ipi_driver.errors import UserError
from ipi_driver.lengths import NATIVE_ENERGY, NATIVE_FORCES, is_native
from ipi_driver.structure import FloatArray, conditions_of
from ipi_driver.training.formats.raw import FileContent, LabelKeys, RawSnapshot, numbers_of

_DEFAULT = LabelKeys()


def read_extxyz(
    path: Path, lines: Sequence[str], keys: LabelKeys = _DEFAULT, need_energy: bool = True
) -> FileContent:
    """Snapshots of the ``lines`` of a file.

    Parameters
    ----------
    path
        For the messages.
    lines
        With their line ends.
    keys
        Names of the labels.
    need_energy
        Whether a snapshot without an energy is an error.
    """
    snapshots = []
    for number, text in enumerate(_cut(path, lines)):
        where = f"{path}, structure {number}"
        snapshots.append(_snapshot(_parse(text, where), keys, need_energy, where))
    native = any(s.atomic for s in snapshots)
    names = f" with {NATIVE_ENERGY} and {NATIVE_FORCES}" if native else ""
    return FileContent(f"extended XYZ{names}", tuple(snapshots))


def _cut(path: Path, lines: Sequence[str]) -> Iterator[str]:
    """Text of each snapshot; they are cut here so that every message can name the snapshot."""
    start = number = 0
    while start < len(lines):
        header = lines[start].strip()
        if not header and not any(line.strip() for line in lines[start:]):
            return
        where = f"{path}, structure {number} (line {start + 1})"
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
        start, number = stop, number + 1


def _parse(text: str, where: str) -> ase.Atoms:
    """One snapshot by ASE's reader."""
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


def _snapshot(atoms: ase.Atoms, keys: LabelKeys, need_energy: bool, where: str) -> RawSnapshot:
    found: dict[str, Any] = {**atoms.info, **atoms.arrays}
    if atoms.calc is not None:  # where ASE's reader puts the names that it knows
        found |= atoms.calc.results
    energy_key, forces_key = keys.energy, keys.forces
    default = (energy_key, forces_key) == (_DEFAULT.energy, _DEFAULT.forces)
    if default and energy_key not in found and forces_key not in found and is_native(atoms):
        energy_key, forces_key = NATIVE_ENERGY, NATIVE_FORCES
    energy = None
    if need_energy or energy_key in found:
        energy = float(_label(found, energy_key, "energy_key", [()], where))
    charge, spin = conditions_of(atoms.info)
    return RawSnapshot(
        numbers=np.asarray(atoms.numbers, dtype=np.int64),
        positions=np.asarray(atoms.positions),
        cell=np.array(atoms.cell),
        pbc=np.asarray(atoms.pbc),
        energy=energy,
        forces=_label(found, forces_key, "forces_key", [(len(atoms), 3)], where),
        virial=_virial(found, keys, atoms, where),
        atomic=(energy_key, forces_key) == (NATIVE_ENERGY, NATIVE_FORCES),
        where=where,
        charge=charge,
        spin=spin,
    )


def _virial(found: dict[str, Any], keys: LabelKeys, atoms: ase.Atoms, where: str) -> FloatArray | None:
    """(3, 3) virial from a virial, or from a stress dE/dstrain / volume."""
    if keys.virial is not None:
        return _label(found, keys.virial, "virial_key", [(3, 3), (9,)], where).reshape(3, 3)
    if keys.stress is None:
        return None
    stress = _label(found, keys.stress, "stress_key", [(6,), (3, 3), (9,)], where)
    volume = abs(float(np.linalg.det(np.array(atoms.cell))))
    if volume == 0.0:
        raise UserError(f"{where}: a stress (`stress_key: {keys.stress}`) needs a cell with a volume")
    full = voigt_6_to_full_3x3_stress(stress) if stress.shape == (6,) else stress.reshape(3, 3)
    return np.asarray(-volume * full)


def _label(
    found: dict[str, Any], key: str, option: str, shapes: list[tuple[int, ...]], where: str
) -> FloatArray:
    if key not in found:
        known = ", ".join(sorted(k for k in found if k not in ("numbers", "positions"))) or "nothing"
        raise UserError(f"{where}: no {key!r} (`{option}`); the structure has {known}")
    return numbers_of(found[key], repr(key), shapes, where)
