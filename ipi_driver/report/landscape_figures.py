"""Loss surfaces side by side, and the largest curvatures of each."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import rc_context
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ipi_driver.report.style import COLORS, STYLE, new_figure
from ipi_driver.training.landscape import Landscape
from ipi_driver.units import MILLI


def draw_landscapes(found: Mapping[str, Landscape]) -> Figure:
    """Root mean square force error over two directions, one panel for each model in a common scale, and eigenvalues.

    Parameters
    ----------
    found
        By the name of the model.
    """
    with_curvature = any(item.eigenvalues.size for item in found.values())
    count = len(found) + with_curvature
    with rc_context(STYLE):
        figure = new_figure(1.9 * count + 0.6, 2.5)
        panels = figure.subplots(1, count, squeeze=False)[0]
        errors = {name: MILLI * np.sqrt(item.surface) for name, item in found.items()}
        lowest = min(float(np.nanmin(e)) for e in errors.values())
        highest = max(float(np.nanmax(e)) for e in errors.values())
        scale = LogNorm(lowest, max(highest, 1.001 * lowest))
        levels = np.geomspace(lowest, max(highest, 1.001 * lowest), 13)
        image = None
        for axis, (name, item) in zip(panels, found.items(), strict=False):
            image = axis.contourf(
                item.steps,
                item.steps,
                errors[name].T,
                levels=levels,
                norm=scale,
                cmap="viridis",
                extend="both",
            )
            axis.plot(0.0, 0.0, "+", color="w", ms=5)
            axis.set(aspect="equal", xlabel="a", ylabel="b" if axis is panels[0] else "")
            axis.set_title(name, fontsize=7)
        if image is not None:
            bar = figure.colorbar(image, ax=panels[: len(found)].tolist(), shrink=0.8)
            bar.set_label("force error, rms (meV/Å)")
            bar.ax.set_yticks([lowest, np.sqrt(lowest * highest), highest])
            bar.ax.set_yticklabels([f"{t:.3g}" for t in (lowest, np.sqrt(lowest * highest), highest)])
            bar.ax.minorticks_off()
        if with_curvature:
            _draw_eigenvalues(panels[-1], found)
    return figure


def _draw_eigenvalues(axis: object, found: Mapping[str, Landscape]) -> None:
    """Mean over seeds of each eigenvalue, with its spread."""
    for k, (name, item) in enumerate(found.items()):
        if not item.eigenvalues.size:
            continue
        values = item.eigenvalues.mean(axis=0)
        spread = item.eigenvalues.std(axis=0, ddof=1) if len(item.eigenvalues) > 1 else np.zeros_like(values)
        ranks = np.arange(1, len(values) + 1)
        axis.errorbar(  # type: ignore[attr-defined]
            ranks,
            values,
            np.maximum(spread, item.residuals.max(axis=0)),
            fmt="o-",
            ms=3,
            color=COLORS[k],
            label=name,
        )
    axis.set(yscale="log", xlabel="eigenvalue", ylabel="curvature ((eV/Å)²)")  # type: ignore[attr-defined]
    most = max((item.eigenvalues.shape[1] for item in found.values() if item.eigenvalues.size), default=1)
    axis.set_xticks(range(1, most + 1))  # type: ignore[attr-defined]
    axis.set_xlim(0.5, most + 0.5)  # type: ignore[attr-defined]
    bottom, top = axis.get_ylim()  # type: ignore[attr-defined]
    axis.set_ylim(bottom, top * (top / bottom) ** 0.35)  # type: ignore[attr-defined]
    axis.legend(fontsize=5, loc="upper right")  # type: ignore[attr-defined]
