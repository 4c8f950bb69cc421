"""Runs of one system beside each other: whether raw, averaged and random forces give the same.

Whole curves and maps are judged by dealing the blocks of the runs anew (`observables.comparison`): one p over all runs.
Numbers are judged by ``sum_i (v_i - v)² / e_i² / (k - 1)``, which for k runs of the same thing follows Fisher's F with
k - 1 degrees of freedom and as many as the errors have (Student's t for two runs of few blocks). Beside each verdict
stands the smallest difference that would have been found in four of five cases: where that is large, agreement proves
little.
Runs of one system have one correlation time: where the blocks of a run are shorter than those of the other, as in a run
too short to show a slow mode, they are merged until they are as long, or four are left.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product

import numpy as np
from scipy.stats import f as fisher
from scipy.stats import t as student

from ipi_driver.analysis.result import Analysis, Curve, Map, Scalar
from ipi_driver.observables.comparison import SIGNIFICANCE, BlockComparison, compare_blocks
from ipi_driver.observables.statistics import MINIMUM_BLOCKS
from ipi_driver.structure import FloatArray

SIGMAS = 2.0
"""Standard errors beyond which two numbers differ whose degrees of freedom are not known."""
_POWER = 0.84
"""Standard deviations beyond the threshold at which four of five differences are found."""
_WIDTHS = (1, 3, 7)
"""Points of a curve that are looked at together: differences in g(r) and the like are wider than a bin."""
_MANY = 1000.0
"""Degrees of freedom of an error whose blocks are not known."""


@dataclass(frozen=True)
class Comparison:
    """A quantity in several runs of the same system.

    Attributes
    ----------
    label, unit
        Of the quantity.
    values
        ``value ± error`` by run, as numbers.
    verdict
        In words.
    detectable
        The smallest difference that would have been found, in words; empty where there is none.
    p
        Probability of differences as large between runs of the same thing; NaN where it does not apply.
    """

    label: str
    unit: str
    values: dict[str, tuple[float, float]]
    verdict: str
    detectable: str = ""
    p: float = math.nan


_SCALARS = re.compile(
    r"g_\w+_(height|coordination)|diffusion|relaxation|temperature_\w+|(bond|angle)_\w+|mean_cosine|slab_\w+"
)
_CURVES = re.compile(r"g_\w+|cuu_\w+|msd|dipole_single|slab_\w+")
_DRIFTS = ("drift", "dissipation")
_MAPS = {"orientation": "orientational free energy"}


def compare_runs(
    analyses: Mapping[str, Analysis],
    scalars: Sequence[str] | None = None,
    curves: Sequence[str] | None = None,
    maps: Sequence[str] = tuple(_MAPS),
) -> list[Comparison]:
    """Whether runs of one system agree within their uncertainties, and the order of the drifts.

    Parameters
    ----------
    analyses
        By the names of the runs.
    scalars, curves, maps
        Keys of what to compare; None: all of `keys_to_compare`.
    """
    of_scalars, of_curves = keys_to_compare(analyses)
    scalars, curves = of_scalars if scalars is None else scalars, of_curves if curves is None else curves
    rows = [row for key in scalars if (row := _compare_scalar(key, analyses)) is not None]
    rows += [row for key in curves if (row := _compare_curve(key, analyses)) is not None]
    rows += [row for key in maps if (row := _compare_map(key, analyses)) is not None]
    ranks = _ranks(analyses)
    for key in _DRIFTS:
        drifts = {name: a.scalars[key] for name, a in analyses.items() if key in a.scalars}
        if len(drifts) > 1:
            rows.append(_order_of_drifts(drifts, ranks))
    return rows


def keys_to_compare(analyses: Mapping[str, Analysis]) -> tuple[list[str], list[str]]:
    """Keys of the numbers and of the curves that runs of one system have in common but for chance."""
    scalars = [key for key in _keys(a.scalars for a in analyses.values()) if _SCALARS.fullmatch(key)]
    curves = [key for key in _keys(a.curves for a in analyses.values()) if _CURVES.fullmatch(key)]
    return scalars, curves


def _keys(found: Iterable[Mapping[str, object]]) -> list[str]:
    """All keys, in the order in which they come."""
    return list(dict.fromkeys(key for each in found for key in each))


def _ranks(analyses: Mapping[str, Analysis]) -> dict[str, int]:
    """Place of every run in the order raw, averaged, random; that in which they come where one has no such name."""
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
        label, verdict = first.label.partition(" (")[0], "taken over different ranges: see the curves"
        return Comparison(label, first.unit, values, verdict)
    sure = {name: s for name, s in known.items() if math.isfinite(s.value) and 0.0 < s.error < math.inf}
    if len(sure) < 2:
        return Comparison(first.label, first.unit, values, "not resolved: no uncertainty")
    p, detectable = compare_numbers(list(sure.values()))
    verdict = f"{'agree' if p >= SIGNIFICANCE else 'differ'} ({_chance(p)})"
    if len(sure) < len(known):
        unsure = [name for name in known if name not in sure]
        verdict = f"{' and '.join(sure)} {verdict}; {' and '.join(unsure)} without an uncertainty"
    found = f"{detectable:.2g} {first.unit}".rstrip()
    return Comparison(first.label, first.unit, values, verdict, found, p)


def compare_numbers(scalars: Sequence[Scalar]) -> tuple[float, float]:
    """Probability that numbers of one quantity differ as much by chance, and the smallest difference to be found.

    Parameters
    ----------
    scalars
        With errors; ``n_blocks`` gives the degrees of freedom of an error.
    """
    values, errors = (np.array([getattr(s, name) for s in scalars]) for name in ("value", "error"))
    weights = errors**-2.0
    mean = (weights * values).sum() / weights.sum()
    freedom = sum(s.n_blocks - 1.0 if s.n_blocks > 1 else _MANY for s in scalars)
    k = len(scalars)
    chance = float(fisher.sf((weights * (values - mean) ** 2).sum() / (k - 1), k - 1, freedom))
    # of the least certain number from the mean of the others
    others = weights.sum() - weights
    spread = np.sqrt(1.0 / weights + 1.0 / others).max()
    threshold = math.sqrt((k - 1) * float(fisher.isf(SIGNIFICANCE, k - 1, freedom)))
    return chance, float((threshold + _POWER) * spread)


def _chance(p: float) -> str:
    return "p < 0.001" if p < 1e-3 else f"p = {p:.2g}"


def _sigmas(a: Scalar, b: Scalar) -> float:
    """How far b is above a, in standard errors of the difference; NaN where both have none."""
    error = math.hypot(a.error, b.error)
    return (b.value - a.value) / error if error > 0.0 else math.nan


def _compare_curve(key: str, analyses: Mapping[str, Analysis]) -> Comparison | None:
    known = {name: a.curves[key] for name, a in analyses.items() if key in a.curves}
    if not known:
        return None
    first = next(iter(known.values()))
    label = f"{' '.join(first.y_label.split())} (whole curve)"
    if len(known) == 1:
        return Comparison(label, "", {}, f"only {next(iter(known))} is long enough for it")
    found = compare_curves(list(known.values()))
    if found is None:
        return Comparison(label, "", {}, "not resolved: no blocks")
    where = f"at {first.x[found.place]:.3g} {first.x_label.rpartition('/ ')[2]}"
    between = np.where(first.x >= first.scale_from, np.abs(np.nan_to_num(first.y)), -np.inf)
    top = int(np.argmax(np.where(np.isfinite(found.detectable), between, -np.inf)))
    level = found.detectable[top]
    share = 100 * level / abs(first.y[top])
    percent = f"{share:.2g}" if share < 100 else f"{share:.0f}"
    text = f"{level:.2g} where the curve is largest ({percent} % of it)"
    return _verdict(label, found, where, list(known), list(analyses), text)


def compare_curves(curves: Sequence[Curve]) -> BlockComparison | None:
    """Compare whole curves by their blocks, merged to the length of the longest; None where one has no blocks."""
    longest = max(curve.block_length for curve in curves)
    merged = [_with_blocks_of(curve, longest) for curve in curves]
    at = [_at_points_of(merged[0], curve) for curve in merged]
    blocks = [curve.blocks for curve in at if curve.blocks is not None]
    if len(blocks) < len(curves):
        return None
    # a point without an error, such as a correlation at lag 0, is no measurement
    valid = np.all([curve.error > 0.0 for curve in at], axis=0)
    values = [np.where(valid, b, np.nan) for b in blocks]
    return compare_blocks(values, [curve.corrections for curve in at], widths=_WIDTHS)


def _verdict(
    label: str, found: BlockComparison, where: str, known: list[str], runs: list[str], detectable: str
) -> Comparison:
    if math.isnan(found.p):
        return Comparison(label, "", {}, "not resolved: no point has an error in all runs")
    text = f"agree ({_chance(found.p)})" if found.same else f"differ ({_chance(found.p)}), most {where}"
    missing = [name for name in runs if name not in known]
    if missing:
        text = f"{' and '.join(known)} {text}; {' and '.join(missing)} left out: too short"
    return Comparison(label, "", {}, text, detectable, found.p)


def _at_points_of(a: Curve, b: Curve) -> Curve:
    """Curve b at the points of a, NaN beyond its own."""

    def at(y: FloatArray) -> FloatArray:
        return np.asarray(np.interp(a.x, b.x, y, left=np.nan, right=np.nan))

    if len(a.x) == len(b.x) and np.allclose(a.x, b.x):
        return b
    blocks = None if b.blocks is None else np.array([at(block) for block in b.blocks])
    of_points = None if b.of_points is None else at(b.of_points)
    return replace(b, x=a.x, y=at(b.y), error=at(b.error), blocks=blocks, of_points=of_points)


def _with_blocks_of(curve: Curve, length: float) -> Curve:
    """The curve with its blocks merged until they are ``length`` ps long, or `MINIMUM_BLOCKS` are left."""
    if curve.blocks is None or not length > curve.block_length:
        return curve
    blocks, merged = merged_blocks(curve.blocks, curve.block_length, length)
    return replace(curve, blocks=blocks, block_length=merged * curve.block_length)


def merged_blocks(blocks: FloatArray, own: float, length: float) -> tuple[FloatArray, int]:
    """Means of neighboring blocks, of so many that they are as long as ``length`` (four are left), and how many."""
    n = len(blocks)
    merged = max(1, min(math.ceil(length / own - 1e-9), n // MINIMUM_BLOCKS)) if length > own else 1
    kept = n // merged
    return blocks[: kept * merged].reshape(kept, merged, *blocks.shape[1:]).mean(axis=1), merged


def _compare_map(key: str, analyses: Mapping[str, Analysis]) -> Comparison | None:
    known = {name: a.maps[key] for name, a in analyses.items() if key in a.maps}
    if not known or len({m.values.shape for m in known.values()}) > 1:
        return None
    label = f"{_MAPS[key]} (whole map)"
    if len(known) == 1:
        return Comparison(label, "", {}, f"only {next(iter(known))} is long enough for it")
    found = compare_maps(list(known.values()))
    if found is None:
        return Comparison(label, "", {}, "not resolved: no blocks")
    first = next(iter(known.values()))
    i, j = np.unravel_index(found.place, first.values.shape)
    where = f"at cos θ = {first.x[i]:.2g}, φ = {first.y[j]:.2g}"
    # of a density about 1 a difference is one of the free energy, in kT
    level = np.nanmedian(found.detectable) if np.isfinite(found.detectable).any() else math.nan
    return _verdict(label, found, where, list(known), list(analyses), f"{level:.2g} kT in one cell")


def compare_maps(maps: Sequence[Map]) -> BlockComparison | None:
    """Compare whole maps by the densities of their blocks, as `compare_curves`; None where one has no blocks."""
    longest = max(m.block_length for m in maps)
    parts = [merged_blocks(m.blocks, m.block_length, longest)[0] for m in maps if m.blocks is not None]
    if len(parts) < len(maps):
        return None
    return compare_blocks([part.reshape(len(part), -1) for part in parts], [m.correction for m in maps])


def _order_of_drifts(drifts: Mapping[str, Scalar], ranks: Mapping[str, int]) -> Comparison:
    """Whether every run drifts less than those of the next rank."""
    values = {name: (s.value, s.error) for name, s in drifts.items()}
    first = next(iter(drifts.values()))
    verdicts, spreads = [], []
    for low, high in pairwise(sorted({ranks[name] for name in drifts})):
        for lower, higher in product(*([n for n in drifts if ranks[n] == rank] for rank in (low, high))):
            a, b = drifts[lower], drifts[higher]
            sigmas, threshold = _sigmas(a, b), _two_sided(a, b)
            spreads.append((threshold + _POWER) * math.hypot(a.error, b.error))
            if sigmas > threshold:
                verdict = f"{lower} < {higher}"
            elif sigmas < -threshold:
                verdict = f"not {lower} < {higher}"
            else:
                verdict = f"{lower} and {higher} not resolved"
            verdicts.append(f"{verdict} ({abs(sigmas):.1f} σ)" if math.isfinite(sigmas) else verdict)
    resolved = bool(spreads) and all(map(math.isfinite, spreads)) and max(spreads) > 0.0
    text = f"{max(spreads):.2g} {first.unit}" if resolved else ""
    return Comparison(first.label, first.unit, values, "; ".join(verdicts) or "no order expected", text)


def _two_sided(a: Scalar, b: Scalar) -> float:
    """Standard errors beyond which two numbers differ: Student's t at 5 % for few blocks, `SIGMAS` where not known."""
    if a.n_blocks < 2 or b.n_blocks < 2 or not math.hypot(a.error, b.error) > 0.0:
        return SIGMAS
    variances = np.array([a.error**2, b.error**2])
    freedom = variances.sum() ** 2 / (variances**2 / (np.array([a.n_blocks, b.n_blocks]) - 1.0)).sum()
    return float(student.isf(SIGNIFICANCE / 2.0, freedom))
