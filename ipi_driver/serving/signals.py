"""The signals that ask a process to end."""

from __future__ import annotations

import signal


def heeded_signals() -> tuple[signal.Signals, ...]:
    """SIGINT, SIGTERM, SIGHUP, without those that this process was started to ignore.

    ``nohup`` has its command ignore SIGHUP, and a shell its background jobs SIGINT: a handler would undo that.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    return tuple(number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN)
