"""`RunFolder`: what a folder in which i-PI runs holds, asked of one object.

Input, settings and checkpoints are read once, and again only where they have changed (`remembered`), so that a running
simulation can be watched and a question costs no second parse.
"""

from __future__ import annotations

import itertools
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from ipi_driver.errors import UserError
from ipi_driver.ipi_files import edit as xml
from ipi_driver.ipi_files.checkpoint import checkpoint_problem
from ipi_driver.ipi_files.input import InputSettings, OutputFile, read_input
from ipi_driver.ipi_files.remembered import remembered
from ipi_driver.yaml_file import load_yaml

INPUT, SETTINGS = "input.xml", "driver.yaml"
STARTING = ".starting"
"""Empty file in a run folder until the launcher has seen the first step."""
LOCK = ".lock"
"""Empty file that the launcher of a run holds; it stays, for another launcher may hold it."""
CONTINUE = "continue.xml"
"""The checkpoint that a resumed run starts from; i-PI writes its own anew."""
LOGS = ("i-pi.log", "client.log")
_KEPT = ".kept-"
"""In the names of older checkpoints, before their number of steps, until a newer one has proved itself."""
_OF_LAUNCHER = (
    CONTINUE,
    "EXIT",
    *LOGS,
    "stats*.json",
    "summary.json",
    "summary.png",
    "events.jsonl",
    "status.json",
    ".last-request*",
)


class RunFolder:
    """A folder with the input, the settings, the checkpoints and the outputs of one run of i-PI.

    Parameters
    ----------
    path
        The folder, which need not exist.

    Examples
    --------
    >>> from ipi_driver.ipi_files.run_folder import RunFolder
    >>> RunFolder("nowhere").is_run
    False
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @property
    def input_path(self) -> Path:
        """i-PI's input: ``input.xml``, else the only XML file that is one.

        Raises
        ------
        UserError
            If there is none, or more than one and none is called input.xml.
        """
        if (self.path / INPUT).is_file():
            return self.path / INPUT
        files = sorted(self.path.glob("*.xml"))
        inputs = [file for file in files if "<simulation" in file.read_text(errors="replace")]
        if len(inputs) == 1:
            return inputs[0]
        if not inputs:
            raise UserError(f"{self.path} is not a run folder: expected i-PI's input.xml in it, found none")
        names = ", ".join(file.name for file in inputs)
        raise UserError(
            f"{self.path} holds several i-PI inputs ({names}): call the one that was run input.xml"
        )

    @property
    def input(self) -> InputSettings:
        """What i-PI's input asks for."""
        return read_input(self.input_path)

    @property
    def input_text(self) -> str:
        """Text of ``input.xml``; empty where there is none."""
        return _text(self.path / INPUT) if (self.path / INPUT).is_file() else ""

    @property
    def settings(self) -> dict[str, Any]:
        """Content of ``driver.yaml`` as it is written; empty where there is none."""
        if not (self.path / SETTINGS).is_file():
            return {}
        content = _settings(self.path / SETTINGS)
        return dict(content) if isinstance(content, dict) else {}

    @property
    def is_run(self) -> bool:
        """Whether the launcher has begun a run here: the folder of an input has the same two files."""
        if not ((self.path / INPUT).is_file() and (self.path / SETTINGS).is_file()):
            return False
        begun = any((self.path / name).exists() for name in (STARTING, "client.log"))
        return begun or bool(self.checkpoints())

    @property
    def is_starting(self) -> bool:
        """Whether no step is done: such a folder holds nothing to lose.

        The mark alone is not enough: a launcher that was killed between a step and its next look at the outputs has
        left it there, and i-PI has written its checkpoint after that.
        """
        return (self.path / STARTING).exists() and max(self.checkpoints(), default=0) <= 0

    @property
    def is_begun(self) -> bool:
        """Whether the folder holds at least one step of a run."""
        both = (self.path / SETTINGS).is_file() and (self.path / INPUT).is_file()
        return both and not self.is_starting

    def checkpoints(self) -> dict[int, Path]:
        """Complete checkpoints of the run by the number of steps done.

        These are the files that i-PI writes for ``input.xml`` and the file that a resumed run starts from. The
        checkpoint of another run, from which this run starts, is not among them.
        """
        found: dict[int, Path] = {}
        for path, step in self.checkpoint_steps().items():
            found.setdefault(step, path)
        return found

    def checkpoint_steps(self) -> dict[Path, int]:
        """Complete checkpoints with their numbers of steps; several may have the same."""
        found = {}
        for path in self._checkpoint_files():
            # the launcher of a run removes one that a newer one has replaced
            with suppress(FileNotFoundError):
                if checkpoint_problem(path) is None:
                    found[path] = _step(path)
        return found

    def damaged_checkpoints(self) -> dict[Path, str]:
        """Checkpoints that hold no complete state, with the reason."""
        found = {}
        for path in self._checkpoint_files():
            with suppress(FileNotFoundError):
                found[path] = checkpoint_problem(path)
        # a run without a step writes a checkpoint without a number of steps
        return {path: problem for path, problem in found.items() if problem and "<step> is ''" not in problem}

    def kept_checkpoints(self) -> list[Path]:
        """Older checkpoints under the names that `keep_checkpoint` gives."""
        return [path for path in self._checkpoint_files() if _KEPT in path.name]

    def half_copies(self) -> list[Path]:
        """Copies of checkpoints that a full disk, or the end of the launcher, has interrupted."""
        return sorted(self.path.glob(f"*{_KEPT}*.part"))

    def outputs(self) -> list[Path]:
        """Property files and trajectories that exist, of all beads."""
        outputs = read_input(self.path / INPUT).outputs
        return sorted({path for output in outputs for path in self.files_of(output)})

    def files_of(self, output: OutputFile) -> list[Path]:
        """The files of one output that exist, of all beads."""
        # of a bead, and of what has none: stem_0.xyz, stem_0, stem.xyz
        ending = rf"(_\d+)?(\.{output.format}|\.extxyz)?" if output.kind == "trajectory" else ""
        name = re.compile(re.escape(Path(output.stem).name) + ending)
        inside = (self.path / output.stem).parent
        if not inside.is_dir():
            return []
        return sorted(path for path in inside.iterdir() if path.is_file() and name.fullmatch(path.name))

    def swap_files(self) -> list[Path]:
        """Files with the swaps of replica exchange: a row, without a header, for each step with a swap."""
        names = xml.swap_names(self.input_text)
        return [self.path / name for name in dict.fromkeys(names) if (self.path / name).is_file()]

    def has_rows(self) -> bool:
        """Whether i-PI has written more than the headers of its outputs."""
        for path in self.outputs():
            with path.open("rb") as stream:
                if any(not line.startswith(b"#") for line in stream):
                    return True
        return False

    def written_files(self) -> list[Path]:
        """What i-PI and the launcher have written, without anything that the run starts from."""
        found = (
            {path for pattern in _OF_LAUNCHER for path in self.path.glob(pattern)} if self.is_run else set()
        )
        return sorted(found.union(self._ipi_files()))

    def set_aside(self) -> None:
        """Keep what i-PI has written, and the logs, under the names of i-PI's own backups: ``#simulation.out#0#``."""
        logs = [self.path / name for name in LOGS if (self.path / name).exists()]
        for path in [*self._ipi_files(), *logs]:
            path.rename(unused_name(path))

    def _ipi_files(self) -> list[Path]:
        """Outputs and checkpoints, complete or not."""
        if not (self.path / INPUT).is_file():
            return []
        found = {*self._checkpoint_files(), *self.swap_files()}
        with suppress(UserError):  # i-PI has not run an input that cannot be read
            found |= set(self.outputs())
        return sorted(found - self._files_to_start_from())

    def _checkpoint_files(self) -> list[Path]:
        """Checkpoints that the run has written, complete or not."""
        if not (self.path / INPUT).is_file():
            return []
        text = self.input_text
        found = {
            path for path in self.path.iterdir() if path.is_file() and is_checkpoint_name(path.name, text)
        }
        return sorted(found - self._files_to_start_from())

    def _files_to_start_from(self) -> set[Path]:
        """The input, and the files that it or ``driver.yaml`` names as a start."""
        found = {self.path / INPUT} | {self.path / name for name in xml.initial_files(self.input_text)}
        with suppress(UserError):
            named = [self.settings.get(key) for key in ("structure", "input")]
            here = self.path.resolve()
            paths = [here / name for name in named if isinstance(name, str)]
            found |= {self.path / path.relative_to(here) for path in paths if path.is_relative_to(here)}
        return found


