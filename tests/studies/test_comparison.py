"""Runs beside each other and beside the published values, with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from ipi_driver.analysis.compare import compare_curves, compare_numbers, compare_runs
from ipi_driver.analysis.result import Analysis, Curve, Map, Scalar
from ipi_driver.studies.langer2024.published import published_rows
from ipi_driver.studies.langer2024.published_curves import (
    compare_with_published,
    published_curves,
    published_maps,
)


def analysis(name: str, **values: tuple[float, float]) -> Analysis:
    made = Analysis(name, "liquid", name, "64 H2O", {})
    made.scalars = {key: Scalar(key, value, error, "") for key, (value, error) in values.items()}
    return made


def test_verdicts_follow_the_uncertainties() -> None:
    raw = analysis("raw", diffusion=(0.20, 0.03), relaxation=(4.0, 0.1), drift=(1.0, 0.5))
    averaged = analysis("2i", diffusion=(0.24, 0.04), relaxation=(5.0, 0.1), drift=(9.0, 0.5))
    rows = {row.label: row for row in compare_runs({"raw": raw, "2i": averaged})}
    # 0.04 / hypot(0.03, 0.04) = 0.8 standard errors: two-sided 42 %
    assert rows["diffusion"].verdict == "agree (p = 0.42)"
    # 1.96 + 0.84 standard errors
    assert float(rows["diffusion"].detectable) == pytest.approx(2.8 * 0.05, rel=0.02)
    assert rows["relaxation"].verdict == "differ (p < 0.001)"
    assert rows["drift"].verdict == "raw < 2i (11.3 σ)"  # 8 / hypot(0.5, 0.5)
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
        assert " agree (p = 0." in row.verdict
    # fits over other times are not compared
    long, short = analysis("raw"), analysis("2i")
    long.scalars["diffusion"] = Scalar("D of O (fit 1 to 4 ps)", 0.20, 0.01, "Å²/ps")
    short.scalars["diffusion"] = Scalar("D of O (fit 1 to 2 ps)", 0.30, 0.01, "Å²/ps")
    (row,) = compare_runs({"raw": long, "2i": short})
    assert row.label == "D of O"
    assert "different ranges" in row.verdict


def test_few_blocks_need_larger_differences() -> None:
    """Of two numbers from four blocks each p is that of Student's t with six degrees of freedom, not of a normal."""
    few = [Scalar("x", value, 0.1, "", n_blocks=4) for value in (0.0, 0.35)]
    many = [Scalar("x", value, 0.1, "") for value in (0.0, 0.35)]
    sigmas = 0.35 / np.hypot(0.1, 0.1)
    assert compare_numbers(few)[0] == pytest.approx(2 * student.sf(sigmas, 6), rel=1e-6)
    assert compare_numbers(many)[0] == pytest.approx(2 * norm.sf(sigmas), rel=0.02)
    assert compare_numbers(few)[1] > compare_numbers(many)[1]


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


def curve_of_blocks(rng: np.random.Generator, n_blocks: int, shift: float = 0.0) -> Curve:
    """A curve whose points three smooth modes move together, from independent blocks; ``shift`` moves one of them."""
    x = np.linspace(0.0, 1.0, 60)
    modes = np.array([np.exp(-x), x * np.exp(-2.0 * x), 0.5 * np.sin(6.0 * x)])
    blocks = (
        rng.normal(size=(n_blocks, 3)) @ modes + 0.05 * rng.normal(size=(n_blocks, 60)) + shift * modes[0]
    )
    error = blocks.std(axis=0, ddof=1) / np.sqrt(n_blocks)
    return Curve(x, blocks.mean(axis=0), error, "t", "C", blocks=blocks)


def with_curve(**curves: Curve) -> dict[str, Analysis]:
    made = {name: analysis(name) for name in curves}
    for name, curve in curves.items():
        made[name].curves["msd"] = curve
    return made


def test_whole_curves_that_differ_are_found() -> None:
    rng = np.random.default_rng(3)
    shift = 5.0 * np.sqrt(2.0 / 10)  # five standard errors of one mode
    runs = with_curve(
        a=curve_of_blocks(rng, 10, shift), b=curve_of_blocks(rng, 10), c=curve_of_blocks(rng, 10)
    )
    (row,) = compare_runs(runs)
    assert row.verdict.startswith("differ (p ")
    assert ", most at " in row.verdict
    (row,) = compare_runs({name: runs[name] for name in "bc"} | {"short": analysis("short")})
    assert row.verdict.startswith("b and c agree (p = ")
    assert row.verdict.endswith("; short left out: too short")
    assert "% of it)" in row.detectable
    (alone,) = compare_runs({"a": runs["a"], "short": analysis("short")})
    assert alone.verdict == "only a is long enough for it"


def test_a_run_that_does_not_see_its_slow_mode_is_blocked_as_the_other() -> None:
    """Blocks of 1 ps correlated over several of them claim too small an error, beside a run whose blocks are longer."""
    rng = np.random.default_rng(8)
    mode = np.exp(-np.linspace(0.0, 1.0, 40))
    merged = []
    for _ in range(60):
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
        merged.append(compare_curves(curves).p)
    # 3 expected, with a standard deviation of 1.7
    assert np.sum(np.array(merged) < 0.05) <= 9


