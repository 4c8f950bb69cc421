"""The progress of a training: a bar on a terminal, lines in a log file."""

from __future__ import annotations

import math
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ipi_driver.training.losses import StepResult
from ipi_driver.units import MILLI

_LINE_EVERY = 60.0
"""Seconds between lines where there is no terminal, beside those of the evaluations."""


class TrainingDisplay:
    """Shows loss, errors, the best model so far and the remaining time; a context manager.

    Parameters
    ----------
    console
        Where to show it.
    quiet
        Show nothing.
    """

    def __init__(self, console: Console, quiet: bool = False) -> None:
        self._console, self._quiet = console, quiet
        self._began, self._last_line = time.monotonic(), time.monotonic()
        self._first: float | None = None
        columns = (
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[state]}", markup=False),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console, disable=quiet or not console.is_terminal)
        self._task = self._bar.add_task("", total=1.0, epoch=0, state="")

    def __enter__(self) -> TrainingDisplay:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def step(self, epoch: int, step: int, progress: float, result: StepResult, best: float) -> None:
        """A step was made; ``progress`` is the fraction of the training done, ``best`` in eV/Å."""
        if self._first is None:
            self._first = progress
        done = min(1.0, progress)
        state = (
            f"loss {result.loss:.4f}  F {MILLI * result.force_mae:.1f} meV/Å  E {MILLI * result.energy_mae:.0f} meV"
            f"  {_best(best)}"
        )
        self._bar.update(self._task, completed=done, epoch=epoch, state=state)
        if not self._console.is_terminal and time.monotonic() - self._last_line > _LINE_EVERY:
            self._line(f"epoch {epoch}  step {step}  {100 * done:.1f} %  {state}{self._left(done)}")

    def evaluated(
        self, epoch: int, step: int, progress: float, force_mae: float, energy_mae: float, best: float
    ) -> None:
        """The validation structures were evaluated: errors in eV/Å, eV per structure."""
        if not self._console.is_terminal:
            done = min(1.0, progress)
            self._line(
                f"epoch {epoch}  step {step}  {100 * done:.1f} %  validation: F {MILLI * force_mae:.1f} meV/Å"
                f"  E {MILLI * energy_mae:.0f} meV  {_best(best)}{self._left(done)}"
            )

    def _line(self, text: str) -> None:
        if not self._quiet:
            self._last_line = time.monotonic()
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)
            self._console.file.flush()

    def _left(self, done: float) -> str:
        """Time that the rest takes at the speed so far."""
        first = self._first or 0.0
        if done <= first or done >= 1.0:
            return ""
        minutes = (1.0 - done) / (done - first) * (time.monotonic() - self._began) / 60.0
        return f"  {minutes / 60.0:.1f} h left" if minutes > 90.0 else f"  {math.ceil(minutes)} min left"


def _best(force_mae: float) -> str:
    """The best model so far, which there is not before the first evaluation."""
    return f"best {MILLI * force_mae:.1f}" if math.isfinite(force_mae) else "best –"
