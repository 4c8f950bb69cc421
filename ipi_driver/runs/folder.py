"""The questions that the launcher asks of a run folder, by its path; `RunFolder` answers them."""

from __future__ import annotations

from pathlib import Path

from ipi_driver.ipi_files.input import OutputFile
from ipi_driver.ipi_files.run_folder import (
    CONTINUE,
    INPUT,
    SETTINGS,
    STARTING,
    RunFolder,
    is_checkpoint_name,
    keep_checkpoint,
    kept_name,
    unused_name,
)

__all__ = [
    "CONTINUE",
    "INPUT",
    "SETTINGS",
    "STARTING",
    "RunFolder",
    "checkpoint_steps",
    "checkpoints",
    "damaged_checkpoints",
    "has_rows",
    "is_checkpoint_name",
    "is_run",
    "is_starting",
    "keep_checkpoint",
    "kept_checkpoints",
    "kept_name",
    "outputs",
    "outputs_of",
    "set_aside",
    "swap_files",
    "unused_name",
    "written_files",
]


def is_starting(folder: Path) -> bool:
    """As `RunFolder.is_starting`."""
    return RunFolder(folder).is_starting


def is_run(folder: Path) -> bool:
    """As `RunFolder.is_run`."""
    return RunFolder(folder).is_run


def checkpoints(folder: Path) -> dict[int, Path]:
    """As `RunFolder.checkpoints`."""
    return RunFolder(folder).checkpoints()


def checkpoint_steps(folder: Path) -> dict[Path, int]:
    """As `RunFolder.checkpoint_steps`."""
    return RunFolder(folder).checkpoint_steps()


def damaged_checkpoints(folder: Path) -> dict[Path, str]:
    """As `RunFolder.damaged_checkpoints`."""
    return RunFolder(folder).damaged_checkpoints()


def kept_checkpoints(folder: Path) -> list[Path]:
    """As `RunFolder.kept_checkpoints`."""
    return RunFolder(folder).kept_checkpoints()


def outputs(folder: Path) -> list[Path]:
    """As `RunFolder.outputs`."""
    return RunFolder(folder).outputs()


def outputs_of(folder: Path, output: OutputFile) -> list[Path]:
    """As `RunFolder.files_of`."""
    return RunFolder(folder).files_of(output)


def swap_files(folder: Path) -> list[Path]:
    """As `RunFolder.swap_files`."""
    return RunFolder(folder).swap_files()


def has_rows(folder: Path) -> bool:
    """As `RunFolder.has_rows`."""
    return RunFolder(folder).has_rows()


def written_files(folder: Path) -> list[Path]:
    """As `RunFolder.written_files`."""
    return RunFolder(folder).written_files()


def set_aside(folder: Path) -> None:
    """As `RunFolder.set_aside`."""
    RunFolder(folder).set_aside()
