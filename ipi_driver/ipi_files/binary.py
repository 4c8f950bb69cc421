"""Binary trajectories of i-PI (``format='bin'``): where each frame ends, and its step.

A frame is the cell (9 doubles), the number of atoms (8 bytes), the values (3 doubles an atom), the number of characters
of the names (8 bytes), the names with ``|`` between them, and a title like the comment of an xyz file,
``Step: 20 Bead: 0 positions{angstrom} cell{angstrom}``, both in four bytes a character. The length of the title is not
written; its numbers have a fixed width, so that all frames of a file are of one size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from ipi_driver.structure import FloatArray

_CELL, _COUNT, _CHARACTER = 72, 8, 4
_TITLE = re.compile(r"Step:\s*(\d+)\s+Bead:\s*\d+\s[^{}]*\{[^{}]*\}\s*cell\{[^{}]*\}")
_TITLE_BEGINS = "Step:".encode("utf-32-le")
_PIECE = 1 << 20
"""Bytes of a damaged file that are searched at once."""
_LONGEST = 400
"""Characters of a title; those of i-PI have about 80."""


class Form(NamedTuple):
    """Size of a frame, where the title begins in it, in bytes, and the number of atoms."""

    size: int
    title: int
    n_atoms: int


class Frame(NamedTuple):
    """Step of a frame, and where it ends in its file."""

    step: int
    end: int


def form_of(stream: BinaryIO) -> Form | None:
    """The form of the frames of a binary trajectory, from its first one; None where the file is none."""
    n_atoms = _count(stream, _CELL)
    if n_atoms is None:
        return None
    names = _CELL + _COUNT + 24 * n_atoms
    n_characters = _count(stream, names)
    if n_characters is None:
        return None
    start = names + _COUNT + _CHARACTER * n_characters
    found = _title(stream, start, _LONGEST)
    return None if found is None else Form(start + _CHARACTER * found.end(), start, n_atoms)


def frames(stream: BinaryIO, form: Form) -> Iterator[Frame]:
    """The complete frames of a file that can be read.

    A damaged one is passed over, and so is part of one to which i-PI, killed and started again by hand, has appended.
    """
    size = stream.seek(0, 2)
    begin = 0
    while begin + form.size <= size:
        end = begin + form.size
        if (step := _step(stream, form, end)) is not None:
            yield Frame(step, end)
            begin = end
        elif (found := _next_frame(stream, form, begin + 1, size)) is not None:
            begin = found
        else:
            return


def last_frame(stream: BinaryIO, form: Form) -> Frame | None:
    """The last complete frame that can be read; None where there is none."""
    size = stream.seek(0, 2)
    end = size - size % form.size
    if end and (step := _step(stream, form, end)) is not None:
        return Frame(step, end)
    last = None
    for frame in frames(stream, form):
        last = frame
    return last


def cell_in(frame: bytes) -> FloatArray:
    """The (9,) numbers of the cell, row by row of the matrix that has the cell vectors as columns."""
    return np.frombuffer(frame, dtype=np.float64, count=9)


def values_in(frame: bytes, form: Form) -> FloatArray:
    """The (3 n_atoms,) numbers of a frame."""
    return np.frombuffer(frame, dtype=np.float64, count=3 * form.n_atoms, offset=_CELL + _COUNT)


def names_in(frame: bytes, form: Form) -> list[str]:
    """The names of the atoms."""
    return _text(frame[_CELL + 2 * _COUNT + 24 * form.n_atoms : form.title]).split("|")


def title_in(frame: bytes, form: Form) -> str:
    """The title of a frame; of a damaged one not what it was."""
    return _text(frame[form.title :])


def _next_frame(stream: BinaryIO, form: Form, start: int, size: int) -> int | None:
    """Where the next frame that can be read begins, from a place on in a file of this size; found by its title."""
    place = start + form.title
    while place < size:
        stream.seek(place)
        found = stream.read(_PIECE + len(_TITLE_BEGINS)).find(_TITLE_BEGINS)
        if found < 0:
            place += _PIECE
            continue
        begin = place + found - form.title
        if _step(stream, form, begin + form.size) is not None:
            return begin
        place += found + 1
    return None


def _step(stream: BinaryIO, form: Form, end: int) -> int | None:
    """Step of the frame that ends there."""
    length = (form.size - form.title) // _CHARACTER
    found = _title(stream, end - form.size + form.title, length)
    return int(found[1]) if found is not None and found.end() == length else None


def _count(stream: BinaryIO, start: int) -> int | None:
    """A number of atoms or characters; None where there is no sensible one."""
    stream.seek(start)
    word = stream.read(_COUNT)
    number = int.from_bytes(word, "little")
    return number if len(word) == _COUNT and 0 < number < 1 << 40 else None


def _title(stream: BinaryIO, start: int, longest: int) -> re.Match[str] | None:
    stream.seek(start)
    return _TITLE.match(_text(stream.read(_CHARACTER * longest)))


def _text(content: bytes) -> str:
    """Four bytes a character; zeros for what is no text, as the cell that follows the title of a frame."""
    characters = (content[place : place + _CHARACTER] for place in range(0, len(content), _CHARACTER))
    return "".join(chr(c[0]) if c[1:] == b"\0\0\0" else "\0" for c in characters)
