"""The sentences on the first screen of a reproduction: what was published, and what these runs show, with numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ipi_driver.analysis.compare import Comparison
from ipi_driver.analysis.result import Analysis, Scalar
from ipi_driver.report.comparison import agreement
from ipi_driver.report.conclusion import number
from ipi_driver.report.tables import formatted, shown_value
from ipi_driver.studies.langer2024.published import Row


def conclude(
    analyses: Mapping[str, Analysis], rows: Sequence[Row], comparisons: Sequence[Comparison], model: str
) -> list[str]:
    """About five sentences, of what has been measured."""
    sentences = [
        _symmetry(analyses, model),
        _averages(analyses, comparisons),
        _structure({row.label: row for row in rows}),
        _drifts(analyses),
        _ice(analyses),
    ]
    return [sentence for sentence in sentences if sentence]


def _scalar(analyses: Mapping[str, Analysis], run: str, key: str) -> Scalar | None:
    analysis = analyses.get(run)
    found = None if analysis is None else analysis.scalars.get(key)
    return found if found is not None and math.isfinite(found.value) else None


def _symmetry(analyses: Mapping[str, Analysis], model: str) -> str:
    """How large the error of the raw model is, and what the average removes."""
    raw, averaged = (_scalar(analyses, "gas-nve-raw", f"torque_{name}") for name in ("none", "2i"))
    if raw is None or averaged is None:
        return ""
    text = (
        f"The raw model {model} exerts a root mean square torque of {number(raw)} on a water molecule (published "
        f"model: about 5 meV); averaging over the 36 rotations of 2i {_lowered(raw, averaged)} (published: 20 times)."
    )
    map_ = _scalar(analyses, "gas-nvt-2i", "orientation_rms")
    if map_ is not None:
        text += f" It would orient a molecule in the gas by {number(map_)} (root mean square of F; published 0.12 kT)."
    return text


def _lowered(raw: Scalar, averaged: Scalar) -> str:
    """What an average does to a torque, in words."""
    if not 1.05 * averaged.value < raw.value:
        return f"does not lower it: {number(averaged)} are left"
    if averaged.value <= 0.0:
        return "lowers it to nothing"
    factor = float(f"{raw.value / averaged.value:.2g}")
    return f"lowers it {factor:.2g} times" if factor < 10.0 else f"lowers it {factor:.0f} times"


_LIQUIDS = {"liquid-raw": "raw", "liquid-2i": "averaged", "liquid-random": "random"}
"""The published ones, and the word for their forces."""


def _others(analyses: Mapping[str, Analysis]) -> list[str]:
    """Liquids of the user's own."""
    return [name for name, analysis in analyses.items() if analysis.kind == "liquid" and name not in _LIQUIDS]


def _liquids(analyses: Mapping[str, Analysis]) -> str:
    """The liquids that were compared: "Liquids with raw, averaged and random forces"."""
    forces = [word for name, word in _LIQUIDS.items() if name in analyses]
    words = [f"{_listed(forces)} forces"] if forces else []
    return f"Liquids with {_listed(words + _others(analyses))}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _averages(analyses: Mapping[str, Analysis], comparisons: Sequence[Comparison]) -> str:
    """Whether raw, averaged and random liquids agree, and what would have been seen."""
    return agreement(_liquids(analyses), comparisons, "" if _others(analyses) else ", as published")


def _structure(rows: Mapping[str, Row]) -> str:
    """The liquid beside the published one."""
    parts = []
    for label, name in (
        ("liquid: first maximum of g(O–O)", "first maximum of g(O–O)"),
        ("liquid: diffusion coefficient", "diffusion coefficient"),
        ("liquid: dipole relaxation time", "dipole relaxation time"),
    ):
        row = rows.get(label)
        if row is not None:
            value = f"{formatted(row.value, row.error)} {row.unit}".rstrip()
            parts.append(f"{name} {value} ({row.agreement}; published {row.published})")
    return f"The liquid beside the published one, of another model: {'; '.join(parts)}." if parts else ""


def _drifts(analyses: Mapping[str, Analysis]) -> str:
    """How fast each liquid heats: by the fluctuations of the conserved quantity, or else by its slope."""
    parts = []
    for run, name, published in (
        ("liquid-raw", "raw", 2.0), ("liquid-2i", "2i with multiple time stepping", 12.5),
        ("liquid-random", "random rotations", 20.1),
    ):  # fmt: skip
        implied, slope = (_scalar(analyses, run, key) for key in ("dissipation", "drift"))
        if implied is not None:
            parts.append(f"{name} {shown_value('dissipation', implied)} (published slope {published:g})")
        elif slope is not None:
            parts.append(f"{name} {shown_value('drift', slope)} by its slope (published {published:g})")
    if not parts:
        return ""
    return f"The conserved quantity drifts, by its fluctuations and in meV per molecule and ns: {'; '.join(parts)}."


def _ice(analyses: Mapping[str, Analysis]) -> str:
    """What averaging changes in relaxed ice."""
    energies, geometries, forces = (
        _scalar(analyses, "ice-2i", f"ice_{key}_norm") for key in ("relaxed", "rmsd", "forces")
    )
    if energies is None or geometries is None:
        return ""
    text = (
        f"Relaxed ice with raw and averaged forces: relative energies differ by {energies.value:.2g} meV/molecule over "
        f"all cells (published about 0.02), geometries by {geometries.value:.2g}e-3 Å (about 1e-3)"
    )
    return f"{text}, initial forces by {forces.value:.2g} meV/Å (< 1)." if forces is not None else f"{text}."
