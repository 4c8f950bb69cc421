"""What a run folder holds: complete checkpoints, and whether anything would be lost with it."""

from __future__ import annotations

from pathlib import Path

from ipi_driver.serving import launcher_xml as xml

INPUT, SETTINGS = "input.xml", "driver.yaml"
STARTING = ".starting"
"""Empty file in a run folder until the launcher has seen the first step."""


def is_starting(folder: Path) -> bool:
    """Whether no step is done: such a folder holds nothing to lose.

    The mark alone does not say so: a launcher that was killed between a step and its next look at the outputs has left
    it there, and i-PI has written its checkpoint after that.
    """
    return (folder / STARTING).exists() and max(checkpoints(folder), default=0) <= 0


def checkpoints(folder: Path) -> dict[int, Path]:
    """Complete checkpoints in a folder by the number of steps done."""
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name != INPUT and _ends_like_xml(path):
            step = xml.value(path.read_text(errors="replace"), "step")
            if step is not None and step.isdigit():
                found[int(step)] = path
    return found


def _ends_like_xml(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 64))
        return stream.read().rstrip().endswith(b"</simulation>")
