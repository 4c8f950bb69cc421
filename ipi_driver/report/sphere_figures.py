"""Signals on the sphere, as surfaces and as colored spheres: what relaxed weights break, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from ipi_driver.report.style import STYLE, new_figure
from ipi_driver.structure import FloatArray
from ipi_driver.symmetry.breaking import Weights, norm, signal, split_parities

_POSITIVE, _NEGATIVE = "#D55E00", "#0072B2"


def draw_signals(layers: Mapping[str, Weights]) -> Figure:
    """Scalar (above) and pseudoscalar (below) signal of the non-scalar weights of each layer.

    The distance from the origin is the absolute value of the signal, orange where it is positive and blue where it is
    negative, every panel in its own scale, which stands above it with the norm of the weights.

    Parameters
    ----------
    layers
        By title: weights (2l + 1,) by irrep.
    """
    with rc_context(STYLE):
        figure = new_figure(2.3 * len(layers), 4.8, constrained=False)
        for column, (title, weights) in enumerate(layers.items()):
            for row, (name, part) in enumerate(
                zip(("scalar", "pseudoscalar"), split_parities(weights), strict=True)
            ):
                place = figure.add_subplot(2, len(layers), row * len(layers) + column + 1, projection="3d")
                _surface(place, part)
                place.set_title(f"{title}\n{name}, norm {norm(part):.2g}", fontsize=7)
        figure.subplots_adjust(left=0.01, right=0.99, bottom=0.02, top=0.92, wspace=0.02, hspace=0.12)
    return figure


def _surface(place: Any, weights: Weights) -> None:
    polar, azimuth = np.meshgrid(np.linspace(0, np.pi, 41), np.linspace(0, 2 * np.pi, 61))
    directions = np.stack(
        [np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], axis=-1
    )
    values = signal(weights, directions.reshape(-1, 3)).reshape(polar.shape)
    largest = float(np.abs(values).max())
    if largest > 1e-8:
        surface = directions * (np.abs(values) / largest)[..., None]
        colors = np.where((values > 0)[..., None], _rgb(_POSITIVE), _rgb(_NEGATIVE))
        place.plot_surface(*np.moveaxis(surface, -1, 0), facecolors=colors, rstride=1, cstride=1, linewidth=0)
    else:
        place.text2D(0.5, 0.5, "zero", transform=place.transAxes, ha="center", color="0.5")
    for axis, name in zip(np.eye(3), "xyz", strict=True):
        place.plot(*np.outer(axis, [0.0, 1.15]), color="0.6", linewidth=0.6)
        place.text(*(1.3 * axis), name, fontsize=6, color="0.4")
    place.set_box_aspect((1, 1, 1))
    place.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1))
    place.set_axis_off()


def _rgb(color: str) -> FloatArray:
    return np.array([int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)] + [1.0])


def weights_table(layers: Mapping[str, Weights]) -> tuple[Sequence[str], list[list[str]]]:
    """Header and rows: layer, irrep, norm, components."""
    rows = [
        [title, name, f"{np.linalg.norm(values):.3g}", "  ".join(f"{v:+.4f}" for v in values)]
        for title, weights in layers.items()
        for name, values in weights.items()
    ]
    return ("layer", "irrep", "norm", "components"), rows
