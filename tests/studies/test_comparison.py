"""Runs beside each other and beside the published values, with known answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ipi_driver.analysis.result import Analysis, Curve, Map, Scalar
from ipi_driver.studies.langer2024.compare import chance_of_difference, compare_runs
from ipi_driver.studies.langer2024.published import published_rows


def analysis(name: str, **values: tuple[float, float]) -> Analysis:
    made = Analysis(name, "liquid", name, "64 H2O", {})
    made.scalars = {key: Scalar(key, value, error, "") for key, (value, error) in values.items()}
    return made


def test_verdicts_follow_the_uncertainties() -> None:
    raw = analysis("raw", diffusion=(0.20, 0.03), relaxation=(4.0, 0.1), drift=(1.0, 0.5))
    averaged = analysis("2i", diffusion=(0.24, 0.04), relaxation=(5.0, 0.1), drift=(9.0, 0.5))
    verdicts = {row.label: row.verdict for row in compare_runs({"raw": raw, "2i": averaged})}
    assert verdicts["diffusion"] == "agree (at most 0.8 σ apart)"  # 0.04 / hypot(0.03, 0.04)
    assert verdicts["relaxation"] == "differ by 7.1 σ"
    assert verdicts["drift"] == "raw < 2i (11.3 σ)"  # 8 / hypot(0.5, 0.5)
    noisy = analysis("2i", drift=(2.0, 5.0))
    (row,) = compare_runs({"raw": analysis("raw", drift=(1.0, 0.5)), "2i": noisy})
    assert row.verdict == "raw and 2i not resolved (0.2 σ)"
    (row,) = compare_runs({"raw": averaged, "2i": analysis("2i", drift=(1.0, 0.5))})[-1:]
    assert row.verdict == "not raw < 2i (11.3 σ)"
    nan = float("nan")
    for missing in range(3):
        values = [(4.0, 0.5), (4.2, 0.5), (4.1, 0.5)]
        values[missing] = (nan, nan)
        runs = {
            name: analysis(name, relaxation=v)
            for name, v in zip(("raw", "2i", "random"), values, strict=True)
        }
        (row,) = compare_runs(runs)
        left = list(runs).pop(missing)
        assert row.verdict.endswith(f"; {left} without an uncertainty")
        assert " agree (at most 0." in row.verdict
    # fits over other times are not compared
    long, short = analysis("raw"), analysis("2i")
    long.scalars["diffusion"] = Scalar("D of O (fit 1 to 4 ps)", 0.20, 0.01, "Å²/ps")
    short.scalars["diffusion"] = Scalar("D of O (fit 1 to 2 ps)", 0.30, 0.01, "Å²/ps")
    (row,) = compare_runs({"raw": long, "2i": short})
    assert row.label == "D of O"
    assert "different times" in row.verdict


def test_order_of_drifts_goes_by_what_the_runs_are() -> None:
    """Raw below every averaged run, and every averaged run below random, in whatever order they are given."""
    runs = {
        "mine": analysis("mine", dissipation=(5.0, 0.3)),
        "random": analysis("random", dissipation=(9.0, 0.4)),
        "2i": analysis("2i", dissipation=(8.8, 0.3)),
        "raw": analysis("raw", dissipation=(1.0, 0.4)),
    }
    for name, average in (
        ("mine", "none + D2"),
        ("random", "random-so3"),
        ("2i", "none + 2i"),
        ("raw", "none"),
    ):
        runs[name].settings["average"] = average
    (row,) = compare_runs(runs)
    assert row.verdict == (
        "raw < mine (8.0 σ); raw < 2i (15.6 σ); mine < random (8.0 σ); 2i and random not resolved (0.4 σ)"
    )
    (row,) = compare_runs({name: runs[name] for name in ("2i", "mine")})
    assert row.verdict == "no order expected"


def test_curves_are_compared_point_by_point() -> None:
    x = np.linspace(1, 5, 50)
    error = np.full(50, 0.1)
    runs = {name: analysis(name) for name in ("a", "b", "c")}
    for name, shift in (("a", 0.0), ("b", 0.1), ("c", 1.0)):
        runs[name].curves["g_OO"] = Curve(x, np.sin(x) + shift, error, "r", "g")
    (close,) = compare_runs({k: runs[k] for k in "ab"})
    assert close.verdict.startswith("agree: 100 %")
    (far,) = compare_runs({k: runs[k] for k in "ac"})
    assert far.verdict.startswith("differ: 0 %")
    # a run that is too short for the curve is named, and does not count as agreeing
    (named,) = compare_runs({k: runs[k] for k in "ab"} | {"short": analysis("short")})
    assert named.verdict.startswith("a and b agree: 100 %")
    assert named.verdict.endswith("; short left out: too short")
    (alone,) = compare_runs({"a": runs["a"], "short": analysis("short")})
    assert alone.verdict == "only a is long enough for it"


def curve_of_blocks(rng: np.random.Generator, n_blocks: int, shift: float = 0.0) -> Curve:
    """A curve whose points three smooth modes move together, from independent blocks; ``shift`` moves one of them."""
    x = np.linspace(0.0, 1.0, 60)
    modes = np.array([np.exp(-x), x * np.exp(-2.0 * x), 0.5 * np.sin(6.0 * x)])
    blocks = (
        rng.normal(size=(n_blocks, 3)) @ modes + 0.05 * rng.normal(size=(n_blocks, 60)) + shift * modes[0]
    )
    error = blocks.std(axis=0, ddof=1) / np.sqrt(n_blocks)
    return Curve(x, blocks.mean(axis=0), error, "t", "C", blocks=blocks)


@pytest.mark.parametrize("n_blocks", [(4, 8), (20, 20)])
def test_whole_curves_of_the_same_thing_differ_by_chance_as_often_as_said(n_blocks: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    chances, far = [], 0
    for _ in range(150):
        a, b = (curve_of_blocks(rng, n) for n in n_blocks)
        chances.append(chance_of_difference(a, b, draws=200))
        far += np.mean(np.abs(a.y - b.y) <= 2.0 * np.hypot(a.error, b.error)) < 0.9
    # 7.5 and 75 expected of 150, with standard deviations of 2.7 and 6
    assert 0 < np.sum(np.array(chances) < 0.05) <= 16
    assert 55 <= np.sum(np.array(chances) < 0.5) <= 95
    # with few blocks the share of points within two standard errors would have called many more of them different
    assert far > 16 or min(n_blocks) > 10


def test_whole_curves_that_differ_are_found() -> None:
    rng = np.random.default_rng(6)
    shift = 5.0 * np.sqrt(2.0 / 10)  # five standard errors of one mode
    runs = {name: analysis(name) for name in ("a", "b")}
    chances = []
    for _ in range(40):
        a, b = curve_of_blocks(rng, 10, shift), curve_of_blocks(rng, 10)
        chances.append(chance_of_difference(a, b, draws=200))
    assert np.mean(np.array(chances) < 0.05) > 0.9
    runs["a"].curves["msd"], runs["b"].curves["msd"] = a, b
    (row,) = compare_runs(runs)
    assert row.verdict.startswith("differ: ")
    assert ", p < 0.01" in row.verdict or ", p = 0.0" in row.verdict


def test_of_many_pairs_the_least_likely_counts_so_many_times() -> None:
    """Three runs are three pairs; what is rare for one of them may not be for the rarest of three."""
    rng = np.random.default_rng(73)
    made = {name: curve_of_blocks(rng, 12) for name in "abc"}
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    rarest = min(chance_of_difference(made[one], made[other]) for one, other in pairs)
    assert 0.02 < rarest < 0.045
    runs = {name: analysis(name) for name in made}
    for name, curve in made.items():
        runs[name].curves["msd"] = curve
    (row,) = compare_runs(runs)
    assert row.verdict.startswith("agree: ")
    assert row.verdict.endswith(f", p = {3 * rarest:.2g}")


def test_a_run_that_does_not_see_its_slow_mode_is_blocked_as_the_other() -> None:
    """Blocks of 1 ps correlated over several of them claim too small an error, beside a run whose blocks are longer."""
    rng = np.random.default_rng(8)
    mode = np.exp(-np.linspace(0.0, 1.0, 40))
    alone, merged = [], []
    for _ in range(100):
        slow = rng.normal(size=48)
        for k in range(1, 48):
            slow[k] = 0.75 * slow[k - 1] + np.sqrt(1 - 0.75**2) * slow[k]
        # of the same variance over 8 ps: 48 blocks of 1 ps, and 6 independent ones of 8 ps
        long = rng.normal(size=6) * np.sqrt(0.54)
        curves = []
        for values, length in ((slow, 1.0), (long, 8.0)):
            blocks = values[:, None] * mode + 0.01 * rng.normal(size=(len(values), 40))
            error = blocks.std(axis=0, ddof=1) / np.sqrt(len(values))
            curve = Curve(np.arange(40.0), blocks.mean(axis=0), error, "t", "C", 1.0, length, blocks)
            curves.append(curve)
        merged.append(chance_of_difference(*curves, draws=200))
        alone.append(chance_of_difference(*(replace(c, block_length=np.nan) for c in curves), draws=200))
    # 5 expected, with a standard deviation of 2.2
    assert np.sum(np.array(merged) < 0.05) <= 12
    assert np.sum(np.array(alone) < 0.05) > 15


def test_blocks_on_another_grid_and_with_correction_are_compared() -> None:
    rng = np.random.default_rng(7)
    a, b = curve_of_blocks(rng, 30), curve_of_blocks(rng, 30)
    assert b.blocks is not None
    sparse = Curve(b.x[::2], b.y[::2], b.error[::2], "t", "C", blocks=b.blocks[:, ::2])
    assert chance_of_difference(a, sparse) == pytest.approx(chance_of_difference(a, b), abs=0.1)
    # errors as large as their correction says, drawn with it
    wide = [Curve(c.x, c.y, 1.5 * c.error, "t", "C", blocks=c.blocks, correction=1.5) for c in (a, b)]
    assert chance_of_difference(*wide) > chance_of_difference(a, b)
    assert np.isnan(chance_of_difference(a, Curve(a.x, a.y, a.error, "t", "C")))


def test_maps_are_compared_cell_by_cell() -> None:
    edges, error = np.linspace(-1, 1, 4), np.full((4, 4), 0.1)
    runs = {name: analysis(name) for name in ("raw", "2i")}
    shift = np.zeros((4, 4))
    shift[0] = 1.0  # a quarter of the cells
    shift[1, 0] = np.nan  # one that was never visited
    for name, values in (("raw", np.zeros((4, 4))), ("2i", shift)):
        runs[name].maps["orientation"] = Map(edges, edges, values, error, "cos θ", "φ", "ΔF / kT")
    (row,) = compare_runs(runs)
    assert row.label == "orientational free energy (whole map)"
    assert row.verdict == "differ: 73 % of the cells within 2 σ"  # 11 of 15


def test_published_values_are_compared() -> None:
    raw = analysis("liquid-raw", g_OO_height=(2.31, 0.04), diffusion=(0.5, 0.01))
    rows = {row.label: row for row in published_rows({"liquid-raw": raw}, {"gas:none:force_mae": 24.0})}
    assert rows["liquid: first maximum of g_OO"].agreement == "agrees (1.5 σ)"
    assert rows["liquid: diffusion coefficient"].agreement.startswith("1.9 × published")
    assert rows["symmetry error of forces, gas"].agreement == "2 × published"
    assert len(rows) == 3
