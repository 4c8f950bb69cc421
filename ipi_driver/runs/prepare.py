"""The run folder: a copy of an input with the changes of the command line applied; comments of the XML survive."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import ase.io

from ipi_driver.client.settings import ServeSettings, read_yaml
from ipi_driver.errors import UserError
from ipi_driver.ipi_files import edit as xml
from ipi_driver.ipi_files.active import active_atoms, part_of
from ipi_driver.ipi_files.comment import ipi_comment
from ipi_driver.ipi_files.run_folder import INPUT, LOCK, SETTINGS, STARTING, RunFolder, is_checkpoint_name
from ipi_driver.ipi_files.start import conditions_of_run, pbc_of_run, read_start, write_start
from ipi_driver.ipi_files.template import check_not_wrapped, read_template
from ipi_driver.runs.changes import Changes, changed_settings, check_settings, write_settings
from ipi_driver.runs.lock import locked
from ipi_driver.runs.origin import input_file, input_name, write_origin
from ipi_driver.runs.sockets import (
    check_endpoints,
    check_has_socket,
    endpoints_of,
    with_address,
    with_addresses,
    with_free_ports,
    with_own_names,
)
from ipi_driver.runs.symmetry_monitor import monitor_settings, with_monitor
from ipi_driver.structure import Structure

_SLAB = "structure.extxyz"
"""Elements and periodic directions of a start that is periodic along some directions only."""


@dataclass(frozen=True)
class Source:
    """Where a run starts from: an i-PI input, its folder, and the settings of the client."""

    path: Path
    settings: dict[str, Any]

    @property
    def folder(self) -> Path:
        return self.path.parent

    @property
    def name(self) -> str:
        """Of the default run folder."""
        return input_name(self.path)


def find_source(source: str | Path, changes: Changes) -> Source:
    """The input that the command line names: a shipped name, a folder, or an XML file.

    Raises
    ------
    UserError
        If there is no input, or no ``driver.yaml`` beside it and no model given either.
    """
    path = input_file(source)
    settings_path = path.parent / SETTINGS
    if settings_path.is_file():
        return Source(path, read_yaml(settings_path))
    check_has_socket(path.read_text(), path)
    if changes.model is None:
        raise UserError(
            f"{path.parent} has no {SETTINGS}, which names the model of each socket; write one "
            "(`ipi-driver new` gives an example), or give --model"
        )
    return Source(path, {"endpoints": endpoints_of(path.read_text()), "input": path})


def prepare(
    source: Source, output: Path, changes: Changes, lock: bool = True, keep: Collection[Path] = ()
) -> None:
    """Copy the input to ``output`` with the changes applied; nothing is written if anything is wrong.

    A folder in which no step was done is used again, also if it is the input's own: what i-PI has written there is
    removed, and nothing else. ``lock=False``: the caller holds the folder. ``keep``: files of the launcher that stay.

    Raises
    ------
    UserError
        If the input, the model or a setting is bad, a file is missing or would be overwritten, or ``output`` is not
        empty.
    """
    run = RunFolder(output)
    if output.exists() and not (output.is_dir() and _nothing_to_lose(run)):
        remedy = "continue the run with --resume, or give" if run.is_run else "give"
        raise UserError(f"{output} exists and is not empty; {remedy} another --output")
    text = source.path.read_text()
    settings = changed_settings(source.settings, with_addresses(changes, text))
    checked = check_settings(settings, str(source.folder / SETTINGS))
    check_endpoints(text, checked.endpoints, source.path)
    if changes.steps is not None:
        text = xml.with_total_steps(text, changes.steps)
    xml.total_steps(text, source.path)
    if changes.nmts is not None:
        text = xml.with_nmts(text, changes.nmts, source.path)
    if changes.seed is not None:
        text = xml.with_seed(text, changes.seed)
    if (monitor := monitor_settings(settings, source.path)) is not None:
        text, settings["endpoints"] = with_monitor(text, settings["endpoints"], monitor, source.path)
    start = _start(source, text, changes, checked)
    _check_not_wrapped(source, text, start, checked)
    slab = start if isinstance(start, ase.Atoms) and _is_slab(start) else None
    if isinstance(start, Path):  # to be copied into the run folder, whatever place the input names
        slab = _with_pbc_of_run(start, settings, source, text)
        settings |= {k: v for k, v in conditions_of_run(start).items() if settings.get(k) is None}
        named = str(xml.start_file(text))
        text = xml.with_renamed_file(text, named, Path(named).name)
        frames, template = source.folder / named, settings.get("structure")
        # a client that takes its species from the same frames goes on doing so
        if isinstance(template, Path) and os.path.normpath(template) == os.path.normpath(frames):
            settings["structure"] = source.folder / frames.name
    text, settings["endpoints"] = with_own_names(*with_free_ports(text, settings["endpoints"]))
    if changes.address is not None:
        text, settings["endpoints"] = with_address(text, settings["endpoints"], changes.address)
    text, outside = xml.with_files_inside(text, source.folder)
    files = xml.files_named(text, source.folder)
    settings, extra = _local_paths(settings, source.folder)
    name = None if start is None else xml.start_file(text) or "init.xyz"
    if isinstance(start, ase.Atoms):
        name, extra = Path(str(name)).with_suffix(".xyz").name, []  # the client takes its template there, too
        text = xml.with_start_file(text, name)
        settings |= {"structure": name, "pbc": bool(start.pbc.any()), **_conditions(start, settings)}
        settings.pop("input", None)
    if slab is not None:  # the xyz of i-PI has no place for its directions
        settings["structure"] = _SLAB
        settings.pop("pbc", None)
    if active_atoms(text, source.path):  # the client takes from the input which atoms it gets
        settings["input"] = INPUT
    extra = [path for path in extra if str(path) != name]
    if missing := [path for path in extra if not (source.folder / path).is_file()]:
        raise UserError(f"{source.folder / SETTINGS} names {missing[0]}, which is not there")
    copied = [] if _in_place(source, output) else list(dict.fromkeys([*files, *extra]))
    _check_nothing_is_lost(source, run, changes.structure, name, [*copied, *map(Path, outside)])

    output.mkdir(parents=True, exist_ok=True)
    with locked(output) if lock else nullcontext():
        for path in run.written_files():
            if path not in keep:
                path.unlink()
        (output / STARTING).touch()
        if not _in_place(source, output):
            write_origin(source.path, output, changes)
        for path in copied:
            (output / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.folder / path, output / path)
        for inner, outer in outside.items():
            shutil.copyfile(outer, output / inner)
        if isinstance(start, Path):
            shutil.copyfile(start, output / str(name))
        elif start is not None:
            write_start(start, output / str(name))
        if slab is not None:
            ase.io.write(output / _SLAB, slab, format="extxyz")
        (output / INPUT).write_text(text)
        write_settings(output, settings)


def _start(source: Source, text: str, changes: Changes, checked: ServeSettings) -> ase.Atoms | Path | None:
    """Structure that takes the place of the input's, or the whole trajectory that a replay goes through."""
    named, starts = xml.start_file(text), xml.initial_files(text)
    template = checked.structure or checked.input or source.path
    for name in starts:
        if changes.structure is not None and name == named:
            continue
        if is_checkpoint_name(name, text):
            raise UserError(
                f"{source.path} starts from {name}, which the run itself writes; rename that file"
            )
        if not (source.folder / name).is_file():
            remedy = "; give --structure FILE" if name == named else ""
            raise UserError(f"{source.path} starts from {name}, which is not there{remedy}")
    if changes.structure is None:
        return None
    if len(different := list(dict.fromkeys(xml.start_files(text)))) > 1:
        raise UserError(
            f"--structure is one start, and the systems of {source.path} have {', '.join(different)}; edit the input"
        )
    if named is not None and named not in starts:
        raise UserError(
            f"--structure replaces the <file> of <initialize>, and that of {source.path} is {named}, a label of its "
            "<system_template>: name the file in its <instance>"
        )
    path = _located(changes.structure, source.folder)
    if named is not None and xml.is_replay(text):
        comment = ipi_comment(path)
        if xml.start_mode(text) == "xyz" and not (comment and comment.has_cell):
            raise UserError(
                f"{path} is no xyz file of i-PI, whose frames have `CELL(abcABC): ...` in their comments; give a "
                "trajectory that i-PI wrote"
            )
        return path
    here = template if template != source.path or named is None else source.folder / named
    periodic = read_template(here, checked.pbc).periodic if here.is_file() else True
    if checked.pbc is not None and changes.pbc is not None:
        return read_start(path, checked.pbc, whatever=True)
    return read_start(path, periodic)


