"""Structures to check, from anything that ASE reads or from i-PI's own trajectories."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import ase.io
import numpy as np

from ipi_driver.elements import elements_of
from ipi_driver.errors import UserError
from ipi_driver.ipi_files import TrajectoryFile
from ipi_driver.ipi_files.comment import ipi_comment
from ipi_driver.ipi_files.input import read_input
from ipi_driver.ipi_files.packed import unpacked
from ipi_driver.ipi_files.run_folder import RunFolder
from ipi_driver.ipi_files.template import conditions_of, open_directions, states_isolated
from ipi_driver.ipi_files.units import masses_of
from ipi_driver.lengths import in_angstrom
from ipi_driver.structure import FloatArray, IntArray, Structure

_THINNED = 8
"""Structures held in memory of a file of unknown length, for each that is asked for."""


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
    masses
        (n_atoms,) dalton of each structure, of isotopes where the file names them; None: natural ones.
    """

    name: str
    structures: tuple[Structure, ...]
    steps: tuple[int, ...] | None = None
    masses: tuple[FloatArray, ...] | None = None

    def sample(self, most: int) -> DataSet:
        """At most ``most`` structures, evenly spaced."""
        if len(self.structures) <= most:
            return self
        chosen = evenly(len(self.structures), most)
        masses = None if self.masses is None else tuple(self.masses[k] for k in chosen)
        return DataSet(self.name, tuple(self.structures[k] for k in chosen), None, masses)

    def conditioned(self, charge: float | None, spin: int | None) -> DataSet:
        """The structures with another charge or spin where one is given."""
        return replace(self, structures=tuple(s.conditioned(charge, spin) for s in self.structures))


def read_data_set(
    path: str | Path, pbc: bool | None = None, sample: int | None = None, part: slice | None = None
) -> DataSet:
    """Read a file, and keep little more of it in memory than what is asked for.

    Parameters
    ----------
    path
        Any format of ASE, or an i-PI trajectory of positions (its units are respected). The water data of Cheng et al.
        (``TotEnergy``, ``force``) are in bohr where their distances do not fit Å alone.
    pbc
        Periodic or isolated, whatever the file states; None: as the file states. A file of i-PI is periodic if it
        has a cell, unless its comment has ``pbc="F F F"`` or the ``driver.yaml`` beside it states that the run is of an
        isolated structure, or names a slab or wire. Charge and spin are those of that run.
    sample
        At most so many structures, evenly spaced (of a long file that i-PI did not write: within an eighth); None: all.
    part
        Snapshots to read, from ``start`` to ``stop``; None: all.

    Raises
    ------
    UserError
        If the file is missing, empty or unreadable, or holds other quantities than positions.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"no structures: {file} is not a file")
    with unpacked(file) as plain:
        read = _read_ipi if ipi_comment(plain) else _read_ase
        data = read(file, plain, sample, part)
    if not data.structures:
        after = f" after the first {part.start}" if part is not None and part.start else ""
        raise UserError(f"no structures in {file}{after}")
    if sample is not None:
        data = data.sample(sample)
    if pbc is None:
        return data
    return replace(data, structures=tuple(_with_pbc(s, pbc, file) for s in data.structures))


def spacing_of(data: DataSet, file: Path, spacing: float | None) -> float:
    """Time between snapshots in fs: ``spacing``, or i-PI's steps times the time step of the input beside ``file``.

    With multiple time stepping i-PI counts outer steps.

    Raises
    ------
    UserError
        If it is not known, or the snapshots are not equally spaced.
    """
    if spacing is not None:
        return spacing
    if data.steps is None or len(data.steps) < 2:
        raise UserError(f"the time between snapshots of {data.name} is not in the file: give --spacing FS")
    source = file.parent / "input.xml"
    time_step = read_input(source).timestep if source.is_file() else None
    if time_step is None:
        raise UserError(
            f"{file} counts steps, and no input.xml with their <timestep> lies beside it: give --spacing FS, the time "
            "between snapshots"
        )
    differences = np.diff(data.steps)
    if (differences != differences[0]).any():
        raise UserError(
            f"the snapshots of {data.name} are not equally spaced in time: give a regular trajectory"
        )
    return float(differences[0]) * time_step


def evenly(n: int, most: int) -> IntArray:
    """At most ``most`` of the numbers below n, evenly spaced."""
    return np.linspace(0, n - 1, min(n, most)).round().astype(np.int64)


def _read_ipi(file: Path, plain: Path, sample: int | None, part: slice | None) -> DataSet:
    """``plain`` has the content of ``file``, beside which the files of its run lie."""
    trajectory = TrajectoryFile(plain)
    if trajectory.quantity not in ("positions", "x_centroid"):
        raise UserError(f"{file} holds {trajectory.quantity}, expected positions")
    numbers, masses = elements_of(trajectory.symbols, file), masses_of(trajectory.symbols)
    settings = RunFolder(file.parent).settings
    pbc = np.full(3, trajectory.periodic and not states_isolated(settings, file.parent))
    if pbc.any():
        pbc &= ~open_directions(settings, file.parent)
    conditions = conditions_of(settings, file.parent)
    structures, steps = [], []
    chosen = None if sample is None else set(evenly(trajectory.n_snapshots, sample).tolist())
    snapshots = iter(trajectory) if part is None else islice(trajectory, part.start, part.stop)
    for k, snapshot in enumerate(snapshots):
        if chosen is not None and k not in chosen:
            continue
        structures.append(Structure(numbers, snapshot.values, snapshot.cell, pbc, *conditions))
        steps.append(snapshot.step)
    all_masses = (masses,) * len(structures)
    return DataSet(file.stem, tuple(structures), tuple(steps) if trajectory.timed else None, all_masses)


def _read_ase(file: Path, plain: Path, sample: int | None, part: slice | None) -> DataSet:
    try:
        snapshots = ase.io.iread(plain, index=part or slice(None))
        images = list(snapshots) if sample is None else _thinned(snapshots, _THINNED * sample)
    except Exception as error:  # ASE's readers raise anything on a malformed file
        raise UserError(f"{file} cannot be read as structures: {type(error).__name__}: {error}") from error
    images = in_angstrom(images)
    masses = tuple(np.asarray(atoms.get_masses()) for atoms in images)
    return DataSet(file.stem, tuple(Structure.from_atoms(atoms) for atoms in images), None, masses)


def _thinned(snapshots: Iterable[ase.Atoms], fewest: int) -> list[ase.Atoms]:
    """All snapshots, or every 2nd, 4th, ... such that at least ``fewest`` and less than twice as many are left."""
    kept: list[ase.Atoms] = []
    stride = 1
    for number, snapshot in enumerate(snapshots):
        if number % stride == 0:
            kept.append(snapshot)
            if len(kept) == 2 * fewest:  # their number is known only at the end of the file
                kept, stride = kept[::2], 2 * stride
    return kept


def _with_pbc(structure: Structure, pbc: bool, file: Path) -> Structure:
    if pbc and structure.volume == 0.0:
        raise UserError(f"--pbc: the structures in {file} have no cell")
    cell = structure.cell if pbc else np.zeros((3, 3))
    return replace(structure, cell=cell, pbc=np.full(3, pbc))
