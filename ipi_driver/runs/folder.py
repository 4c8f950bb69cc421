"""What a run folder holds: complete checkpoints, outputs, and whether anything would be lost with it."""

from __future__ import annotations

import itertools
import re
from contextlib import suppress
from pathlib import Path

from ipi_driver.client.settings import read_yaml
from ipi_driver.errors import UserError
from ipi_driver.ipi_files import edit as xml
from ipi_driver.ipi_files.input import read_input

INPUT, SETTINGS = "input.xml", "driver.yaml"
STARTING = ".starting"
"""Empty file in a run folder until the launcher has seen the first step."""
CONTINUE = "continue.xml"
"""The checkpoint that a resumed run starts from; i-PI writes its own anew."""
_LOGS = ("i-pi.log", "client.log")
_OF_LAUNCHER = (
    CONTINUE,
    "EXIT",
    *_LOGS,
    "stats.json",
    "stats-to-*.json",
    "summary.json",
    "summary.png",
)


def is_starting(folder: Path) -> bool:
    """Whether no step is done: such a folder holds nothing to lose.

    The mark alone does not say so: a launcher that was killed between a step and its next look at the outputs has left
    it there, and i-PI has written its checkpoint after that.
    """
    return (folder / STARTING).exists() and max(checkpoints(folder), default=0) <= 0


def is_run(folder: Path) -> bool:
    """Whether the launcher has begun a run in a folder: the input of a run has the same two files."""
    if not ((folder / INPUT).is_file() and (folder / SETTINGS).is_file()):
        return False
    return any((folder / name).exists() for name in (STARTING, "client.log")) or bool(checkpoints(folder))


def checkpoints(folder: Path) -> dict[int, Path]:
    """Complete checkpoints of the run in a folder by the number of steps done.

    Those are what i-PI writes for its ``input.xml`` and what a resumed run starts from; a checkpoint of another run
    that it takes its start from is none of them.
    """
    found: dict[int, Path] = {}
    for path in _checkpoint_files(folder):
        if _ends_like_xml(path):
            step = xml.value(path.read_text(errors="replace"), "step")
            if step is not None and step.isdigit():
                found[int(step)] = path
    return found


def is_checkpoint_name(name: str, text: str) -> bool:
    """Whether a run of the input ``text`` writes its own checkpoints to a file of this name."""
    stems = "|".join(map(re.escape, (CONTINUE, *xml.checkpoint_names(text))))
    return re.fullmatch(rf"({stems})(_\d+)?", name) is not None


def outputs(folder: Path) -> list[Path]:
    """Property files and trajectories that exist, of all beads."""
    found: set[Path] = set()
    for output in read_input(folder / INPUT).outputs:
        # of a bead, and of what has none: stem_0.xyz, stem_0, stem.xyz
        ending = rf"(_\d+)?(\.{output.format}|\.extxyz)?" if output.kind == "trajectory" else ""
        name = re.compile(re.escape(Path(output.stem).name) + ending)
        inside = (folder / output.stem).parent
        if inside.is_dir():
            found |= {path for path in inside.iterdir() if path.is_file() and name.fullmatch(path.name)}
    return sorted(found)


def swap_files(folder: Path) -> list[Path]:
    """Files with the swaps of replica exchange that exist: a row, without a header, for each step with a swap."""
    names = xml.swap_names((folder / INPUT).read_text(errors="replace"))
    return [folder / name for name in dict.fromkeys(names) if (folder / name).is_file()]


def has_rows(folder: Path) -> bool:
    """Whether i-PI has written more than the headers of its outputs."""
    for path in outputs(folder):
        with path.open("rb") as stream:
            if any(not line.startswith(b"#") for line in stream):
                return True
    return False


def written_files(folder: Path) -> list[Path]:
    """What i-PI and the launcher have written in a run folder, without anything that the run starts from."""
    found = {path for pattern in _OF_LAUNCHER for path in folder.glob(pattern)} if is_run(folder) else set()
    return sorted(found.union(_ipi_files(folder)))


def set_aside(folder: Path) -> None:
    """Keep what i-PI has written, and the logs, under other names, as its own backups: ``#simulation.out#0#``."""
    logs = [folder / name for name in _LOGS if (folder / name).exists()]
    for path in [*_ipi_files(folder), *logs]:
        names = (path.with_name(f"#{path.name}#{number}#") for number in itertools.count())
        path.rename(next(name for name in names if not name.exists()))


def _ipi_files(folder: Path) -> list[Path]:
    """Outputs and checkpoints of the run in a folder, complete or not."""
    if not (folder / INPUT).is_file():
        return []
    found = {*_checkpoint_files(folder), *swap_files(folder)}
    with suppress(UserError):  # i-PI has not run an input that cannot be read
        found |= set(outputs(folder))
    return sorted(found - _read_files(folder))


def _checkpoint_files(folder: Path) -> list[Path]:
    """Checkpoints that the run in a folder has written, complete or not."""
    if not (folder / INPUT).is_file():
        return []
    text = (folder / INPUT).read_text(errors="replace")
    found = {path for path in folder.iterdir() if path.is_file() and is_checkpoint_name(path.name, text)}
    return sorted(found - _read_files(folder))


def _read_files(folder: Path) -> set[Path]:
    """Files of a run folder that its input takes the start from, or that ``driver.yaml`` names."""
    text = (folder / INPUT).read_text(errors="replace")
    found = {folder / INPUT} | {folder / name for name in xml.initial_files(text)}
    with suppress(UserError):
        settings = read_yaml(folder / SETTINGS)
        named = [settings[key] for key in ("structure", "input") if isinstance(settings.get(key), Path)]
        here = folder.resolve()
        found |= {folder / path.relative_to(here) for path in named if path.is_relative_to(here)}
    return found


def _ends_like_xml(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 64))
        return stream.read().rstrip().endswith(b"</simulation>")
