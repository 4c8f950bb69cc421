"""What happened to a run besides its steps: restarts, damaged checkpoints, gaps; one JSON object a line.

The lines stay in the run folder (``events.jsonl``), so that the summary and `ipi-driver status` can list them.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

EVENTS = "events.jsonl"


def add_event(folder: Path, kind: str, text: str, step: int | None = None) -> None:
    """Append an event; a disk that is full does not end a run for it.

    Parameters
    ----------
    folder
        The run folder.
    kind
        "restart", "checkpoint", "resume", "physics", "symmetry", "client".
    text
        A sentence.
    step
        i-PI step, where it belongs to one.
    """
    event = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "kind": kind, "step": step, "text": text}
    with suppress(OSError), (folder / EVENTS).open("a") as file:
        file.write(json.dumps(event) + "\n")


def read_events(folder: Path) -> list[dict[str, Any]]:
    """The events of a run, oldest first; lines that cannot be read are left out."""
    events = []
    with suppress(OSError):
        for line in (folder / EVENTS).read_text(errors="replace").splitlines():
            with suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict) and "text" in event:
                    events.append(event)
    return events