def _with_pbc_of_run(replayed: Path, settings: dict[str, Any], source: Source, text: str) -> ase.Atoms | None:
    """Give the settings of a replay the boundary conditions of the run whose trajectory it is; returns its slab."""
    pbc = pbc_of_run(replayed)
    if pbc is None or pbc.all() or settings.get("pbc") is not None:
        return None
    check_not_wrapped(text, pbc, source.path)
    if pbc.any():
        return read_start(replayed, periodic=True)
    settings["pbc"] = False
    return None


def _is_slab(start: ase.Atoms) -> bool:
    """Whether a structure is periodic along some directions only."""
    return bool(start.pbc.any() and not start.pbc.all())


def _conditions(start: ase.Atoms, settings: dict[str, Any]) -> dict[str, Any]:
    """Charge and spin of the starting structure, which i-PI's xyz cannot hold, where none is set."""
    given = Structure.from_atoms(start)
    found = {"charge": given.charge, "spin": given.spin}
    return {key: value for key, value in found.items() if value is not None and settings.get(key) is None}


def _check_not_wrapped(
    source: Source, text: str, start: ase.Atoms | Path | None, checked: ServeSettings
) -> None:
    if isinstance(start, ase.Atoms):
        check_not_wrapped(text, start.pbc, source.path)
        return
    file = start if isinstance(start, Path) else checked.structure or checked.input or source.path
    if not file.is_file():  # reported with the files to copy
        return
    template = read_template(file, checked.pbc)  # what a client could not read is refused before the start
    check_not_wrapped(text, template.pbc, source.path)
    for atoms in active_atoms(text, source.path).values():
        part_of(template, atoms, source.path)


