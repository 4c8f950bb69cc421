"""The progress of a run: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from ipi_driver.runs.monitor import Progress

_LINE_EVERY = 10.0
"""Seconds between lines where there is no terminal."""
_WINDOW = 30.0
"""Seconds over which the speed is measured."""


class ProgressDisplay:
    """Shows steps, steps per second, remaining time, temperature and conserved quantity; a context manager.

    Parameters
    ----------
    name
        Of the run.
    first, total
        Steps done before this run, and to be done in all.
    console
        Where to show it.
    """

    def __init__(self, name: str, first: int, total: int, console: Console) -> None:
        self._name, self._total, self._console = name, total, console
        self._seen: deque[tuple[float, int]] = deque()
        self._said = time.monotonic()
        columns = [TextColumn("[bold]{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn()]
        columns += [TextColumn("{task.fields[state]}", markup=False)]
        self._bar = Bar(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task(name, total=total, completed=first, state="starting")

    def __enter__(self) -> ProgressDisplay:
        self._bar.start()
        if not self._console.is_terminal:
            self.say(f"{self._name}: starting i-PI and the client")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, now: Progress, final: bool = False) -> None:
        """Show a row of the property file."""
        state = f"{self._speed(now.step)}  {now.text}"
        self._bar.update(self._task, completed=now.step, state=state)
        due = time.monotonic() - self._said > _LINE_EVERY
        if not self._console.is_terminal and (due or final):
            self._said = time.monotonic()
            self.say(f"step {now.step}/{self._total}  {state}")

    def say(self, text: str) -> None:
        """A line of its own."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _speed(self, step: int) -> str:
        """Steps per second of the last half minute, and the time that the rest takes."""
        moment = time.monotonic()
        if not self._seen or step > self._seen[-1][1]:
            self._seen.append((moment, step))
        while len(self._seen) > 2 and moment - self._seen[0][0] > _WINDOW:
            self._seen.popleft()
        (began, first), (_, last) = self._seen[0], self._seen[-1]
        if last == first:
            return "– steps/s"
        rate = (last - first) / (moment - began)
        return f"{rate:.3g} steps/s  {_clock((self._total - step) / rate)} left"


def _clock(seconds: float) -> str:
    """``m:ss``, or ``h:mm:ss``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
