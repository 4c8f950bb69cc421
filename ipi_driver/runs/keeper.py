"""Copies of the checkpoints that i-PI overwrites, so that one complete state exists at any time.

i-PI writes a checkpoint over the one before: a power cut in that moment leaves neither. And a run that goes wrong
writes useless states over good ones.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from ipi_driver.ipi_files import edit as xml
from ipi_driver.ipi_files.checkpoint import checkpoint_problem
from ipi_driver.ipi_files.run_folder import RunFolder, keep_checkpoint

_LARGE = 50_000_000
"""Bytes of a checkpoint above which to read it at each write would take the launcher too long: it is not copied."""
_COPIES = 2
"""Of each checkpoint: the last one may already hold what makes a run go wrong."""


class CheckpointKeeper:
    """Copies each new checkpoint of a running simulation under a name of its own.

    Parameters
    ----------
    run
        The run folder, before i-PI is started in it.
    """

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._before = run.kept_checkpoints()
        names = xml.checkpoint_names(run.input_text)
        self._files = [run.path / name for name in names if name != "RESTART"]
        self._seen = {path: _changed(path) for path in self._files}

    def look(self) -> bool:
        """Copy what is new and complete; whether there was anything."""
        new = False
        for path in self._files:
            changed = _changed(path)
            if changed is None or changed == self._seen[path] or changed[1] > _LARGE:
                continue
            if checkpoint_problem(path) is not None:  # i-PI is writing it
                continue
            self._seen[path] = changed
            with suppress(OSError):
                keep_checkpoint(path, xml.steps_done(path.read_text()), copy=True)
                new = True
                for old in self._copies(path)[:-_COPIES]:
                    old.unlink(missing_ok=True)
        return new

    def step_made(self) -> None:
        """Remove the checkpoints that are older than the one that i-PI has just made a step from."""
        for path in self._before:
            path.unlink(missing_ok=True)
        self._before = []

    def finish(self) -> None:
        """Remove the copies where i-PI's own checkpoints hold the last state."""
        kept = set(self._run.kept_checkpoints())
        steps = self._run.checkpoint_steps()
        own = max((step for path, step in steps.items() if path not in kept), default=-1)
        if own >= max((steps[path] for path in kept if path in steps), default=0):
            for path in kept:
                path.unlink(missing_ok=True)

    def _copies(self, path: Path) -> list[Path]:
        """Copies of one checkpoint, the oldest first, without those that were there at the start."""
        own = [
            kept
            for kept in self._run.kept_checkpoints()
            if kept.name.startswith(f"{path.name}.") and kept not in self._before
        ]
        return sorted(own, key=lambda kept: int(re.findall(r"\d+", kept.name)[-1]))


def _changed(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size
