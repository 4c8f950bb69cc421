"""Figures of `ipi-driver check`: convergence, degrees, relative angle, spectrum of the correction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from ipi_driver.report.style import COLORS, STYLE, new_figure, shown
from ipi_driver.symmetry.check import CheckResult
from ipi_driver.symmetry.outer_step import StrideTable
from ipi_driver.units import FS_PER_NS, MILLI, SPEED_OF_LIGHT

_STYLE = STYLE | {"lines.markersize": 3.5, "savefig.dpi": 300}
FLOOR = 1e-9
"""eV or eV/Å: errors below are drawn here, as a logarithmic axis has no zero."""


def write_figures(result: CheckResult, folder: Path) -> list[Path]:
    """Write the PNG files into ``folder``; what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with rc_context(_STYLE):
        for name, draw in (
            ("convergence.png", _convergence),
            ("degrees.png", _degrees),
            ("angles.png", _angles),
        ):
            figure = draw(result)
            figure.savefig(folder / name)
            written.append(folder / name)
        if result.stride is not None:
            figure = _spectrum(result.stride, "outer − inner" if result.inner else "averaged − raw")
            figure.savefig(folder / "stride.png")
            written.append(folder / "stride.png")
        if result.drifts:
            figure = new_figure(4.5, 2.6)
            _draw_drift(figure.subplots(), result)
            figure.savefig(folder / "drift.png")
            written.append(folder / "drift.png")
        else:  # that of an earlier check
            (folder / "drift.png").unlink(missing_ok=True)
    return written


def _convergence(result: CheckResult) -> Figure:
    """Error against evaluations; a line joins, per data set, the averages that no cheaper one beats."""
    figure = new_figure(7.0, 2.9)
    axes = figure.subplots(1, 2)
    for axis, quantity, label in (
        (axes[0], "energy_mae", "energy error / meV per structure"),
        (axes[1], "force_mae", "force error / meV/Å"),
    ):
        _draw_convergence(axis, result, quantity)
        axis.set_ylabel(label)
    _draw_tolerance(axes[1], result)
    axes[0].legend(loc="lower left", title="open: with inversion", title_fontsize=6.5)
    figure.suptitle(f"{shown(result.model)}: difference from {result.settings.reference.name}", fontsize=8)
    return figure


def _draw_convergence(axis: Any, result: CheckResult, quantity: str) -> None:
    for color, data_set in zip(_colors(), result.decompositions, strict=False):
        rows = [r for r in result.errors if r.data_set == data_set and not r.is_reference]
        x = np.array([r.n_rotations for r in rows])
        y = MILLI * np.maximum([getattr(r, quantity) for r in rows], FLOOR)
        inversion = np.array([r.average == "i" or r.average.endswith(("h", "i")) for r in rows])
        axis.plot(x[~inversion], y[~inversion], "o", color=color, label=shown(data_set))
        axis.plot(x[inversion], y[inversion], "o", color=color, mfc="white")
        order = np.lexsort((y, x))
        best = [k for n, k in enumerate(order) if y[k] < min(y[order[:n]], default=np.inf)]
        axis.plot(x[best], y[best], "-", color=color, zorder=0)
        if data_set == next(iter(result.decompositions)):
            _label_points(axis, [r.average for r in rows], x, y)
    axis.set(xscale="log", yscale="log", xlabel="evaluations")
    axis.margins(0.08, 0.12)


def _draw_tolerance(axis: Any, result: CheckResult) -> None:
    axis.axhline(MILLI * result.settings.tolerance, color="0.5", lw=0.7, ls="--")
    axis.annotate(
        "tolerance",
        (1.0, MILLI * result.settings.tolerance),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2),
        textcoords="offset points",
        ha="right",
        color="0.4",
        fontsize=6.5,
    )


