"""A liquid with vacuum on both sides: its density and orientations across the surfaces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ipi_driver.analysis.result import Analysis, Curve, Scalar
from ipi_driver.observables.profiles import SlabProfiles, surfaces
from ipi_driver.structure import BoolArray

_MARGIN = 5.0
"""Å of vacuum that figures show beyond the outermost atoms."""


def add_profiles(analysis: Analysis, profiles: SlabProfiles, spacing: float) -> None:
    """Curves across the slab, the density inside, and what the fit says of the surfaces.

    Raises
    ------
    UserError
        If the run is too short for block averages, or the profile has not the form of a slab.
    """
    vector = "abc"[profiles.slab.axis]
    analysis.note(
        f"a slab, with {profiles.slab.vacuum:.0f} Å of vacuum along the cell vector {vector}: pair correlations are "
        "relative to the mean density of the cell, vacuum included, and diffusion and relaxation are those of inside "
        "and surface together"
    )
    density, z = profiles.density(spacing), profiles.z
    occupied = np.flatnonzero(density.value)
    outermost = float(np.abs(z[occupied]).max()) + _MARGIN
    shown = np.abs(z) <= outermost

    name = "distance from the middle / Å"
    analysis.curves["slab_density"] = _part(Curve.of(z, density, name, "density / g cm⁻³"), shown)
    orientation = profiles.orientation(spacing)
    if orientation is not None:
        analysis.curves["slab_orientation"] = _part(Curve.of(z, orientation, name, "⟨u·n⟩"), shown)

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
        x=curve.x[shown],
        y=curve.y[shown],
        error=curve.error[shown],
        blocks=None if curve.blocks is None else curve.blocks[:, shown],
        of_points=None if curve.of_points is None else curve.of_points[shown],
    )
