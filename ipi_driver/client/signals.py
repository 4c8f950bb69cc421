"""The signals that ask a process to end."""

from __future__ import annotations

import signal

OF_QUEUES = (signal.SIGUSR1, signal.SIGUSR2)
"""What queues send before the time of a job is over; without a handler they end a process."""


def handled_signals() -> tuple[signal.Signals, ...]:
    """SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, without those that this process was started to ignore.

    ``nohup`` has its command ignore SIGHUP, and a shell its background jobs SIGINT: a handler would undo that.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, *OF_QUEUES)
    return tuple(number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN)
