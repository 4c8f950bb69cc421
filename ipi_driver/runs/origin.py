"""What a run folder was begun from, so that --resume never goes on with the run of another input.

The record holds the place of the input and a digest of its content: its XML without comments, layout and number of
steps, its ``driver.yaml`` without where the model runs, and the files that it names. The same input is one at the
same place, or one with the same content at another.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ipi_driver.errors import UserError
from ipi_driver.ipi_files import edit as xml
from ipi_driver.ipi_files.run_folder import INPUT, SETTINGS
from ipi_driver.potentials.registry import located_potential
from ipi_driver.runs.changes import RESUMABLE, Changes
from ipi_driver.shipped import find_shipped, shipped_folder
from ipi_driver.yaml_file import load_yaml

ORIGIN = ".begun-from"
"""The record in a run folder; those of earlier versions have none."""
_OF_MACHINE = ("device", "threads", "rotation_batch", "stats", "watch")
"""Settings of the client that leave an input what it is."""
_OF_TEXT: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("nmts", "seed", "spin", "monitor_stride"), int),
    **dict.fromkeys(("charge", "tolerance"), float),
    "pbc": "True".__eq__,
    "endpoint": ast.literal_eval,
}
"""From the texts of a record back to the values of `Changes`; others are texts themselves."""


def input_file(given: str | Path) -> Path:
    """The XML file that the command line names: of a shipped input, of a folder, or the file itself.

    Raises
    ------
    UserError
        If there is no such file.
    """
    found = find_shipped("inputs", given)
    path = found if found.is_file() else found / INPUT
    if not path.is_file():
        raise UserError(f"{found} is not an input folder: it has no {INPUT}; `ipi-driver new` makes one")
    return path


def input_name(path: Path) -> str:
    """Of the default run folder: the input's folder, and its file where that is not input.xml."""
    return path.parent.name if path.name == INPUT else path.stem


def given_name(given: Path) -> str:
    """The same of what the command line names, which need not exist any more."""
    return input_name(given.resolve()) if given.suffix == ".xml" else given.resolve().name


def write_origin(path: Path, output: Path, changes: Changes) -> None:
    """Record in the run folder ``output`` that it is begun from the input ``path`` with some changes."""
    record: dict[str, Any] = {"input": _place(path), "name": input_name(path), "digest": _digest(path)}
    record["options"] = _options(changes, path.parent)
    (output / ORIGIN).write_text(json.dumps(record, indent=2) + "\n")


def check_origin(output: Path, given: str | Path) -> str | None:
    """As `check_origins`, of one run folder."""
    return check_origins([output], given)


def check_origins(outputs: Sequence[Path], given: str | Path) -> str | None:
    """Compare the input of the command line with that which run folders were begun from.

    Returns
    -------
    str or None
        A note where the input has changed at its place since then: the first such run goes on as it was begun.

    Raises
    ------
    UserError
        If they are different inputs. The input need not exist any more if it has the name that it had.
    """
    note = digest = None
    for output in outputs:
        record = _read(output)
        if record is None or _is_folder(given, output):
            continue
        try:
            path = input_file(given)
        except UserError:
            if given_name(Path(given)) == record["name"]:
                continue
            raise UserError(_refusal(output, record, f"{given}, which is not there")) from None
        digest = digest or _digest(path)  # once for all
        if digest == record["digest"]:
            continue
        if _place(path) != record["input"]:
            raise UserError(_refusal(output, record, str(path)))
        note = note or (
            f"{path} or a file that it names has changed since {output} was begun, which goes on as it was begun"
        )
    return note


