"""A few sentences with numbers on what runs show, for the first screen of a report."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from ipi_driver.analysis.result import Analysis, Scalar
from ipi_driver.report.tables import formatted, shown_value

_MOST = 6


def conclusion_of(analyses: Sequence[Analysis]) -> list[str]:
    """At most six sentences, of each kind of run in turn."""
    found: list[str] = []
    for kind, sentences in (("gas", _gas), ("liquid", _liquid), ("ice", _ice)):
        same = [analysis for analysis in analyses if analysis.kind == kind]
        if same:
            found += sentences(same)
    return found[:_MOST]


def each(analyses: Sequence[Analysis], key: str) -> str:
    """A number in every run that has it, ``1.0 ± 0.1 (raw), 1.2 ± 0.1 (2i) ps``; empty where none has it."""
    known = [(a.label, a.scalars[key]) for a in analyses if key in a.scalars]
    known = [(label, scalar) for label, scalar in known if math.isfinite(scalar.value)]
    if not known:
        return ""
    unit = known[0][1].unit
    values = [f"{shown_value(key, s)}{f' ({label})' if len(analyses) > 1 else ''}" for label, s in known]
    return f"{', '.join(values)} {unit}".rstrip()


def number(scalar: Scalar | None) -> str:
    """A scalar with its error and unit; a dash where there is none."""
    return "–" if scalar is None else f"{formatted(scalar.value, scalar.error)} {scalar.unit}".rstrip()


def _sentences(analyses: Sequence[Analysis], *pairs: tuple[str, str]) -> list[str]:
    """Sentences from (beginning, key), without those that no run has."""
    return [f"{text}: {values}." for text, key in pairs if (values := each(analyses, key))]


_OF_DIGITS = 1.1
"""Times what the digits of the files explain: a torque that is nothing else."""


def _torque(analyses: Sequence[Analysis]) -> list[str]:
    known = [a.scalars for a in analyses if "torque" in a.scalars]
    if known and all(
        "torque_digits" in s and s["torque"].value <= _OF_DIGITS * s["torque_digits"].value for s in known
    ):
        return ["No torque on the molecule is seen: what there is, the digits of the files explain."]
    text = "The root mean square torque on the molecule, zero for an equivariant potential, is"
    return _sentences(analyses, (text, "torque"))


def _gas(analyses: Sequence[Analysis]) -> list[str]:
    return _torque(analyses) + _sentences(
        analyses,
        ("The angular momentum changes by up to this part of itself", "L_change"),
        (
            "The orientational free energy of the raw potential by perturbation has a root mean square of",
            "orientation_rms",
        ),
    )


def _liquid(analyses: Sequence[Analysis]) -> list[str]:
    heaviest = next(
        (k for a in analyses for k in a.scalars if k.startswith("g_") and k.endswith("_height")),
        "g_OO_height",
    )
    pair = "–".join(re.findall("[A-Z][a-z]?", heaviest[2:-7]))
    first = [(f"The first maximum of {pair} pairs is", heaviest)]
    if any("slab_density" in a.curves for a in analyses):  # of a slab it is relative to the vacuum, too
        first = [
            ("The density inside the slab is", "slab_inside"),
            ("It falls from 90 to 10 % within", "slab_width"),
        ]
    return _sentences(
        analyses,
        *first,
        ("The diffusion coefficient is", "diffusion"),
        ("A molecule reorients in", "relaxation"),
        ("The conserved quantity drifts, by its fluctuations, at", "dissipation"),
        ("The conserved quantity drifts, by its slope, at", "drift"),
    )


def _ice(analyses: Sequence[Analysis]) -> list[str]:
    return _sentences(
        analyses,
        ("The relaxed energies spread over the cells by", "ice_relaxed_spread"),
        (
            "Against the first set the relaxed energies differ (root mean square over cells) by",
            "ice_relaxed_rmse",
        ),
        ("the relaxed geometries by", "ice_rmsd"),
    )
