"""The summary of a run that still goes on: written again at checkpoints, beside the simulation, now and then."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from contextlib import suppress

_EVERY = 60.0
"""Least seconds between two summaries."""
_SHARE = 50.0
"""Times as long as a summary takes between two of them, so that it costs 2 % of one core at most."""


class Refresher:
    """Calls ``refresh(step)`` in a thread of its own after checkpoints, not often, and never twice at a time.

    Parameters
    ----------
    refresh
        Writes the summary of a run that has done ``step`` steps; what it raises is dropped, as the run goes on.
    stop
        Makes ``refresh`` return at once.
    every
        Least seconds between two calls, and before the first.
    """

    def __init__(
        self,
        refresh: Callable[[int], object],
        stop: Callable[[], object] = lambda: None,
        every: float = _EVERY,
    ) -> None:
        self._refresh, self._stop, self._every = refresh, stop, every
        self._next = time.monotonic() + every
        self._thread: threading.Thread | None = None

    def checkpoint(self, step: int) -> None:
        """i-PI has written a checkpoint of this step."""
        if time.monotonic() < self._next or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = threading.Thread(target=self._run, args=(step,), daemon=True)
        self._thread.start()

    def finish(self, interrupted: bool = False) -> None:
        """Wait for a summary that is being written, before another one takes its place.

        After an interruption it is ended instead: who has sent the signal kills what is still there some seconds later.
        """
        if self._thread is not None:
            if interrupted and self._thread.is_alive():
                self._stop()
            self._thread.join()

    def _run(self, step: int) -> None:
        began = time.monotonic()
        with suppress(Exception):
            self._refresh(step)
        gc.collect()  # a figure refers to itself: 15 MB each, which Python would let pile up to 100 MB and more
        now = time.monotonic()
        self._next = now + max(self._every, _SHARE * (now - began))
