"""Recognizing what each folder is, and analyzing it accordingly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ipi_driver.analysis.common import open_system
from ipi_driver.analysis.gas import analyze_gas
from ipi_driver.analysis.ice import (
    RelaxedSet,
    analyze_relaxations,
    compare_relaxations,
    number_cells,
)
from ipi_driver.analysis.liquid import analyze_liquid
from ipi_driver.analysis.replay import analyze_replay
from ipi_driver.analysis.result import Analysis, Options
from ipi_driver.errors import UserError
from ipi_driver.ipi_files import Run
from ipi_driver.ipi_files.exchange import runs_of
from ipi_driver.ipi_files.run_folder import RunFolder

StartProgress = Callable[[str, int], Callable[[int], None]]
"""(description, number of snapshots) -> a function that is called with snapshots done."""


def find_runs(folder: Path, systems: Sequence[str] = ()) -> list[Run]:
    """The run in a folder, or the runs in its subfolders; of several systems each, or those that are named.

    Raises
    ------
    UserError
        If there is none.
    """
    if not folder.is_dir():
        raise UserError(f"no run folder {folder}: give the folder in which i-PI wrote its output")
    if list(folder.glob("*.xml")):
        return runs_of(folder, systems)
    inside = [
        run
        for child in sorted(folder.iterdir())
        # a cell that failed before its first step holds an input and nothing else
        if child.is_dir() and list(child.glob("*.xml")) and not RunFolder(child).is_starting
        for run in runs_of(child, systems)
    ]
    if not inside:
        raise UserError(
            f"{folder} is not a run folder: expected i-PI's input.xml in it or in its subfolders, found none"
        )
    return inside


def analyze_folders(
    folders: Sequence[Path], options: Options, start: StartProgress = lambda text, total: lambda n: None
) -> list[Analysis]:
    """Analyze every folder; relaxations of the same cells are compared with the first set.

    A folder is one run, or holds the relaxations of several cells.

    Raises
    ------
    UserError
        If a folder is not a run, or runs of one kind are of different systems.
    """
    analyses: list[Analysis] = []
    relaxed: list[RelaxedSet] = []
    for folder in folders:
        runs = find_runs(folder, options.systems)
        if all(run.settings.motion == "minimize" for run in runs):
            tick = start(folder.name, sum(run.n_snapshots() for run in runs))
            relaxed.append(analyze_relaxations(folder, runs, options, tick))
            analyses.append(relaxed[-1].analysis)
            continue
        for run in runs:
            analyses.append(_analyze(run, options, start))
    make_labels_unique(analyses)
    number_cells(relaxed)
    for other in relaxed[1:]:
        compare_relaxations(relaxed[0], other)
    check_same_systems(analyses)
    return analyses


def _analyze(run: Run, options: Options, start: StartProgress) -> Analysis:
    system = open_system(run, options)
    if run.settings.motion == "replay":
        return analyze_replay(system, options, start(run.name, run.n_snapshots()))
    total = 0
    for name in ("positions", "velocities", "forces"):
        with suppress(UserError):  # no file, or no complete snapshot in it: what needs it is left out
            total += run.n_snapshots("momenta" if _only_momenta(run, name) else name)
    tick = start(run.name, total)
    return (
        analyze_gas(system, options, tick) if system.kind == "gas" else analyze_liquid(system, options, tick)
    )


def _only_momenta(run: Run, quantity: str) -> bool:
    return quantity == "velocities" and run.trajectory("velocities") is None


def check_same_systems(analyses: Sequence[Analysis]) -> None:
    """Runs of one kind are drawn over each other: they must be of the same system.

    Relaxations are compared cell by cell, by name, and need not hold the same number of cells.
    """
    first: dict[str, Analysis] = {}
    for analysis in analyses:
        if "ice_relaxed" in analysis.curves:
            continue
        known = first.setdefault(analysis.kind, analysis)
        if _composition(known) != _composition(analysis):
            raise UserError(
                f"runs of different systems cannot be overlaid: {known.source} is {known.system}, "
                f"{analysis.source} is {analysis.system}; analyze them one by one (systems of one run: --system)"
            )


def _composition(analysis: Analysis) -> list[int]:
    return [] if analysis.structure is None else sorted(analysis.structure.numbers.tolist())


def make_labels_unique(analyses: Sequence[Analysis]) -> None:
    """Put as many parents of the folder before equal labels as it takes; the same folder twice gets a number."""
    parents = {id(analysis): list(Path(analysis.source).resolve().parent.parts) for analysis in analyses}
    while same := _with_equal_labels(analyses):
        if not any(parents[id(analysis)] for analysis in same):
            break
        for analysis in same:
            if parents[id(analysis)]:
                analysis.label = f"{parents[id(analysis)].pop().strip('/')}/{analysis.label}"
    for number, analysis in enumerate(_with_equal_labels(analyses), start=1):
        analysis.label = f"{analysis.label} #{number}"


def _with_equal_labels(analyses: Sequence[Analysis]) -> list[Analysis]:
    labels = [analysis.label for analysis in analyses]
    return [analysis for analysis in analyses if labels.count(analysis.label) > 1]
