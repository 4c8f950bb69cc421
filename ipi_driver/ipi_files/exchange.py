"""Runs of several systems: each on its own, and the ensembles of replica exchange.

In replica exchange the files of a system follow one trajectory, which goes through the ensembles. i-PI writes a row for
each step with a swap: the steps done before it, and for each system the number of the ensemble in which it is then. An
ensemble is what the systems have written while they were in it, as ``i-pi-remdsort`` of i-PI sorts it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.ipi_files import edit as xml
from ipi_driver.ipi_files.outputs import Run, matched
from ipi_driver.ipi_files.properties import PropertyTable
from ipi_driver.ipi_files.run_folder import RunFolder
from ipi_driver.ipi_files.xyz import TrajectoryFile, TrajectorySnapshot
from ipi_driver.structure import IntArray

OF_EXCHANGE = (
    "replica exchange: an ensemble, whose snapshots are of different trajectories; what follows one in time is left "
    "out, and the drift is that of the trajectory that begins in it"
)


def runs_of(folder: Path, systems: Sequence[str] = ()) -> list[Run]:
    """The run in a folder; of several systems each, or those with the prefixes ``systems``.

    Raises
    ------
    UserError
        If the folder is no run, has no such system, or systems write to the same files.
    """
    settings = RunFolder(folder).input
    if not systems and len(settings.systems) == 1:
        return [Run(folder)]
    kind = EnsembleRun if settings.exchanges else Run
    return [kind(folder, system=name) for name in systems or dict.fromkeys(settings.systems)]


@dataclass(frozen=True, eq=False)
class Swaps:
    """Which system is in which ensemble.

    Attributes
    ----------
    steps
        (n,) steps done before each swap.
    ensembles
        (n + 1, n_systems) ensemble of each system: at the start, and after each swap.
    """

    steps: IntArray
    ensembles: IntArray

    def system_in(self, ensemble: int, step: IntArray) -> IntArray:
        """The system that is in an ensemble when the outputs of each step are written."""
        after = np.searchsorted(self.steps, np.asarray(step) - 1, side="right")
        return np.argmax(self.ensembles == ensemble, axis=1)[after]


def read_swaps(run: RunFolder) -> Swaps:
    """The swaps of a run folder.

    Raises
    ------
    UserError
        If the file of the swaps is not there, or a row is no swap of the systems of the run.
    """
    n_systems, text = len(run.input.systems), run.input_path.read_text()
    first = (xml.value(text, "repindex") or "").strip("[] ").replace(",", " ").split()
    rows = [[-1, *map(int, first or range(n_systems))]]
    paths = [run.path / name for name in dict.fromkeys(xml.swap_names(text))]
    if not any(path.is_file() for path in paths):
        names = ", ".join(path.name for path in paths)
        raise UserError(
            f"{run.path} has no {names}, which says when the systems were exchanged: copy it there, too"
        )
    for path in filter(Path.is_file, paths):
        for line in path.read_text().splitlines(keepends=True):
            words = line.split()
            if not line.endswith("\n"):  # of a run that goes on, or was killed
                continue
            row = [int(word) for word in words if word.isdigit()]
            if len(row) != len(words) or sorted(row[1:]) != list(range(n_systems)):
                raise UserError(
                    f"{path}: expected a step and the ensemble of each of {n_systems} systems, got {line!r}"
                )
            while (
                rows[-1][0] >= row[0]
            ):  # i-PI, continued by hand from an older checkpoint, makes these again
                rows.pop()
            rows.append(row)
    table = np.array(rows, dtype=np.int64)
    return Swaps(table[1:, 0], table[:, 1:])


@dataclass(eq=False)
class EnsembleRun(Run):
    """One ensemble of replica exchange, called as the system that begins in it.

    Its snapshots and its properties are those of the systems while they are in it; the conserved quantity, which is one
    of a trajectory, is that of the system itself.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        systems = self.folder.input.systems
        self._number = systems.index(self.system or "")
        self._replicas = [
            Run(self.path, self.notes, self.prefers_centroids, name) for name in dict.fromkeys(systems)
        ]
        self.note(OF_EXCHANGE)

    @property
    def continuous(self) -> bool:
        return False

    @cached_property
    def _swaps(self) -> Swaps:
        return read_swaps(self.folder)

    @cached_property
    def tables(self) -> list[PropertyTable]:
        return [self._chosen(tables) for tables in zip(*(run.tables for run in self._replicas), strict=True)]

    def _chosen(self, tables: Sequence[PropertyTable]) -> PropertyTable:
        """The rows of an ensemble among those of the systems."""
        steps = reduce(np.intersect1d, [table.steps for table in tables])
        system = self._swaps.system_in(self._number, steps)
        rows = [np.searchsorted(table.steps, steps) for table in tables]
        columns = {}
        for name in tables[self._number].columns:
            values = np.array([table[name][row] for table, row in zip(tables, rows, strict=True)])
            columns[name] = values[self._number if name == "conserved" else system, np.arange(len(steps))]
        return PropertyTable(columns, tables[self._number].source)

    def trajectory(self, quantity: str) -> TrajectoryFile | None:
        """The snapshots of an ensemble, or None where the run writes none."""
        files = [run.trajectory(quantity) for run in self._replicas]
        found = [file for file in files if file is not None]
        return _Exchanged(found, self._number, self._swaps) if len(found) == len(files) else None


class _Exchanged(TrajectoryFile):
    """The snapshots of an ensemble from the files of the systems."""

    def __init__(self, files: Sequence[TrajectoryFile], ensemble: int, swaps: Swaps) -> None:
        own = files[ensemble]
        self.path, self.symbols, self.notes = own.path, own.symbols, []
        self.quantity, self.timed, self.periodic = own.quantity, own.timed, own.periodic
        self._files, self._ensemble, self._swaps = files, ensemble, swaps

    @property
    def n_snapshots(self) -> int:
        return min(file.n_snapshots for file in self._files)

    def __iter__(self) -> Iterator[TrajectorySnapshot]:
        self.notes.clear()
        for snapshots in matched([iter(file) for file in self._files]):
            step = np.array([snapshots[0].step])
            yield snapshots[int(self._swaps.system_in(self._ensemble, step)[0])]
        for file in self._files:
            self.notes += [note for note in file.notes if note not in self.notes]