def is_checkpoint_name(name: str, text: str) -> bool:
    """Whether a run of the input ``text`` writes its own checkpoints to a file of this name."""
    stems = "|".join(map(re.escape, (CONTINUE, *xml.checkpoint_names(text))))
    return re.fullmatch(rf"({stems})(_\d+)?({re.escape(_KEPT)}\d+)?", name) is not None


def keep_checkpoint(path: Path, step: int, copy: bool = False) -> Path:
    """Give a checkpoint, or a copy of it, a name under which i-PI does not overwrite it; returns that."""
    kept = kept_name(path, step)
    if path == kept:
        return kept
    if copy:
        part = kept.with_name(f"{kept.name}.part")
        shutil.copyfile(path, part)
        part.replace(kept)
    else:
        path.replace(kept)
    return kept


def kept_name(path: Path, step: int) -> Path:
    """The name under which a checkpoint of this step is kept."""
    return path.with_name(f"{path.name.partition(_KEPT)[0]}{_KEPT}{step}")


def unused_name(path: Path) -> Path:
    """The name that i-PI would give to a backup of this file."""
    names = (path.with_name(f"#{path.name}#{number}#") for number in itertools.count())
    return next(name for name in names if not name.exists())


@remembered
def _text(path: Path) -> str:
    return path.read_text(errors="replace")


@remembered
def _settings(path: Path) -> Any:
    return load_yaml(path)


@remembered
def _step(path: Path) -> int:
    """Number of steps of a complete checkpoint."""
    return xml.steps_done(path.read_text(errors="replace"))
