"""Parity plot of ``ipi-driver evaluate``: predicted against reference energies and forces, and their errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from matplotlib import rc_context
from matplotlib.axes import Axes

from ipi_driver.report.style import COLORS, STYLE, new_figure
from ipi_driver.structure import FloatArray
from ipi_driver.training.evaluation import Evaluation
from ipi_driver.units import MILLI

_MAX_POINTS = 20_000  # per element: more only make the file large


def plot_parity(result: Evaluation, output: Path, average: int = 0) -> Path:
    """Energies and forces, and the distribution of the force errors of every average; returns ``output``.

    Parameters
    ----------
    result
        Of `evaluate_model`.
    output
        Image file.
    average
        Index of the average whose points are shown.
    """
    metrics = result.metrics[average]
    with rc_context(STYLE):
        figure = new_figure(7.2, 2.6)
        axes = figure.subplots(1, 3)
        _energies(axes[0], result, average)
        _forces(axes[1], result, average)
        _force_errors(axes[2], result)
        figure.suptitle(
            f"{result.model}, average {metrics.average}, {len(result.data)} structures", fontsize=8
        )
        output.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(output, dpi=200)
    return output


def _energies(axis: Axes, result: Evaluation, average: int) -> None:
    """Energies per atom relative to the mean of the labels; the line is shifted by the mean offset."""
    n_atoms = np.array([item.structure.n_atoms for item in result.data])
    label = np.array([item.energy for item in result.data]) / n_atoms
    found = np.array([p.energy for p in result.predictions[average]]) / n_atoms
    known = np.isfinite(label)
    if not known.any():
        axis.set_axis_off()
        _note(axis, "no energies in the data")
        return
    label, found = label[known], found[known]
    x, y = MILLI * (label - label.mean()), MILLI * (found - label.mean())
    metrics = result.metrics[average]
    axis.plot(x, y, "o", ms=3, color=COLORS[0], mec="none", alpha=0.8)
    offset = MILLI * metrics.energy_offset_per_atom
    _diagonal(axis, x, y, offset)
    text = (
        f"MAE {MILLI * metrics.energy_mae_per_atom:.3g} meV/atom\n"
        f"offset {offset:+.3g} meV/atom (dashed)\n"
        f"without it {MILLI * metrics.shifted_energy_mae_per_atom:.3g} meV/atom"
    )
    _note(axis, text)
    axis.set(xlabel="reference energy (meV/atom)", ylabel="predicted energy (meV/atom)")


def _forces(axis: Axes, result: Evaluation, average: int) -> None:
    symbols = list(result.metrics[average].force_mae_by_element)
    shown = []
    for k, symbol in enumerate(symbols):
        x, y = _components(result, average, symbol)
        every = -(-len(x) // _MAX_POINTS)
        axis.plot(
            x[::every],
            y[::every],
            ".",
            ms=1.5,
            mec="none",
            alpha=0.5,
            color=COLORS[k % len(COLORS)],
            label=symbol,
            rasterized=True,
        )
        shown.append((x, y))
    _diagonal(axis, np.concatenate([x for x, _ in shown]), np.concatenate([y for _, y in shown]))
    metrics = result.metrics[average]
    _note(axis, f"MAE {MILLI * metrics.force_mae:.3g} meV/Å\nRMSE {MILLI * metrics.force_rmse:.3g} meV/Å")
    axis.legend(loc="lower right", markerscale=5, handletextpad=0.1)
    axis.set(xlabel="reference force (eV/Å)", ylabel="predicted force (eV/Å)")


def _components(result: Evaluation, average: int, symbol: str) -> tuple[FloatArray, FloatArray]:
    """Force components of one element, reference and predicted, eV/Å."""
    number = atomic_numbers[symbol]
    label, found = [], []
    for item, prediction in zip(result.data, result.predictions[average], strict=True):
        chosen = item.structure.numbers == number
        label.append(item.forces[chosen].ravel())
        found.append(prediction.forces[chosen].ravel())
    return np.concatenate(label), np.concatenate(found)


def _force_errors(axis: Axes, result: Evaluation) -> None:
    """Distribution of the absolute errors of the components."""
    floor, lowest = 1e-3, np.inf  # meV/Å
    for k, (metrics, predictions) in enumerate(zip(result.metrics, result.predictions, strict=True)):
        errors = np.concatenate(
            [np.abs(p.forces - item.forces).ravel() for p, item in zip(predictions, result.data, strict=True)]
        )
        values = np.sort(np.maximum(MILLI * errors, floor))
        share = 100.0 * (1.0 - np.arange(len(values)) / len(values))
        lowest = min(lowest, float(np.quantile(values, 0.02)))
        every = -(-len(values) // 2000)
        axis.plot(values[::every], share[::every], color=COLORS[k % len(COLORS)], label=metrics.average)
    axis.set(xscale="log", yscale="log", xlabel="force error (meV/Å)", ylabel="components above (%)")
    axis.set_ylim(0.01, 130.0)
    axis.set_xlim(left=lowest)
    if len(result.metrics) > 1:
        axis.legend(loc="lower left")


def _diagonal(axis: Axes, x: Any, y: Any, offset: float | None = None) -> None:
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    margin = 0.05 * (high - low) or 1.0
    ends = np.array([low - margin, high + margin])
    axis.plot(ends, ends, color="0.6", lw=0.7, zorder=0)
    if offset is not None:
        axis.plot(ends, ends + offset, color="0.6", lw=0.7, ls="--", zorder=0)
    axis.set(xlim=ends, ylim=ends, aspect="equal")


def _note(axis: Axes, text: str) -> None:
    axis.text(0.03, 0.97, text, transform=axis.transAxes, va="top", fontsize=6.5)
