"""Correlation times and errors against an Ornstein-Uhlenbeck process, whose answers are known."""

from contextlib import suppress

import numpy as np
import pytest
from scipy.signal import lfilter

from ipi_driver.errors import UserError
from ipi_driver.observables.blocks import Blocks
from ipi_driver.observables.statistics import (
    autocorrelation,
    block_average,
    blocked_ratio,
    correlation_time,
)


def ornstein_uhlenbeck(n: int, tau: float, seed: int, n_series: int = 1) -> np.ndarray:
    """Unit variance, autocorrelation exp(-t / tau), spacing 1; (n, n_series)."""
    rng = np.random.default_rng(seed)
    a = np.exp(-1.0 / tau)
    noise = rng.normal(size=(n, n_series)) * np.sqrt(1 - a * a)
    noise[0] = rng.normal(size=n_series)
    return lfilter([1.0], [1.0, -a], noise, axis=0)


def test_autocorrelation_equals_direct_sum():
    x = ornstein_uhlenbeck(200, 5.0, 0)[:, 0]
    y = x - x.mean()
    direct = np.array([(y[: len(y) - k] * y[k:]).mean() for k in range(50)])
    np.testing.assert_allclose(autocorrelation(x)[:50], direct / direct[0], atol=1e-12)


@pytest.mark.parametrize("tau", [3.0, 20.0])
def test_correlation_time_of_ornstein_uhlenbeck(tau):
    times = [correlation_time(ornstein_uhlenbeck(100_000, tau, seed)[:, 0], 0.5) for seed in range(4)]
    assert np.mean(times) == pytest.approx(0.5 * tau, rel=0.08)


def test_white_noise_has_half_a_spacing():
    assert correlation_time(np.random.default_rng(1).normal(size=20_000), 2.0) == pytest.approx(1.0, abs=0.06)


def test_error_is_the_spread_of_repeated_means():
    n, tau, repeats = 4000, 15.0, 200
    runs = ornstein_uhlenbeck(n, tau, 7, repeats)
    estimates = [block_average(runs[:, k], 1.0) for k in range(repeats)]
    means = np.array([e.value for e in estimates])
    errors = np.array([e.error for e in estimates])
    exact = np.sqrt(2 * tau / n)
    assert means.std() == pytest.approx(exact, rel=0.15)  # the process is what it should be
    assert np.sqrt((errors**2).mean()) == pytest.approx(exact, rel=0.08)
    assert all(e.block_length >= 5 * e.correlation_time and e.n_blocks == 6 for e in estimates)
    naive = runs.std() / np.sqrt(n)
    assert errors.mean() > 4 * naive


def test_a_slow_mode_that_noisy_points_share_counts():
    """Points of a curve: white noise of their own, and a tenth of the variance from one slow mode of all of them."""
    n, m, tau, share, repeats = 4000, 60, 25.0, 0.1, 30
    rng = np.random.default_rng(5)
    slow = ornstein_uhlenbeck(n, tau, 6, repeats)
    runs = [
        np.sqrt(share) * slow[:, k, None] + np.sqrt(1 - share) * rng.normal(size=(n, m))
        for k in range(repeats)
    ]
    estimates = [block_average(run, 1.0) for run in runs]
    exact = np.sqrt((share * 2 * tau + (1 - share)) / n)
    errors = np.array([e.error for e in estimates])
    assert np.sqrt((errors**2).mean()) == pytest.approx(exact, rel=0.08)
    # the mode holds m times the slow variance and once that of the noise
    mode = (share * m * tau + (1 - share) * 0.5) / (share * m + 1 - share)
    assert np.mean([e.correlation_time for e in estimates]) == pytest.approx(mode, rel=0.1)
    pooled = np.mean([correlation_time(run) for run in runs])
    assert pooled < 0.4 * tau


