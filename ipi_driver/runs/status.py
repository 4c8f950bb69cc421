"""Where runs stand, from their files alone: nothing is written, so that it can be asked from anywhere."""

from __future__ import annotations

import csv
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ipi_driver.errors import UserError
from ipi_driver.ipi_files.run_folder import RunFolder
from ipi_driver.runs.ending import last_message
from ipi_driver.runs.events import read_events
from ipi_driver.runs.live import EVERY, read_status
from ipi_driver.runs.monitor import PropertyMonitor
from ipi_driver.units import MILLI

_SILENT = 12 * EVERY
"""Seconds without an update after which a run whose status is running is not: it was killed, or its node has died."""
_DEPTH = 4
_TAIL = 1 << 15
_STD = re.compile(rb"forces_(?:std|spread)\W+([-\d.e+]+)")
_NUMBER = re.compile(rb"^\s*([-\d.e+]+)\s*$", re.MULTILINE)
_OF_FORCES = ("spread", "std", "monitor")
"""In the names of files that hold nothing but these deviations; others with a number a step hold something else."""


@dataclass(frozen=True)
class RunStatus:
    """Where one run or training stands.

    Attributes
    ----------
    name
        Folder, relative to the one asked for.
    state
        running, finished, stopped, failed, silent (no sign of life from a run that has not ended) or not begun.
    step, total
        Steps done and to be done.
    speed
        Steps per second, None where it is not known; as the following.
    seconds_left
        Until the end at that speed.
    temperature, change
        Of the last row, with their units, as text.
    symmetry_std
        Last standard deviation of the forces over the rotations, meV/Å.
    message
        The last thing that happened.
    """

    name: str
    state: str
    step: int
    total: int
    speed: float | None = None
    seconds_left: float | None = None
    temperature: str = ""
    change: str = ""
    symmetry_std: float | None = None
    message: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """Runs and trainings in these folders and below them: of sets, farms and reproductions.

    Raises
    ------
    UserError
        If a folder is missing or holds none.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"no folder {folder}")
        below = list(_below(folder, _DEPTH))
        if not below:
            raise UserError(f"no run, set, farm or training in {folder}")
        found += below
    return list(dict.fromkeys(found))


def holds_runs(folder: Path) -> bool:
    """Whether `find_runs` finds any in a folder, which need not exist."""
    return folder.is_dir() and next(_below(folder, _DEPTH), None) is not None


def _below(folder: Path, depth: int) -> Iterator[Path]:
    if RunFolder(folder).is_run or (folder / "log.csv").is_file():
        yield folder
        return
    if depth:
        for child in sorted(folder.iterdir()):
            if child.is_dir() and not child.is_symlink() and not child.name.startswith("."):
                yield from _below(child, depth - 1)


def status_of(folder: Path) -> RunStatus:
    """Where the run or training in a folder stands."""
    if (folder / "log.csv").is_file() and not RunFolder(folder).is_run:
        return _training(folder)
    run, live = RunFolder(folder), read_status(folder)
    total = int(live.get("total_steps") or 0)
    with suppress(UserError):
        total = run.input.total_steps or total
    temperature, change, step = _values(live), _change(live), int(live.get("step") or 0)
    if not live:  # of an earlier version, or by hand
        with suppress(UserError):
            last = PropertyMonitor(folder).update()
            step = max(0, last.step, *run.checkpoints())
            temperature, change = (" ".join(part.split()[1:]) for part in _padded(last.parts))
    message = str(live.get("message") or "")
    if not message and (events := read_events(folder)):
        message = events[-1]["text"]
    return RunStatus(
        str(folder),
        _state(run, live, step, total),
        step,
        total,
        live.get("steps_per_second"),
        live.get("seconds_left"),
        temperature,
        change,
        _symmetry_std(run),
        message or last_message(folder),
    )


def _padded(parts: list[str]) -> tuple[str, str]:
    return next((p for p in parts if p.startswith("T ")), ""), next(
        (p for p in parts if p.startswith("conserved")), ""
    )


def _values(live: dict[str, Any]) -> str:
    value, units = live.get("temperature"), live.get("units") or {}
    return "" if value is None else f"{value:.4g} {units.get('temperature', '')}".strip()


def _change(live: dict[str, Any]) -> str:
    value, units = live.get("change_of_conserved"), live.get("units") or {}
    return "" if value is None else f"{value:+.2g} {units.get('conserved', '')}".strip()


def _state(run: RunFolder, live: dict[str, Any], step: int, total: int) -> str:
    state = str(live.get("state") or "")
    if state == "running":
        return "silent" if time.time() - float(live.get("updated") or 0.0) > _SILENT else state
    if state:
        return state
    if run.is_starting:
        return "not begun"
    if total and step >= total:
        return "finished"
    newest = max((path.stat().st_mtime for path in run.outputs()), default=0.0)
    return "running" if time.time() - newest < _SILENT else "stopped"


def _symmetry_std(run: RunFolder) -> float | None:
    """Last standard deviation of the forces over the rotations that the run wrote, meV/Å."""
    with suppress(UserError, OSError, ValueError):
        for output in run.input.outputs:
            if not output.quantity.startswith("extras"):
                continue
            for path in run.files_of(output):
                with path.open("rb") as stream:
                    stream.seek(max(0, path.stat().st_size - _TAIL))
                    content = stream.read()
                found = _STD.findall(content)
                if not found and any(word in path.name for word in _OF_FORCES):
                    found = _NUMBER.findall(content)
                if found and (value := float(found[-1])) > 0.0:
                    return MILLI * value
    return None


def _training(folder: Path) -> RunStatus:
    """The last line of the log of a training."""
    with (folder / "log.csv").open(newline="") as stream:
        # the last one may be written just now
        rows = [row for row in csv.DictReader(stream) if None not in row.values()]
    last = rows[-1] if rows else {}
    age = time.time() - (folder / "log.csv").stat().st_mtime
    interval = 600.0
    with suppress(KeyError, ValueError, IndexError):
        interval = 3600.0 * (float(rows[-1]["hours"]) - float(rows[-2]["hours"]))
    state = "running" if age < max(600.0, 3.0 * interval) else "stopped"
    words = [f"{key} {last[key]}" for key in ("epoch", "val_force_mae", "best_val_force_mae") if key in last]
    speed = None
    with suppress(KeyError, ValueError):
        speed = float(last["steps_per_second"])
    step = int(float(last.get("step") or 0))
    return RunStatus(str(folder), state, step, 0, speed, message="training: " + ", ".join(words))
