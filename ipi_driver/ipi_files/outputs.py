"""A run folder: i-PI's input, its outputs found through the <output> section, snapshots matched by step."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np

from ipi_driver.elements import elements_of
from ipi_driver.errors import UserError
from ipi_driver.ipi_files.binary_trajectory import BinaryTrajectory
from ipi_driver.ipi_files.input import InputSettings, OutputFile, checkpoint_masses, read_system
from ipi_driver.ipi_files.properties import PropertyTable, read_properties
from ipi_driver.ipi_files.run_folder import RunFolder
from ipi_driver.ipi_files.template import conditions_of, open_directions, states_isolated
from ipi_driver.ipi_files.units import masses_of
from ipi_driver.ipi_files.xyz import TrajectoryFile, TrajectorySnapshot
from ipi_driver.neighbors import roomy_cell
from ipi_driver.structure import BoolArray, FloatArray, IntArray, Structure

_ROOM = 100.0
"""Å in which atoms may move beyond those of the first snapshot, along a direction without images."""

CENTROIDS = {
    "positions": "x_centroid",
    "velocities": "v_centroid",
    "momenta": "p_centroid",
    "forces": "f_centroid",
}


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Quantities of one step.

    Attributes
    ----------
    step
        Simulation step.
    cell
        (3, 3) rows, Å; zeros of an isolated structure.
    values
        Quantity to (n_atoms, 3): positions Å, velocities Å/fs, forces eV/Å.
    """

    step: int
    cell: FloatArray
    values: dict[str, FloatArray]

    @property
    def positions(self) -> FloatArray:
        return self.values["positions"]

    @property
    def velocities(self) -> FloatArray:
        return self.values["velocities"]

    @property
    def forces(self) -> FloatArray:
        return self.values["forces"]


