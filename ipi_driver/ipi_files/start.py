"""Starting structures: from any file to the xyz that i-PI reads."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import ase
import ase.cell
import ase.io
import numpy as np
from ase.data import atomic_masses

from ipi_driver.elements import ISOTOPES, elements_of
from ipi_driver.errors import UserError
from ipi_driver.ipi_files.comment import ipi_comment
from ipi_driver.ipi_files.packed import unpacked
from ipi_driver.ipi_files.run_folder import RunFolder
from ipi_driver.ipi_files.template import conditions_of, open_directions, states_isolated
from ipi_driver.ipi_files.units import masses_of
from ipi_driver.ipi_files.xyz import TrajectoryFile
from ipi_driver.lengths import in_angstrom
from ipi_driver.structure import BoolArray

CONDITIONS = ("charge", "spin", "spin_multiplicity")
"""What is kept of the `info` of a structure."""

VACUUM = 30.0
"""Å: edge of the cell that i-PI is given around an isolated molecule; the client does not see it."""


_SAME_MASS = 0.02
"""Relative difference of two masses of one isotope: tables differ, and C and C13 by 8 %."""

_LABELS = "labels"
"""Array of the labels of atoms, which for i-PI may be isotopes."""


def read_start(path: Path, periodic: bool, whatever: bool = False) -> ase.Atoms:
    """The last snapshot of a structure or trajectory file: i-PI's xyz, or anything that ASE reads.

    Parameters
    ----------
    path
        The file.
    periodic
        Whether the input that it starts is periodic.
    whatever
        Overrides the pbc of the file.

    Returns
    -------
    ase.Atoms
        Periodic in the directions of the file where that states them (a slab stays one), else in all or none. Of a
        file in a run folder of this package charge, spin and the periodic directions are those of that run.

    Raises
    ------
    UserError
        If the file cannot be read, states that it is periodic where the input is not, or the other way round, or has no
        cell where one is needed.
    """
    with unpacked(path) as plain:
        comment = ipi_comment(plain)
        atoms = _from_ase(plain) if comment is None else _from_ipi(plain)
    if comment is not None:  # files of i-PI hold no pbc, but where somebody has written that there is none
        atoms.info.update(conditions_of_run(path))
        of_run = pbc_of_run(path)
        atoms.pbc = (periodic if of_run is None else of_run) & (not comment.isolated)
    directions = " ".join("FT"[int(direction)] for direction in atoms.pbc)
    if whatever:
        atoms.pbc = periodic
    elif atoms.pbc.any() and not periodic:
        raise UserError(
            f"{path} is periodic (pbc {directions}), and the input is for an isolated structure: take a periodic input "
            "(liquid-nvt-raw, ...), or give --no-pbc where its cell is only a box around a molecule"
        )
    elif periodic and not atoms.pbc.any() and atoms.cell.rank == 3:
        raise UserError(
            f"{path} is isolated (pbc {directions}), and the input is periodic: take an input for isolated structures "
            "(gas-nve, gas-nvt), or give --pbc where the cell of the file is to be repeated"
        )
    if not periodic:
        atoms.cell = [VACUUM] * 3
    elif atoms.cell.rank < 3:
        raise UserError(f"{path} has no cell, and the input is periodic; give a file with a cell")
    return atoms


def write_start(atoms: ase.Atoms, path: Path) -> None:
    """Write the xyz of i-PI, which builds its cell from lengths and angles, the first vector along x.

    Lengths and angles mean a right-handed cell: of a left-handed one two vectors are exchanged, which is the same
    crystal, where turning it into standard form would be its mirror image. Both of the two are periodic or
    neither, so that ``pbc`` stays that of the file.
    """
    cell = atoms.cell
    if cell.handedness < 0:
        i, j = next((i, j) for i, j in ((0, 1), (0, 2), (1, 2)) if atoms.pbc[i] == atoms.pbc[j])
        order = [0, 1, 2]
        order[i], order[j] = j, i
        cell = ase.cell.Cell(np.array(cell)[order])
    standard, rotation = cell.standard_form()
    positions = atoms.positions @ rotation.T
    parameters = " ".join(f"{x:.8f}" for x in standard.cellpar())
    labels = atoms.arrays.get(_LABELS, atoms.symbols)
    rows = [f"{s} {x:.8f} {y:.8f} {z:.8f}" for s, (x, y, z) in zip(labels, positions, strict=True)]
    header = f"# CELL(abcABC): {parameters} positions{{angstrom}} cell{{angstrom}}"
    path.write_text("\n".join([str(len(atoms)), header, *rows]) + "\n")


def conditions_of_run(path: Path) -> dict[str, float | int]:
    """Charge and spin of the run in whose folder a file lies, where it has any; i-PI's files have no place for them."""
    run = RunFolder(path.parent)
    charge, spin = conditions_of(run.settings, run.path) if run.is_run else (None, None)
    return {name: value for name, value in (("charge", charge), ("spin", spin)) if value is not None}


def pbc_of_run(path: Path) -> BoolArray | None:
    """(3,) periodic directions of the run in whose folder a file lies; None where there is none, or it states none."""
    run = RunFolder(path.parent)
    settings = run.settings if run.is_run else {}
    if all(settings.get(key) is None for key in ("pbc", "structure", "input")):
        return None
    return ~(open_directions(settings, run.path) | states_isolated(settings, run.path))


def _from_ipi(path: Path) -> ase.Atoms:
    trajectory = TrajectoryFile(path)
    if trajectory.quantity not in ("positions", "x_centroid"):
        raise UserError(f"{path} holds {trajectory.quantity}, expected positions")
    (last,) = deque(trajectory, maxlen=1)  # not all of a long one at once
    atoms = ase.Atoms(elements_of(trajectory.symbols, path), last.values, cell=last.cell, pbc=True)
    atoms.set_array(_LABELS, np.array(trajectory.symbols))
    return atoms


def _from_ase(path: Path) -> ase.Atoms:
    try:
        atoms = ase.io.read(path, index=-1)
    except Exception as error:  # ASE's readers raise many kinds; all of them mean an unreadable file
        raise UserError(f"structure file {path} cannot be read: {type(error).__name__}: {error}") from error
    if not isinstance(atoms, ase.Atoms):
        raise UserError(f"structure file {path} holds no structure")
    (atoms,) = in_angstrom([atoms])
    info = {key: atoms.info[key] for key in CONDITIONS if key in atoms.info}
    kept = ase.Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=info)
    if atoms.has("masses"):
        kept.set_array(_LABELS, np.array(_isotopes(atoms, path)))
    return kept


def _isotopes(atoms: ase.Atoms, path: Path) -> list[str]:
    """Labels of atoms by their masses: those of an isotope where it is not the natural mass."""
    labels = list(atoms.symbols)
    natural = atomic_masses[atoms.numbers]
    for k in np.flatnonzero(np.abs(atoms.get_masses() - natural) > _SAME_MASS * natural):
        mass = atoms.get_masses()[k]
        known = [label for label, number in ISOTOPES.items() if number == atoms.numbers[k]]
        near = [label for label in known if abs(masses_of([label])[0] - mass) <= _SAME_MASS * mass]
        if not near:
            raise UserError(
                f"{path}: atom {k} ({labels[k]}) has a mass of {mass:g} dalton, which is of no isotope that i-PI has a "
                "label for: take the masses out of the file, and set <masses> in <initialize> of the input"
            )
        labels[k] = near[0]
    return labels
