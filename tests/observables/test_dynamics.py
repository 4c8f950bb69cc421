"""Diffusive, ballistic and rotational motion with known answers."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ipi_driver.errors import UserError
from ipi_driver.observables.blocks import FEWEST_LAGS, Blocks
from ipi_driver.observables.dynamics import (
    MeanSquareDisplacement,
    OrientationCorrelation,
    diffusion_coefficient,
    finite_size_correction,
    relaxation_time,
)

CELL = np.array([[9.0, 0.0, 0.0], [2.0, 8.0, 0.0], [-1.0, 2.0, 10.0]])


@pytest.mark.parametrize("wrapped", [False, True])
def test_diffusion_of_random_walkers(wrapped):
    rng = np.random.default_rng(0)
    spacing, d = 50.0, 0.25  # fs, Å²/ps
    step = np.sqrt(2 * d * spacing / 1000)
    msd = MeanSquareDisplacement(n_lags=20)
    positions = rng.uniform(size=(100, 3)) @ CELL
    for _ in range(3000):
        positions = positions + rng.normal(size=(100, 3)) * step
        fractional = positions @ np.linalg.inv(CELL)
        msd.add((fractional % 1.0 if wrapped else fractional) @ CELL, CELL, np.zeros(3))
    curve = msd.result(spacing)
    lags = np.arange(21) * spacing / 1000
    assert np.abs((curve.value[1:] - 6 * d * lags[1:]) / curve.error[1:]).max() < 4
    estimate = diffusion_coefficient(curve, spacing, 200.0, 1000.0)
    assert estimate.value == pytest.approx(d, abs=4 * float(estimate.error))
    assert 0 < estimate.error < 0.03 * d


def test_ballistic_motion_and_common_drift():
    rng = np.random.default_rng(1)
    velocities = rng.normal(size=(50, 3)) * 0.01
    velocities -= velocities.mean(axis=0)
    drift = np.array([0.05, 0.0, -0.02])
    msd = MeanSquareDisplacement(n_lags=10)
    for k in range(60):
        center = drift * k * 2.0
        msd.add(velocities * k * 2.0 + center, np.zeros((3, 3)), center)
    curve = msd.result(2.0)
    np.testing.assert_allclose(curve.value, (velocities**2).sum(axis=1).mean() * (np.arange(11) * 2.0) ** 2)
    assert curve.error.max() < 1e-12


def test_every_snapshot_is_an_origin():
    rng = np.random.default_rng(3)
    snapshots = np.cumsum(rng.normal(size=(37, 5, 3)), axis=0)
    msd = MeanSquareDisplacement(n_lags=7)
    for snapshot in snapshots:
        msd.add(snapshot, np.zeros((3, 3)), np.zeros(3))
    direct = [((snapshots[k : 30 + k] - snapshots[:30]) ** 2).sum(axis=2).mean() for k in range(8)]
    np.testing.assert_allclose(msd.result(1.0).value, direct)


def test_reorientation_by_rotational_diffusion():
    """C(t) = exp(-2 D_r t): small random rotations of spread s per axis and step decay by exp(-s²) each."""
    rng = np.random.default_rng(2)
    spread, spacing = 0.2, 100.0
    vectors = np.tile([0.0, 0.0, 1.0], (200, 1))
    correlation = OrientationCorrelation(n_lags=40)
    for _ in range(1500):
        vectors = Rotation.from_rotvec(rng.normal(size=(200, 3)) * spread).apply(vectors)
        correlation.add(3.0 * vectors)
    single, collective = correlation.single(spacing), correlation.collective(spacing)
    # mean of R over isotropic Gaussian rotation vectors: (1 + 2 <(1 - q) cos ...>)/3, measured on many draws
    draws = Rotation.from_rotvec(rng.normal(size=(400_000, 3)) * spread).as_matrix()
    factor = draws[:, [0, 1, 2], [0, 1, 2]].mean()
    expected = factor ** np.arange(41)
    np.testing.assert_allclose(single.value[0], 1.0)
    assert np.abs((single.value - expected)[1:] / single.error[1:]).max() < 4.5
    tau = relaxation_time(single, spacing, 200.0, 4000.0)
    assert tau.value == pytest.approx(-0.1 / np.log(factor), abs=4 * float(tau.error))
    assert tau.error < 0.05 * tau.value
    assert collective.value[0] == 1.0
    assert np.abs((collective.value - expected)[1:20] / collective.error[1:20]).max() < 4.5


def test_yeh_hummer_for_water():
    """SPC/E-like: 300 K, 512 molecules, 0.854 mPa s: about 0.29 Å²/ps by 2.837 kT / (6 pi eta L)."""
    kt = 1.380649e-23 * 300.0
    si = 2.837297 * kt / (6 * np.pi * 0.854e-3 * 24.861e-10)  # m²/s
    assert finite_size_correction(300.0, 24.861, 0.854) == pytest.approx(si * 1e20 * 1e-12, rel=1e-6)


def test_windows_that_hold_no_lags():
    msd = MeanSquareDisplacement(n_lags=4)
    for _ in range(30):
        msd.add(np.zeros((2, 3)), CELL, np.zeros(3))
    curve = msd.result(10.0)
    with pytest.raises(UserError, match="fewer than two lags"):
        diffusion_coefficient(curve, 10.0, 100.0, 200.0)
    with pytest.raises(UserError, match="at least 1"):
        MeanSquareDisplacement(0)


def test_run_too_short_for_long_lags_gives_the_short_ones() -> None:
    """A walker resolves lags far below its run, and no others: displacements over long lags share their path."""
    n_lags, n = 500, 1500
    path = np.cumsum(np.random.default_rng(0).normal(size=(n, 3)), axis=0)
    msd, whole = MeanSquareDisplacement(n_lags), Blocks()
    for place in path:
        msd.add(place[None], np.eye(3) * 1e6, np.zeros(3))
    for k in range(n - n_lags):
        whole.add(((path[k : k + n_lags + 1] - path[k]) ** 2).sum(-1))
    with pytest.raises(UserError, match="too short for a block average"):
        whole.estimate(1.0)
    curve = msd.result(1.0)
    shown = len(curve.value)
    assert FEWEST_LAGS <= shown < n_lags
    np.testing.assert_allclose(curve.value, whole.mean()[:shown], rtol=1e-10)
    # three unit normals a step; the errors hold
    lags = np.arange(1, shown)
    assert np.all(np.abs(curve.value[1:] - 3.0 * lags) < 5.0 * curve.error[1:])
    few = MeanSquareDisplacement(n_lags)
    for place in path[: n_lags + 3]:
        few.add(place[None], np.eye(3) * 1e6, np.zeros(3))
    with pytest.raises(UserError, match="too short for a block average"):
        few.result(1.0)
