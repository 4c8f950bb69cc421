"""Table, figure and JSON at the end of `ipi-driver run`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from rich.console import Console
from rich.table import Table

from ipi_driver.observables.reading.folder import Run
from ipi_driver.observables.run_statistics import force_spread, run_statistics
from ipi_driver.serving.launcher import Outcome

matplotlib.use("Agg", force=False)


def summarise(folder: Path, outcome: Outcome) -> dict[str, Any]:
    """`run_statistics` with the speed of this run."""
    summary = run_statistics(folder)
    done = max(outcome.steps - outcome.first_step, 0)
    summary["wall_seconds"] = outcome.wall_seconds
    summary["steps_per_second"] = done / outcome.wall_seconds if outcome.wall_seconds > 0 else float("nan")
    return summary


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Write ``summary.json`` and ``summary.png`` into the run folder."""
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    plot_run(folder)


def print_summary(folder: Path, summary: dict[str, Any], console: Console | None = None) -> None:
    """Print the table."""
    table = Table(title=folder.name, show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_row("i-PI steps", f"{summary['steps']}")
    table.add_row("simulated time", f"{summary['simulated_ps']:.3g} ps")
    table.add_row("speed", f"{summary['steps_per_second']:.1f} steps/s  ({summary['wall_seconds']:.0f} s)")
    if "temperature" in summary:
        t = summary["temperature"]
        table.add_row("temperature", f"{t['value']:.1f} ± {t['error']:.1f} K")
    if "drift" in summary:
        d = summary["drift"]
        table.add_row(
            "drift of the conserved quantity", f"{d['value']:.3g} ± {d['error']:.2g} meV/molecule/ns"
        )
    if summary.get("mean_force_spread"):
        table.add_row("mean force spread over frames", f"{summary['mean_force_spread']:.3g} meV/Å")
    for label, counts in summary.get("endpoints", {}).items():
        what = (
            f"{counts['evaluations']} evaluations, {counts['frames']} frames, {counts['model_seconds']:.1f} s"
        )
        table.add_row(f"{label} ({counts['average']})", what)
    console = console or Console()
    console.print(table)
    for note in summary["notes"]:
        console.print(f"note: {note}", highlight=False)
    console.print(f"figure: {folder / 'summary.png'}", highlight=False)


def plot_run(folder: Path) -> Path:
    """Temperature, conserved quantity and force spread against time."""
    from matplotlib import pyplot

    run = Run(folder)
    table = run.properties
    steps, spread = force_spread(run)
    times = 1e-3 * table["step"] * run.timestep
    shows_spread = bool(len(spread) and spread.max() > 0)
    style: dict[Any, Any] = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "savefig.dpi": 200}
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(
            2 + shows_spread, 1, figsize=(5.2, 1.8 * (2 + shows_spread)), sharex=True, constrained_layout=True
        )
        if "temperature" in table:
            _temperature(axes[0], times, table["temperature"])
        if "conserved" in table:
            axes[1].plot(times, 1e3 * (table["conserved"] - table["conserved"][0]), color="C1", lw=0.8)
            axes[1].set_ylabel("change of conserved\nquantity / meV")
        if shows_spread:
            axes[2].plot(1e-3 * steps * run.timestep, 1e3 * spread, color="C2", lw=0.8)
            axes[2].set_ylabel("force spread over\nframes / meV Å⁻¹")
            axes[2].set_ylim(bottom=0)
        axes[-1].set_xlabel("time / ps")
        axes[0].set_title(run.name, fontsize=10, loc="left")
        path = folder / "summary.png"
        figure.savefig(path)
        pyplot.close(figure)
    return path


def _temperature(axes: Axes, times: np.ndarray, temperature: np.ndarray) -> None:
    axes.plot(times, temperature, color="C0", lw=0.4, alpha=0.5)
    running = np.cumsum(temperature) / np.arange(1, len(temperature) + 1)
    axes.plot(times, running, color="C0", lw=1.5, label="running mean")
    axes.set_ylabel("temperature / K")
    axes.legend(frameon=False, fontsize=8)
