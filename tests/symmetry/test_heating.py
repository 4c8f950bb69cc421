"""Heating by an outer step: predicted from a plain trajectory, measured in one with multiple time stepping."""

from __future__ import annotations

import numpy as np
import pytest

from ipi_driver.structure import Structure
from ipi_driver.symmetry.heating import heating_of_strides, power_of_correction
from ipi_driver.symmetry.outer_step import stride_table
from ipi_driver.units import DALTON, KB

KELVIN, INNER = 300.0, 0.5
MASS = 1.008 * DALTON
STIFFNESS = MASS * (2 * np.pi / 10.0) ** 2  # a period of 10 fs
FRICTION = 0.02  # 1/fs, beyond what makes the resonance an instability
SOFTER = -0.005  # the correction, as a part of the stiffness


class Oscillators:
    """Langevin oscillators with a period of 10 fs (BAOAB); ``heat`` is what the bath has given them."""

    def __init__(self, n: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.x = self.rng.normal(size=n) * np.sqrt(KB * KELVIN / STIFFNESS)
        self.v = self.rng.normal(size=n) * np.sqrt(KB * KELVIN / MASS)
        self.heat = np.zeros(n)

    def step(self) -> None:
        self.v -= 0.5 * INNER * STIFFNESS * self.x / MASS
        self.x += 0.5 * INNER * self.v
        before = self.v**2
        decay = np.exp(-FRICTION * INNER)
        kick = np.sqrt(KB * KELVIN / MASS * (1 - decay**2)) * self.rng.normal(size=len(self.x))
        self.v = decay * self.v + kick
        self.heat += 0.5 * MASS * (self.v**2 - before)
        self.x += 0.5 * INNER * self.v
        self.v -= 0.5 * INNER * STIFFNESS * self.x / MASS

    def conserved(self, stiffness: float) -> np.ndarray:
        """Energy in the full potential, less what came from the bath."""
        return 0.5 * MASS * self.v**2 + 0.5 * stiffness * self.x**2 - self.heat


def measured_heating(stride: int, n: int = 3000, steps: int = 4000) -> tuple[float, float]:
    """eV/fs per oscillator and its error: the drift of the conserved quantity with impulses of the correction."""
    system = Oscillators(n, seed=1)
    force = -SOFTER * STIFFNESS
    stiffness = (1.0 + SOFTER) * STIFFNESS
    start = system.conserved(stiffness)
    outer = steps // stride
    for _ in range(outer):
        system.v += 0.5 * stride * INNER * force * system.x / MASS
        for _ in range(stride):
            system.step()
        system.v += 0.5 * stride * INNER * force * system.x / MASS
    rates = (system.conserved(stiffness) - start) / (outer * stride * INNER)
    return float(rates.mean()), float(rates.std() / np.sqrt(n))


def trajectory(n: int = 300, snapshots: int = 1600, seed: int = 2) -> tuple[np.ndarray, list[Structure]]:
    """Corrections and snapshots, 0.5 fs apart, of oscillators far from each other in a periodic cell."""
    system = Oscillators(n, seed)
    places = 4.0 * np.stack(np.unravel_index(np.arange(n), (10, 10, n // 100)), axis=1)
    cell = np.diag([40.0, 40.0, 4.0 * (n // 100)])
    corrections, structures = np.zeros((snapshots, n, 3)), []
    for k in range(snapshots):
        system.step()
        positions = places.copy()
        positions[:, 0] += system.x
        corrections[k, :, 0] = -SOFTER * STIFFNESS * system.x
        # wrapped, as a trajectory may be
        structures.append(Structure(np.ones(n, dtype=int), positions % np.diag(cell), cell, np.full(3, True)))
    return corrections, structures


def test_prediction_is_the_measured_drift() -> None:
    corrections, structures = trajectory()
    power, temperature = power_of_correction(corrections, structures, INNER)
    assert power.shape == (1596, 300)
    # one of three directions moves
    assert temperature == pytest.approx(KELVIN / 3, rel=0.1)
    strides = np.array([5, 8, 9, 10, 11])
    rates, errors = heating_of_strides(power, 3 * temperature, INNER, INNER, strides)
    for stride, rate in zip(strides, rates / 300, strict=True):
        value, error = measured_heating(int(stride))
        # the windows of the spectrum, 400 fs, are not much longer than the vibration lasts: they flatten its line
        assert rate == pytest.approx(value, rel=0.3, abs=3 * error), stride
    # an outer step of half the period is in resonance, one of four fifths of that is not
    assert rates[3] > 50 * rates[1]
    assert np.all(errors < 0.1 * rates)


def test_error_is_the_scatter_of_trajectories() -> None:
    """Each too short for its vibrations to lose their energy more than a few times."""
    strides = np.array([8, 10])
    found, errors = [], []
    for seed in range(20):
        corrections, structures = trajectory(100, 400, seed)
        power, _ = power_of_correction(corrections, structures, INNER)
        rate, error = heating_of_strides(power, KELVIN, INNER, INNER, strides)
        found.append(rate)
        errors.append(error)
    assert np.mean(errors, axis=0) == pytest.approx(np.std(found, axis=0, ddof=1), rel=0.5)
    alone, unknown = heating_of_strides(power[:, :1], KELVIN, INNER, INNER, strides)
    assert np.isfinite(alone).all()
    assert np.isnan(unknown).all()


def test_white_power_is_what_random_frames_do() -> None:
    """A power of independent samples, s v, has the density s² v² dt at all frequencies: heating by s² dt / m."""
    rng = np.random.default_rng(3)
    spread, velocity = 0.01, np.sqrt(KB * KELVIN / MASS)
    power = rng.normal(size=(4000, 100)) * spread * rng.normal(size=(4000, 100)) * velocity
    rates, _ = heating_of_strides(power, KELVIN, 0.2, 0.5, np.array([1]))
    assert rates[0] / 100 == pytest.approx(spread**2 * 0.2 / MASS, rel=0.1)


def test_heavy_water_is_as_warm_as_its_masses_say() -> None:
    corrections, structures = trajectory(100, 400)
    _, natural = power_of_correction(corrections, structures, INNER)
    _, heavy = power_of_correction(corrections, structures, INNER, np.full(100, 2 * 1.008))
    assert heavy == pytest.approx(2 * natural)
    light, double = (
        stride_table(corrections, corrections, INNER, INNER, 1e-3, structures, masses).heating
        for masses in (None, np.full(100, 2 * 1.008))
    )
    assert light is not None
    assert double is not None
    assert double.rate == pytest.approx(light.rate / 2, nan_ok=True)


def test_what_the_snapshots_cannot_tell() -> None:
    power = np.random.default_rng(4).normal(size=(200, 40))
    rates, _ = heating_of_strides(power, 300.0, 1.0, 0.5, np.array([2, 3, 4, 10]))
    assert np.isnan(rates).tolist() == [True, True, False, False]


def test_table_holds_the_heating_of_condensed_phases() -> None:
    corrections, structures = trajectory(100, 400)
    table = stride_table(corrections, corrections, INNER, INNER, 1e-3, structures)
    assert table.heating is not None
    power, temperature = power_of_correction(corrections, structures, INNER)
    rates, errors = heating_of_strides(power, temperature, INNER, INNER, table.strides)
    assert table.heating.rate == pytest.approx(rates / 100, nan_ok=True)
    assert table.heating.error == pytest.approx(errors / 100, nan_ok=True)
    isolated = [Structure(s.numbers, s.positions, s.cell, np.full(3, False)) for s in structures]
    assert stride_table(corrections, corrections, INNER, INNER, 1e-3, isolated).heating is None
    assert stride_table(corrections, corrections, 2.0, INNER, 1e-3, structures).heating is None
    still = [structures[0]] * len(structures)
    assert stride_table(corrections, corrections, INNER, INNER, 1e-3, still).heating is None
