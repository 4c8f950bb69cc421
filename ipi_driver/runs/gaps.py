"""What the outputs of a run lack where it goes on from a checkpoint: files that are gone or end too early."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ipi_driver.ipi_files.input import OutputFile
from ipi_driver.ipi_files.run_folder import INPUT, RunFolder

_TAIL = 1 << 16
_STEP = re.compile(rb"Step:\s*(\d+)")
_STEP_COLUMN = re.compile(rb"#\s*column\s+(\d+)\s*-->\s*step\b")


def gaps(folder: Path, done: int) -> Iterator[str]:
    """A sentence for each output that does not reach the checkpoint of step ``done``.

    i-PI wrote what a checkpoint stands for before it wrote the checkpoint; a file that ends earlier was cut or lost by
    something else, and the run that goes on leaves a gap in it.
    """
    run = RunFolder(folder)
    for output in run.input.outputs:
        expected = done // output.stride * output.stride
        files = run.files_of(output)
        if not files:
            yield (
                f"{folder / output.stem} is not there: its {_rows(output, 0, expected, True)} up to step {expected} "
                "are lost, and i-PI begins it anew"
            )
        for path in files:
            last = last_step(path)
            if last is not None and last < expected:
                missing = _rows(output, max(last, 0), expected, last < 0)
                yield f"{path} ends at step {last}, the checkpoint is of step {done}: {missing} are missing between"


def uncut(folder: Path) -> list[Path]:
    """Files of i-PI in which a resumed run may repeat steps, as they are of no form that is known here."""
    run = RunFolder(folder)
    stems = {Path(output.stem).name.partition(".")[0] for output in run.input.outputs}
    known = {*run.written_files(), folder / INPUT}
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_file()
        and path not in known
        and (path.name.startswith("KMC_") or ("." in path.name and path.name.partition(".")[0] in stems))
    ]


def _rows(output: OutputFile, last: int, expected: int, first: bool = False) -> str:
    number = (expected - last) // output.stride + first
    return f"{number} {'rows' if output.kind == 'properties' else 'frames'}"


def last_step(path: Path) -> int | None:
    """Step of the last row or frame of an output of i-PI; -1 where it has none, None where it does not tell."""
    with path.open("rb") as stream:
        head = stream.read(_TAIL)
        size = stream.seek(0, 2)
        column = _STEP_COLUMN.search(head)
        length = _TAIL
        while True:
            stream.seek(max(0, size - length))
            tail = stream.read()
            found = _last_in_rows(tail, int(column[1]) - 1) if column else _last_of_frames(tail)
            if found is not None or length >= size:
                break
            length *= 8  # a frame of many atoms is longer
    return -1 if found is None and column else found


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
