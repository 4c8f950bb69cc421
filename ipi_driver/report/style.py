"""The style of all figures: colors, fonts, and figures that are drawn without a display or global state."""

from __future__ import annotations

from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's colors: distinct for everybody, and in print
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
"""Settings of matplotlib, for `matplotlib.rc_context`."""


def new_figure(width: float, height: float, constrained: bool = True) -> Figure:
    """An empty figure of this size in inches with a canvas of its own, which pyplot does not know."""
    figure = Figure(figsize=(width, height), layout="constrained" if constrained else None)
    FigureCanvasAgg(figure)
    return figure


def shown(name: str) -> str:
    """A name as matplotlib prints it: no mathematics between dollars, and in the legend also where it begins with _."""
    name = name.replace("$", r"\$")
    return f" {name}" if name.startswith("_") else name
