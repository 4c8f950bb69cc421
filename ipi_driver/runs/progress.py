"""The progress of a run: a line on a terminal, of what fits into it, and a line now and then elsewhere."""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ipi_driver.runs.monitor import Progress
from ipi_driver.runs.relaxation import Relaxation

_LINE_EVERY = 10.0
"""Seconds between lines where there is no terminal."""
_WINDOW = 30.0
"""Seconds over which the speed is measured."""
_BAR = 20
"""Characters of the bar."""


class ProgressDisplay:
    """Shows steps, remaining time, conserved quantity, temperature and steps per second; a context manager.

    Parameters
    ----------
    name
        Of the run.
    first, total
        Steps done before this run, and to be done in all.
    console
        Where to show it.
    relaxation
        For a minimization, which ends when it has converged: estimates the steps that it still takes.
    endless
        Whether the run ends where its input does, as a replay, and ``total`` is no end.
    """

    def __init__(
        self,
        name: str,
        first: int,
        total: int,
        console: Console,
        relaxation: Relaxation | None = None,
        endless: bool = False,
    ) -> None:
        self._name, self._total, self._console, self._relaxation = name, total, console, relaxation
        self._endless = endless
        self._seen: deque[tuple[float, int]] = deque()
        self._last_line = time.monotonic()
        self._step, self._parts = first, ["starting"]
        self._live = Live(self, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> ProgressDisplay:
        if self._console.is_terminal:
            self._live.start()
        else:
            self.report(f"{self._name}: starting i-PI and the client")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def __rich__(self) -> Text:
        width = self._console.width - 1
        return Text(fitting(self._name, self._step, self._total, self._parts, width), no_wrap=True)

    @property
    def speed(self) -> float | None:
        """Steps per second of the last half minute; None where there are none yet."""
        if len(self._seen) < 2 or self._seen[-1][1] == self._seen[0][1]:
            return None
        (began, first), (_, last) = self._seen[0], self._seen[-1]
        return (last - first) / (time.monotonic() - began)

    @property
    def seconds_left(self) -> float | None:
        """Time that the rest takes at this speed; None where it is not known."""
        speed = self.speed
        if speed is None or self._endless:
            return None
        steps = self._total - self._step
        if self._relaxation is not None:
            estimate = self._relaxation.steps_left
            if estimate is None:
                return None
            steps = min(steps, estimate)
        return max(steps, 0) / speed

    def update(self, now: Progress, final: bool = False) -> None:
        """Show a row of the property file."""
        moment = time.monotonic()
        if not self._seen or now.step > self._seen[-1][1]:
            self._seen.append((moment, now.step))
        while len(self._seen) > 2 and moment - self._seen[0][0] > _WINDOW:
            self._seen.popleft()
        if self._relaxation is not None:
            self._relaxation.add(now)
        self._step = now.step
        left, speed = self.seconds_left, self.speed
        about = "about " if self._relaxation is not None else ""
        self._parts = [
            *([] if left is None else [f"{about}{clock(left)} left"]),
            *now.parts,
            "– steps/s" if speed is None else f"{speed:.3g} steps/s",
        ]
        due = moment - self._last_line > _LINE_EVERY
        if not self._console.is_terminal and (due or final):
            self._last_line = moment
            self.report("  ".join([f"step {now.step}/{self._total}", *self._parts]))

    def report(self, text: str) -> None:
        """A line of its own."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def fitting(name: str, step: int, total: int, parts: list[str], width: int) -> str:
    """One line of at most ``width`` characters: the count always, then the parts in their order, the name, a bar.

    >>> fitting("gas", 50, 100, ["0:10 left", "T 300 K"], 18)
    '50/100  0:10 left'
    >>> fitting("gas", 50, 100, ["0:10 left", "T 300 K"], 80)
    'gas  ━━━━━━━━━━──────────  50/100  0:10 left  T 300 K'
    """
    line = f"{step}/{total}"[:width]
    for part in parts:
        if len(line) + 2 + len(part) <= width:
            line = f"{line}  {part}"
    done = round(_BAR * min(1.0, step / total)) if total > 0 else 0
    bar = "━" * done + "─" * (_BAR - done)
    for before in (bar, name):
        if len(before) + 2 + len(line) <= width:
            line = f"{before}  {line}"
    return line


def clock(seconds: float) -> str:
    """``m:ss``, or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
