"""Published values beside those of the runs, and what differs.

Published: Langer, Pozdnyakov, Ceriotti, Mach. Learn.: Sci. Technol. 5, 04LT01 (2024); many are read off figures, so
they are compared and never fitted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ipi_driver.analysis.result import Analysis, Curve
from ipi_driver.studies.langer2024.plan import PUBLISHED_STRIDE

SIGMAS = 2.0
"""Differences up to this many standard errors are called agreement."""


@dataclass(frozen=True)
class Published:
    """One published number and where this reproduction has its own.

    Attributes
    ----------
    run
        Name of the run (or "check").
    key
        Of the scalar; ``curve:NAME:x`` is a curve at x.
    label
        What it is.
    value
        In the unit of the scalar.
    unit
        As printed.
    remark
        What differs from the published calculation.
    text
        Said instead of the number, where the publication gives a bound or a range.
    bound
        Whether ``value`` is an upper bound.
    """

    run: str
    key: str
    label: str
    value: float
    unit: str
    remark: str = ""
    text: str = ""
    bound: bool = False


_TORQUE = "the symmetry error of another model; read off a figure"
_CELLS = "other cells, made by this project"
_NOT_3I = "reference Ih, not 3i"
_MODEL = "another model and training set; 64 molecules at scale small; read off a figure"
_SHORT = "a shorter run, of 64 molecules at scale small; read off a figure"
_ANOTHER_ERROR = "; the symmetry error of another model"
_TEMPERATURE = "a shorter run; the 0.5 fs step makes O about 2 K hotter than H"
_RESONANCE = f"{_ANOTHER_ERROR}; outer steps near 5 fs are in resonance with the O–H stretch"
PUBLISHED = (
    *(
        Published("gas-nve-raw", f"torque_{name}", f"gas: mean torque, {name}", value, "meV", _TORQUE)
        for name, value in (("none", 5.0), ("i", 3.0), ("2", 0.4), ("2i", 0.25), ("3", 0.1), ("3i", 0.02))
    ),
    Published(
        "gas-nvt-raw",
        "largest_free_energy",
        "gas: orientational free energy, raw, largest",
        0.4,
        "kT",
        "the largest over cells includes the noise of a short run",
        "about ± 0.4",
    ),
    Published("check", "gas:none:energy_mae", "symmetry error of energies, gas", 2.7, "meV", _NOT_3I),
    Published("check", "gas:none:force_mae", "symmetry error of forces, gas", 12.0, "meV/Å", _NOT_3I),
    Published(
        "check",
        "liquid:none:energy_mae",
        "symmetry error of energies, liquid",
        8.0,
        "meV",
        "per structure, of 64 molecules at scale small (published: 512); reference Ih, not 3i",
    ),
    Published("check", "liquid:none:force_mae", "symmetry error of forces, liquid", 1.2, "meV/Å", _NOT_3I),
    Published("liquid-raw", "g_OO_height", "liquid: first maximum of g_OO", 2.25, "", _MODEL),
    Published("liquid-raw", "g_OO_place", "liquid: its place", 2.83, "Å", _MODEL),
    Published(
        "liquid-raw", "curve:cuu_longitudinal:4.3", "liquid: c_uu longitudinal at 4.3 Å", -0.06, "", _MODEL
    ),
    Published(
        "liquid-raw", "curve:cuu_longitudinal:5.1", "liquid: c_uu longitudinal at 5.1 Å", 0.06, "", _MODEL
    ),
    Published(
        "liquid-raw",
        "diffusion",
        "liquid: diffusion coefficient",
        1.55 / 6,
        "Å²/ps",
        f"{_MODEL} (slope of the mean-square displacement); no finite-size correction in either",
    ),
    Published(
        "liquid-raw",
        "relaxation",
        "liquid: dipole relaxation time",
        4.0,
        "ps",
        "another model and training set; the published value from 0.5, 0.3 and 0.07 at 2, 4 and 10 ps",
        "about 4",
    ),
    *(
        Published(run, key, f"liquid: drift, {forces}{how}", value, "meV/molecule/ns", remark + other)
        for key, how, remark in (
            ("drift", "", _SHORT),
            ("dissipation", ", implied by the fluctuations", f"the published one is the slope; {_SHORT}"),
        )
        for run, forces, value, other in (
            ("liquid-raw", "raw", 2.0, ""),
            ("liquid-2i", "2i with multiple time stepping", 12.0, _RESONANCE),
            ("liquid-random", "random frames", 20.0, _ANOTHER_ERROR),
        )
    ),
    Published(
        "liquid-random",
        "temperature_O",
        "liquid: kinetic temperature of O, random",
        300.0,
        "K",
        _TEMPERATURE,
        "300 ± 0.2",
    ),
    Published(
        "liquid-random",
        "temperature_H",
        "liquid: kinetic temperature of H, random",
        300.0,
        "K",
        _TEMPERATURE,
        "300 ± 0.2",
    ),
    Published(
        "ice-raw", "ice_relaxed_spread", "ice: spread of the relaxed energies", 0.3, "meV/molecule", _CELLS
    ),
    Published(
        "ice-2i", "ice_relaxed_rmse", "ice: relaxed energies, raw against 2i", 0.02, "meV/molecule", _CELLS
    ),
    Published("ice-2i", "ice_rmsd", "ice: relaxed geometries, raw against 2i", 1.0, "1e-3 Å/atom", _CELLS),
    Published(
        "ice-2i", "ice_forces_rmse", "ice: initial forces, raw against 2i", 1.0, "meV/Å", _CELLS, "< 1", True
    ),
)


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


def published_rows(analyses: Mapping[str, Analysis], check: Mapping[str, float]) -> list[Row]:
    """The table, without what has not been measured.

    Parameters
    ----------
    analyses
        By name of the run.
    check
        By ``data set:average:quantity``, in meV and meV/Å.
    """
    rows = []
    for entry in PUBLISHED:
        found = _measured(entry, analyses, check)
        if found is not None and math.isfinite(found[0]):
            value, error = found
            text = entry.text or f"{entry.value:.3g}"
            rows.append(
                Row(
                    entry.label, text, value, error, entry.unit, _agreement(entry, value, error), entry.remark
                )
            )
    return rows


def _measured(
    entry: Published, analyses: Mapping[str, Analysis], check: Mapping[str, float]
) -> tuple[float, float] | None:
    if entry.run == "check":
        return (check[entry.key], math.nan) if entry.key in check else None
    analysis = analyses.get(entry.run)
    if analysis is None:
        return None
    if entry.key.startswith("curve:"):
        _, name, x = entry.key.split(":")
        curve = analysis.curves.get(name)
        return None if curve is None else _at(curve, float(x))
    if entry.key == "largest_free_energy":
        if "orientation" not in analysis.maps:
            return None
        shown = analysis.maps["orientation"]
        values = np.where(np.isfinite(shown.values), np.abs(shown.values), -1.0)
        place = np.unravel_index(int(values.argmax()), values.shape)
        return float(values[place]), float(shown.error[place])
    scalar = analysis.scalars.get(entry.key)
    return None if scalar is None else (scalar.value, scalar.error)


def _at(curve: Curve, x: float) -> tuple[float, float] | None:
    if not len(curve.x) or not curve.x[0] <= x <= curve.x[-1]:
        return None
    k = int(np.abs(curve.x - x).argmin())
    return float(curve.y[k]), float(curve.error[k])


def _agreement(entry: Published, value: float, error: float) -> str:
    if entry.bound:
        return "within the bound" if value <= entry.value else f"{value / entry.value:.2g} × the bound"
    ratio = f"{value / entry.value:.2g} × published" if entry.value else ""
    if math.isfinite(error) and error > 0.0:
        sigmas = abs(value - entry.value) / error
        far = f"{sigmas:.0f} σ" if sigmas < 100 else "> 100 σ"
        return f"agrees ({sigmas:.1f} σ)" if sigmas <= SIGMAS else f"{ratio} ({far})"
    return ratio


def remarks(scale: str, fraction: float = 1.0) -> list[str]:
    """What differs from the published calculation everywhere."""
    small = "64 instead of 512 molecules, runs of 10 to 100 ps"
    length = small if scale == "small" else "the published sizes, lengths of its own"
    if fraction < 1.0:
        length += f", each cut to {100 * fraction:g} %, of fewer cells of ice: a trial, not a measurement"
    return [
        "The model is not the published one: it has its own architecture, size and cutoff (see its card), and "
        "pet-water-s was trained on 136 structures instead of 1303; its symmetry error is its own.",
        f"Scale {scale}: {length}; the error bars are those of these lengths.",
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
        outer = f"The outer step is {0.5 * stride:g} fs, the published one 5 fs, which"
    return {
        "gas": f"{start} another model, whose symmetry error is its own, and other lengths.",
        "liquid": f"{start} another model and training set, and {size}. {outer} is half a period of "
        "an O–H stretch: what it heats depends on the model, see `ipi-driver check --trajectory`.",
        "ice": f"{start} another model, and proton-disordered cells made by this project. The relaxations end at the "
        "published tolerances, so that the differences of the relaxed cells are in part those of where each stopped.",
    }
