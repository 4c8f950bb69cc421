"""``status.json`` in a run folder: where the run stands, written by the launcher for those who look from elsewhere."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ipi_driver.runs.monitor import Progress
from ipi_driver.whole_file import write_whole

STATUS = "status.json"
EVERY = 5.0
"""Seconds between two writes."""


class LiveStatus:
    """Writes ``status.json`` now and then, and at the end.

    Parameters
    ----------
    folder
        The run folder.
    total
        Steps that the input asks for.
    """

    def __init__(self, folder: Path, total: int) -> None:
        self.total = total
        self._path = folder / STATUS
        self._written = -math.inf
        self._values: dict[str, Any] = {
            "state": "running",
            "step": 0,
            "total_steps": total,
            "host": platform.node(),
            "process": os.getpid(),
            "message": "",
        }

    def update(self, now: Progress, speed: float | None, seconds_left: float | None) -> None:
        """Take the last row of the property file, steps per second, and the time that is left."""
        self._values |= {
            "step": max(now.step, 0),
            "steps_per_second": speed,
            "seconds_left": seconds_left,
            "temperature": _finite(now.temperature),
            "change_of_conserved": _finite(now.change),
            "units": {"temperature": now.units[0], "conserved": now.units[1]},
        }
        if time.monotonic() - self._written > EVERY:
            self._write()

    def report(self, message: str) -> None:
        """The last thing that happened."""
        self._values["message"] = message
        self._write()

    def close(self, state: str, message: str = "", step: int | None = None) -> None:
        """How the run has ended: finished, stopped or failed."""
        self._values |= {"state": state, "message": message, "seconds_left": None}
        if step is not None:
            self._values["step"] = step
        self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        with suppress(OSError):  # a run does not end for it
            write_whole(self._path, json.dumps(self._values | {"updated": time.time()}, indent=2) + "\n")


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def read_status(folder: Path) -> dict[str, Any]:
    """What the launcher has written last; empty where there is nothing that can be read."""
    with suppress(OSError, ValueError):
        values = json.loads((folder / STATUS).read_text())
        if isinstance(values, dict):
            return values
    return {}