@dataclass(eq=False)
class Run:
    """A folder in which i-PI ran.

    Attributes
    ----------
    path
        The folder.
    notes
        What a reader of the results should know about the files; grows while they are read.
    prefers_centroids
        Whether centroids are read where there are several beads and the run wrote them.
    system
        Prefix of the system to read where the run has several; None: it must have one.

    Raises
    ------
    UserError
        If there is no i-PI input in the folder, or more than one and none is called input.xml; if it has several
        systems.
    """

    path: Path
    notes: list[str] = field(default_factory=list)
    prefers_centroids: bool = True
    system: str | None = None

    def __post_init__(self) -> None:
        self.path = Path(self.path)
        if not self.path.is_dir():
            raise UserError(f"no run folder {self.path}: give the folder in which i-PI wrote its output")
        self.folder = RunFolder(self.path)
        self.input_path = self.folder.input_path
        self.settings: InputSettings = self.folder.input
        if self.system is not None:
            self.settings = read_system(self.input_path, self.system)
        elif len(self.settings.systems) > 1:
            names = ", ".join(name or "without prefix" for name in self.settings.systems)
            raise UserError(
                f"{self.input_path} has {len(self.settings.systems)} systems ({names}): read one of them by its prefix"
            )
        if self.settings.n_beads > 1:
            n_beads = self.settings.n_beads
            self.note(
                f"{n_beads} beads: centroids where the run wrote them, else positions and forces of the first; pair "
                "correlations and orientations of centroids are sharper than those of the particles"
            )

    @property
    def name(self) -> str:
        """Of the folder, with the prefix of the system where it has several."""
        name = self.path.resolve().name
        return f"{name}:{self.system}" if self.system else name

    @property
    def continuous(self) -> bool:
        """Whether the snapshots follow one trajectory."""
        return True

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    @property
    def driver(self) -> dict[str, Any]:
        """Content of driver.yaml, empty where the run has none."""
        return self.folder.settings

    @cached_property
    def isolated(self) -> bool:
        """Whether the model sees the atoms without images; the cell in the files of i-PI is then none of theirs."""
        return states_isolated(self.driver, self.path)

    @cached_property
    def open_directions(self) -> BoolArray:
        """(3,) along which cell vectors a slab or wire has no images."""
        return open_directions(self.driver, self.path)

    @cached_property
    def _room(self) -> FloatArray:
        """(3, 3) what stands for the cell vectors along which there are no images, Å: far beyond all atoms."""
        first = next(iter(self._require("positions")[1]))
        start = Structure(self.numbers, first.values, first.cell, ~self.open_directions)
        return roomy_cell(start, _ROOM / 2.0)

    @cached_property
    def conditions(self) -> tuple[float | None, int | None]:
        """Charge and multiplicity that the model was given; None where the run states none."""
        return conditions_of(self.driver, self.path)

    @cached_property
    def properties(self) -> PropertyTable:
        """The columns of the first property file, and of the others that have the same steps."""
        columns = dict(self.tables[0].columns)
        for table in self.tables[1:]:
            if "step" in table and "step" in columns and np.array_equal(table["step"], columns["step"]):
                columns |= {name: values for name, values in table.columns.items() if name not in columns}
        return PropertyTable(columns, self.tables[0].source)

    def properties_with(self, *names: str) -> PropertyTable:
        """Step and these columns, whichever property files hold them, at the steps that those files share.

        Raises
        ------
        UserError
            If no property file of the run has one of them.
        """
        if all(name in self.properties for name in ("step", *names)):
            return self.properties
        holding = []
        for name in names:
            table = next((t for t in self.tables if name in t and "step" in t), None)
            if table is None:
                sources = ", ".join(Path(t.source).name for t in self.tables)
                raise UserError(
                    f"{self.path}: no column `{name}` beside a column `step` in {sources}: add both to <properties> of "
                    "the input"
                )
            holding.append(table)
        shared = reduce(np.intersect1d, [table.steps for table in holding])
        columns = {"step": shared.astype(np.float64)}
        for name, table in zip(names, holding, strict=True):
            columns[name] = table[name][np.searchsorted(table.steps, shared)]
        return PropertyTable(columns, ", ".join(dict.fromkeys(table.source for table in holding)))

    @cached_property
    def tables(self) -> list[PropertyTable]:
        """The property files that exist, in the order of the input; `UserError` where there is none."""
        outputs = [output for output in self.settings.outputs if output.kind == "properties"]
        tables = [
            read_properties(self.path / output.stem, output.columns)
            for output in outputs
            if (self.path / output.stem).is_file()
        ]
        if not tables:
            raise UserError(
                f"{self.path} has no property file: add <properties> with step and conserved to the input"
            )
        for table in tables:
            for note in table.notes:
                self.note(note)
        return tables

    @cached_property
    def timestep(self) -> float:
        """Length of a step in fs: from the input, else from the columns step and time."""
        if self.settings.timestep is not None:
            return self.settings.timestep
        table = self.properties_with("time")
        steps, times = table["step"], table["time"]
        if len(steps) < 2:
            raise UserError(
                f"{self.input_path} has no <timestep>: expected one, or two rows of step and time"
            )
        return float((times[-1] - times[0]) / (steps[-1] - steps[0]))

    def trajectory(self, quantity: str) -> TrajectoryFile | None:
        """The file of a quantity (its centroid where there are beads), or None where the run writes none.

        A bead's positions and forces are distributed as those of the quantum particle; its velocity is that of a
        temperature n_beads times as high, and does not stand in for the centroid's.
        """
        wanted = [quantity]
        if self.settings.n_beads > 1 and quantity in CENTROIDS and self.prefers_centroids:
            wanted.insert(0, CENTROIDS[quantity])
            if quantity in ("velocities", "momenta"):
                wanted.remove(quantity)
        for name in wanted:
            for output in self.settings.outputs:
                if output.kind == "trajectory" and name in (output.quantity, output.name):
                    path = self._file_of(output)
                    if path is not None:
                        return BinaryTrajectory(path) if output.format == "bin" else TrajectoryFile(path)
        return None

    def extras(self) -> list[Path]:
        """Existing files of extras, in the order of the input."""
        outputs = [
            o for o in self.settings.outputs if o.kind == "trajectory" and o.quantity.startswith("extras")
        ]
        paths = [path for output in outputs for path in sorted(self.path.glob(output.stem + "*"))]
        return [path for path in paths if path.is_file()]

    def has(self, quantity: str) -> bool:
        if self.trajectory(quantity) is not None:
            return True
        return quantity == "velocities" and self.trajectory("momenta") is not None

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        return self._require("positions")[1].symbols

    @cached_property
    def numbers(self) -> IntArray:
        """(n_atoms,) atomic numbers; isotope labels (D, O18, ...) count as their element."""
        return elements_of(self.symbols, self.path)

    @cached_property
    def masses(self) -> FloatArray:
        """(n_atoms,) dalton: what the input or i-PI's RESTART sets, else i-PI's table of labels."""
        candidates = [self.settings.masses]
        restart = self.path / "RESTART"
        if self.settings.masses is None and restart.is_file():
            systems = self.folder.input.systems
            candidates.append(checkpoint_masses(restart, systems.index(self.system or systems[0])))
        for masses in candidates:
            if masses is not None and len(masses) == len(self.symbols):
                return masses
        return masses_of(self.symbols)

    @cached_property
    def mobile(self) -> BoolArray:
        """(n_atoms,) whether an atom is free to move.

        Raises
        ------
        UserError
            If an atom is held along some directions only.
        """
        held = np.bincount(self.settings.fixed // 3, minlength=len(self.symbols))
        if ((held > 0) & (held < 3)).any():
            raise UserError(f"{self.input_path} holds single coordinates of atoms (<fixatoms_dof>)")
        return np.asarray(held == 0)

    def snapshots(
        self, quantities: Sequence[str] = ("positions",), stride: int = 1
    ) -> Generator[Snapshot, None, None]:
        """Snapshots that hold every quantity, matched by step, in the order of time.

        Parameters
        ----------
        quantities
            Of positions, velocities (also from momenta), forces.
        stride
            Use every stride-th common snapshot.

        Raises
        ------
        UserError
            If the run wrote no such file, the files hold different atoms, or no step is common.
        """
        files = [self._require(quantity) for quantity in quantities]
        sizes = {file.n_atoms for _, file in files}
        if len(sizes) > 1:
            raise UserError(f"{self.path}: trajectories hold different numbers of atoms, got {sorted(sizes)}")
        n_common = 0
        try:
            for snapshots in matched([iter(file) for _, file in files]):
                if n_common % stride == 0:
                    values = {
                        wanted: snapshot.values / self.masses[:, None]
                        if name == "momenta"
                        else snapshot.values
                        for wanted, (name, _), snapshot in zip(quantities, files, snapshots, strict=True)
                    }
                    cell = np.zeros((3, 3)) if self.isolated else snapshots[0].cell
                    if self.open_directions.any():
                        cell = np.where(self.open_directions[:, None], self._room, cell)
                    yield Snapshot(snapshots[0].step, cell, values)
                n_common += 1
        finally:
            for _, file in files:
                for note in file.notes:
                    self.note(note)
        if n_common == 0:
            names = ", ".join(file.path.name for _, file in files)
            raise UserError(
                f"{self.path}: no common step in {names}: write them with strides that divide each other"
            )

    def n_snapshots(self, quantity: str = "positions") -> int:
        """Number of snapshots in a trajectory, from its size (for progress bars; exact for i-PI's layout)."""
        return self._require(quantity)[1].n_snapshots

    def of_one_bead(self) -> Run:
        """The same run, its positions and forces those of one bead.

        Raises
        ------
        UserError
            If it did not write both, or of different beads.
        """
        run = type(self)(self.path, self.notes, prefers_centroids=False, system=self.system)
        names = [run._require(quantity)[1].path.stem for quantity in ("positions", "forces")]
        beads = [name.rpartition("_")[2] for name in names]
        if beads[0] != beads[1]:
            raise UserError(f"{self.path}: positions of bead {beads[0]} and forces of bead {beads[1]}")
        return run

    def _require(self, quantity: str) -> tuple[str, TrajectoryFile]:
        names = (quantity, "momenta") if quantity == "velocities" else (quantity,)
        for name in names:
            file = self.trajectory(name)
            if file is not None:
                return name, file
        name, of_beads = quantity, ""
        if self.settings.n_beads > 1 and quantity == "velocities":
            name, of_beads = (
                CENTROIDS[quantity],
                " of the centroids (those of beads have another temperature)",
            )
        raise UserError(
            f"{self.path} has no {quantity} trajectory{of_beads}: add "
            f"<trajectory filename='{name}' stride='10'> {name} </trajectory> to <output> and run again"
        )

    def _file_of(self, output: OutputFile) -> Path | None:
        if output.format not in ("xyz", "ase", "bin", ""):
            self.note(f"{output.stem}: format {output.format} is not read, expected xyz, ase or bin")
            return None
        ending = "bin" if output.format == "bin" else "(ext)?xyz"
        # of a bead, or of what has none; `pos` is not `pos_start`
        name = re.compile(re.escape(Path(output.stem).name) + rf"(_\d+)?\.{ending}")
        candidates = sorted((self.path / output.stem).parent.iterdir())
        return next((path for path in candidates if path.is_file() and name.fullmatch(path.name)), None)


def matched(streams: list[Iterator[TrajectorySnapshot]]) -> Iterator[list[TrajectorySnapshot]]:
    """Snapshots of equal step from streams whose steps increase."""
    snapshots = [next(stream, None) for stream in streams]
    while True:
        complete = [snapshot for snapshot in snapshots if snapshot is not None]
        if len(complete) < len(snapshots):
            return
        latest = max(snapshot.step for snapshot in complete)
        if all(snapshot.step == latest for snapshot in complete):
            yield complete
            snapshots = [next(stream, None) for stream in streams]
        else:
            snapshots = [
                next(stream, None) if snapshot.step < latest else snapshot
                for stream, snapshot in zip(streams, complete, strict=True)
            ]