@pytest.mark.parametrize("m", [200, 12])  # more points than samples, and fewer
def test_shared_mode_is_found_and_chance_is_not_taken_for_one(m):
    slow = ornstein_uhlenbeck(80, 4.0, 8)
    noise = np.random.default_rng(2).normal(size=(80, m))
    alone = correlation_time(slow, 2.0)
    shared = block_average(0.7 * slow + noise, 2.0, minimum_blocks=2)
    assert shared.correlation_time == pytest.approx(alone, rel=0.25)
    assert correlation_time(0.7 * slow + noise, 2.0) < 0.7 * alone
    assert block_average(noise, 2.0).correlation_time == correlation_time(noise, 2.0)
    assert block_average(np.full((60, m), 1.7), 2.0).correlation_time == 1.0


def test_a_slow_tail_under_fast_noise_counts():
    """2 % of the variance stays correlated for 200 samples, the rest is white: the window of tau closes at once."""
    n, tau, share, repeats = 20000, 200.0, 0.02, 40
    slow = ornstein_uhlenbeck(n, tau, 12, repeats)
    runs = np.sqrt(share) * slow + np.sqrt(1 - share) * np.random.default_rng(3).normal(size=(n, repeats))
    estimates = [block_average(runs[:, k], 1.0) for k in range(repeats)]
    exact = np.sqrt((2 * tau * share + 1 - share) / n)
    assert np.std([e.value for e in estimates]) == pytest.approx(exact, rel=0.25)  # 40 repeats: 11 %
    assert np.sqrt(np.mean([e.error**2 for e in estimates])) == pytest.approx(exact, rel=0.12)
    assert np.mean([e.correlation_time for e in estimates]) == pytest.approx(tau * share + 0.5, rel=0.2)
    assert np.mean([correlation_time(runs[:, k]) for k in range(repeats)]) < 0.3 * tau * share


def test_short_runs_get_an_error_that_is_not_too_small():
    """Of 10 tau: those without room for four blocks of 5 tau, with the largest correction."""
    n, tau, repeats = 100, 10.0, 1000
    runs, found = ornstein_uhlenbeck(n, tau, 21, repeats), []
    for k in range(repeats):
        with suppress(UserError):
            found.append(blocked_ratio(runs[:, k], np.ones(n), 1.0, short_blocks=True))
    assert len(found) > 0.9 * repeats
    short = [e for e in found if e.block_length < 5 * e.correlation_time]
    assert len(short) > 300
    assert all(4 <= e.n_blocks <= 6 and e.block_length >= 2 * e.correlation_time - 1e-9 for e in short)
    true = np.sqrt(np.mean([float(e.value) ** 2 for e in short]))
    given = np.sqrt(np.mean([float(e.error) ** 2 for e in short]))
    # four blocks know their spread to 40 %, and the short series its tau no better
    assert 0.7 < true / given < 1.05
    within = np.mean([abs(float(e.value)) < 2 * float(e.error) for e in short])
    assert within > 0.85  # four blocks: Student's t with 3 degrees of freedom has 0.86


@pytest.mark.parametrize("ratio", [15, 20, 50, 500])
def test_intervals_cover_what_they_say(ratio):
    """68 and 95 % of the intervals of Ornstein-Uhlenbeck series of so many correlation times hold the true mean."""
    tau, repeats = 6.0, 500
    runs = ornstein_uhlenbeck(int(ratio * tau), tau, ratio, repeats)
    inside, given = np.zeros(2), 0
    for k in range(repeats):
        try:
            estimate = block_average(runs[:, k], 1.0)
        except UserError:
            continue
        given += 1
        inside += [abs(float(estimate.value)) < float(estimate.half_width(level)) for level in (0.6827, 0.95)]
    assert given > 0.9 * repeats
    # 4 percentage points, and two standard deviations of 500 repeats
    np.testing.assert_allclose(inside / given, (0.6827, 0.95), atol=0.04 + 2.0 * 0.021)
    assert inside[1] / given > 0.95 - 0.04 - 0.02


