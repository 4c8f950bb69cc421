"""Outputs of i-PI by their steps: the last one that a file holds, and the file cut after a step.

A file of text is read as lines, so that what was killed or torn can be mended: rows of a property file have a column
of steps, frames of a trajectory (xyz, pdb, json, extras) have ``Step: N`` in their first lines. Frames of a binary
trajectory (`binary`) are all of one size, and have it in their titles.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ipi_driver.ipi_files import binary
from ipi_driver.ipi_files.properties import header_column

_STEP = re.compile(rb"Step:\s*(\d+)")
_FRAMES = tuple(re.compile(first) for first in (rb"TITLE\b", rb"\{", rb"\s*#EXTRAS", rb"\s*\d+\s*$"))
"""First lines of frames: of pdb, json and extras, with the step, and of xyz, where the next line has it."""
_TAIL = 1 << 16


def cut_after(path: Path, step: int) -> bool:
    """Cut an output of i-PI where it goes beyond ``step``, or where its last row or frame is incomplete.

    Returns
    -------
    bool
        Whether it could be: a property file without a column of steps is left as it is.
    """
    with path.open("r+b") as stream:
        if (form := binary.form_of(stream)) is not None:
            stream.truncate(_end_of_binary(stream, step, form))
            return True
        stream.seek(0)
        first = stream.readline()
        stream.seek(0)
        begins = next((pattern for pattern in _FRAMES if pattern.match(first)), None)
        end = _end_of_rows(stream, step) if begins is None else _end_of_frames(stream, step, begins, first)
        if end is not None:
            stream.truncate(end)
    return end is not None or not first


def cut_swaps_from(path: Path, done: int) -> None:
    """Cut the swaps of replica exchange that a run with ``done`` steps has not made yet, and an incomplete row.

    i-PI writes them with the number of steps done before, so that the first to be cut has ``done`` itself.
    """
    with path.open("r+b") as stream:
        end = 0
        for line in stream:
            columns = line.split()
            if not line.endswith(b"\n") or not columns or not columns[0].isdigit() or int(columns[0]) >= done:
                break
            end += len(line)
        stream.truncate(end)


def _lines(stream: BinaryIO, limit: int) -> Iterator[bytes]:
    """The lines of a file up to a place within it."""
    for line in stream:
        yield line[:limit]
        limit -= len(line)
        if limit <= 0:
            return


def _end_of_text(stream: BinaryIO) -> int:
    """Size of a file without zero bytes at its end, which a power cut leaves of what was not written any more."""
    end = stream.seek(0, 2)
    while end:
        start = max(0, end - (1 << 16))
        stream.seek(start)
        kept = len(stream.read(end - start).rstrip(b"\0"))
        end = start + kept
        if kept:
            break
    stream.seek(0)
    return end


def _end_of_rows(stream: BinaryIO, step: int) -> int | None:
    """Where the rows up to ``step`` of a property file end; None where it has no column of steps.

    Rows that cannot be read stay where good ones follow them.
    """
    column: int | None = None
    offset = good = 0
    for line in _lines(stream, _end_of_text(stream)):
        offset += len(line)
        if line.startswith(b"#"):
            header = header_column(line)
            column = header.first if header is not None and header.name == "step" else column
        elif column is None:
            pass
        elif not line.endswith(b"\n"):
            break
        elif (reached := _number(line, column)) is None:
            continue
        elif reached > step:
            break
        good = offset
    return good if column is not None else None


def _number(row: bytes, column: int) -> float | None:
    """The number in a column of a row, where it has one."""
    try:
        return float(row.split()[column])
    except (ValueError, IndexError):
        return None


def _end_of_frames(stream: BinaryIO, step: int, begins: re.Pattern[bytes], first: bytes) -> int:
    """Where the frames up to ``step`` of a trajectory end; their first lines match ``begins``, as ``first`` does."""
    start = offset = 0
    complete = known = True
    for line in _lines(stream, _end_of_text(stream)):
        complete = line.endswith(b"\n")
        if begins.match(line) or (not complete and first.startswith(line)):
            start, known = offset, False
        if not known and (found := _STEP.search(line)):
            known = True  # what else a frame of extras holds is the model's own
            if int(found[1]) > step:
                return start
        offset += len(line)
    return offset if complete and known else start


def _end_of_binary(stream: BinaryIO, step: int, form: binary.Form) -> int:
    """Where the frames up to ``step`` of a binary trajectory end."""
    end = 0
    for frame in binary.frames(stream, form):
        if frame.step > step:
            break
        end = frame.end
    return end


def last_step(path: Path) -> int | None:
    """Step of the last row or frame of an output of i-PI; -1 where it has none, None where it holds no steps."""
    with path.open("rb") as stream:
        if (form := binary.form_of(stream)) is not None:
            last = binary.last_frame(stream, form)
            return -1 if last is None else last.step
        stream.seek(0)
        head = stream.read(_TAIL)
        size = stream.seek(0, 2)
        column = _step_column(head)
        length = _TAIL
        while True:
            stream.seek(max(0, size - length))
            tail = stream.read()
            found = _last_of_frames(tail) if column is None else _last_in_rows(tail, column)
            if found is not None or length >= size:
                break
            length *= 8  # a frame of many atoms is longer
    return -1 if found is None and column is not None else found


def _last_in_rows(tail: bytes, column: int) -> int | None:
    for line in reversed(tail.splitlines()[1:]):
        words = line.split()
        try:
            return int(float(words[column]))
        except (ValueError, IndexError):
            continue
    return None


def _last_of_frames(tail: bytes) -> int | None:
    found = _STEP.findall(tail)
    return int(found[-1]) if found else None


def _step_column(head: bytes) -> int | None:
    """Column of the steps in the header of a property file; None where it has none."""
    found = (header_column(line) for line in head.splitlines() if line.startswith(b"#"))
    return next((column.first for column in found if column is not None and column.name == "step"), None)
