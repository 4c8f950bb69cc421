"""The figure of a training: errors against time, from its log."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter

from ipi_driver.errors import UserError
from ipi_driver.report.style import COLORS, STYLE, new_figure
from ipi_driver.structure import FloatArray

COLUMNS = (
    "epoch",
    "step",
    "hours",
    "learning_rate",
    "train_loss",
    "train_force_mae",
    "train_energy_mae",
    "val_force_mae",
    "val_force_rmse",
    "val_energy_mae",
    "best_val_force_mae",
    "steps_per_second",
)
"""Columns that every ``log.csv`` has; forces in meV/Å, energies in meV per structure."""

NEWER_COLUMNS = ("forward_evaluations_per_step", "val_symmetry_mae", "unlabelled_symmetry_mae")
"""Columns that older logs lack: cost of a step in forward evaluations, symmetry errors in meV/Å."""


def read_log(path: Path) -> dict[str, FloatArray]:
    """Columns of a training log; what is not a number is NaN.

    Raises
    ------
    UserError
        If the file is missing, has no rows, or lacks a column.
    """
    if not path.is_file():
        raise UserError(f"no training log {path}")
    with path.open(newline="") as stream:
        reader = csv.DictReader(stream)
        rows = list(reader)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise UserError(f"{path} is not a training log: it has no column {missing[0]!r}")
    if not rows:
        raise UserError(f"{path} has no rows yet: the training has not been evaluated once")
    return {name: np.array([_number(row.get(name)) for row in rows]) for name in (*COLUMNS, *NEWER_COLUMNS)}


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def plot_training_log(log: Path, output: Path, title: str | None = None) -> Path:
    """Force error, energy error, loss with learning rate, and speed against the step; returns ``output``.

    Raises
    ------
    UserError
        If the log cannot be read.
    """
    data = read_log(log)
    with rc_context(STYLE):
        figure = new_figure(7.2, 4.6)
        axes = figure.subplots(2, 2, sharex=True)
        _error_panel(axes[0, 0], data, "force", "force MAE (meV/Å)")
        axes[0, 0].plot(data["step"], data["best_val_force_mae"], ":", color=COLORS[2], label="best so far")
        axes[0, 0].legend()
        if np.isfinite(data["val_symmetry_mae"]).any():
            # far below the force errors: an axis of its own
            symmetry = axes[0, 0].twinx()
            symmetry.plot(data["step"], data["val_symmetry_mae"], color=COLORS[3], lw=0.9)
            symmetry.plot(data["step"], data["unlabelled_symmetry_mae"], "--", color=COLORS[3], lw=0.9)
            symmetry.set_ylabel("symmetry error (meV/Å)\n- - unlabelled", color=COLORS[3], fontsize=7)
            symmetry.set_ylim(bottom=0.0)
        _error_panel(axes[0, 1], data, "energy", "energy MAE (meV/structure)")
        axes[0, 1].legend()
        _loss_panel(axes[1, 0], data)
        axes[1, 1].plot(data["step"], data["steps_per_second"], color=COLORS[0], **_points(data))
        axes[1, 1].xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes[1, 1].set(ylabel="steps per second", xlabel="step")
        axes[1, 1].set_ylim(bottom=0.0)
        hours = float(np.nanmax(data["hours"]))
        best = (
            float(np.nanmin(data["best_val_force_mae"]))
            if np.isfinite(data["best_val_force_mae"]).any()
            else np.nan
        )
        text = f"best validation force MAE {best:.1f} meV/Å after {hours:.2f} h"
        figure.suptitle(f"{title}: {text}" if title else text, fontsize=8)
        _save(figure, output)
    return output


def _points(data: Mapping[str, FloatArray]) -> dict[str, Any]:
    """Markers for a short log, so that a single evaluation is seen too."""
    return {"marker": "o", "markersize": 2.5} if len(data["step"]) < 30 else {}


def _error_panel(axis: Axes, data: Mapping[str, FloatArray], kind: str, label: str) -> None:
    for part, name, color in (("train", "training", COLORS[0]), ("val", "validation", COLORS[1])):
        values = data[f"{part}_{kind}_mae"]
        axis.plot(data["step"], _positive(values), color=color, label=name, **_points(data))
    _log_axis(axis.yaxis, axis, data[f"train_{kind}_mae"], data[f"val_{kind}_mae"])
    axis.set_ylabel(label)


def _loss_panel(axis: Axes, data: Mapping[str, FloatArray]) -> None:
    axis.plot(data["step"], _positive(data["train_loss"]), color=COLORS[0], **_points(data))
    _log_axis(axis.yaxis, axis, data["train_loss"])
    axis.set(ylabel="training loss", xlabel="step")
    rate = axis.twinx()
    rate.plot(data["step"], data["learning_rate"], color="0.6", lw=0.8)
    rate.set_ylabel("learning rate", color="0.5")
    rate.set_ylim(bottom=0.0)
    rate.spines["right"].set_visible(True)


def _positive(values: Any) -> FloatArray:
    """Values for a logarithmic axis: what it cannot show becomes a gap."""
    array = np.asarray(values, dtype=np.float64)
    return np.where(array > 0.0, array, np.nan)


def _log_axis(side: Any, axis: Axes, *values: Any) -> None:
    """Logarithmic ordinate with plain numbers, where there is a positive number to show."""
    if not np.isfinite(np.concatenate([_positive(v) for v in values])).any():
        return
    axis.set_yscale("log")
    side.set_major_formatter(ScalarFormatter())
    shown = np.concatenate([_positive(v) for v in values])
    span = np.nanmax(shown) / np.nanmin(shown)
    # within a decade the axis would have one labelled tick or none
    side.set_minor_formatter(ScalarFormatter() if span < 10.0 else NullFormatter())


def _save(figure: Figure, output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=200)