def test_too_short_series_is_refused():
    with pytest.raises(UserError, match="too short for a block average"):
        block_average(np.arange(3.0), 1.0)
    # what is known otherwise holds where the series does not show it
    series = ornstein_uhlenbeck(400, 2.0, 3)[:, 0]
    known = blocked_ratio(series, np.ones(400), 1.0, short_blocks=True, least_correlation_time=40.0)
    assert known.n_blocks == 4
    assert known.correlation_time == 40.0
    assert known.error > block_average(series, 1.0).error
    with pytest.raises(UserError, match="run longer"):
        blocked_ratio(series, np.ones(400), 1.0, short_blocks=True, least_correlation_time=60.0)


def test_constant_series_has_no_error():
    estimate = block_average(np.full(100, 3.7), 1.0)
    assert estimate.value == pytest.approx(3.7)
    assert estimate.error == pytest.approx(0.0, abs=1e-12)


def test_every_sample_of_the_mean_is_in_a_block():
    """A rare event near the end of a series that the blocks do not divide: its error is not that of rounding."""
    rng = np.random.default_rng(1)
    for n in range(100, 140):
        series = np.stack([ornstein_uhlenbeck(n, 1.0, n)[:, 0], np.zeros(n)], axis=1)
        series[-1, 1] = rng.uniform(1.0, 2.0)
        estimate = block_average(series, 1.0)
        assert estimate.error[1] == pytest.approx(estimate.value[1], rel=0.5)


def test_ratio_weights_by_counts():
    estimate = blocked_ratio([2.0, 0.0, 6.0, 4.0, 2.0, 2.0, 1.0, 3.0] * 4, [1, 0, 3, 2, 1, 1, 1, 1] * 4, 1.0)
    assert estimate.value == pytest.approx(20 / 10)


@pytest.mark.parametrize("n", [70, 5000, 8191])
def test_streamed_blocks_equal_all_at_once(n):
    series = ornstein_uhlenbeck(n, 2.0, 11, 40)
    blocks = Blocks(n_pieces=32)
    for row in series:
        blocks.add(row)
    streamed = blocks.estimate(1.0)
    whole = block_average(series, 1.0)
    np.testing.assert_allclose(streamed.value, whole.value, atol=1e-12)
    np.testing.assert_allclose(blocks.mean(), whole.value, atol=1e-12)
    assert len(blocks) <= 64
    assert np.sqrt((streamed.error**2).mean()) == pytest.approx(np.sqrt(2 * 2.0 / n), rel=0.2)


def test_jackknife_of_a_nonlinear_function_is_the_delta_rule():
    series = 5.0 + ornstein_uhlenbeck(40_000, 3.0, 5)[:, 0]
    estimate = block_average(series, 1.0)
    squared = estimate.derived(lambda x: x**2)
    assert squared.value == pytest.approx(float(estimate.value) ** 2)
    assert squared.error == pytest.approx(2 * float(estimate.value) * float(estimate.error), rel=0.02)


def test_points_of_a_curve_have_their_own_correction() -> None:
    """A slow mode that a third of the points share, noise at the others: 1 / sqrt(1 - tau / L) and 1."""
    rng = np.random.default_rng(11)
    tau, found = 20.0, []
    for k in range(20):
        slow = ornstein_uhlenbeck(2000, tau, k)[:, 0]
        series = rng.normal(size=(2000, 30))
        series[:, :10] = slow[:, None] + 0.1 * series[:, :10]
        estimate = blocked_ratio(series, np.ones(2000), 1.0, short_blocks=True)
        assert estimate.of_points is not None
        assert (estimate.of_points <= estimate.correction * (1 + 1e-12)).all()
        expected = 1.0 / np.sqrt(1.0 - tau / estimate.block_length)
        found.append((estimate.of_points[:10].mean() / expected, estimate.of_points[10:].mean()))
    of_slow, of_fast = np.mean(found, axis=0)
    assert of_slow == pytest.approx(1.0, abs=0.08)
    assert of_fast == pytest.approx(1.0, abs=0.02)
