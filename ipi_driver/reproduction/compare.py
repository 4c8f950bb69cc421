"""Runs of one liquid beside each other: whether raw, averaged and random forces give the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from ipi_driver.observables.analyses.result import Analysis, Scalar
from ipi_driver.reproduction.published import SIGMAS
from ipi_driver.structure import FloatArray


@dataclass(frozen=True)
class Comparison:
    """A quantity in several runs of the same liquid.

    Attributes
    ----------
    label, unit
        Of the quantity.
    values
        ``value ± error`` by run, as numbers.
    verdict
        In words, from the largest difference in standard errors.
    """

    label: str
    unit: str
    values: dict[str, tuple[float, float]]
    verdict: str


_SCALARS = (
    "g_OO_height", "diffusion", "relaxation", "temperature_O", "temperature_H",
)  # fmt: skip
_CURVES = ("g_OO", "g_OH", "g_HH", "cuu_longitudinal", "cuu_transverse", "msd", "dipole_single")
_MAPS = {"orientation": "orientational free energy"}


def compare_runs(analyses: Mapping[str, Analysis]) -> list[Comparison]:
    """Whether runs of one liquid agree within their uncertainties, and the order of the drifts."""
    rows = [row for key in _SCALARS if (row := _compare_scalar(key, analyses)) is not None]
    rows += [row for key in _CURVES if (row := _compare_curve(key, analyses)) is not None]
    rows += [row for key in _MAPS if (row := _compare_map(key, analyses)) is not None]
    drifts = {name: a.scalars["drift"] for name, a in analyses.items() if "drift" in a.scalars}
    if len(drifts) > 1:
        rows.append(_order_of_drifts(drifts))
    return rows


def _compare_scalar(key: str, analyses: Mapping[str, Analysis]) -> Comparison | None:
    known = {name: a.scalars[key] for name, a in analyses.items() if key in a.scalars}
    if len(known) < 2:
        return None
    first = next(iter(known.values()))
    values = {n: (s.value, s.error) for n, s in known.items()}
    if len({s.label for s in known.values()}) > 1:
        # the label of a fit holds its window: another window is another quantity
        return Comparison(
            first.label.partition(" (")[0], first.unit, values, "fitted over different times: see the curves"
        )
    worst = max(_sigmas(a, b) for a, b in combinations(known.values(), 2))
    verdict = f"agree (at most {worst:.1f} σ apart)" if worst <= SIGMAS else f"differ by {worst:.1f} σ"
    if not math.isfinite(worst):
        verdict = "not resolved: no uncertainty"
    return Comparison(first.label, first.unit, values, verdict)


def _sigmas(a: Scalar, b: Scalar) -> float:
    return abs(a.value - b.value) / math.hypot(a.error, b.error)


def _compare_curve(key: str, analyses: Mapping[str, Analysis]) -> Comparison | None:
    known = {name: a.curves[key] for name, a in analyses.items() if key in a.curves}
    if not known:
        return None
    pairs = []
    for a, b in combinations(known.values(), 2):
        y = np.interp(a.x, b.x, b.y, left=np.nan, right=np.nan)
        error = np.interp(a.x, b.x, b.error, left=np.nan, right=np.nan)
        pairs.append((a.y - y, np.hypot(a.error, error)))
    label = f"{next(iter(known.values())).y_label} (whole curve)"
    return _compare_points(label, "points", pairs, list(known), list(analyses))


def _compare_map(key: str, analyses: Mapping[str, Analysis]) -> Comparison | None:
    known = {name: a.maps[key] for name, a in analyses.items() if key in a.maps}
    if not known or len({m.values.shape for m in known.values()}) > 1:
        return None
    pairs = [(a.values - b.values, np.hypot(a.error, b.error)) for a, b in combinations(known.values(), 2)]
    return _compare_points(f"{_MAPS[key]} (whole map)", "cells", pairs, list(known), list(analyses))


def _compare_points(
    label: str, kind: str, pairs: list[tuple[FloatArray, FloatArray]], known: list[str], runs: list[str]
) -> Comparison | None:
    """From the differences of every two runs and their errors; NaN where one of them is undefined."""
    if len(known) == 1:
        return Comparison(label, "", {}, f"only {known[0]} is long enough for it")
    within, total = 0, 0
    for difference, error in pairs:
        used = np.isfinite(difference) & np.isfinite(error) & (error > 0.0)
        within += int((np.abs(difference)[used] <= SIGMAS * error[used]).sum())
        total += int(used.sum())
    if not total:
        return None
    share = within / total
    # 95 % of independent normal points lie within two standard errors; neighbouring points are not independent
    verdict = "agree" if share >= 0.9 else "differ"
    missing = [name for name in runs if name not in known]
    if missing:
        verdict = f"{' and '.join(known)} {verdict}"
    text = f"{verdict}: {100 * share:.0f} % of the {kind} within {SIGMAS:.0f} σ"
    if missing:
        text += f"; {' and '.join(missing)} left out: too short"
    return Comparison(label, "", {}, text)


def _order_of_drifts(drifts: Mapping[str, Scalar]) -> Comparison:
    values = {name: (s.value, s.error) for name, s in drifts.items()}
    ordered = list(drifts.values())
    first = ordered[0]
    steps = [(b.value - a.value) / math.hypot(a.error, b.error) for a, b in pairwise(ordered)]
    if all(step > SIGMAS for step in steps):
        verdict = f"{' < '.join(drifts)}, resolved"
    elif any(step < -SIGMAS for step in steps):
        verdict = f"not in the order {' < '.join(drifts)}"
    else:
        verdict = f"the order {' < '.join(drifts)} is not resolved within the uncertainties"
    return Comparison(first.label, first.unit, values, verdict)
