"""Table, figure and JSON at the end of `ipi-driver run`."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ipi_driver.analysis.run_statistics import (
    force_std,
    has_time,
    is_minimization,
    largest_forces,
    monitored_std,
    run_statistics,
    systems_of,
    table_with,
)
from ipi_driver.ipi_files.exchange import runs_of
from ipi_driver.ipi_files.outputs import Run
from ipi_driver.report.style import COLORS, STYLE, new_figure, shown
from ipi_driver.report.tables import formatted
from ipi_driver.runs.console import lenient_console
from ipi_driver.runs.ending import has_converged
from ipi_driver.runs.events import read_events
from ipi_driver.runs.execute import Outcome
from ipi_driver.structure import FloatArray
from ipi_driver.units import FS_PER_PS, MILLI
from ipi_driver.whole_file import write_together, write_whole

_RELAXATION = (
    ("energy_per_molecule", "potential energy", "{:.6f} eV/molecule"),
    ("relaxation_energy", "energy of relaxation", "{:.3f} meV/molecule"),
    ("largest_force", "largest force component", "{:.3g} meV/Å"),
)


def summarize(folder: Path, outcome: Outcome) -> dict[str, Any]:
    """`run_statistics` with how the run ended and how fast it was."""
    summary = run_statistics(folder)
    if is_minimization(Run(folder, system=systems_of(folder)[0])):
        summary["converged"] = has_converged(folder)
    events = read_events(folder)
    summary["restarts"] = sum(event.get("kind") == "restart" for event in events)
    summary["notes"] += [event["text"] for event in events]
    done = max(outcome.steps - outcome.first_step, 0)
    summary |= {
        "steps": outcome.steps,
        "total_steps": outcome.total,
        "finished": outcome.finished,
        "reason": outcome.reason,
        "wall_seconds": outcome.wall_seconds,
        "steps_per_second": done / outcome.wall_seconds if outcome.wall_seconds > 0 else None,
    }
    return summary


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Write ``summary.json`` and ``summary.png`` into the run folder."""
    write_whole(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    plot_run(folder)


def print_summary(folder: Path, summary: dict[str, Any], console: Console | None = None) -> None:
    """Print the table on standard output."""
    state = "finished" if summary["finished"] else f"stopped: {summary['reason']}"
    if summary["finished"] and "converged" in summary:
        state = "converged" if summary["converged"] else "finished, not converged"
    table = Table(title=escape(f"{folder.name}: {state}"), show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_row("i-PI steps", f"{summary['steps']} of {summary['total_steps']}")
    if "simulated_ps" in summary:
        table.add_row("simulated time", f"{summary['simulated_ps']:.4g} ps")
    if summary["steps_per_second"]:
        speed = f"{summary['steps_per_second']:.3g} steps/s ({summary['wall_seconds']:.0f} s with the start)"
        table.add_row("speed", speed)
    for name, part in {"": summary, **summary.get("systems", {})}.items():
        _add_dynamics(table, part, name)
    if "swaps" in summary:
        table.add_row("steps with a swap of replicas", str(summary["swaps"]))
    for key, name, layout in _RELAXATION:
        if key in summary:
            table.add_row(name, layout.format(summary[key]))
    if summary.get("mean_force_spread"):
        table.add_row(
            "mean spread of the forces", f"{summary['mean_force_spread']:.3g} meV/Å over the rotations"
        )
    if "monitor" in summary:
        largest, mean = summary["monitor"]["largest"], summary["monitor"]["mean"]
        table.add_row("symmetry error (monitor)", f"{mean:.3g} meV/Å, at most {largest:.3g}")
    if summary["restarts"]:
        table.add_row("restarts", str(summary["restarts"]))
    for label, counts in summary.get("endpoints", {}).items():
        what = f"{counts['evaluations']} evaluations, {counts['frames']} rotations, {counts['model_seconds']:.3g} s"
        table.add_row(f"{label} ({counts['average']})", what)
    console = console or lenient_console(sys.stdout)
    console.print(table)
    for note in summary["notes"]:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"figure: {folder / 'summary.png'}", highlight=False, markup=False, soft_wrap=True)


def _add_dynamics(table: Table, part: dict[str, Any], system: str) -> None:
    """Rows for the temperature and the drift of a system."""
    for key, name, unit in (
        ("temperature", "temperature", "K"),
        ("drift", "drift of the conserved quantity", "meV/molecule/ns"),
    ):
        if key in part:
            label = f"{name} ({system})" if system else name
            table.add_row(escape(label), f"{formatted(part[key]['value'], part[key]['error'])} {unit}")


def plot_run(folder: Path) -> Path:
    """Draw ``summary.png``: temperature, conserved quantity and spread of the forces against time; of a
    minimization the potential and the largest force against the step.

    Panels of what the run did not write are left out.
    """
    systems = systems_of(folder)
    if len(systems) > 1:
        return _plot_systems(runs_of(folder, systems))
    run = Run(folder)
    return _plot_dynamics(run) if has_time(run) else _plot_relaxation(run)


def _plot_dynamics(run: Run) -> Path:
    found = {name: table_with(run, name) for name in ("temperature", "conserved")}
    tables = {name: table for name, table in found.items() if table is not None}
    std_steps, spread = force_std(run)
    panels = list(tables)
    if len(spread) and spread.max() > 0:
        panels.append("spread")
    monitored_steps, monitored = monitored_std(run)
    if len(monitored):
        panels.append("monitor")
    with rc_context(STYLE):
        figure, grid = _stack(len(panels))
        picoseconds = run.timestep / FS_PER_PS
        for axes, name in zip(grid, panels, strict=False):
            if name == "temperature":
                table = tables[name]
                _temperature(axes, table["step"] * picoseconds, table[name], run.settings.temperature)
            elif name == "monitor":
                _monitor(axes, monitored_steps * picoseconds, monitored, _tolerance(run))
            elif name == "conserved":
                _conserved(axes, tables[name]["step"] * picoseconds, tables[name][name])
            else:
                _std(axes, std_steps * picoseconds, spread)
        return _save(run, figure, grid, "time / ps")


def _plot_systems(runs: list[Run]) -> Path:
    """Running mean of the temperature and change of the conserved quantity of each system."""
    with rc_context(STYLE):
        figure, grid = _stack(2)
        for number, run in enumerate(runs):
            table, color = run.properties, COLORS[number % len(COLORS)]
            times = table["step"] * (run.timestep / FS_PER_PS if has_time(run) else 1.0)
            if "temperature" in table:
                running = np.cumsum(table["temperature"]) / np.arange(1, len(times) + 1)
                grid[0].plot(times, running, color=color, linewidth=1.0, label=shown(run.system or ""))
            if "conserved" in table:
                change = MILLI * (table["conserved"] - table["conserved"][0])
                grid[1].plot(times, change, color=color, linewidth=0.9)
        grid[0].set_ylabel("temperature (running\nmean) / K")
        if grid[0].lines:
            grid[0].legend(loc="upper right", ncols=2)
        grid[1].set_ylabel("change of conserved\nquantity / meV")
        return _save(runs[0], figure, grid, "time / ps" if has_time(runs[0]) else "step")


def _plot_relaxation(run: Run) -> Path:
    table = table_with(run, "potential")
    force_steps, forces = largest_forces(run)
    n_panels = (table is not None) + bool(len(forces))
    with rc_context(STYLE):
        figure, grid = _stack(n_panels)
        if table is not None:
            # on a linear scale nothing is seen of all but the first steps
            above = MILLI * (table["potential"] - table["potential"].min())
            _decay(grid[0], table["step"], above, "potential above\nits minimum / meV", COLORS[1])
        if len(forces):
            _decay(grid[-1], force_steps, MILLI * forces, "largest force\ncomponent / meV Å⁻¹", COLORS[2])
        return _save(run, figure, grid, "step of the optimizer" if is_minimization(run) else "step")


def _stack(n_panels: int) -> tuple[Figure, Any]:
    """A figure of panels above each other, at least one."""
    rows = max(n_panels, 1)
    figure = new_figure(4.2, 0.5 + 1.35 * rows)
    return figure, figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]


