"""Reader of i-PI's binary trajectories (`binary` describes their frames), called as that of the xyz files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.ipi_files import binary
from ipi_driver.ipi_files.comment import Comment, parse_comment
from ipi_driver.ipi_files.xyz import TrajectoryFile, TrajectorySnapshot

_DAMAGED = "snapshots that are damaged, or repeated by a restart, were left out"


class BinaryTrajectory(TrajectoryFile):
    """A trajectory that i-PI has written with ``format='bin'``; as `TrajectoryFile`.

    Raises
    ------
    UserError
        If the file holds no complete snapshot, or its unit is unknown.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.notes: list[str] = []
        with self.path.open("rb") as stream:
            form = binary.form_of(stream)
            if form is None or self.size < form.size:
                raise UserError(
                    f"{self.path} holds no complete snapshot: let the run write at least one and repeat"
                )
            self._form = form
            stream.seek(0)
            frame = stream.read(form.size)
        self.symbols = tuple(binary.names_in(frame, form))
        first = self._comment(frame)
        self.quantity, self.timed, self.periodic = first.quantity, True, first.periodic

    @property
    def n_snapshots(self) -> int:
        return self.size // self._form.size

    def __iter__(self) -> Iterator[TrajectorySnapshot]:
        self.notes.clear()
        last_step = -1
        with self.path.open("rb", buffering=1 << 20) as stream:
            for frame in self._frames(stream):
                comment = self._comment(frame)
                if comment.step is None or comment.step <= last_step:
                    self._note(_DAMAGED)
                    continue
                last_step = comment.step
                values = binary.values_in(frame, self._form).reshape(-1, 3)
                if not np.isfinite(values).all():
                    raise UserError(
                        f"{self.path}: step {last_step} is not finite: the run has diverged there"
                    )
                yield TrajectorySnapshot(last_step, values * comment.factor, comment.cell)

    def _frames(self, stream: BinaryIO) -> Iterator[bytes]:
        size, read = self._form.size, 0
        for frame in binary.frames(stream, self._form):
            if frame.end - size > read:
                self._note(_DAMAGED)
            stream.seek(frame.end - size)
            yield stream.read(size)
            read = frame.end
        if (left := self.size - read) >= size:
            self._note(_DAMAGED)
        elif left:
            self._note("last snapshot incomplete")

    def _note(self, text: str) -> None:
        if (note := f"{self.path.name}: {text}") not in self.notes:
            self.notes.append(note)

    def _comment(self, frame: bytes) -> Comment:
        """The title of a frame as the comment of an xyz file with the same cell."""
        cell = " ".join(f"{number:.17e}" for number in binary.cell_in(frame))
        return parse_comment(f"CELL(H): {cell} {binary.title_in(frame, self._form)}", self.path)
