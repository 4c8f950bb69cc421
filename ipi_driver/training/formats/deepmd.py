"""Folders of DeePMD-kit: ``type.raw``, ``type_map.raw`` and ``set.*/{coord,energy,force,box,virial}.npy``, in eV and Å.

The arrays may stand as text in the folder itself, ``coord.raw``, ``energy.raw``, ...; a file ``nopbc`` means that the
system is not periodic. In the mixed form each set holds ``real_atom_types.npy``. The virial is -dE/dstrain in eV.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from ipi_driver.errors import UserError
from ipi_driver.structure import FloatArray, IntArray
from ipi_driver.training.formats.raw import FileContent, RawSnapshot, check_finite


def read_deepmd(folder: Path, need_energy: bool = True) -> FileContent:
    """Snapshots of all systems in ``folder`` and the folders in it, in the order of their names."""
    systems = sorted(path.parent for path in folder.rglob("type.raw"))
    if not systems:
        raise UserError(f"{folder} is a folder without type.raw; expected a data file or a DeePMD folder")
    snapshots = [s for system in systems for s in _read_system(system, need_energy)]
    return FileContent("DeePMD", tuple(snapshots))


def _read_system(folder: Path, need_energy: bool) -> list[RawSnapshot]:
    types = _table(folder / "type.raw", np.int64).reshape(-1)
    symbols = _symbols(folder)
    sets = sorted(path for path in folder.glob("set.*") if path.is_dir())
    found: list[RawSnapshot] = []
    for place in sets or [folder]:
        found += _read_set(place, folder, types, symbols, len(found), need_energy)
    return found


def _symbols(folder: Path) -> list[str]:
    path = folder / "type_map.raw"
    if not path.is_file():
        raise UserError(
            f"{folder} has no type_map.raw; write the chemical symbol of each type into it, one a line"
        )
    symbols = path.read_text().split()
    for symbol in symbols:
        if atomic_numbers.get(symbol, 0) <= 0:
            raise UserError(f"{path}: unknown element {symbol!r}; expected a chemical symbol")
    return symbols


def _read_set(
    place: Path, folder: Path, types: IntArray, symbols: list[str], first: int, need_energy: bool
) -> list[RawSnapshot]:
    """Snapshots of one set; ``first`` is the number of the first one in its system."""
    n_atoms = len(types)
    coordinates = _array(place, "coord", 3 * n_atoms)
    forces = _array(place, "force", 3 * n_atoms)
    energies, boxes, virials = (_array(place, name, size) for name, size in _OPTIONAL)
    for name, array in (("coord", coordinates), ("force", forces)):
        if array is None:
            raise UserError(f"{place} has no {name}.npy or {name}.raw")
    assert coordinates is not None
    assert forces is not None
    if need_energy and energies is None:
        raise UserError(f"{place} has no energy.npy or energy.raw")
    isolated = (folder / "nopbc").exists()
    if boxes is None and not isolated:
        raise UserError(
            f"{place} has no box.npy or box.raw; add it, or a file `nopbc` if the system has no cell"
        )
    n = len(coordinates)
    for name, array in (("force", forces), ("energy", energies), ("box", boxes), ("virial", virials)):
        if array is not None and len(array) != n:
            raise UserError(f"{place}: {name} has {len(array)} snapshots, coord has {n}")
    kinds = _kinds(place, types, n)
    if kinds.size and (kinds.min() < 0 or kinds.max() >= len(symbols)):
        raise UserError(
            f"{folder}: type {kinds.max()} is not in type_map.raw, which has {len(symbols)} symbols"
        )
    table = np.array([atomic_numbers[symbol] for symbol in symbols], dtype=np.int64)
    return [
        RawSnapshot(
            numbers=table[kinds[k]],
            positions=coordinates[k].reshape(-1, 3),
            cell=np.zeros((3, 3)) if isolated or boxes is None else boxes[k].reshape(3, 3),
            pbc=np.full(3, not isolated),
            energy=None if energies is None else float(energies[k, 0]),
            forces=forces[k].reshape(-1, 3),
            virial=None if virials is None else virials[k].reshape(3, 3),
            atomic=False,
            where=f"{folder}, structure {first + k}",
        )
        for k in range(n)
    ]


_OPTIONAL = (("energy", 1), ("box", 9), ("virial", 9))


def _kinds(place: Path, types: IntArray, n: int) -> IntArray:
    """(n, n_atoms) index of the type of each atom."""
    mixed = place / "real_atom_types.npy"
    if not mixed.is_file():
        return np.tile(types, (n, 1))
    kinds = np.asarray(_load(mixed), dtype=np.int64)
    if kinds.shape != (n, len(types)):
        raise UserError(f"{mixed} must have shape {(n, len(types))}, got {kinds.shape}")
    return kinds


def _array(place: Path, name: str, size: int) -> FloatArray | None:
    """(n_snapshots, size) finite numbers, or None where neither file is there."""
    binary, text = place / f"{name}.npy", place / f"{name}.raw"
    if binary.is_file():
        path, array = binary, np.asarray(_load(binary))
    elif text.is_file():
        path, array = text, np.asarray(_table(text, np.float64))
    else:
        return None
    if array.dtype.kind not in "fiu":
        raise UserError(f"{path} must hold numbers, got {array.dtype}")
    if array.size % size or (array.ndim == 2 and array.shape[1] != size):
        raise UserError(f"{path} must have {size} numbers per snapshot, got shape {array.shape}")
    array = array.reshape(-1, size).astype(np.float64)
    check_finite(array, path.name, str(place))
    return array


def _load(path: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from error


def _table(path: Path, kind: type) -> np.ndarray:
    try:
        return np.loadtxt(path, dtype=kind, ndmin=1)
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from error