def _in_place(source: Source, output: Path) -> bool:
    """Whether a run is begun in the folder of its input."""
    return source.folder.resolve() == output.resolve()


def _check_nothing_is_lost(
    source: Source, run: RunFolder, structure: Path | None, name: str | None, copied: list[Path]
) -> None:
    """`UserError` where a file of the user in ``output`` would be overwritten or removed.

    ``name`` is that of the file that takes the structure of the command line, ``copied`` are those of the input.
    """
    output = run.path
    written = [] if name is None else [output / name]
    if _in_place(source, output):
        written += [output / INPUT] if source.path.name != INPUT else []
        for path in written:
            if path.exists():
                raise UserError(f"{path} of the input itself would be overwritten; give another --output")
    if structure is not None and output.is_dir():
        path = _located(structure, source.folder).resolve()
        written += [*(output / file for file in copied), *run.written_files()]
        if path in [file.resolve() for file in written]:
            raise UserError(
                f"--structure {structure} lies in {output} and would be lost; give another --output"
            )


def _nothing_to_lose(run: RunFolder) -> bool:
    return run.is_starting or all(path.name == LOCK for path in run.path.iterdir())


def _located(path: Path, folder: Path) -> Path:
    """A structure file given from here, or one of the input's own (``init-512.xyz``)."""
    if path.is_file():
        return path
    if (folder / path).is_file():
        return folder / path
    raise UserError(f"no structure file {path}")


def _local_paths(settings: dict[str, Any], folder: Path) -> tuple[dict[str, Any], list[Path]]:
    """Settings whose paths are relative to the run folder, and the files to copy there."""
    local, files = dict(settings), []
    for key in ("structure", "input"):
        path = local.get(key)
        if not isinstance(path, Path):
            continue
        path = Path(os.path.normpath(path))
        if path.name == INPUT or path.suffix == ".xml":
            local[key] = INPUT  # the input itself, whatever it was called
        elif path.is_relative_to(folder):
            local[key] = str(path.relative_to(folder))
            files.append(path.relative_to(folder))
        else:
            local[key] = str(path)
    local.pop("stats", None)
    return local, files
