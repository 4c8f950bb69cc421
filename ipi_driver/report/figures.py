"""Figures of an analysis: curves of several runs over each other, and maps on the sphere.

Drawn without a display (matplotlib's Agg canvas is used directly, no global state is changed). Bands are
standard errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from ipi_driver.analysis.result import Analysis, Curve, Map
from ipi_driver.report.layouts import Layout
from ipi_driver.report.style import COLORS, STYLE, new_figure, shown

_LONG_LABEL = 34
"""Characters of a label that is set in two lines."""


def pretty(label: str) -> str:
    """A label of an axis with its indices and exponents set."""
    if len(label) > _LONG_LABEL and "\n" not in label:
        label = label.replace(" / ", "\n/ ", 1)
    label = label.replace("c_uu", "$c_{uu}$").replace("cm-1", "cm⁻¹").replace("1e-3", "10⁻³")
    for axis in "xyz":
        label = label.replace(f"L{axis} /", f"$L_{axis}$ /")
    return label


References = Mapping[str, Sequence[tuple[str, Curve]]]
"""Curves from elsewhere by key, with their labels, drawn in black beside those of the runs."""


def draw_curves(layout: Layout, analyses: Sequence[Analysis], references: References | None = None) -> Figure:
    """Every panel with the curves of every run that has it."""
    rows = -(-len(layout.panels) // layout.columns)
    shared = rows > 1 and layout.columns == 1
    below = layout.difference and len(analyses) > 1
    with rc_context(STYLE):
        size = (
            3.3 * max(1.0, 0.85 * layout.columns),
            ((1.25 if shared else 2.4) + (1.1 if below else 0.0)) * rows + 0.3,
        )
        figure = new_figure(*size)
        # rows of differences alternate with those of the curves
        ratios = [2.4, 1.1] * rows if below else [1.0] * rows
        grid = figure.subplots(
            len(ratios), layout.columns, squeeze=False, sharex=shared or ("col" if below and rows == 1 else False),
            height_ratios=ratios,
        )  # fmt: skip
        upper = grid[::2] if below else grid
        for axes, key in zip(upper.flat, layout.panels, strict=False):
            _draw_panel(axes, key, layout, analyses, references or {})
        if below:
            for axes, key in zip(grid[1::2].flat, layout.panels, strict=False):
                _draw_difference(axes, key, analyses)
            for axes in upper.flat:
                axes.set_xlabel("")
        for block in (upper, grid[1::2]) if below else (upper,):
            for axes in list(block.flat)[len(layout.panels) :]:
                axes.set_visible(False)
        if shared:
            for axes in grid[:-1, 0]:
                axes.set_xlabel("")
        if len(analyses) > 1 or layout.markers or references:
            _add_legend(figure, grid, size[0])
    return figure


def _draw_panel(
    axes: Axes, key: str, layout: Layout, analyses: Sequence[Analysis], references: References
) -> None:
    """The curves of one quantity."""
    known = {number: (a.label, a.curves[key]) for number, a in enumerate(analyses) if key in a.curves}
    if layout.common:
        end = min(float(curve.x[-1]) for _, curve in known.values())
        known = {number: (label, _until(curve, end)) for number, (label, curve) in known.items()}
    curves = [curve for _, curve in known.values()]
    for number, (label, curve) in known.items():
        _draw_curve(axes, curve, shown(label), number, layout)
    for number, (label, reference) in enumerate(references.get(key, ())):
        part = reference.x <= max(float(curve.x[-1]) for curve in curves)
        style = ("--", ":", "-.")[number % 3]
        axes.plot(reference.x[part], reference.y[part], style, color="black", linewidth=0.9, label=label)
        band = reference.error[part]
        axes.fill_between(
            reference.x[part],
            reference.y[part] - band,
            reference.y[part] + band,
            color="black",
            alpha=0.12,
            linewidth=0,
        )
    if layout.level is not None:
        axes.axhline(layout.level, color="0.7", linewidth=0.5, zorder=0)
    if layout.log_x:
        axes.set_xscale("log")
    if layout.log_y and any((curve.y > 0).any() for curve in curves):
        axes.set_yscale("log")
        _few_ticks(axes)
    if layout.least:
        low, high = axes.get_ylim()
        missing = layout.least * max(abs(low), abs(high)) - (high - low)
        if missing > 0.0:
            axes.set_ylim(low - 0.5 * missing, high + 0.5 * missing)
            axes.ticklabel_format(axis="y", useOffset=False)
    if layout.cut_off:
        highest = max(float(np.nanmax(c.y[c.x > c.scale_from], initial=0.0)) for c in curves)
        axes.set_ylim(0.0, 1.15 * max(highest, 1.0))


def _until(curve: Curve, end: float) -> Curve:
    part = curve.x <= end * (1.0 + 1e-9)
    return replace(curve, x=curve.x[part], y=curve.y[part], error=curve.error[part])


def _few_ticks(axes: Axes) -> None:
    """Ticks of a logarithmic ordinate that can be read: decades, or a few numbers where it has less than two."""
    low, high = axes.get_ylim()
    axes.yaxis.set_minor_formatter(NullFormatter())
    if high / max(low, 1e-300) < 30.0:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:g}")


def _draw_difference(axes: Axes, key: str, analyses: Sequence[Analysis]) -> None:
    """Every run less the first that has the quantity, with the standard error of the difference."""
    known = [(number, a.curves[key]) for number, a in enumerate(analyses) if key in a.curves]
    first = known[0][1]
    largest = 0.0
    for number, curve in known[1:]:
        y = np.interp(first.x, curve.x, curve.y, left=np.nan, right=np.nan) - first.y
        error = np.hypot(np.interp(first.x, curve.x, curve.error, left=np.nan, right=np.nan), first.error)
        color = COLORS[number % len(COLORS)]
        axes.plot(first.x, y, color=color, linewidth=0.8)
        axes.fill_between(first.x, y - error, y + error, color=color, alpha=0.2, linewidth=0)
        beyond = np.abs(y[(first.x > first.scale_from) & np.isfinite(y)])
        if len(beyond):
            largest = max(largest, float(np.quantile(beyond, 0.99)))
    if largest > 0.0:
        axes.set_ylim(-1.6 * largest, 1.6 * largest)
    axes.axhline(0.0, color="0.7", linewidth=0.5, zorder=0)
    axes.set_xlabel(pretty(first.x_label))
    axes.set_ylabel("less the\nfirst run")


def _add_legend(figure: Figure, grid: np.ndarray, width: float) -> None:
    """One legend above all panels, in as many columns as the names leave room for."""
    handles = dict(zip(*reversed(_legend(grid)), strict=True))
    if not handles:
        return
    widest = 0.3 + 0.047 * max(len(label) for label in handles)
    columns = max(2 if len(handles) > 3 else 1, min(4, len(handles), int(width / widest)))
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=columns)


def _draw_curve(axes: Axes, curve: Curve, label: str, number: int, layout: Layout) -> None:
    color = COLORS[number % len(COLORS)]
    if layout.markers:
        axes.plot(curve.x, curve.y, "os^Dv"[number % 5], color=color, label=label, markersize=4, alpha=0.8)
        if np.isfinite(curve.error).any():
            axes.errorbar(curve.x, curve.y, curve.error, fmt="none", ecolor=color, elinewidth=0.8)
        if not layout.log_x:
            axes.set_xticks(curve.x)
    else:
        axes.plot(curve.x, curve.y, color=color, label=label)
        lower, upper = curve.y - curve.error, curve.y + curve.error
        if np.isfinite(lower).any():
            if layout.log_y:
                lower = np.maximum(lower, 0.1 * curve.y)
            axes.fill_between(curve.x, lower, upper, color=color, alpha=0.25, linewidth=0)
    axes.set_xlabel(pretty(curve.x_label))
    axes.set_ylabel(pretty(curve.y_label))


def _legend(grid: np.ndarray) -> tuple[list[Any], list[str]]:
    """Lines and labels of all panels: a run may be missing from the first one."""
    handles: list[Any] = []
    labels: list[str] = []
    for axes in grid.flat:
        found = axes.get_legend_handles_labels()
        handles += found[0]
        labels += found[1]
    return handles, labels


def draw_maps(
    key: str, analyses: Sequence[Analysis], references: Sequence[tuple[str, Map]] = ()
) -> Figure | None:
    """One panel per run that has the map, and per map from elsewhere, on one color scale; None where no run has it.

    Under the name stands the root mean square, and that of the noise; a dot marks a cell within two standard errors of
    zero, where there is nothing but noise.
    """
    chosen = [(shown(a.label), a.maps[key]) for a in analyses if key in a.maps]
    if not chosen:
        return None
    chosen += list(references)
    finite = np.concatenate([np.abs(m.values[np.isfinite(m.values)]) for _, m in chosen])
    limit = max(0.02, float(np.quantile(finite, 0.995)) if len(finite) else 0.02)
    columns = min(4, len(chosen))
    rows = -(-len(chosen) // columns)
    with rc_context(STYLE):
        figure = new_figure(2.4 * columns + 0.9, 2.5 * rows)
        grid = figure.subplots(rows, columns, squeeze=False, sharey=True, sharex=True)
        for axes, (label, drawn) in zip(grid.flat, chosen, strict=False):
            image = _draw_map(axes, label, drawn, limit)
        for axes in list(grid.flat)[len(chosen) :]:
            axes.set_visible(False)
        for axes in grid[:, 0]:
            axes.set_ylabel(chosen[0][1].x_label)
        figure.colorbar(image, ax=grid, label=chosen[0][1].label, shrink=0.9)
    return figure


def _draw_map(axes: Axes, label: str, drawn: Map, limit: float) -> Any:
    image = axes.pcolormesh(
        _edges(drawn.y),
        _edges(drawn.x),
        drawn.values,
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        rasterized=True,
    )
    axes.set_facecolor("0.8")
    with np.errstate(invalid="ignore"):
        lost = np.isfinite(drawn.values) & (np.abs(drawn.values) < 2.0 * drawn.error)
    i, j = np.nonzero(lost)
    axes.plot(drawn.y[j], drawn.x[i], ".", color="0.35", markersize=1.2, alpha=0.7)
    rms, noise = (float(np.sqrt(np.nanmean(values**2))) for values in (drawn.values, drawn.error))
    axes.set_title(f"{label}\nrms {rms:.2g}, noise {noise:.2g}", fontsize=7)
    axes.set_xlabel(drawn.y_label)
    return image


def _edges(centers: Map | np.ndarray) -> np.ndarray:
    values = np.asarray(centers)
    half = (values[1] - values[0]) / 2
    return np.concatenate([values - half, values[-1:] + half])


def save(figure: Figure, folder: Path, name: str) -> Path:
    """PNG for the screen and PDF for print; the path of the PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    with rc_context(STYLE):
        figure.savefig(folder / f"{name}.pdf")
        figure.savefig(folder / f"{name}.png", dpi=160)
    return folder / f"{name}.png"
