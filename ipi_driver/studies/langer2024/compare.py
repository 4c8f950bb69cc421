"""Runs of one liquid beside each other: whether raw, averaged and random forces give the same.

The points of a curve are not independent: slow modes move many of them together, and a few blocks give errors that are
themselves uncertain. In runs of the same thing with three smooth modes and four to eight blocks the share of points
within two standard errors falls below 90 % in a quarter of the pairs. Whole curves are judged by the mean square of
their differences in standard errors, beside what it would be for runs of the same liquid with the covariance and the
number of the blocks of these (a parametric bootstrap: the blocks of both runs are drawn from normal distributions with
a common mean, and means and errors are taken from them as from those of the runs). Of n pairs of runs the least likely
counts, times n (Bonferroni). Few blocks have few modes, so that of curves whose points are independent hardly any
difference is called one: the share is said beside it. Runs of one liquid have one correlation time: where the blocks
of a run are shorter than those of the other, as in a run too short to show a slow mode, they are merged until they are
as long, or four are left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations, pairwise, product

import numpy as np

from ipi_driver.analysis.result import Analysis, Curve, Scalar
from ipi_driver.observables.statistics import MINIMUM_BLOCKS
from ipi_driver.structure import FloatArray
from ipi_driver.studies.langer2024.published import SIGMAS


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


SIGNIFICANCE = 0.05
"""Curves differ where chance alone makes differences as large with less than this probability."""

_SCALARS = (
    "g_OO_height", "diffusion", "relaxation", "temperature_O", "temperature_H",
)  # fmt: skip
_CURVES = ("g_OO", "g_OH", "g_HH", "cuu_longitudinal", "cuu_transverse", "msd", "dipole_single")
_DRIFTS = ("drift", "dissipation")
_MAPS = {"orientation": "orientational free energy"}


def compare_runs(analyses: Mapping[str, Analysis]) -> list[Comparison]:
    """Whether runs of one liquid agree within their uncertainties, and the order of the drifts."""
    rows = [row for key in _SCALARS if (row := _compare_scalar(key, analyses)) is not None]
    rows += [row for key in _CURVES if (row := _compare_curve(key, analyses)) is not None]
    rows += [row for key in _MAPS if (row := _compare_map(key, analyses)) is not None]
    ranks = _ranks(analyses)
    for key in _DRIFTS:
        drifts = {name: a.scalars[key] for name, a in analyses.items() if key in a.scalars}
        if len(drifts) > 1:
            rows.append(_order_of_drifts(drifts, ranks))
    return rows


def _ranks(analyses: Mapping[str, Analysis]) -> dict[str, int]:
    """Place of every run in the order raw, averaged, random; that in which they come where one does not say."""
    averages = {name: a.settings.get("average", "").split(" + ")[-1] for name, a in analyses.items()}
    if not all(averages.values()):
        return {name: k for k, name in enumerate(analyses)}
    return {
        name: 0 if average == "none" else 2 if average.startswith("random") else 1
        for name, average in averages.items()
    }


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
    sure = {name: s for name, s in known.items() if math.isfinite(s.value) and 0.0 < s.error < math.inf}
    if len(sure) < 2:
        return Comparison(first.label, first.unit, values, "not resolved: no uncertainty")
    worst = max(abs(_sigmas(a, b)) for a, b in combinations(sure.values(), 2))
    verdict = f"agree (at most {worst:.1f} σ apart)" if worst <= SIGMAS else f"differ by {worst:.1f} σ"
    if len(sure) < len(known):
        unsure = [name for name in known if name not in sure]
        verdict = f"{' and '.join(sure)} {verdict}; {' and '.join(unsure)} without an uncertainty"
    return Comparison(first.label, first.unit, values, verdict)


def _sigmas(a: Scalar, b: Scalar) -> float:
    """How far b is above a, in standard errors of the difference."""
    return (b.value - a.value) / math.hypot(a.error, b.error)


def _compare_curve(key: str, analyses: Mapping[str, Analysis]) -> Comparison | None:
    known = {name: a.curves[key] for name, a in analyses.items() if key in a.curves}
    if not known:
        return None
    pairs, chances = [], []
    for a, b in combinations(known.values(), 2):
        pairs.append(_difference(a, _at_points_of(a, b)))
        chances.append(chance_of_difference(a, b))
    label = f"{next(iter(known.values())).y_label} (whole curve)"
    chance = min(1.0, min(chances) * len(chances)) if chances and np.isfinite(chances).all() else math.nan
    return _compare_points(label, "points", pairs, list(known), list(analyses), chance)


def chance_of_difference(a: Curve, b: Curve, draws: int = 2000, seed: int = 0) -> float:
    """Probability that two runs of the same thing differ as much as these, over the whole curve.

    Parameters
    ----------
    a, b
        The same curve of two runs, with their blocks.
    draws, seed
        Number of pairs of runs drawn, and the seed of their random numbers.

    Returns
    -------
    float
        NaN where a curve has no blocks or no point has an error.
    """
    a, b = _with_blocks_of(a, b.block_length), _with_blocks_of(b, a.block_length)
    b = _at_points_of(a, b)
    if a.blocks is None or b.blocks is None:
        return math.nan
    difference, error = _difference(a, b)
    blocks = (a.blocks, b.blocks)
    used = np.isfinite(difference) & np.isfinite(error) & (error > 0.0)
    used &= np.all([np.isfinite(part).all(axis=0) for part in blocks], axis=0)
    if not used.any():
        return math.nan
    measured = float(np.mean((difference[used] / error[used]) ** 2))
    rng = np.random.default_rng(seed)
    spreads = [(part[:, used] - part[:, used].mean(axis=0)) / math.sqrt(len(part) - 1) for part in blocks]
    corrections = (a.correction, b.correction)
    as_large = 0
    for _ in range(draws):
        total, variance = np.zeros(int(used.sum())), np.zeros(int(used.sum()))
        for sign, spread, correction in zip((1.0, -1.0), spreads, corrections, strict=True):
            n = len(spread)
            drawn = rng.normal(size=(n, n)) @ spread
            total += sign * correction * drawn.mean(axis=0)
            variance += correction**2 * drawn.var(axis=0, ddof=1) / n
        as_large += bool(np.mean(total**2 / variance) >= measured)
    return (1 + as_large) / (1 + draws)


def _at_points_of(a: Curve, b: Curve) -> Curve:
    """Curve b at the points of a, NaN beyond its own."""

    def at(y: FloatArray) -> FloatArray:
        return np.asarray(np.interp(a.x, b.x, y, left=np.nan, right=np.nan))

    blocks = None if b.blocks is None else np.array([at(block) for block in b.blocks])
    return replace(b, x=a.x, y=at(b.y), error=at(b.error), blocks=blocks)


def _difference(a: Curve, b: Curve) -> tuple[FloatArray, FloatArray]:
    """Difference a - b at the same points, and its error."""
    return a.y - b.y, np.hypot(a.error, b.error)


def _with_blocks_of(curve: Curve, length: float) -> Curve:
    """The curve with its blocks merged until they are ``length`` ps long, or `MINIMUM_BLOCKS` are left."""
    if curve.blocks is None or not length > curve.block_length:
        return curve
    n = len(curve.blocks)
    merged = min(math.ceil(length / curve.block_length - 1e-9), n // MINIMUM_BLOCKS)
    if merged < 2:
        return curve
    kept = n // merged
    blocks = curve.blocks[: kept * merged].reshape(kept, merged, -1).mean(axis=1)
    error = curve.correction * blocks.std(axis=0, ddof=1) / math.sqrt(kept)
    # a point without an error, such as a correlation at lag 0, still has none
    error = np.where(curve.error > 0.0, error, curve.error)
    return replace(curve, error=error, blocks=blocks, block_length=merged * curve.block_length)


def _compare_map(key: str, analyses: Mapping[str, Analysis]) -> Comparison | None:
    known = {name: a.maps[key] for name, a in analyses.items() if key in a.maps}
    if not known or len({m.values.shape for m in known.values()}) > 1:
        return None
    pairs = [(a.values - b.values, np.hypot(a.error, b.error)) for a, b in combinations(known.values(), 2)]
    return _compare_points(f"{_MAPS[key]} (whole map)", "cells", pairs, list(known), list(analyses))


def _compare_points(
    label: str,
    kind: str,
    pairs: list[tuple[FloatArray, FloatArray]],
    known: list[str],
    runs: list[str],
    chance: float = math.nan,
) -> Comparison | None:
    """From the differences of every two runs and their errors; NaN where one of them is undefined.

    ``chance`` is the probability of the differences, where the covariance of the points is known.
    """
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
    same = share >= 0.9 if math.isnan(chance) else chance >= SIGNIFICANCE
    verdict = "agree" if same else "differ"
    missing = [name for name in runs if name not in known]
    if missing:
        verdict = f"{' and '.join(known)} {verdict}"
    text = f"{verdict}: {100 * share:.0f} % of the {kind} within {SIGMAS:.0f} σ"
    if not math.isnan(chance):
        text += f", p = {chance:.2g}" if chance >= 0.01 else ", p < 0.01"
    if missing:
        text += f"; {' and '.join(missing)} left out: too short"
    return Comparison(label, "", {}, text)


def _order_of_drifts(drifts: Mapping[str, Scalar], ranks: Mapping[str, int]) -> Comparison:
    """Whether every run drifts less than those of the next rank."""
    values = {name: (s.value, s.error) for name, s in drifts.items()}
    first = next(iter(drifts.values()))
    verdicts = []
    for low, high in pairwise(sorted({ranks[name] for name in drifts})):
        for lower, higher in product(*([n for n in drifts if ranks[n] == rank] for rank in (low, high))):
            sigmas = _sigmas(drifts[lower], drifts[higher])
            if sigmas > SIGMAS:
                verdict = f"{lower} < {higher}"
            elif sigmas < -SIGMAS:
                verdict = f"not {lower} < {higher}"
            else:
                verdict = f"{lower} and {higher} not resolved"
            verdicts.append(f"{verdict} ({abs(sigmas):.1f} σ)")
    return Comparison(first.label, first.unit, values, "; ".join(verdicts) or "no order expected")
