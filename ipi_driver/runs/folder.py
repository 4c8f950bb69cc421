"""What a run folder holds: complete checkpoints, outputs, and whether anything would be lost with it."""

from __future__ import annotations

import itertools
import re
import shutil
from contextlib import suppress
from pathlib import Path

from ipi_driver.client.settings import read_yaml
from ipi_driver.errors import UserError
from ipi_driver.ipi_files import edit as xml
from ipi_driver.ipi_files.checkpoint import checkpoint_problem
from ipi_driver.ipi_files.input import OutputFile, read_input

INPUT, SETTINGS = "input.xml", "driver.yaml"
STARTING = ".starting"
"""Empty file in a run folder until the launcher has seen the first step."""
CONTINUE = "continue.xml"
"""The checkpoint that a resumed run starts from; i-PI writes its own anew."""
_KEPT = ".kept-"
"""In the names of older checkpoints, before their number of steps, until a newer one has proved itself."""
_LOGS = ("i-pi.log", "client.log")
_OF_LAUNCHER = (
    CONTINUE,
    "EXIT",
    *_LOGS,
    "stats.json",
    "stats-to-*.json",
    "summary.json",
    "summary.png",
    "events.jsonl",
    ".last-request",
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
    for path, step in checkpoint_steps(folder).items():
        found.setdefault(step, path)
    return found


def checkpoint_steps(folder: Path) -> dict[Path, int]:
    """Complete checkpoints with their numbers of steps; several may have the same."""
    complete = [path for path in _checkpoint_files(folder) if checkpoint_problem(path) is None]
    return {path: int(xml.value(path.read_text(), "step") or 0) for path in complete}


def damaged_checkpoints(folder: Path) -> dict[Path, str]:
    """Checkpoints that hold no complete state, with the reason."""
    found = {path: checkpoint_problem(path) for path in _checkpoint_files(folder)}
    # that of a run which has done no step yet has no number of steps
    return {path: problem for path, problem in found.items() if problem and "<step> is ''" not in problem}


def keep_checkpoint(path: Path, step: int, copy: bool = False) -> Path:
    """Give a checkpoint, or a copy of it, a name under which i-PI does not overwrite it; returns that."""
    kept = path.with_name(f"{path.name.partition(_KEPT)[0]}{_KEPT}{step}")
    if path == kept:
        return kept
    if copy:
        part = kept.with_name(f"{kept.name}.part")
        shutil.copyfile(path, part)
        part.replace(kept)
    else:
        path.replace(kept)
    return kept


def kept_checkpoints(folder: Path) -> list[Path]:
    """Older checkpoints under the names that `keep_checkpoint` gives."""
    return [path for path in _checkpoint_files(folder) if _KEPT in path.name]


def is_checkpoint_name(name: str, text: str) -> bool:
    """Whether a run of the input ``text`` writes its own checkpoints to a file of this name."""
    stems = "|".join(map(re.escape, (CONTINUE, *xml.checkpoint_names(text))))
    return re.fullmatch(rf"({stems})(_\d+)?({re.escape(_KEPT)}\d+)?", name) is not None


def outputs(folder: Path) -> list[Path]:
    """Property files and trajectories that exist, of all beads."""
    found = {path for output in read_input(folder / INPUT).outputs for path in outputs_of(folder, output)}
    return sorted(found)


def outputs_of(folder: Path, output: OutputFile) -> list[Path]:
    """The files of one output that exist, of all beads."""
    # of a bead, and of what has none: stem_0.xyz, stem_0, stem.xyz
    ending = rf"(_\d+)?(\.{output.format}|\.extxyz)?" if output.kind == "trajectory" else ""
    name = re.compile(re.escape(Path(output.stem).name) + ending)
    inside = (folder / output.stem).parent
    if not inside.is_dir():
        return []
    return sorted(path for path in inside.iterdir() if path.is_file() and name.fullmatch(path.name))


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
        path.rename(unused_name(path))


def unused_name(path: Path) -> Path:
    """The name that i-PI would give to a backup of this file."""
    names = (path.with_name(f"#{path.name}#{number}#") for number in itertools.count())
    return next(name for name in names if not name.exists())


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
