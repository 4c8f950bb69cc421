"""Signals that ask a training to end: it stops at the end of its epoch, whose checkpoint a resumed one goes on from."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import torch
import torch.distributed as dist

from ipi_driver.client.signals import OF_QUEUES, signals_handled_by

_TOGETHER = 1.0
"""Seconds within which signals count as one: a terminal and `torchrun` both send theirs to every process."""


class Stopping:
    """Whether a signal has asked for the end.

    Attributes
    ----------
    number
        Of the first signal, 0 before it.
    """

    def __init__(self) -> None:
        self.number = 0
        self._since = 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal; a second one acts at once, but for the SIGTERM of a queue after its early warning."""
        now, name = time.monotonic(), signal.Signals(number).name
        if self.number == 0:
            self.number, self._since = number, now
            text = f"{name}: the training stops at the end of this epoch, with a checkpoint; again: at once\n"
            with suppress(OSError):
                os.write(2, text.encode())  # what Python prints might be interrupted in the middle
        elif self.number in OF_QUEUES:
            self.number, self._since = number, now
        elif now - self._since > _TOGETHER:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            signal.raise_signal(number)

    def agreed(self, world_size: int, device: torch.device) -> bool:
        """Whether any of the processes is to stop; all of them ask at the same time."""
        if world_size > 1:
            number = torch.tensor([self.number], device=device)
            dist.all_reduce(number, dist.ReduceOp.MAX)
            self.number = int(number[0])
        return self.number > 0


@contextmanager
def signals_that_stop() -> Iterator[Stopping]:
    """Handle the signals that ask a process to end, in place of what they do else."""
    stopping = Stopping()
    with signals_handled_by(stopping):
        yield stopping
