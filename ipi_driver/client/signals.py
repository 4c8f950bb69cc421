"""The signals that ask a process to end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

OF_QUEUES = (signal.SIGUSR1, signal.SIGUSR2)
"""What queues send before the time of a job is over; without a handler they end a process."""


def handled_signals() -> tuple[signal.Signals, ...]:
    """SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, without those that this process was started to ignore.

    ``nohup`` has its command ignore SIGHUP, and a shell its background jobs SIGINT: a handler would undo that.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, *OF_QUEUES)
    return tuple(number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN)


@contextmanager
def signals_handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have ``handler`` called for the signals that ask a process to end, in place of what they do else.

    In another thread than the main one nothing is changed: signals belong to that one.
    """
    try:
        before = {number: signal.signal(number, handler) for number in handled_signals()}
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
