"""A liquid with vacuum on both sides: its density and orientations across the surfaces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ipi_driver.analysis.common import optional
from ipi_driver.analysis.result import Analysis, Curve, Scalar
from ipi_driver.observables.profiles import SlabProfiles, surfaces
from ipi_driver.observables.statistics import Estimate
from ipi_driver.structure import BoolArray, FloatArray

_MARGIN = 5.0
"""Å of vacuum that figures show beyond the outermost atoms."""


def add_profiles(
    analysis: Analysis, profiles: SlabProfiles, spacing: float, open_directions: BoolArray
) -> None:
    """Curves across the slab, the density inside, and what the fit says of the surfaces.

    Raises
    ------
    UserError
        If the run is too short for block averages.
    """
    axis = profiles.slab.axis
    empty = "no image" if open_directions[axis] else f"{profiles.slab.vacuum:.0f} Å of vacuum"
    analysis.note(
        f"a slab, with {empty} along the cell vector {'abc'[axis]}: pair correlations are relative to the mean density "
        "of the cell, vacuum included; diffusion (a sixth of the slope in three dimensions, no finite-size correction) "
        "and relaxation are those of inside and surface together; molecules at the surfaces are oriented, so that the "
        "map of orientations is not flat for an equivariant potential either: compare with an averaged run"
    )
    density, z = profiles.density(spacing), profiles.z
    occupied = np.flatnonzero(density.value)
    outermost = float(np.abs(z[occupied]).max()) + _MARGIN
    shown = np.abs(z) <= outermost

    name = "distance from the middle / Å"
    analysis.curves["slab_density"] = _part(Curve.of(z, density, name, "density / g cm⁻³"), shown)
    with optional(analysis, "orientations across the slab"):
        orientation = profiles.orientation(spacing)
        if orientation is not None:
            analysis.curves["slab_orientation"] = _part(Curve.of(z, orientation, name, "⟨u·n⟩"), shown)

    if analysis.kind == "ice":
        return
    with optional(analysis, "surfaces of the slab"):
        _add_surfaces(analysis, density, z)


def _add_surfaces(analysis: Analysis, density: Estimate, z: FloatArray) -> None:
    """Numbers of the fit to the density."""
    found = density.derived(lambda values: surfaces(z, values))
    labels = (
        ("slab_inside", "density inside the slab (fit)", "g/cm³"),
        ("slab_surface", "Gibbs dividing surface, from the middle of the slab", "Å"),
        ("slab_width", "90–10 thickness of a surface", "Å"),
    )
    for k, (key, label, unit) in enumerate(labels):
        number = replace(found, value=found.value[k], error=found.error[k], blocks=found.blocks[:, k])
        analysis.scalars[key] = Scalar.of(label, number, unit)


def _part(curve: Curve, shown: BoolArray) -> Curve:
    """Some points of a curve."""
    return replace(
        curve,
        scale_from=-np.inf,  # both sides count
        x=curve.x[shown],
        y=curve.y[shown],
        error=curve.error[shown],
        blocks=None if curve.blocks is None else curve.blocks[:, shown],
        of_points=None if curve.of_points is None else curve.of_points[shown],
    )