def card_figure(result: CheckResult) -> Figure:
    """Force error against evaluations, its degrees, and the total energy of a run, one below the other."""
    panels = 3 if result.drifts else 2
    figure = new_figure(3.5, 2.5 * panels)
    axes = figure.subplots(panels, 1)
    _draw_convergence(axes[0], result, "force_mae")
    _draw_tolerance(axes[0], result)
    axes[0].set_ylabel("force error / meV/Å")
    axes[0].legend(loc="lower left", title="open: with inversion", title_fontsize=6.5)
    for color, (name, d) in zip(_colors(), result.decompositions.items(), strict=False):
        for column, marker, face, parity in ((0, "o", color, "even"), (1, "s", "white", "odd")):
            amplitudes = MILLI * np.maximum(d.forces[:, column], FLOOR)
            kept = slice(1, None) if column == 0 else slice(None)  # l = 0, even is the average itself
            axes[1].plot(
                np.arange(d.max_degree + 1)[kept],
                amplitudes[kept],
                f"{marker}-",
                color=color,
                mfc=face,
                label=f"{shown(name)}, {parity}",
            )
    axes[1].set(yscale="log", xlabel="degree l", ylabel="force / meV/Å")
    axes[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[1].legend()
    if result.drifts:
        _draw_drift(axes[2], result)
    return figure


def _draw_drift(axis: Any, result: CheckResult) -> None:
    """Total energy of the runs at constant energy."""
    for color, (name, found) in zip(_colors(), result.drifts.items(), strict=False):
        axis.plot(found.times, MILLI * found.energies, color=color, lw=0.8, label=shown(name))
    axis.set(xlabel="time / fs", ylabel="total energy / meV/atom")
    axis.legend()


def _label_points(axis: Any, names: list[str], x: Any, y: Any) -> None:
    """Names beside the averages; where two would run into each other the cheaper and better one has its name."""
    width, height = 0.16, 0.35  # decades that a name covers, about
    taken: list[tuple[float, float]] = []
    for k in np.lexsort((y, x)):
        place = (float(np.log10(x[k])), float(np.log10(y[k])))
        near = [p for p in taken if abs(p[0] - place[0]) < width and abs(p[1] - place[1]) < height]
        if near:
            continue
        taken.append(place)
        axis.annotate(
            names[k],
            (x[k], y[k]),
            xytext=(4, 3),
            ha="left",
            va="bottom",
            textcoords="offset points",
            fontsize=6,
            color="0.25",
        )


def _degrees(result: CheckResult) -> Figure:
    """Amplitude by degree and parity, one row of panels per data set."""
    count = len(result.decompositions)
    figure = new_figure(7.0, 0.5 + 2.0 * count)
    axes = figure.subplots(count, 2, squeeze=False)
    for row, (data_set, d) in zip(axes, result.decompositions.items(), strict=True):
        degrees = np.arange(d.max_degree + 1)
        for axis, values, rest, label in (
            (row[0], d.energy, d.energy_rest, "energy / meV"),
            (row[1], d.forces, d.forces_rest, "force / meV/Å"),
        ):
            amplitudes = MILLI * np.maximum(values, FLOOR)
            lowest = MILLI * FLOOR
            for column, shift, color, name in ((0, -0.2, COLORS[0], "even"), (1, 0.2, COLORS[1], "odd")):
                height = amplitudes[:, column].copy()
                if column == 0:
                    height[0] = lowest  # l = 0, even is the average itself
                axis.bar(degrees + shift, height, width=0.38, color=color, label=f"{name} under inversion")
            axis.bar(d.max_degree + 1, MILLI * max(rest, FLOOR), width=0.38, color="0.6")
            axis.set_xticks([*degrees, d.max_degree + 1], [*map(str, degrees), f">{d.max_degree}"])
            top = max(amplitudes.max(), MILLI * rest, 10 * lowest)
            axis.set(yscale="log", ylim=(max(1e-6 * top, lowest), 3 * top), xlabel="degree l", ylabel=label)
        row[0].set_title(shown(data_set), loc="left", fontsize=8)
    handles, labels = axes[0, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2)
    return figure


def _angles(result: CheckResult) -> Figure:
    """Root-mean-square difference between two orientations against the angle between them."""
    figure = new_figure(7.0, 2.6)
    axes = figure.subplots(1, 2)
    for color, (data_set, d) in zip(_colors(), result.decompositions.items(), strict=False):
        for axis, values in ((axes[0], d.energy_by_angle), (axes[1], d.forces_by_angle)):
            seen = np.isfinite(values)  # not every grid has pairs at every angle
            axis.plot(
                np.degrees(d.angles[seen]), MILLI * values[seen], "o-", color=color, label=shown(data_set)
            )
    for axis, label in ((axes[0], "energy difference / meV"), (axes[1], "force difference / meV/Å")):
        axis.set(xlabel="relative angle / °", ylabel=label, xlim=(0, 180))
        if len(result.decompositions) == 1:
            axis.set_ylim(bottom=0)
        else:  # data sets may differ by orders of magnitude
            axis.set_yscale("log")
        axis.set_xticks(np.arange(0, 181, 30))
    axes[0].legend()
    return figure


def _spectrum(stride: StrideTable, label: str) -> Figure:
    """Spectra of raw forces and correction with the recommended outer step's limit; the table beside it."""
    ratios = (1.5, 1) if stride.heating is None else (1.5, 1, 1)
    figure = new_figure(2.8 * sum(ratios), 2.6)
    axes = figure.subplots(1, len(ratios), width_ratios=ratios)
    left, right = axes[:2]
    wavenumbers = stride.correction.wavenumbers
    left.plot(wavenumbers, MILLI**2 * stride.raw.density, color="0.5", label="raw forces")
    left.plot(wavenumbers, MILLI**2 * stride.correction.density, color=COLORS[1], label=label)
    limit = 0.5 / (stride.recommended * stride.time_step) / SPEED_OF_LIGHT
    left.axvline(limit, color=COLORS[0], lw=0.8, ls="--", label=f"limit of stride {stride.recommended}")
    left.set(yscale="log", xlim=(0, wavenumbers[-1]), xlabel="wavenumber / cm⁻¹")
    left.set_ylabel("spectrum (/ meV/Å$^2$ cm)")
    left.legend()
    outer = stride.strides * stride.time_step
    right.plot(outer, MILLI * np.maximum(stride.unresolved, FLOOR), "o-", color=COLORS[1])
    right.axhline(MILLI * stride.tolerance, color="0.5", lw=0.7, ls="--")
    right.set(xlabel="outer step / fs", ylabel="unresolved / meV/Å", yscale="log", xscale="log")
    if stride.heating is not None:
        rates, errors = (values * FS_PER_NS * MILLI for values in stride.heating)
        shown = np.where(rates > FLOOR, rates, np.nan)
        axes[2].errorbar(outer, shown, errors, fmt="o-", color=COLORS[2])
        axes[2].set(xlabel="outer step / fs", ylabel="heating / meV/atom/ns", yscale="log", xscale="log")
        axes[2].set_xlim(right.get_xlim())
    for axis in axes[1:]:
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
    return figure


def _colors() -> list[str]:
    return list(COLORS) * 10
