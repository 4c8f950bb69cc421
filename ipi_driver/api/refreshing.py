"""The summary of a run that still goes on, written by a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

from ipi_driver.runs.execute import Outcome
from ipi_driver.runs.pair import WITHOUT_FOLDER

_PROGRAM = f"""\
{WITHOUT_FOLDER}
from ipi_driver.api.simulation import _write_summary
from ipi_driver.runs.execute import Outcome
from pathlib import Path
import json
_write_summary(Path(sys.argv[1]), Outcome(**json.loads(sys.argv[2])))
"""
_LIMIT = 300.0
"""Seconds after which a summary is given up."""
_SLOW = 5.0
"""Seconds that a summary may take which is written after an interruption: a queue kills its jobs after thirty or so."""


class SummaryProcess:
    """Writes a summary when it is called; what draws figures grows with each, and a launcher lives for days.

    Attributes
    ----------
    slow
        Whether the last summary took too long to be written after an interruption, or was ended by `stop`.
    """

    def __init__(self) -> None:
        self.slow = False
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()

    def __call__(self, folder: Path, outcome: Outcome) -> None:
        """Write the summary of a run that has come so far."""
        began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(folder), json.dumps(asdict(outcome))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # an interruption is for the run
        )
        try:
            if not self._stopped.is_set():
                self._process.wait(_LIMIT)
        finally:
            self._process.kill()
            self._process.wait()
            self.slow = self._stopped.is_set() or time.monotonic() - began > _SLOW

    def stop(self) -> None:
        """End a summary that is being written, from another thread, and all that would follow."""
        self._stopped.set()
        if self._process is not None:
            self._process.kill()
