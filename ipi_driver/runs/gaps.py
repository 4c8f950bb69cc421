"""What the outputs of a run lack where it goes on from a checkpoint: files that are gone or end too early."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ipi_driver.ipi_files.input import OutputFile
from ipi_driver.ipi_files.run_folder import INPUT, RunFolder
from ipi_driver.ipi_files.steps import last_step


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


_WRITTEN_ANEW = ("vibrations", "instanton")
"""Motions whose own files i-PI writes as a whole, each time; it keeps what was there as ``#...#0#``."""


def uncut(folder: Path) -> list[Path]:
    """Files of i-PI in which a resumed run may repeat steps, as they are of no form that is known here."""
    run = RunFolder(folder)
    if run.input.motion in _WRITTEN_ANEW:
        return []
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
