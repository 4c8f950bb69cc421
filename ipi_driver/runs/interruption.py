"""The signals that ask a run to end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from ipi_driver.client.signals import OF_QUEUES, signals_handled_by
from ipi_driver.errors import UserError


class Interrupted(UserError):
    """A signal ended the run before its first step."""

    status = 130


@dataclass
class Interruption:
    """Signals received so far."""

    received: list[int] = field(default_factory=list)

    @property
    def number(self) -> int:
        return self.received[0] if self.received else 0

    @property
    def impatient(self) -> bool:
        """Whether two signals were received; the early warning of a queue, before its SIGTERM, does not count."""
        return sum(number not in OF_QUEUES for number in self.received) > 1

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)


@contextmanager
def caught_signals() -> Iterator[Interruption]:
    """Record the signals that ask a process to end, in place of their default action."""
    interruption = Interruption()
    with signals_handled_by(interruption):
        yield interruption
