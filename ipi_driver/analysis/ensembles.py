r"""Several independent runs of one kind as one ensemble: the mean over runs, with its error from their spread.

Runs with different seeds and starts are independent, so that the standard error of their mean needs no correlation
time: with n runs of standard deviation s it is :math:`s / \sqrt n`. The runs count as blocks: intervals and verdicts
take Student's t for n - 1 degrees of freedom, as for block averages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ipi_driver.analysis.result import Analysis, Curve, Scalar
from ipi_driver.errors import UserError


def mean_of_runs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error over the first axis.

    Parameters
    ----------
    values
        (n_runs, ...), n_runs at least 2.

    Returns
    -------
    tuple
        Two arrays of the shape of one run.

    Raises
    ------
    UserError
        If there are fewer than two runs.

    Examples
    --------
    >>> mean, error = mean_of_runs(np.array([1.0, 2.0, 3.0]))
    >>> float(mean), round(float(error), 3)
    (2.0, 0.577)
    """
    n = len(values)
    if n < 2:
        raise UserError(f"an ensemble needs at least two runs, got {n}")
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(n)


def join(groups: Mapping[str, Sequence[Analysis]]) -> list[Analysis]:
    """One analysis for each group of runs, with what all of its runs have.

    Parameters
    ----------
    groups
        Label and analyses of each ensemble.

    Raises
    ------
    UserError
        If a group has fewer than two runs or runs of different kinds.
    """
    return [_joined(label, list(analyses)) for label, analyses in groups.items()]


def _joined(label: str, analyses: list[Analysis]) -> Analysis:
    first = analyses[0]
    for other in analyses[1:]:
        if (other.kind, other.system) != (first.kind, first.system):
            raise UserError(
                f"the runs of {label} differ: {first.source} is {first.kind} of {first.system}, "
                f"{other.source} is {other.kind} of {other.system}; give runs of one system"
            )
    seeds = [analysis.settings.get("seed") for analysis in analyses]
    joined = Analysis(
        f"{label} ({len(analyses)} runs)", first.kind, first.source, first.system, dict(first.settings)
    )
    joined.structure = first.structure
    if len(set(seeds)) < len(seeds) and None not in seeds:
        joined.note("runs of one seed are not independent: the errors are too small")
    for key in dict.fromkeys(key for analysis in analyses for key in analysis.scalars):
        scalars = [analysis.scalars[key] for analysis in analyses if key in analysis.scalars]
        if len(scalars) == len(analyses):
            joined.scalars[key] = _scalar(scalars[0], [scalar.value for scalar in scalars])
            if len({scalar.label for scalar in scalars}) > 1:  # the label of a fit holds its window
                name = scalars[0].label.partition(" (")[0]
                joined.note(f"{name}: the ranges differ from run to run, that in the table is of the first")
        else:
            joined.note(f"{scalars[0].label}: left out, as some runs do not have it")
    for key in dict.fromkeys(key for analysis in analyses for key in analysis.curves):
        curves = [analysis.curves[key] for analysis in analyses if key in analysis.curves]
        if len(curves) == len(analyses):
            joined.curves[key] = _curve(curves[0], curves)
        else:
            what = " ".join(curves[0].y_label.split())
            joined.note(f"the curve of {what}: left out, as some runs do not have it")
    if any(analysis.maps for analysis in analyses):
        joined.note("maps of orientations are those of single runs, and left out: analyze a member by itself")
    for analysis in analyses:
        for note in analysis.notes:
            joined.note(note)
    return joined


def _scalar(first: Scalar, values: Sequence[float]) -> Scalar:
    mean, error = mean_of_runs(np.array(values))
    nan = float("nan")
    return replace(
        first,
        value=float(mean),
        error=float(error),
        n_blocks=len(values),
        correlation_time=nan,
        block_length=nan,
    )


def _curve(first: Curve, curves: Sequence[Curve]) -> Curve:
    """The mean on the points that all runs have."""
    n = min(len(curve.x) for curve in curves)
    if any(not np.allclose(curve.x[:n], first.x[:n]) for curve in curves):
        # runs whose cells differ a little have other distances: all on those of the first, as far as all reach
        begin, end = max(curve.x[0] for curve in curves), min(curve.x[-1] for curve in curves)
        x = first.x[(first.x >= begin) & (first.x <= end)]
        rows = np.array([np.interp(x, curve.x, curve.y) for curve in curves])
    else:
        x = first.x[:n]
        rows = np.array([curve.y[:n] for curve in curves])
    mean, error = mean_of_runs(rows)
    # the blocks are whole runs now
    length = first.block_length * len(first.blocks) if first.blocks is not None else float("nan")
    return replace(
        first, x=x, y=mean, error=error, blocks=rows, block_length=length, correction=1.0, of_points=None
    )
