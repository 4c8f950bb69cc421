"""Structures to check, from anything that ASE reads or from i-PI's own trajectories."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import ase.io
import numpy as np
from ase.data import atomic_numbers

from ipi_driver.errors import UserError
from ipi_driver.observables.reading import TrajectoryFile
from ipi_driver.structure import Structure


@dataclass(frozen=True)
class DataSet:
    """Structures of one file.

    Attributes
    ----------
    name
        The file's name without its ending.
    structures
        In the order of the file.
    steps
        Simulation steps, where the file is one of i-PI's.
    """

    name: str
    structures: tuple[Structure, ...]
    steps: tuple[int, ...] | None = None

    def sample(self, most: int) -> DataSet:
        """At most ``most`` structures, evenly spaced."""
        if len(self.structures) <= most:
            return self
        chosen = np.linspace(0, len(self.structures) - 1, most).round().astype(int)
        return DataSet(self.name, tuple(self.structures[k] for k in chosen))

    def part(self, skip: int, most: int) -> DataSet:
        """At most ``most`` structures after the first ``skip``."""
        chosen = slice(skip, skip + most)
        if not self.structures[chosen]:
            raise UserError(f"{self.name} holds {len(self.structures)} frames, none after the first {skip}")
        return DataSet(self.name, self.structures[chosen], None if self.steps is None else self.steps[chosen])


def read_data_set(path: str | Path, pbc: bool | None = None) -> DataSet:
    """Read a file.

    Parameters
    ----------
    path
        Any format of ASE, or an i-PI trajectory of positions (its units are respected).
    pbc
        Periodic or isolated, whatever the file says; None: as it says. An i-PI trajectory does not say:
        periodic.

    Raises
    ------
    UserError
        If the file is missing, empty or unreadable, or holds other quantities than positions.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"no structures: {file} is not a file")
    data = _read_ipi(file) if _is_ipi(file) else _read_ase(file)
    if not data.structures:
        raise UserError(f"no structures in {file}")
    if pbc is None:
        return data
    return replace(data, structures=tuple(_with_pbc(s, pbc, file) for s in data.structures))


def spacing_of(data: DataSet, spacing: float | None, time_step: float) -> float:
    """Time between frames in fs: ``spacing``, or from i-PI's step numbers.

    Raises
    ------
    UserError
        If it is not known, or the frames are not equally spaced.
    """
    if spacing is not None:
        return spacing
    if data.steps is None or len(data.steps) < 2:
        raise UserError(f"the time between frames of {data.name} is not in the file: give --spacing FS")
    differences = np.diff(data.steps)
    if (differences != differences[0]).any():
        raise UserError(
            f"the frames of {data.name} are not equally spaced in time: give a regular trajectory"
        )
    return float(differences[0]) * time_step


def _is_ipi(file: Path) -> bool:
    with file.open("rb") as stream:
        head = stream.readline(80), stream.readline(400)
    # a structure to start from has no step, but says its units
    return b"CELL" in head[1] and (b"Step:" in head[1] or b"positions{" in head[1])


def _read_ipi(file: Path) -> DataSet:
    trajectory = TrajectoryFile(file)
    if trajectory.quantity not in ("positions", "x_centroid"):
        raise UserError(f"{file} holds {trajectory.quantity}, expected positions")
    try:
        numbers = np.array([atomic_numbers["H" if s in ("D", "T") else s] for s in trajectory.symbols])
    except KeyError as error:
        raise UserError(f"{file}: {error} is no chemical element") from None
    structures, steps = [], []
    for frame in trajectory:
        structures.append(Structure(numbers, frame.values, frame.cell, np.full(3, bool(frame.cell.any()))))
        steps.append(frame.step)
    return DataSet(file.stem, tuple(structures), tuple(steps) if trajectory.timed else None)


def _read_ase(file: Path) -> DataSet:
    try:
        images = list(ase.io.iread(file))
    except Exception as error:  # ASE's readers raise anything on a malformed file
        raise UserError(f"{file} cannot be read as structures: {type(error).__name__}: {error}") from error
    return DataSet(file.stem, tuple(Structure.from_atoms(atoms) for atoms in images))


def _with_pbc(structure: Structure, pbc: bool, file: Path) -> Structure:
    if pbc and structure.volume == 0.0:
        raise UserError(f"--pbc: the structures in {file} have no cell")
    cell = structure.cell if pbc else np.zeros((3, 3))
    return Structure(structure.numbers, structure.positions, cell, np.full(3, pbc))
