"""Published values beside those of the runs, and what differs.

Published: Langer, Pozdnyakov, Ceriotti, Mach. Learn.: Sci. Technol. 5, 04LT01 (2024); see `published_values`. They are
compared and never fitted. The definitions are those of the publication's own analysis scripts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from ipi_driver.analysis.compare import SIGMAS
from ipi_driver.analysis.result import Analysis, Curve
from ipi_driver.studies.langer2024.plan import PUBLISHED_STRIDE
from ipi_driver.studies.langer2024.published_values import PUBLISHED, Published


@dataclass(frozen=True)
class Row:
    """One line of the table of published values; ``value`` and ``error`` are this model's."""

    label: str
    published: str
    value: float
    error: float
    unit: str
    agreement: str
    remark: str


def published_rows(
    analyses: Mapping[str, Analysis], check: Mapping[str, float], card: Mapping[str, float] | None = None
) -> list[Row]:
    """The table, without what has not been measured.

    Parameters
    ----------
    analyses
        By name of the run.
    check
        By ``data set:average:quantity``, in meV and meV/Å.
    card
        Test errors of the model, in meV and meV/Å.
    """
    rows = []
    for entry in PUBLISHED:
        found = _measured(entry, analyses, {"check": check, "card": card or {}})
        if found is not None and math.isfinite(found[0]):
            value, error, n_blocks = found
            text = entry.text or f"{entry.value:.3g}"
            verdict = _agreement(entry, value, error, n_blocks)
            rows.append(Row(entry.label, text, value, error, entry.unit, verdict, entry.remark))
    return rows


def _measured(
    entry: Published, analyses: Mapping[str, Analysis], tables: Mapping[str, Mapping[str, float]]
) -> tuple[float, float, int] | None:
    """Value, standard error and number of blocks."""
    if entry.run in tables:
        known = tables[entry.run]
        return (known[entry.key], math.nan, 0) if entry.key in known else None
    analysis = analyses.get(entry.run)
    if analysis is None:
        return None
    if entry.key.startswith("curve:"):
        _, name, x = entry.key.split(":")
        curve = analysis.curves.get(name)
        return None if curve is None else _at(curve, float(x))
    scalar = analysis.scalars.get(entry.key)
    return None if scalar is None else (scalar.value, scalar.error, scalar.n_blocks)


def _at(curve: Curve, x: float) -> tuple[float, float, int] | None:
    if not len(curve.x) or not curve.x[0] <= x <= curve.x[-1]:
        return None
    k = int(np.abs(curve.x - x).argmin())
    return float(curve.y[k]), float(curve.error[k]), 0 if curve.blocks is None else len(curve.blocks)


def _agreement(entry: Published, value: float, error: float, n_blocks: int = 0) -> str:
    """The verdict in words, with the direction of a difference."""
    if entry.kind == "bound":
        return "within the bound" if value <= entry.value else f"{value / entry.value:.2g} times the bound"
    spread = math.hypot(error, entry.uncertainty) if math.isfinite(error) else math.nan
    sigmas = abs(value - entry.value) / spread if spread > 0.0 else math.nan
    far = f" ({sigmas:.1f} σ)" if sigmas < 10.0 else " (> 10 σ)" if math.isfinite(sigmas) else ""
    limit = float(student.isf(0.025, n_blocks - 1)) if n_blocks > 1 else SIGMAS
    if sigmas <= limit:
        # agreement within an error as large as the value means nothing
        if sigmas > SIGMAS:
            far = f" ({sigmas:.1f} σ of {n_blocks} blocks)"
        return f"not resolved{far}" if spread > 0.5 * abs(entry.value) else f"agrees{far}"
    if entry.kind == "error" and value > 0.0:
        return _ratio(value / entry.value) + far
    change = 100.0 * (value - entry.value) / abs(entry.value)
    if value * entry.value < 0.0:
        return f"of the other sign{far}"
    return f"{abs(change):.2g} % {'higher' if change > 0 else 'lower'}{far}"


def _ratio(ratio: float) -> str:
    if 0.95 < ratio < 1.05:
        return "the same"
    return f"{ratio:.2g} times larger" if ratio > 1.0 else f"{_rounded(1.0 / ratio)} times smaller"


def _rounded(ratio: float) -> str:
    """Two digits, without an exponent."""
    digits = 1 - math.floor(math.log10(ratio))
    return f"{round(ratio, digits):g}" if digits > 0 else f"{round(ratio, digits):.0f}"


def remarks(scale: str, fraction: float = 1.0) -> list[str]:
    """What differs from the published calculation everywhere."""
    small = "64 instead of 512 molecules, runs of 10 to 100 ps"
    length = small if scale == "small" else "the published sizes, lengths of its own"
    if fraction < 1.0:
        length += f", each cut to {100 * fraction:g} %, of fewer cells of ice: a trial, not a measurement"
    return [
        "The model is not the published one: it has its own architecture, size, cutoff and training set (see its "
        "card), and its symmetry error is its own.",
        f"Scale {scale}: {length}; the error bars are those of these lengths.",
        "Definitions are the publication's: kernel estimates of 0.1 Å for g(r) and c_uu, c_uu transverse without a "
        "factor ½, torques as root mean squares, the norms of its scripts for ice.",
        "The liquids start from one structure. Their random numbers are their own, but what is left of the start after "
        "the time skipped is shared: such runs are a little more alike than independent ones.",
    ]


def figure_remarks(scale: str, stride: int | None = None) -> dict[str, str]:
    """What differs from the published figures, by kind of system.

    Parameters
    ----------
    stride
        Inner steps per outer step of the averaged liquid, if it is not the published one.
    """
    size = (
        "64 instead of 512 molecules and shorter runs, hence wider bands"
        if scale == "small"
        else "its own lengths"
    )
    start = "Differs from the publication:"
    outer = "The outer step of 5 fs, the published one,"
    if stride not in (None, PUBLISHED_STRIDE):
        outer = f"The outer step is {0.5 * (stride or 0):g} fs, the published one 5 fs, which"
    return {
        "gas": f"{start} another model, whose symmetry error is its own, and other lengths.",
        "liquid": f"{start} another model and training set, and {size}. {outer} is half a period of "
        "an O–H stretch: what it heats depends on the model, see `ipi-driver check --trajectory`.",
        "ice": f"{start} another model, and proton-disordered cells made by this project. The relaxations end at the "
        "published tolerances, so that the differences of the relaxed cells are in part those of where each stopped.",
    }
