"""``input.data`` of n2p2 and RuNNer: blocks from ``begin`` to ``end``, usually in bohr, hartree and hartree/bohr.

begin
comment <text>
lattice <ax> <ay> <az>                                  (three of them, or none)
atom <x> <y> <z> <element> <charge> <unused> <fx> <fy> <fz>
energy <E>
charge <q>
end
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from ipi_driver.errors import UserError
from ipi_driver.training.formats.raw import FileContent, RawSnapshot, numbers_of


def is_n2p2(lines: Sequence[str]) -> bool:
    """Whether the first line that is neither empty nor a comment begins a block."""
    for line in lines:
        words = line.split()
        if words and not words[0].startswith("#"):
            return words == ["begin"]
    return False


def read_n2p2(path: Path, lines: Sequence[str], need_energy: bool = True) -> FileContent:
    """Snapshots of the ``lines`` of a file; what is not understood is an error that names the line."""
    snapshots: list[RawSnapshot] = []
    block: _Block | None = None
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        where = f"{path}, structure {len(snapshots)} (line {number})"
        if block is None:
            if words[0] != "begin":
                raise UserError(f"{where}: expected `begin`, got {line.strip()[:60]!r}")
            block = _Block()
        elif words[0] == "end":
            snapshots.append(block.snapshot(f"{path}, structure {len(snapshots)}", need_energy))
            block = None
        else:
            block.add(words, where)
    if block is not None:
        raise UserError(f"{path}, structure {len(snapshots)}: the file ends before `end`; it is cut short")
    return FileContent("n2p2 input.data", tuple(snapshots))


class _Block:
    """Lines of one snapshot."""

    def __init__(self) -> None:
        self.lattice: list[list[str]] = []
        self.atoms: list[list[str]] = []
        self.numbers: list[int] = []
        self.energy: list[str] = []

    def add(self, words: list[str], where: str) -> None:
        """One line."""
        keyword, values = words[0], words[1:]
        if keyword == "lattice":
            if len(values) < 3:
                raise UserError(f"{where}: `lattice` needs 3 numbers, got {len(values)}")
            self.lattice.append(values[:3])
        elif keyword == "atom":
            if len(values) < 9:
                raise UserError(
                    f"{where}: `atom` needs x y z element charge n fx fy fz, got {len(values)} values"
                )
            if atomic_numbers.get(values[3], 0) <= 0:
                raise UserError(f"{where}: unknown element {values[3]!r}; expected a chemical symbol")
            self.numbers.append(atomic_numbers[values[3]])
            self.atoms.append(values[:3] + values[6:9])
        elif keyword == "energy":
            self.energy = values[:1]
        elif keyword not in ("comment", "charge"):
            raise UserError(
                f"{where}: unknown keyword {keyword!r}; expected comment, lattice, atom, energy, charge or end"
            )

    def snapshot(self, where: str, need_energy: bool) -> RawSnapshot:
        """The structure of the lines."""
        if not self.atoms:
            raise UserError(f"{where}: the structure has no atoms")
        if len(self.lattice) not in (0, 3):
            raise UserError(f"{where}: expected three `lattice` lines or none, got {len(self.lattice)}")
        if need_energy and not self.energy:
            raise UserError(f"{where}: no `energy` line")
        periodic = bool(self.lattice)
        cell = numbers_of(self.lattice, "`lattice`", [(3, 3)], where) if periodic else np.zeros((3, 3))
        values = numbers_of(self.atoms, "positions and forces", [(len(self.atoms), 6)], where)
        return RawSnapshot(
            numbers=np.array(self.numbers, dtype=np.int64),
            positions=values[:, :3],
            cell=cell,
            pbc=np.full(3, periodic),
            energy=float(numbers_of(self.energy[0], "`energy`", [()], where)) if self.energy else None,
            forces=values[:, 3:],
            virial=None,
            atomic=True,
            where=where,
        )
