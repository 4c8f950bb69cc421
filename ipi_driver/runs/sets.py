"""Sets: one input run for several structures, each in a run folder of its own, restartable one by one."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from ipi_driver.client.settings import read_yaml
from ipi_driver.errors import UserError
from ipi_driver.ipi_files import edit as xml
from ipi_driver.ipi_files.endpoints import averages
from ipi_driver.ipi_files.run_folder import INPUT, SETTINGS, RunFolder
from ipi_driver.runs.changes import RESUMABLE, Changes, changed_settings, check_settings
from ipi_driver.runs.ending import has_ended_by_itself
from ipi_driver.runs.origin import begun_options, check_origins
from ipi_driver.runs.prepare import Source, find_source, prepare
from ipi_driver.runs.resume import prepare_resume
from ipi_driver.runs.sockets import with_addresses
from ipi_driver.shipped import find_shipped

CELLS = "cells"
"""Folder of structures that makes an input a set."""
ENDINGS = (".xyz", ".extxyz", ".cif", ".pdb", ".vasp", ".poscar", ".traj", ".gen", ".xsf", ".res")
"""Of files that are taken for structures: a README beside them is none."""
_FIXED = ("average", "nmts", "model", "dtype", "seed", "charge", "spin", "pbc")
"""Changes that a cell shows in its files, whether they were given or are those of the input."""
_GIVEN = ("endpoint", "monitor", "monitor_stride", "tolerance")
"""Changes that only the record of what a cell was begun with holds as they were given."""
_OF_PHYSICS = ("charge", "spin", "pbc", "endpoint")
"""Of them those that all cells must have been begun with, as their structures are not compared otherwise."""


@dataclass(frozen=True)
class RunSet:
    """An input and its structures.

    Attributes
    ----------
    source
        The input.
    structures
        Name of the cell to its file, in the order of the names.
    skipped
        Names of files beside them that are not structures.
    """

    source: Source
    structures: dict[str, Path]
    skipped: tuple[str, ...]

    def folder(self, changes: Changes) -> Path:
        """Default output: the input and its average, as `ipi-driver analyze` distinguishes sets."""
        changes = with_addresses(changes, self.source.path.read_text())
        average = average_of(changed_settings(self.source.settings, changes))
        return Path("runs") / f"{self.source.name}-{average}"


def find_set(given: str, changes: Changes, structures: Path | None) -> RunSet | None:
    """The set that the command line names; None where it names a single run.

    Parameters
    ----------
    given
        The input: it is a set if it is a folder with ``cells/`` and no structure is given.
    changes
        Of the command line.
    structures
        A folder of structures, which makes any input a set.

    Raises
    ------
    UserError
        If both a structure and structures are given, or there are no structures.
    """
    if structures is None:
        try:
            folder = find_shipped("inputs", given)
        except UserError:  # reported by the single run, which may not need its input any more
            return None
        if changes.structure is not None or not (folder / CELLS).is_dir():
            return None
        structures = folder / CELLS
    elif changes.structure is not None:
        raise UserError(
            "--structure FILE starts one run, --structures DIR one run per file: give one of them"
        )
    found, skipped = _structures(structures)
    return RunSet(find_source(given, changes), found, skipped)


def _structures(folder: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    if not folder.is_dir():
        raise UserError(f"--structures: no folder {folder}")
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    found: dict[str, Path] = {}
    skipped = []
    for path in files:
        if path.suffix.lower() not in ENDINGS:
            skipped.append(path.name)
        elif path.stem in found:
            raise UserError(
                f"{found[path.stem]} and {path.name} would be run in the same folder: rename one of them"
            )
        else:
            found[path.stem] = path.resolve()
    if not found:
        raise UserError(f"{folder} holds no structure files: expected names ending in {', '.join(ENDINGS)}")
    return found, tuple(skipped)


def average_of(settings: dict[str, Any]) -> str:
    """Average of the endpoint that is averaged, else "none"."""
    return next((average for average in averages(settings) if average != "none"), "none")


def open_set(runs: RunSet, output: Path, changes: Changes, resume: bool | Literal["same"]) -> Changes:
    """Check what all cells share; returns the changes that each of them needs.

    A set that is continued keeps the settings of the cells begun, so that none is relaxed with another model
    or charge.

    Raises
    ------
    UserError
        If a setting is bad, the set exists and is not to be continued, or was begun from another input or with other
        settings; with ``resume="same"`` also where it was begun with one that is missing.
    """
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is not a folder; give another --output")
    if (output / INPUT).exists():
        raise UserError(f"{output} is the folder of a single run; give another --output for the set")
    inside = sorted(output.iterdir()) if output.is_dir() else []
    begun = [folder for folder in inside if RunFolder(folder).is_begun]
    if begun and not resume:
        raise UserError(
            f"{output} has been begun ({begun[0].name}); continue it with --resume, or give another --output"
        )
    if note := check_origins(begun, runs.source.path):
        print(note, file=sys.stderr)
    for folder in begun:
        check_unchanged(folder, changes)
        _check_alike(begun[0], folder)
        if resume == "same":
            _check_complete(folder, runs.source, changes)
    if not begun and resume is True:  # all have failed before their first step
        begun = [folder for folder in inside if RunFolder(folder).is_run]
        check_origins(begun, runs.source.path)
    if begun:
        changes = _as_begun(begun[0], runs.source, changes)
    given = with_addresses(changes, runs.source.path.read_text())
    settings = changed_settings(runs.source.settings, given)
    check_settings(settings, str(runs.source.folder / SETTINGS))
    return changes


def prepare_cell(runs: RunSet, name: str, folder: Path, changes: Changes) -> str | None:
    """Make the run folder of a cell ready to begin or to go on.

    Returns
    -------
    str or None
        The file that i-PI starts from; None where the cell is finished.

    Raises
    ------
    UserError
        If the structure or a setting is bad, or another launcher runs in the folder.
    """
    if RunFolder(folder).is_begun:
        if is_finished(folder, changes.steps):
            return None
        return prepare_resume(folder, Changes(**{key: getattr(changes, key) for key in RESUMABLE}))
    prepare(runs.source, folder, replace(changes, structure=runs.structures[name]))
    return INPUT


def is_finished(folder: Path, steps: int | None = None) -> bool:
    """Whether i-PI has done what the input of a run folder asks for, or ``steps``, or had nothing left to do before."""
    run = RunFolder(folder)
    if not run.is_begun:
        return False
    if has_ended_by_itself(folder):
        return True
    path = folder / INPUT
    return max(run.checkpoints(), default=-1) >= (steps or xml.total_steps(path.read_text(), path))


def check_unchanged(folder: Path, changes: Changes) -> None:
    """Raise `UserError` where a run folder was begun with a setting that the command line contradicts."""
    settings = read_yaml(folder / SETTINGS)
    read = {"average": average_of(settings), "nmts": xml.nmts((folder / INPUT).read_text())}
    for key in _FIXED:
        value = getattr(changes, key)
        if value is None:
            continue
        was = read.get(key, settings.get(key))
        # through the same change, for a model may be given as a path
        now = value if key in read else changed_settings({}, Changes(**{key: value}))[key]
        if was != now:
            was = "as in the input" if was is None else was
            raise UserError(
                f"{folder} was begun with --{key} {was}, got {value}; give another --output for a new set"
            )
    begun = begun_options(folder)
    for key in _GIVEN:
        value = getattr(changes, key)
        if value is not None and value != begun.get(key):
            raise UserError(
                f"{folder} was begun {_with(key, begun.get(key))}, got {value}; give another --output for a new set"
            )


def _check_alike(first: Path, folder: Path) -> None:
    """`UserError` where a cell was begun with another charge, spin, ... than the first one."""
    one, other = begun_options(first), begun_options(folder)
    for key in _OF_PHYSICS:
        if one.get(key) != other.get(key):
            raise UserError(
                f"{first} was begun {_with(key, one.get(key))} and {folder} {_with(key, other.get(key))}: the numbers "
                "of the set would not belong together; remove the folder of the wrong one, which is then run anew"
            )


def _check_complete(folder: Path, source: Source, changes: Changes) -> None:
    """`UserError` where a cell was begun with an option that the command does not give, and the input does not set."""
    own = {
        **source.settings,
        "average": average_of(source.settings),
        "nmts": xml.nmts(source.path.read_text()),
        **dict.fromkeys(_GIVEN),
    }
    for key, was in begun_options(folder).items():
        if getattr(changes, key) is None and was != own.get(key):
            raise UserError(
                f"{folder} was begun {_with(key, was)}, got none; give another --output for a new set, or continue "
                "this one with --resume"
            )


def _with(key: str, value: object) -> str:
    option = f"--{key.replace('_', '-')}"
    return f"without {option}" if value is None else f"with {option} {value}"


def _as_begun(folder: Path, source: Source, changes: Changes) -> Changes:
    """The changes with what they leave open taken from a cell that was begun.

    Its files show what the input has become, also by hand since then; the record holds what was given, such as a
    charge, which in the files may as well be that of its structure.
    """
    settings, path = read_yaml(folder / SETTINGS), folder / INPUT
    of_files = ("model", "dtype", "seed", *RESUMABLE)
    known: dict[str, Any] = {key: settings.get(key) for key in of_files}
    if known["seed"] == source.settings.get("seed"):
        known["seed"] = None  # given, it would take the place of i-PI's own as well
    average = average_of(settings)
    known["average"] = average if average != average_of(source.settings) else None
    text = path.read_text()
    known["steps"], nmts = xml.total_steps(text, path), xml.nmts(text)
    known["nmts"] = nmts if nmts != xml.nmts(source.path.read_text()) else None
    begun = begun_options(folder)
    if "endpoint" in begun:  # each has its own, and one average would be that of all
        known["average"] = None
    known |= begun
    given = {f.name: getattr(changes, f.name) for f in fields(changes)}
    return Changes(**known | {key: value for key, value in given.items() if value is not None})
