"""Streaming reader of i-PI trajectories in xyz format (one file, one quantity).

`ipi_driver.ipi_files.comment` reads the comment line of each snapshot. The numbers are parsed here and not with i-PI's
own reader, which is slower and needs a Python object for each number. An extended xyz file (``Lattice="..."``) from
elsewhere is read as positions in Å, its snapshots counted from 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.ipi_files.comment import parse_comment
from ipi_driver.ipi_files.fixed_width import LINE_LENGTH, parse_fixed_width
from ipi_driver.structure import FloatArray


@dataclass(frozen=True, eq=False)
class TrajectorySnapshot:
    """One snapshot of one quantity.

    Attributes
    ----------
    step
        Simulation step, as i-PI counts it.
    values
        (n_atoms, 3): Å, Å/fs, dalton Å/fs or eV/Å.
    cell
        (3, 3) rows, Å; zeros where the file gives none.
    """

    step: int
    values: FloatArray
    cell: FloatArray


class _Malformed(UserError):
    """A malformed snapshot."""


class TrajectoryFile:
    """An i-PI xyz file, iterated snapshot by snapshot; iterating again starts from the first snapshot.

    Attributes
    ----------
    path
        The file.
    quantity
        positions, velocities, momenta, forces, ...
    timed
        Whether the first snapshot has a step; else snapshots are counted.
    periodic
        Whether the first snapshot has a cell and is not marked as isolated.
    symbols
        n_atoms labels of the first snapshot.
    notes
        What a reader of the results should know (truncated last snapshot, repeated steps); filled while
        iterating.

    Raises
    ------
    UserError
        If the file holds no complete snapshot, a snapshot is malformed, or its unit is unknown.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.notes: list[str] = []
        if not self.path.is_file():
            raise UserError(
                f"no trajectory {self.path}: check that the run has started and its <output> section"
            )
        with self.path.open("rb") as stream:
            header, block = self._read_header(stream), b""
            if header is not None:
                n_atoms, comment = header
                first = parse_comment(comment, self.path)
                self.quantity, self.timed, self.periodic = (
                    first.quantity,
                    first.step is not None,
                    first.periodic,
                )
                self._column = first.column
                block = b"".join(islice(stream, n_atoms))  # the number may be anything
        if header is None or block.count(b"\n") < header[0]:
            raise UserError(
                f"{self.path} holds no complete snapshot: let the run write at least one and repeat"
            )
        rows = [line.split() for line in block.splitlines()]
        if not all(rows):
            raise UserError(
                f"{self.path}: the first snapshot is malformed, expected `label x y z` on each line"
            )
        self.symbols: tuple[str, ...] = tuple(row[0].decode(errors="replace") for row in rows)

    @property
    def n_atoms(self) -> int:
        return len(self.symbols)

    @property
    def size(self) -> int:
        """Bytes on disk, for progress bars."""
        return self.path.stat().st_size

    @property
    def n_snapshots(self) -> int:
        """Number of snapshots, from the size of the file (exact for i-PI's layout)."""
        with self.path.open("rb") as stream:
            first = sum(len(stream.readline()) for _ in range(self.n_atoms + 2))
        return max(1, self.size // first)

    def __iter__(self) -> Iterator[TrajectorySnapshot]:
        self.notes.clear()
        last_step, n_read, n_repeated, n_cut = -1, 0, 0, 0
        with self.path.open("rb", buffering=1 << 20) as stream:
            header = self._read_header(stream)
            while header is not None:
                n_atoms, comment = header
                if n_atoms != self.n_atoms:
                    if not str(n_atoms).endswith(str(self.n_atoms)):
                        raise UserError(
                            f"{self.path}: snapshot {n_read} has {n_atoms} atoms, the first has {self.n_atoms}"
                        )
                    n_cut += 1  # of a count that was cut, and the whole one
                start = stream.tell()
                try:
                    values = self._read_values(stream, n_read)
                    following = None if values is None else self._read_header(stream)
                except _Malformed:
                    header = self._comment_within(stream, start)
                    if header is None:
                        raise
                    n_cut += 1
                    continue
                if values is None:
                    self.notes.append(
                        f"{self.path.name}: last snapshot incomplete, used up to step {last_step}"
                    )
                    break
                header = following
                parsed = parse_comment(comment, self.path)
                step = n_read if parsed.step is None else parsed.step
                n_read += 1
                if step <= last_step:  # a restart from an older checkpoint writes these steps again
                    n_repeated += 1
                    continue
                last_step = step
                yield TrajectorySnapshot(step, values * parsed.factor, parsed.cell)
        if n_cut:
            self.notes.append(
                f"{self.path.name}: {n_cut} snapshots cut short, as by a run that is killed, were left out"
            )
        if n_repeated:
            self.notes.append(f"{self.path.name}: {n_repeated} snapshots repeated by a restart were skipped")

    def _read_header(self, stream: BinaryIO) -> tuple[int, str] | None:
        """Number of atoms and comment line, or None at the end of the file."""
        count = stream.readline()
        while count and not count.strip():  # files that were put together by hand
            count = stream.readline()
        comment = stream.readline()
        if not comment.endswith(b"\n"):
            return None
        if count.startswith(b"#"):  # the line before was cut and has the number at its end
            raise _Malformed(f"{self.path}: a snapshot has no number of atoms before its comment line")
        if not count.strip().isdigit() or not int(count):
            got = count.decode(errors="replace").strip()[:40]
            raise UserError(f"{self.path}: expected the number of atoms of the next snapshot, got {got!r}")
        return int(count), comment.decode(errors="replace")

    def _comment_within(self, stream: BinaryIO, start: int) -> tuple[int, str] | None:
        """The next snapshot of i-PI's within a malformed one whose atoms start at ``start``; None where there is none.

        i-PI appends to what was written of a snapshot when it was killed, mostly to part of a line.
        """
        stream.seek(start)
        for _ in range(self.n_atoms + 1):
            line = stream.readline()
            if line.startswith(b"#") and line.endswith(b"\n") and b"Step:" in line:
                return self.n_atoms, line.decode()
        return None

    def _read_values(self, stream: BinaryIO, index: int) -> FloatArray | None:
        """The (n_atoms, 3) numbers of one snapshot, or None where the file ends within it."""
        start = stream.tell()
        block = stream.read(self.n_atoms * LINE_LENGTH)
        values = parse_fixed_width(block, self.n_atoms)
        if values is not None:
            return values
        stream.seek(start)
        lines = [stream.readline() for _ in range(self.n_atoms)]
        if not lines[-1].endswith(b"\n"):
            return None
        first = self._column
        try:
            values = np.array([line.split()[first : first + 3] for line in lines], dtype=np.float64)
        except ValueError as error:
            raise _Malformed(
                f"{self.path}: snapshot {index} is malformed, expected `label x y z` on each line"
            ) from error
        if values.shape != (self.n_atoms, 3):
            raise _Malformed(
                f"{self.path}: snapshot {index} is malformed, expected `label x y z` on each line"
            )
        if not np.isfinite(values).all():
            raise UserError(f"{self.path}: snapshot {index} is not finite: the run has diverged there")
        return values
