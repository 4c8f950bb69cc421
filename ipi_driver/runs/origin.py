"""What a run folder was begun from, so that --resume never goes on with the run of another input.

The record holds the place of the input and a digest of its content: its XML without comments, layout and number of
steps, its ``driver.yaml`` without where the model runs, and the files that it names. The same input is one at the
same place, or one with the same content at another.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from ipi_driver.errors import UserError
from ipi_driver.ipi_files import edit as xml
from ipi_driver.ipi_files.run_folder import INPUT, SETTINGS
from ipi_driver.shipped import find_shipped, shipped_folder
from ipi_driver.yaml_file import load_yaml

ORIGIN = ".begun-from"
"""The record in a run folder; those of earlier versions have none."""
_OF_MACHINE = ("device", "threads", "rotation_batch", "stats", "watch")
"""Settings of the client that leave an input what it is."""


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


def write_origin(path: Path, output: Path) -> None:
    """Record in the run folder ``output`` that it is begun from the input ``path``."""
    record = {"input": _place(path), "name": input_name(path), "digest": _digest(path)}
    (output / ORIGIN).write_text(json.dumps(record, indent=2) + "\n")


def check_origin(output: Path, given: str | Path) -> str | None:
    """Compare the input of the command line with that which a run folder was begun from.

    Returns
    -------
    str or None
        A note where the input has changed at its place since then: the run goes on as it was begun.

    Raises
    ------
    UserError
        If they are different inputs. The input need not exist any more if it has the name that it had.
    """
    record = _read(output)
    if record is None or _is_folder(given, output):
        return None
    try:
        path = input_file(given)
    except UserError:
        if given_name(Path(given)) == record["name"]:
            return None
        raise UserError(_refusal(output, record, f"{given}, which is not there")) from None
    if _digest(path) == record["digest"]:
        return None
    if _place(path) == record["input"]:
        return f"{path} or a file that it names has changed since {output} was begun, which goes on as it was begun"
    raise UserError(_refusal(output, record, str(path)))


def _refusal(output: Path, record: dict[str, str], got: str) -> str:
    return (
        f"{output} was begun from {record['input']}, got {got}; give another --output for another run, or continue "
        f"this one with: ipi-driver run {output} --resume"
    )


def _read(output: Path) -> dict[str, str] | None:
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
