"""Runs of a plan as processes of ``ipi-driver run``, several at a time; one that fails does not stop the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ipi_driver.client.signals import handled_signals
from ipi_driver.errors import UserError
from ipi_driver.ipi_files.run_folder import RunFolder
from ipi_driver.runs.monitor import PropertyMonitor
from ipi_driver.runs.pair import WITHOUT_FOLDER
from ipi_driver.runs.sets import is_finished
from ipi_driver.shipped import shipped_folder
from ipi_driver.studies.langer2024.plan import Part, Settings, cells_folder, shipped_cells

_SEEDS = {"liquid-2i": 1, "liquid-random": 2}
"""Added to the seed: runs of one liquid that are compared have random numbers of their own."""

_COMMAND = WITHOUT_FOLDER + "from ipi_driver.cli import main; sys.exit(main())"
"""Where this command was given, so that paths and modules of the model are found, but no file there hides another."""

_PATIENCE = 60.0
"""Seconds that an interrupted run has to write its RESTART."""


@dataclass(frozen=True)
class Failure:
    """A run that ended before its end."""

    part: Part
    status: int
    log: Path


class Runs:
    """The runs of one output folder.

    Parameters
    ----------
    output
        Of the reproduction.
    settings
        Model and seed.
    threads
        Of each model.
    device
        Torch device of the models of the runs; None: that of the input.
    """

    def __init__(self, output: Path, settings: Settings, threads: int, device: str | None = None) -> None:
        self.output = output.resolve()
        self.settings = settings
        self.threads = threads
        self.device = device
        self.notes: list[str] = []
        self._monitors: dict[str, PropertyMonitor] = {}

    def folder(self, part: Part) -> Path:
        """The folder of a run."""
        return self.output / "runs" / part.name

    def log(self, part: Part) -> Path:
        """The messages of a run."""
        return self.output / "logs" / f"{part.name}.log"

    def complete(self, part: Part) -> bool:
        """Whether a run has come to its end."""
        folder = self.folder(part)
        if not part.is_set:
            return is_finished(folder, part.steps)
        names = self.cells(part)
        return all(is_finished(folder / name) for name in names)

    @staticmethod
    def cells(part: Part) -> list[str]:
        """Names of the cells of a set."""
        if part.structures:
            return list(part.structures)
        return shipped_cells(part.source)

    def command(self, part: Part) -> list[str]:
        """``ipi-driver run ...`` that begins a run, or continues it where there is something to continue."""
        folder = self.folder(part)
        command = [sys.executable, "-c", _COMMAND, "run", str(shipped_folder("inputs") / part.source)]
        command += ["--output", str(folder), "--threads", str(self.threads)]
        if self.device is not None:
            command += ["--device", self.device]
        # a set that was stopped before its first step has no cell that holds a model and an average to go on with
        runs = folder.glob("*") if part.is_set else [folder]
        begun = any(RunFolder(run).is_begun for run in runs)
        if part.steps is not None:
            command += ["--steps", str(part.steps)]
        if part.is_set and part.structures:
            command += ["--structures", str(cells_folder(self.output, part))]
        if begun:
            return [*command, "--resume"]
        command += [
            "--model",
            self.settings.model,
            "--seed",
            str(self.settings.seed + _SEEDS.get(part.name, 0)),
        ]
        if part.average is not None:
            command += ["--average", part.average]
        if part.stride is not None:
            command += ["--nmts", str(part.stride)]
        if part.structures and not part.is_set:
            command += ["--structure", str(shipped_folder("inputs") / part.source / part.structures[0])]
        return command

    def progress(self, part: Part) -> tuple[int, int]:
        """Steps (of a set: cells) done, and all of them; what cannot be read yet counts as nothing."""
        folder = self.folder(part)
        if part.is_set:
            names = self.cells(part)
            return sum(self._is_finished(folder / name) for name in names), len(names)
        total = part.steps or 1
        try:
            if part.name not in self._monitors:
                self._monitors[part.name] = PropertyMonitor(folder)
            return max(0, self._monitors[part.name].update().step), total
        except (OSError, ValueError, UserError):
            return 0, total

    @staticmethod
    def _is_finished(folder: Path) -> bool:
        """Whether a cell is done, as far as that can be read while it is written."""
        try:
            return is_finished(folder)
        except (OSError, ValueError, UserError):
            return False

    def execute(
        self, parts: Sequence[Part], jobs: int, watch: Callable[[Sequence[Part]], None]
    ) -> list[Failure]:
        """Run the parts, ``jobs`` at a time, in their order.

        Parameters
        ----------
        watch
            Called several times a second with the parts that are running.

        Raises
        ------
        KeyboardInterrupt
            After the runs have been asked to stop and have written what they need to be resumed.
        """
        waiting, failures = list(parts), []
        running: dict[subprocess.Popen[bytes], Part] = {}
        environment = dict(os.environ, OMP_NUM_THREADS=str(self.threads))
        (self.output / "logs").mkdir(parents=True, exist_ok=True)
        previous = {number: signal.signal(number, _interrupt) for number in handled_signals()}
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    part = waiting.pop(0)
                    with self.log(part).open("ab") as log:
                        process = subprocess.Popen(
                            self.command(part), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                            start_new_session=True,
                        )  # fmt: skip
                    running[process] = part
                watch(list(running.values()))
                time.sleep(0.3)
                for process in [p for p in running if p.poll() is not None]:
                    part = running.pop(process)
                    if process.returncode or not self.complete(part):
                        failures.append(Failure(part, process.returncode, self.log(part)))
        finally:
            _stop(list(running))  # none is left where all went well
            for number, handler in previous.items():
                signal.signal(number, handler)
        return failures


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    end = time.monotonic() + _PATIENCE
    for process in processes:
        try:
            process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
