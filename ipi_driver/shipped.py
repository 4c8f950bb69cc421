"""Where the inputs and models that come with the package are found, from any folder."""

from __future__ import annotations

from pathlib import Path

from ipi_driver.errors import UserError

_PACKAGE = Path(__file__).resolve().parent


def shipped_folder(kind: str) -> Path:
    """Folder of the shipped ``kind`` ("inputs" or "models"), in an installed package or a checkout."""
    installed = _PACKAGE / "_shipped" / kind
    return installed if installed.is_dir() else _PACKAGE.parent / kind


def shipped_names(kind: str) -> list[str]:
    """Names of the shipped inputs or models."""
    folder = shipped_folder(kind)
    # pip compiles the scripts among the inputs, into a folder beside theirs
    return sorted(p.name for p in folder.glob("[a-z]*") if p.is_dir())


def find_shipped(kind: str, name: str | Path) -> Path:
    """The folder that ``name`` means: a path that exists, else a shipped name ("gas-nvt", "inputs/gas-nvt").

    Raises
    ------
    UserError
        If neither exists; the message lists the shipped names.
    """
    path = Path(name)
    if path.exists():
        return path.resolve()
    parts = path.parts
    if len(parts) == 2 and parts[0] == kind:
        parts = parts[1:]
    candidate = shipped_folder(kind).joinpath(*parts)
    if len(parts) == 1 and candidate.is_dir():
        return candidate
    what = {"inputs": "input folder", "models": "model"}[kind]
    raise UserError(
        f"no {what} {str(name)!r}: not a path, and not one of the shipped: {', '.join(shipped_names(kind))}"
    )