def changes_to_go_on(output: Path, changes: Changes, exact: bool) -> Changes:
    """Those of the changes that a run which goes on takes; the others must be what it was begun with.

    Parameters
    ----------
    output
        The run folder.
    changes
        Of the command line.
    exact
        Whether the run must have been begun with all that the command line gives, and with nothing else, so that a
        command which is given again never goes on with the run of another.

    Raises
    ------
    UserError
        If a change differs, or the folder, made by an earlier version, does not record it.
    """
    record = _read(output) or {}
    begun = record.get("options")
    given = _options(changes, _input_folder(record))
    if begun is None and given and not exact:
        key = next(iter(given))
        raise UserError(
            f"--resume continues a run as it was; --{_option(key)} belongs to a new run (give another --output)"
        )
    known: dict[str, str] = begun if isinstance(begun, dict) else given
    for key in dict.fromkeys([*given, *known]):
        was, now = known.get(key), given.get(key)
        if now == was or (now is None and not exact):
            continue
        option = f"--{_option(key)}"
        raise UserError(
            f"{output} was begun {f'with {option} {was}' if was else f'without {option}'}, got "
            f"{f'{option} {now}' if now else 'none'}; give another --output (a job: another --job-name) for another run"
        )
    return Changes(**{key: getattr(changes, key) for key in RESUMABLE})


def begun_options(output: Path) -> dict[str, Any]:
    """The options that a run was begun with, as `Changes` takes them; without its structure.

    Empty for a run folder of an earlier version, which does not record them.
    """
    options = (_read(output) or {}).get("options")
    known = options if isinstance(options, dict) else {}
    return {key: _OF_TEXT.get(key, str)(text) for key, text in known.items() if key != "structure"}


def _option(key: str) -> str:
    return key.replace("_", "-")


def _options(changes: Changes, folder: Path | None) -> dict[str, str]:
    """What makes a run another one, as text; a structure by its name and what is in the file."""
    found = {}
    for key, value in vars(changes).items():
        if value is None or key in RESUMABLE:
            continue
        if key == "model":
            value = located_potential(value, Path())
        if key == "structure":
            files = [value, *([] if folder is None else [folder / value])]
            file = next((path for path in files if path.is_file()), None)
            content = "" if file is None else f" ({hashlib.sha256(file.read_bytes()).hexdigest()[:12]})"
            value = f"{value.name}{content}"
        found[key] = str(value)
    return found


def _input_folder(record: dict[str, Any]) -> Path | None:
    """Where the input lies that a run was begun from."""
    place = str(record.get("input", ""))
    if not place:
        return None
    shipped = place.removeprefix("the shipped ")
    return shipped_folder("inputs") / shipped if shipped != place else Path(place).parent


def _refusal(output: Path, record: dict[str, Any], got: str) -> str:
    return (
        f"{output} was begun from {record['input']}, got {got}; give another --output for another run, or continue "
        f"this one with: ipi-driver run {output} --resume"
    )


def _read(output: Path) -> dict[str, Any] | None:
    """The record; None where there is none, or the disk was full when it was written."""
    with suppress(OSError, ValueError):
        record = json.loads((output / ORIGIN).read_text())
        if isinstance(record, dict) and {"input", "name", "digest"} <= record.keys():
            return record
    return None


def _is_folder(given: str | Path, output: Path) -> bool:
    """Whether the run folder itself is given, or the input in it."""
    path = Path(given).resolve()
    return output.resolve() in (path, path.parent)


def _place(path: Path) -> str:
    """The path, or for a shipped input, which each installation has at another place, its name."""
    shipped = shipped_folder("inputs").resolve()
    path = path.resolve()
    return f"the shipped {path.parent.name}" if path.parent.parent == shipped else str(path)


def _digest(path: Path) -> str:
    """Digest of the content of an input, and of the files that it names."""
    text, folder = path.read_text(), path.parent
    content = (
        xml.masked(xml.with_total_steps(text, 0)) if xml.value(text, "total_steps") else xml.masked(text)
    )
    settings = _settings(folder / SETTINGS)
    digest = hashlib.sha256(json.dumps([content.split(), settings], sort_keys=True, default=str).encode())
    named = [folder / name for name in xml.all_files_named(text, folder)]
    named += [folder / str(settings[key]) for key in ("structure", "input") if key in settings]
    for file in named:
        if file.is_file() and file != path:
            with file.open("rb") as stream:
                for part in iter(lambda s=stream: s.read(1 << 20), b""):  # type: ignore[misc]
                    digest.update(part)
    return digest.hexdigest()


def _settings(path: Path) -> dict[str, Any]:
    """``driver.yaml`` as it is written, without making its paths absolute."""
    with suppress(OSError, UserError):
        found = load_yaml(path)
        if isinstance(found, dict):
            return {str(key): value for key, value in found.items() if key not in _OF_MACHINE}
    return {}
