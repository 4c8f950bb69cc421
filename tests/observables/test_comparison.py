"""Comparison of runs by dealing their blocks: false alarms, power, and the smallest difference that is detected."""

import numpy as np
import pytest
from scipy.stats import f as fisher
from scipy.stats import f_oneway

from ipi_driver.observables.comparison import compare_blocks, compare_with_reference


def curves(rng: np.random.Generator, n_blocks: int, n_points: int = 60) -> np.ndarray:
    """Blocks of a curve: noise of its own at each point, and three smooth modes that many points share."""
    x = np.linspace(0.0, 1.0, n_points)
    modes = np.array([np.exp(-x), x * np.exp(-2.0 * x), 0.5 * np.sin(6.0 * x)])
    return rng.normal(size=(n_blocks, 3)) @ modes + 0.5 * rng.normal(size=(n_blocks, n_points))


@pytest.mark.parametrize("sizes", [(4, 8), (10, 10, 10), (6, 6, 6, 12, 12)])
def test_runs_of_the_same_thing_differ_in_one_of_twenty(sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(5)
    found = [compare_blocks([curves(rng, n) for n in sizes], draws=299, seed=k).p for k in range(400)]
    # 20 expected of 400, with a standard deviation of 4.4
    assert 8 <= np.sum(np.array(found) < 0.05) <= 34
    assert np.mean(np.array(found) < 0.5) == pytest.approx(0.5, abs=0.08)


def test_one_point_is_the_analysis_of_variance() -> None:
    """Of one normal number the dealing has the p of Fisher's F."""
    rng = np.random.default_rng(1)
    runs = [rng.normal(size=(n, 1)) + 0.3 * n for n in (7, 8, 9)]
    n, mean = 24, np.concatenate(runs).mean()
    between = sum(len(r) * (r.mean() - mean) ** 2 for r in runs) / 2
    within = sum(((r - r.mean()) ** 2).sum() for r in runs) / (n - 3)
    found = compare_blocks(runs, draws=9999)
    assert found.p == pytest.approx(fisher.sf(between / within, 2, n - 3), abs=0.015)


def test_the_smallest_detectable_difference_is_detected_in_four_of_five() -> None:
    rng = np.random.default_rng(3)
    sizes, place = (12, 12, 12), 17
    expected = np.median(
        [compare_blocks([curves(rng, n) for n in sizes], draws=299).detectable[place] for _ in range(20)]
    )
    hits, local = [], []
    for k in range(150):
        runs = [curves(rng, n) for n in sizes]
        runs[1][:, place] += expected
        found = compare_blocks(runs, draws=299, seed=k)
        hits.append(not found.same)
        local.append(found.p_local < 0.05)
    assert np.mean(local) == pytest.approx(0.8, abs=0.13)
    assert np.mean(hits) > 0.6  # with two statistics a little less


def test_correlation_left_between_blocks_is_corrected() -> None:
    rng = np.random.default_rng(4)
    runs = [curves(rng, 10) for _ in range(2)]
    runs[0] += 0.6
    plain, corrected = compare_blocks(runs), compare_blocks(runs, (1.4, 1.4))
    assert corrected.p > plain.p
    np.testing.assert_allclose(corrected.detectable, 1.4 * plain.detectable, rtol=2e-3)


def test_a_reference_is_met_or_not() -> None:
    rng = np.random.default_rng(6)
    found = [compare_with_reference(curves(rng, 10), np.zeros(60), draws=299, seed=k).p for k in range(300)]
    assert 4 <= np.sum(np.array(found) < 0.05) <= 28
    shifted = np.zeros(60)
    shifted[20] = 2.0
    far = compare_with_reference(curves(rng, 12), shifted)
    assert far.p < 0.05
    assert far.place == 20
    assert compare_with_reference(curves(rng, 12), shifted, uncertainty=2.0).p > 0.05


@pytest.mark.parametrize("n_blocks", [4, 5])
def test_few_blocks_differ_from_a_reference_where_it_is_far(n_blocks: int) -> None:
    """By the signs alone p is never below 2^(1 - n), 1 / 8 of four blocks."""
    rng = np.random.default_rng(8)
    assert not compare_with_reference(5.0 + 0.01 * curves(rng, n_blocks), np.zeros(60)).same
    found = [compare_with_reference(curves(rng, n_blocks), np.zeros(60)) for _ in range(300)]
    assert np.sum([not f.same for f in found]) <= 15  # fewer than one of twenty, as points are correlated
    detectable, place = np.median([f.detectable[30] for f in found]), 30
    shifted = np.zeros(60)
    shifted[place] = detectable
    p = np.array([compare_with_reference(curves(rng, n_blocks), shifted).p for _ in range(300)])
    assert np.mean(p < 0.05) == pytest.approx(0.7, abs=0.2)
    within = compare_with_reference(curves(rng, n_blocks), shifted, uncertainty=float(detectable))
    assert within.same


@pytest.mark.parametrize("sizes", [(2, 2), (3, 3), (2, 4)])
def test_few_blocks_of_two_runs_differ_where_they_are_far_apart(sizes: tuple[int, int]) -> None:
    """Three blocks each can be dealt in ten ways, so that dealing alone has no p below 1 / 10."""
    rng = np.random.default_rng(9)
    far = [5.0 * k + 0.001 * curves(rng, n) for k, n in enumerate(sizes)]
    found = compare_blocks(far, widths=(1, 3, 7))
    assert not found.same
    assert np.nanmedian(found.detectable) < 5.0
    p = [compare_blocks([curves(rng, n) for n in sizes]).p for _ in range(200)]
    assert np.sum(np.array(p) < 0.05) <= 12
    # one point: the analysis of variance itself
    runs = [rng.normal(size=(n, 1)) for n in sizes]
    assert compare_blocks(runs).p == pytest.approx(f_oneway(*(r[:, 0] for r in runs)).pvalue)


def test_what_cannot_be_compared_is_nan() -> None:
    constant = np.ones((5, 4))
    assert np.isnan(compare_blocks([constant, constant]).p)
    assert np.isnan(compare_blocks([np.ones((1, 4)), constant]).p)
    holes = np.random.default_rng(0).normal(size=(2, 5, 4))
    holes[0, 2, 1] = np.nan
    found = compare_blocks(list(holes))
    assert np.isnan(found.detectable[1])
    assert np.isfinite(found.p)


def test_a_difference_wider_than_a_point_is_seen_in_windows() -> None:
    """Hidden in the noise of every point; the mean of seven has a seventh of its variance."""
    rng = np.random.default_rng(6)
    found, said = [], []
    for k in range(40):
        runs = [rng.normal(size=(12, 60)) for _ in range(2)]
        runs[0][:, 20:27] += 0.7
        narrow, wide = (compare_blocks(runs, draws=299, seed=k, widths=w) for w in ((1,), (1, 7)))
        found.append((narrow.p_local < 0.05, wide.p_local < 0.05, 20 <= wide.place <= 26))
        said.append(narrow.detectable[30] / wide.detectable[30])
    by_points, seen, placed = np.mean(found, axis=0)
    assert seen > by_points + 0.25
    assert placed > 0.75
    assert np.median(said) == pytest.approx(np.sqrt(7.0), rel=0.15)


@pytest.mark.parametrize("sizes", [(10, 10), (8, 10, 12)])
def test_windows_raise_no_false_alarms(sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(7)
    runs = ([curves(rng, n) for n in sizes] for _ in range(300))
    p = [compare_blocks(one, draws=199, seed=k, widths=(1, 3, 7)).p for k, one in enumerate(runs)]
    assert 4 <= np.sum(np.array(p) < 0.05) <= 28  # 15 expected, with a standard deviation of 3.8
