"""The published curves and maps, digitised, beside those of a run.

Digitised from the figures of Langer, Pozdnyakov, Ceriotti, Mach. Learn.: Sci. Technol. 5, 04LT01 (2024), as the
notebook of their data archive holds them (CC BY 4.0; `curves/README.md`), by color at 511 pixels of width.
Uncertainties are about one pixel. The curves of the liquid are those of 512 molecules with raw forces; the averaged
ones lie on them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ipi_driver.analysis.result import Analysis, Curve, Map
from ipi_driver.observables.comparison import compare_with_reference
from ipi_driver.structure import FloatArray

FOLDER = Path(__file__).parent / "curves"
SOURCE = "published, digitised"


@dataclass(frozen=True)
class Digitised:
    """One published curve.

    Attributes
    ----------
    file
        CSV of two columns in `FOLDER`.
    run, key
        The run and the curve that it is compared with.
    uncertainty
        Of reading it, in the unit of y.
    label
        What it is, for tables.
    """

    file: str
    run: str
    key: str
    uncertainty: float
    label: str


CURVES = (
    Digitised("bulk-g_OO.csv", "liquid-raw", "g_OO", 0.03, "g(O–O)"),
    Digitised("bulk-cuu_longitudinal.csv", "liquid-raw", "cuu_longitudinal", 0.005, "c_uu longitudinal"),
    Digitised("bulk-cuu_transverse.csv", "liquid-raw", "cuu_transverse", 0.005, "c_uu transverse"),
    Digitised("bulk-msd_O.csv", "liquid-raw", "msd", 0.12, "mean-square displacement of O / Å²"),
    Digitised("bulk-dipole_acf.csv", "liquid-raw", "dipole_single", 0.008, "dipole autocorrelation"),
    Digitised("bulk-conserved_raw.csv", "liquid-raw", "conserved", 0.03, "conserved quantity, raw"),
    Digitised("bulk-conserved_mts_2i.csv", "liquid-2i", "conserved", 0.03, "conserved quantity, 2i"),
    Digitised("bulk-conserved_random.csv", "liquid-random", "conserved", 0.03, "conserved quantity, random"),
)
MAPS = {
    "gas": {"raw": "gas-raw-orientation.csv", "2i": "gas-2i-orientation.csv"},
    "liquid": {"raw": "bulk-raw-orientation.csv", "2i": "bulk-2i-orientation.csv"},
}


@dataclass(frozen=True)
class CurveComparison:
    """A whole curve against the published one.

    Attributes
    ----------
    label
        What it is.
    range
        Of x in which both are known, in words.
    rms
        Root mean square of the difference.
    largest
        Largest difference, ours less published, in words with its place.
    verdict
        In words.
    """

    label: str
    range: str
    rms: float
    largest: str
    verdict: str


def digitised(entry: Digitised) -> tuple[FloatArray, FloatArray]:
    """X and y of a published curve, in the units of ours."""
    table = np.loadtxt(FOLDER / entry.file, delimiter=",", skiprows=1)
    order = np.argsort(table[:, 0], kind="stable")
    return table[order, 0], table[order, 1]


def published_map(file: str) -> Map:
    """A published map of the orientational free energy, in kT; NaN where a label hides it."""
    values = np.loadtxt(FOLDER / file, delimiter=",").T  # cos theta × phi from 0 to 2 pi
    n_cos, n_phi = values.shape
    values = np.roll(values, n_phi // 2, axis=1)  # ours begins at -pi
    cos_theta = (np.arange(n_cos) + 0.5) * 2.0 / n_cos - 1.0
    phi = (np.arange(n_phi) + 0.5) * 2.0 * np.pi / n_phi - np.pi
    return Map(cos_theta, phi, values, np.full(values.shape, 0.01), "cos θ", "φ / rad", "F / kT")


def published_curves(kind: str) -> dict[str, list[tuple[str, Curve]]]:
    """Published curves of a kind of system by key, with their labels, to be drawn beside ours."""
    found: dict[str, list[tuple[str, Curve]]] = {}
    if kind != "liquid":
        return found
    for entry in CURVES:
        x, y = digitised(entry)
        label = SOURCE
        if entry.key == "conserved":
            label = f"published ({entry.label.rpartition(', ')[2]})"
        error = np.full(len(x), entry.uncertainty)
        found.setdefault(entry.key, []).append((label, Curve(x, y, error, "", "")))
    return found


def published_maps(kind: str) -> list[tuple[str, Map]]:
    """Published maps of a kind of system with their labels."""
    return [(f"{name}, {SOURCE}", published_map(file)) for name, file in MAPS.get(kind, {}).items()]


def compare_with_published(analyses: Mapping[str, Analysis]) -> list[CurveComparison]:
    """Whole curves of the runs against the published ones, where they overlap."""
    rows = []
    for entry in CURVES:
        analysis = analyses.get(entry.run)
        curve = None if analysis is None else analysis.curves.get(entry.key)
        if curve is not None and entry.key != "conserved":
            row = _compare(entry, curve)
            if row is not None:
                rows.append(row)
    return rows


def _compare(entry: Digitised, curve: Curve) -> CurveComparison | None:
    x, y = digitised(entry)
    reference = np.interp(curve.x, x, y, left=np.nan, right=np.nan)
    both = np.isfinite(reference) & np.isfinite(curve.y) & np.isfinite(curve.error)
    if both.sum() < 3:
        return None
    difference = (curve.y - reference)[both]
    at = curve.x[both]
    worst = int(np.argmax(np.abs(difference)))
    unit = curve.x_label.rpartition("/ ")[2]
    verdict = "no blocks: compare the largest difference with the error of its point"
    if curve.blocks is not None:
        blocks = curve.blocks[:, both]
        corrections = np.broadcast_to(curve.corrections, both.shape)[both]
        found = compare_with_reference(blocks, reference[both], entry.uncertainty, corrections)
        verdict = "not resolved: no point has an error"
        if math.isfinite(found.p):
            chance = "p < 0.001" if found.p < 1e-3 else f"p = {found.p:.2g}"
            seen = f"{float(np.nanmedian(found.detectable)):.2g} would have been seen"
            verdict = f"{'agrees' if found.same else 'differs'} ({chance}; {seen})"
    return CurveComparison(
        entry.label,
        f"{at[0]:.3g} to {at[-1]:.3g} {unit}",
        float(np.sqrt((difference**2).mean())),
        f"{difference[worst]:+.2g} ± {curve.error[both][worst]:.2g} at {at[worst]:.3g} {unit}",
        verdict,
    )
