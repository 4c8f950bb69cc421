"""Figures of an analysis: curves of several runs over each other, and maps on the sphere.

Drawn without a display (matplotlib's Agg canvas is used directly, no global state is changed). Bands are
standard errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ipi_driver.analysis.result import Analysis, Curve, Map

# Okabe and Ito's colours: told apart by everybody, and in print
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.1,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "savefig.bbox": "tight",
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Layout:
    """Panels of one figure.

    Attributes
    ----------
    name
        File name without extension.
    title, caption
        For the report.
    panels
        Keys of curves, one panel each; panels without any data are left out.
    columns
        Panels side by side.
    log_x, log_y
        Logarithmic axes.
    markers
        Points instead of lines.
    level
        Horizontal line for the eye, or None.
    cut_off
        Whether the ordinate ends a little above the curves beyond their ``scale_from``.
    """

    name: str
    title: str
    caption: str
    panels: tuple[str, ...]
    columns: int = 1
    log_x: bool = False
    log_y: bool = False
    markers: bool = False
    level: float | None = None
    cut_off: bool = False


LAYOUTS = {
    "gas": (
        Layout(
            "angular-momentum",
            "Angular momentum at constant energy",
            "Components and modulus of the angular momentum about the centre of mass, and the angle by which it has "
            "turned. An equivariant potential conserves all of them.",
            ("L_x", "L_y", "L_z", "L", "L_angle"),
        ),
        Layout(
            "torque",
            "Mean torque against the average",
            "Of the model on snapshots of the run, from raw (1 evaluation) on; the table names the averages.",
            ("torque_average",),
            log_x=True,
            log_y=True,
            markers=True,
        ),
        Layout(
            "spectra",
            "Power spectra",
            "One-sided power spectral density of the potential energy, and of the raw minus the averaged energy.",
            ("spectrum_potential", "spectrum_non_equivariant"),
            columns=2,
            log_y=True,
        ),
        Layout("conserved", "Conserved quantity", "Change since the start.", ("conserved",)),
    ),
    "liquid": (
        Layout(
            "pair-correlations",
            "Pair correlation functions",
            "Between elements; the peaks of pairs within a molecule are cut off.",
            ("g_OO", "g_OH", "g_HH"),
            columns=3,
            level=1.0,
            cut_off=True,
        ),
        Layout(
            "dipole-correlations",
            "Dipole correlations",
            "Mean of (u·r)(u'·r), longitudinal, and of [u·u' - (u·r)(u'·r)]/2, transverse, over "
            "pairs of molecules at a "
            "distance r; u: unit orientation vectors.",
            ("cuu_longitudinal", "cuu_transverse"),
            columns=2,
            level=0.0,
        ),
        Layout(
            "msd", "Mean-square displacement", "Relative to the centre of mass, all time origins.", ("msd",)
        ),
        Layout(
            "dipole-relaxation",
            "Dipole autocorrelation",
            "Of the unit orientation vector of each molecule, and of their sum.",
            ("dipole_single", "dipole_total"),
            columns=2,
            level=0.0,
        ),
        Layout("conserved", "Conserved quantity", "Change since the start.", ("conserved",)),
        Layout(
            "heating",
            "Heating, from the fluctuations of the conserved quantity",
            "Spectral density of the rate of the conserved quantity over 2kT. Its level at low wavenumbers is the "
            "drift by the fluctuation theorem; what rises with the square of the wavenumber is the error of the time "
            "step, borrowed and given back.",
            ("heating_spectrum",),
            log_x=True,
            log_y=True,
        ),
    ),
    "ice": (
        Layout(
            "energies",
            "Relative energies of the cells",
            "Energy per molecule relative to the mean over cells, before and after relaxation.",
            ("ice_initial", "ice_relaxed"),
            columns=2,
            markers=True,
            level=0.0,
        ),
        Layout(
            "geometries",
            "Relaxed geometries",
            "Root mean square displacement per atom, common translation removed.",
            ("ice_rmsd",),
            markers=True,
        ),
    ),
}


REPLAY = Layout(
    "replay",
    "Symmetry error along the trajectory",
    "Raw minus averaged energy of each snapshot.",
    ("replay_energy",),
    level=0.0,
)


def layouts_of(analyses: Sequence[Analysis]) -> tuple[Layout, ...]:
    """The figures of a kind, with what the runs hold: other elements than O and H, ice that moves."""
    kind = analyses[0].kind
    keys = {key for analysis in analyses for key in analysis.curves}
    layouts = (*LAYOUTS["ice"], *LAYOUTS["liquid"]) if kind == "ice" else LAYOUTS[kind]
    pairs = tuple(dict.fromkeys(k for a in analyses for k in a.curves if k.startswith("g_")))
    result = []
    for layout in (*layouts, REPLAY):
        panels = pairs if layout.name == "pair-correlations" else layout.panels
        present = tuple(panel for panel in panels if panel in keys)
        if present:
            result.append(replace(layout, panels=present, columns=min(layout.columns, len(present))))
    return tuple(result)


def shown(name: str) -> str:
    """A name as matplotlib prints it: no mathematics between dollars, and in the legend also where it begins with _."""
    name = name.replace("$", r"\$")
    return f" {name}" if name.startswith("_") else name


def draw_curves(layout: Layout, analyses: Sequence[Analysis]) -> Figure:
    """Every panel with the curves of every run that has it."""
    rows = -(-len(layout.panels) // layout.columns)
    shared = rows > 1 and layout.columns == 1
    with rc_context(STYLE):
        size = (3.3 * max(1.0, 0.85 * layout.columns), (1.25 if shared else 2.4) * rows + 0.3)
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(rows, layout.columns, squeeze=False, sharex=shared)
        for axes, key in zip(grid.flat, layout.panels, strict=False):
            for number, analysis in enumerate(analyses):
                if key in analysis.curves:
                    _draw_curve(axes, analysis.curves[key], shown(analysis.label), number, layout)
            if layout.level is not None:
                axes.axhline(layout.level, color="0.7", linewidth=0.5, zorder=0)
            if layout.log_x:
                axes.set_xscale("log")
            if layout.log_y and any((a.curves[key].y > 0).any() for a in analyses if key in a.curves):
                axes.set_yscale("log")
            if layout.cut_off:
                curves = [a.curves[key] for a in analyses if key in a.curves]
                highest = max(float(np.nanmax(c.y[c.x > c.scale_from], initial=0.0)) for c in curves)
                axes.set_ylim(0.0, 1.15 * max(highest, 1.0))
        for axes in list(grid.flat)[len(layout.panels) :]:
            axes.set_visible(False)
        if shared:
            for axes in grid[:-1, 0]:
                axes.set_xlabel("")
        if len(analyses) > 1 or layout.markers:
            handles = dict(zip(*reversed(_legend(grid)), strict=True))
            # as many columns as the names leave room for
            widest = 0.3 + 0.047 * max(len(label) for label in handles)
            columns = max(1, min(4, len(handles), int(size[0] / widest)))
            figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=columns)
    return figure


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
    axes.set_xlabel(curve.x_label)
    axes.set_ylabel(curve.y_label)


def _legend(grid: np.ndarray) -> tuple[list[Any], list[str]]:
    """Lines and labels of all panels: a run may be missing from the first one."""
    handles: list[Any] = []
    labels: list[str] = []
    for axes in grid.flat:
        found = axes.get_legend_handles_labels()
        handles += found[0]
        labels += found[1]
    return handles, labels


def draw_maps(key: str, analyses: Sequence[Analysis]) -> Figure | None:
    """One panel per run that has the map, all on one colour scale; None where no run has it."""
    chosen = [analysis for analysis in analyses if key in analysis.maps]
    if not chosen:
        return None
    maps = [analysis.maps[key] for analysis in chosen]
    finite = np.concatenate([np.abs(m.values[np.isfinite(m.values)]) for m in maps])
    limit = max(0.05, float(np.quantile(finite, 0.995)) if len(finite) else 0.05)
    with rc_context(STYLE):
        figure = Figure(figsize=(2.4 * len(chosen) + 0.9, 2.3), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(1, len(chosen), squeeze=False, sharey=True)
        for axes, analysis, drawn in zip(grid.flat, chosen, maps, strict=True):
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
            axes.set_title(shown(analysis.label), fontsize=8)
            axes.set_xlabel(drawn.y_label)
        grid[0, 0].set_ylabel(maps[0].x_label)
        figure.colorbar(image, ax=grid, label=maps[0].label, shrink=0.9)
    return figure


def _edges(centres: Map | np.ndarray) -> np.ndarray:
    values = np.asarray(centres)
    half = (values[1] - values[0]) / 2
    return np.concatenate([values - half, values[-1:] + half])


def save(figure: Figure, folder: Path, name: str) -> Path:
    """PNG for the screen and PDF for print; the path of the PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    with rc_context(STYLE):
        figure.savefig(folder / f"{name}.pdf")
        figure.savefig(folder / f"{name}.png", dpi=160)
    return folder / f"{name}.png"
