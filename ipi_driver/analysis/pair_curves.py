"""Pair correlations of a liquid: curves, first maxima, coordination numbers, dipole correlations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from ase.data import atomic_numbers

from ipi_driver.analysis.result import Analysis, Curve, Scalar
from ipi_driver.observables.molecules import farthest_within
from ipi_driver.observables.pairs import DipoleCorrelation, PairDistances, RadialCurve
from ipi_driver.structure import FloatArray, Structure

_VIBRATION, _PEAK_WIDTH = 1.1, 0.3
"""Distances within a molecule reach this factor times, plus this many Å, those in the first snapshot."""


def add_pairs(analysis: Analysis, pairs: PairDistances, structure: Structure, spacing: float) -> None:
    """g(r) of every pair of elements, its first maximum between molecules and the neighbors up to the minimum after.

    Raises
    ------
    UserError
        If the trajectory is too short for a block average.
    """
    kernel = f" (Gaussian kernel, {pairs.bandwidth:g} Å)" if pairs.bandwidth else ""
    for (first, second), curve in pairs.result(spacing).items():
        key, name = f"g_{first}{second}", f"g {first}–{second}"
        farthest = farthest_within(structure, first, second)
        beyond = _VIBRATION * farthest + _PEAK_WIDTH if farthest else 0.0
        found = replace(Curve.of(curve.r, curve.estimate, "r / Å", name + kernel), scale_from=beyond)
        analysis.curves[key] = found
        maximum = add_first_maximum(analysis, found, key, name)
        if maximum is not None:
            _add_coordination(analysis, found, key, (first, second), structure, maximum, pairs.inverse_volume)
    r = next(curve.x for key, curve in analysis.curves.items() if key.startswith("g_"))
    end = 1.5 * r[-1] - 0.5 * r[-2] if len(r) > 1 else 2.0 * r[-1]
    if end < pairs.r_max * (1.0 - 1e-9):
        analysis.note(
            f"pair correlations up to {end:.2f} instead of {pairs.r_max:.2f} Å, half the smallest height of the cell"
        )


def add_dipole_correlations(analysis: Analysis, dipoles: DipoleCorrelation, spacing: float) -> None:
    """Longitudinal and transverse c_uu(r).

    Raises
    ------
    UserError
        If the trajectory is too short for a block average.
    """
    longitudinal, transverse = dipoles.result(spacing)
    analysis.curves["cuu_longitudinal"] = _radial(longitudinal, "c_uu longitudinal, (u·r̂)(u'·r̂)")
    analysis.curves["cuu_transverse"] = _radial(transverse, "c_uu transverse, u·u' − (u·r̂)(u'·r̂)")


def _radial(curve: RadialCurve, label: str) -> Curve:
    return Curve.of(curve.r, curve.estimate, "r / Å", label)


def add_first_maximum(analysis: Analysis, curve: Curve, key: str, name: str) -> int | None:
    """Height and place of the maximum between molecules, from a parabola through the highest bin and its neighbors.

    Returns
    -------
    int or None
        Its bin, if there is one within the curve.
    """
    y = np.nan_to_num(curve.y)
    inside = slice(1, -1)
    peaks = (
        (curve.x > curve.scale_from)[inside]
        & (y[inside] >= y[:-2])
        & (y[inside] >= y[2:])
        & (y[inside] > 0.0)
    )
    if not peaks.any():  # where pairs within a molecule reach further, the curve may only fall
        return None
    top = 1 + int(np.argmax(np.where(peaks, y[inside], 0.0)))
    left, middle, right = curve.y[top - 1 : top + 2]
    bend = left - 2 * middle + right
    offset = 0.5 * (left - right) / bend if bend < 0 else 0.0
    place = curve.x[top] + offset * (curve.x[1] - curve.x[0])
    height = float(middle - 0.25 * (left - right) * offset)
    details = (curve.correlation_time, curve.block_length, 0 if curve.blocks is None else len(curve.blocks))
    analysis.scalars[f"{key}_height"] = Scalar(
        f"{name}: maximum", height, float(curve.error[top]), "", *details
    )
    half_bin = float(curve.x[1] - curve.x[0]) / 2
    analysis.scalars[f"{key}_place"] = Scalar(f"{name}: place of the maximum", float(place), half_bin, "Å")
    return top


def _add_coordination(
    analysis: Analysis,
    curve: Curve,
    key: str,
    pair: Sequence[str],
    structure: Structure,
    top: int,
    inverse_volume: float,
) -> None:
    """Neighbors between molecules up to the first minimum, ``n = rho int 4 pi r² g(r) dr`` at the mean density."""
    end = _first_minimum(curve.y, top)
    if end is None or curve.blocks is None:
        return
    first, second = pair
    others = int((structure.numbers == atomic_numbers[second]).sum()) - (first == second)
    width = float(curve.x[1] - curve.x[0])
    edges = np.arange(len(curve.x) + 1) * width
    shells = 4.0 / 3.0 * np.pi * np.diff(edges**3) * others * inverse_volume
    used = (curve.x > curve.scale_from) & (np.arange(len(curve.x)) <= end)

    def number(g: FloatArray) -> float:
        return float((np.nan_to_num(g) * shells)[used].sum())

    values = np.array([number(block) for block in curve.blocks])
    error = curve.correction * values.std(ddof=1) / np.sqrt(len(values))
    label = f"neighbors {second} of {first} in other molecules (up to the first minimum of g, {edges[end + 1]:.2f} Å)"
    details = (curve.correlation_time, curve.block_length, len(values))
    analysis.scalars[f"{key}_coordination"] = Scalar(label, number(curve.y), float(error), "", *details)


def _first_minimum(g: FloatArray, top: int) -> int | None:
    """Bin of the first minimum after the maximum, of a curve smoothed over five bins; None where there is none."""
    smooth = np.convolve(np.nan_to_num(g), np.ones(5) / 5.0, mode="same")[: len(g) - 2]
    for k in range(top + 2, len(smooth) - 5):
        if smooth[k] == smooth[max(0, k - 5) : k + 6].min():
            return k
    return None