def _save(run: Run, figure: Figure, grid: Any, label: str) -> Path:
    path = run.path / "summary.png"
    grid[-1].set_xlabel(label)
    grid[0].set_title(shown(run.path.resolve().name), loc="left", fontsize=9)
    figure.align_ylabels(grid)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=220)
    write_together({path: content.getvalue()})  # whole: who writes it beside a run is killed with the run
    return path


def _decay(axes: Axes, steps: FloatArray, values: FloatArray, label: str, color: str) -> None:
    seen = values > 0.0
    axes.plot(steps[seen], values[seen], color=color, linewidth=0.9, marker=".", markersize=2.5)
    if seen.any():
        axes.set_yscale("log")
    axes.set_ylabel(label)


def _temperature(axes: Axes, times: FloatArray, temperature: FloatArray, target: float | None) -> None:
    axes.plot(times, temperature, color=COLORS[0], linewidth=0.4, alpha=0.45)
    running = np.cumsum(temperature) / np.arange(1, len(temperature) + 1)
    axes.plot(times, running, color=COLORS[0], linewidth=1.4, label="running mean")
    if target is not None:
        axes.axhline(target, color=COLORS[6], linewidth=0.6, linestyle=":", label=f"{target:g} K")
    axes.set_ylabel("temperature / K")
    axes.legend(loc="upper right", ncols=2)


def _conserved(axes: Axes, times: FloatArray, conserved: FloatArray) -> None:
    axes.axhline(0.0, color="0.8", linewidth=0.6)
    axes.plot(times, MILLI * (conserved - conserved[0]), color=COLORS[1], linewidth=0.9)
    axes.set_ylabel("change of conserved\nquantity / meV")


def _tolerance(run: Run) -> float | None:
    """Tolerance of the monitor, meV/Å."""
    monitor = run.driver.get("monitor")
    return monitor.get("tolerance") if isinstance(monitor, dict) else None


def _monitor(axes: Axes, times: FloatArray, std: FloatArray, tolerance: float | None) -> None:
    axes.plot(times, MILLI * std, color=COLORS[2], linewidth=0.7, marker=".", markersize=2.5)
    if tolerance is not None:
        axes.axhline(tolerance, color=COLORS[6], linewidth=0.6, linestyle=":", label="tolerance")
        axes.legend(loc="lower right")
    axes.set_ylabel("std of raw forces over\nrotations / meV Å⁻¹")
    axes.set_ylim(bottom=0.0)


def _std(axes: Axes, times: FloatArray, spread: FloatArray) -> None:
    axes.plot(times, MILLI * spread, color=COLORS[2], linewidth=0.7)
    axes.axhline(MILLI * spread.mean(), color=COLORS[6], linewidth=0.6, linestyle=":", label="mean")
    axes.set_ylabel("force spread over\nrotations / meV Å⁻¹")
    axes.set_ylim(bottom=0.0)
    axes.legend(loc="lower right")