def test_blocks_on_another_grid_are_compared() -> None:
    rng = np.random.default_rng(7)
    a, b = curve_of_blocks(rng, 30), curve_of_blocks(rng, 30)
    assert b.blocks is not None
    sparse = Curve(b.x[::2], b.y[::2], b.error[::2], "t", "C", blocks=b.blocks[:, ::2])
    assert compare_curves([a, sparse]).p == pytest.approx(compare_curves([a, b]).p, abs=0.1)
    assert compare_curves([a, Curve(a.x, a.y, a.error, "t", "C")]) is None


def test_maps_are_compared_by_their_blocks() -> None:
    rng = np.random.default_rng(1)
    edges = np.linspace(-1, 1, 4)

    def made(shift: np.ndarray) -> Map:
        blocks = 1.0 + 0.1 * rng.normal(size=(8, 4, 4)) + shift
        density = blocks.mean(axis=0)
        return Map(edges, edges, -np.log(density), np.full((4, 4), 0.05), "cos θ", "φ", "F / kT", blocks)

    shift = np.zeros((4, 4))
    shift[0] = 0.5
    runs = {name: analysis(name) for name in ("raw", "2i", "random")}
    for name, by in (("raw", 0.0), ("2i", 0.0), ("random", 1.0)):
        runs[name].maps["orientation"] = made(by * shift)
    (row,) = compare_runs(runs)
    assert row.label == "orientational free energy (whole map)"
    assert row.verdict.startswith("differ (p ")
    assert "at cos θ = -1" in row.verdict
    (row,) = compare_runs({name: runs[name] for name in ("raw", "2i")})
    assert row.verdict.startswith("agree (p = ")
    assert row.detectable.endswith("kT in one cell")


def test_published_values_are_compared() -> None:
    raw = analysis("liquid-raw", g_OO_height=(2.31, 0.04), diffusion=(0.5, 0.01), drift=(-1.3, 6.9))
    gas = analysis("gas-nve-raw", torque_3i=(6e-6, 1e-7))
    check = {"gas:none:force_mae": 24.0, "gas:none:energy_mae_centred": 1.4}
    rows = {
        r.label: r
        for r in published_rows({"liquid-raw": raw, "gas-nve-raw": gas}, check, {"force_mae": 33.2})
    }
    assert rows["liquid: first maximum of g(O–O)"].agreement == "agrees (1.5 σ)"  # 0.075 / hypot(0.04, 0.03)
    assert rows["liquid: diffusion coefficient"].agreement == "94 % higher (> 10 σ)"
    assert rows["liquid: drift, raw"].agreement == "not resolved (0.5 σ)"
    assert "3300 times smaller" in rows["gas: root mean square torque, 3i"].agreement
    assert rows["symmetry error of forces, gas"].agreement == "2 times larger"
    assert rows["symmetry error of energies, gas"].agreement == "2 times smaller"
    assert rows["test set: forces, MAE"].agreement == "2 times larger"


def test_published_curves_are_read_and_compared() -> None:
    """Numbers that the publication's figures show, and a run that has the published curve but for one point."""
    curves = published_curves("liquid")
    ((_, g),) = curves["g_OO"]
    assert 2.19 < g.y.max() < 2.28
    assert g.x[g.y.argmax()] == pytest.approx(2.83, abs=0.03)
    ((_, transverse),) = curves["cuu_transverse"]
    assert transverse.y[np.abs(transverse.x - 4.3).argmin()] == pytest.approx(-0.06, abs=0.01)
    assert len(curves["conserved"]) == 3
    for kind, low, high in (("gas", 0.1, 0.14), ("liquid", 0.006, 0.012)):
        (_, raw), _ = published_maps(kind)
        assert low < np.sqrt(np.nanmean(raw.values**2)) < high
        assert raw.values.shape == (12, 24)
    rng = np.random.default_rng(2)
    x = np.arange(0.05, 6.0, 0.05)
    y = np.interp(x, g.x, g.y)
    blocks = y + 0.05 * rng.normal(size=(12, len(x)))
    run = analysis("liquid-raw")
    run.curves["g_OO"] = Curve(x, blocks.mean(axis=0), np.full(len(x), 0.015), "r / Å", "g", blocks=blocks)
    (row,) = compare_with_published({"liquid-raw": run})
    assert row.verdict.startswith("agrees (p = ")
    blocks = blocks.copy()
    blocks[:, 55] += 0.3  # at 2.8 Å
    run.curves["g_OO"] = Curve(x, blocks.mean(axis=0), np.full(len(x), 0.015), "r / Å", "g", blocks=blocks)
    (row,) = compare_with_published({"liquid-raw": run})
    assert row.verdict.startswith("differs (p ")
    assert row.largest.startswith("+0.3")
    assert row.largest.endswith("at 2.8 Å")
