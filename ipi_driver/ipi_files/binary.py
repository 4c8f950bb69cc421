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

_CELL, _COUNT, _CHARACTER = 72, 8, 4
_TITLE = re.compile(r"Step:\s*(\d+)\s+Bead:\s*\d+\s[^{}]*\{[^{}]*\}\s*cell\{[^{}]*\}")
_LONGEST = 400
"""Characters of a title; those of i-PI have about 80."""


class Form(NamedTuple):
    """Size of a frame, and where the title begins in it, in bytes."""

    size: int
    title: int


class Frame(NamedTuple):
    """Step of a frame (None where it cannot be read), and where it ends in its file."""

    step: int | None
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
    return None if found is None else Form(start + _CHARACTER * found.end(), start)


def frames(stream: BinaryIO, form: Form) -> Iterator[Frame]:
    """The complete frames of a file."""
    size = stream.seek(0, 2)
    for end in range(form.size, size + 1, form.size):
        yield Frame(_step(stream, form, end), end)


def last_frame(stream: BinaryIO, form: Form) -> Frame | None:
    """The last complete frame that can be read; None where there is none."""
    size = stream.seek(0, 2)
    for end in range(size - size % form.size, 0, -form.size):
        if (step := _step(stream, form, end)) is not None:
            return Frame(step, end)
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
    text = stream.read(_CHARACTER * longest)
    # what follows a title is the cell of the next frame, and no text
    characters = [text[place : place + _CHARACTER] for place in range(0, len(text), _CHARACTER)]
    return _TITLE.match("".join(chr(c[0]) if c[1:] == b"\0\0\0" else "\0" for c in characters))
