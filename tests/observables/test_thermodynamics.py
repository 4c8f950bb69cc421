import numpy as np
import pytest

from ipi_driver.errors import UserError
from ipi_driver.observables.thermodynamics import KineticTemperature, dissipation, drift
from ipi_driver.units import DALTON, KB


@pytest.mark.parametrize("n_molecules", [1, 20])
def test_kinetic_temperature_without_centre_of_mass_motion(n_molecules):
    rng = np.random.default_rng(0)
    numbers = np.tile([8, 1, 1], n_molecules)
    masses = np.where(numbers == 8, 15.999, 1.008)
    temperature = KineticTemperature(numbers, masses)
    for _ in range(20_000 // n_molecules):
        velocities = rng.normal(size=(len(numbers), 3)) * np.sqrt(KB * 300.0 / (DALTON * masses))[:, None]
        temperature.add(velocities - masses @ velocities / masses.sum())
    result = temperature.result(1.0)
    for estimate in result.values():
        assert estimate.value == pytest.approx(300.0, abs=4 * float(estimate.error))
        assert estimate.error < 6.0


def test_kinetic_temperature_sees_a_hot_element_and_no_drift():
    rng = np.random.default_rng(1)
    numbers = np.tile([8, 1, 1], 50)
    masses = np.where(numbers == 8, 15.999, 1.008)
    kelvin = np.where(numbers == 8, 300.0, 400.0)
    temperature = KineticTemperature(numbers, masses)
    for _ in range(200):
        temperature.add(rng.normal(size=(150, 3)) * np.sqrt(KB * kelvin / (DALTON * masses))[:, None] + 0.01)
    result = temperature.result(1.0)
    assert result["O"].value == pytest.approx(300.0, rel=0.03)
    assert result["H"].value == pytest.approx(400.0, rel=0.03)


def test_drift_of_a_line():
    times = np.arange(1000) * 5.0
    estimate = drift(-4000.0 + 3e-4 * times, times, 64)
    assert estimate.value == pytest.approx(3e-4 * 1e6 / 64)
    assert estimate.error < 1e-6


def test_drift_of_a_random_walk_has_the_right_error():
    rng = np.random.default_rng(4)
    times = np.arange(3000) * 2.0
    pulls = []
    for _ in range(120):
        walk = np.cumsum(rng.normal(size=3000) * 1e-3)
        estimate = drift(walk + 1e-4 * times, times, 1)
        pulls.append((estimate.value - 100.0) / estimate.error)
    assert np.sqrt(np.mean(np.square(pulls))) == pytest.approx(1.1, abs=0.3)


def test_drift_of_noise_is_zero_within_a_conservative_error():
    rng = np.random.default_rng(5)
    times = np.arange(3000) * 2.0
    pulls = []
    for _ in range(60):
        estimate = drift(rng.normal(size=3000), times, 1)
        pulls.append(estimate.value / estimate.error)
    assert 0.05 < np.sqrt(np.mean(np.square(pulls))) < 1.0


def test_short_series_is_refused():
    with pytest.raises(UserError, match="too short for a block average"):
        drift(np.zeros(15), np.arange(15), 1)


def walk_with_borrowed_energy(rng, n, spacing, rate, temperature):
    """Energy that obeys the fluctuation theorem at a mean rate in eV/fs, with a vibration's and white noise on top."""
    variance = 2.0 * KB * temperature * rate * spacing
    walk = np.cumsum(rng.normal(size=n) * np.sqrt(variance)) + rate * spacing * np.arange(n)
    phase = 2 * np.pi * np.arange(n) * spacing / 37.0 + np.cumsum(rng.normal(size=n)) * 0.2
    return walk + 0.01 * np.cos(phase) + 0.005 * rng.normal(size=n)


def test_dissipation_of_a_random_walk_has_the_right_error():
    rng = np.random.default_rng(6)
    times = np.arange(8000) * 5.0
    rate = 2e-6  # 31 meV per molecule and ns of 64 molecules
    expected = rate * 1e6 / 64
    found, pulls, direct = [], [], []
    for _ in range(150):
        energy = walk_with_borrowed_energy(rng, 8000, 5.0, rate, 300.0)
        estimate = dissipation(energy, times, 64, 300.0)
        assert estimate.n_blocks == 19
        found.append(float(estimate.value))
        pulls.append((estimate.value - expected) / estimate.error)
        direct.append(float(drift(energy, times, 64).error))
    assert np.mean(found) == pytest.approx(expected, rel=0.08)
    assert np.sqrt(np.mean(np.square(pulls))) == pytest.approx(1.1, abs=0.3)
    # what it is for: the drift itself is lost in the walk
    assert np.std(found) < 0.5 * np.mean(direct)


@pytest.mark.parametrize("offset", [0.0, 1e-3])
def test_dissipation_does_not_use_the_drift(offset):
    rng = np.random.default_rng(7)
    times = np.arange(6000) * 10.0
    walk = np.cumsum(rng.normal(size=6000) * 1e-3)
    plain = dissipation(walk, times, 1, 300.0)
    assert dissipation(walk + offset * times, times, 1, 300.0).value == pytest.approx(float(plain.value))


def energy_of_oscillators(spread):
    """(40 000,) eV every fs of 192 oscillators of hydrogen's mass at 300 K, periods 10 to 60 fs, with noisy forces."""
    rng = np.random.default_rng(8)
    n, dt, mass = 192, 1.0, 1.008 * DALTON
    stiffness = mass * (2 * np.pi / rng.uniform(10.0, 60.0, n)) ** 2
    x = rng.normal(size=n) * np.sqrt(KB * 300.0 / stiffness)
    v = rng.normal(size=n) * np.sqrt(KB * 300.0 / mass)
    energy = np.empty(40_000)
    force = -stiffness * x
    for k in range(len(energy)):
        v += 0.5 * dt * force / mass
        x += dt * v
        force = -stiffness * x + rng.normal(size=n) * spread
        v += 0.5 * dt * force / mass
        energy[k] = 0.5 * (mass * v * v).sum() + 0.5 * (stiffness * x * x).sum()
    return energy


def test_dissipation_of_oscillators_driven_by_noise():
    """A random force of standard deviation s at every step of velocity Verlet heats by s² dt / 2m per coordinate."""
    spread = 0.01
    expected = spread**2 / (2.0 * 1.008 * DALTON) * 192 * 1e6 / 64
    times = np.arange(40_000) * 1.0
    estimate = dissipation(energy_of_oscillators(spread), times, 64, 300.0)
    assert estimate.error < 0.4 * expected
    assert estimate.value == pytest.approx(expected, abs=2.5 * float(estimate.error))
    # without noise the energy swings by the error of the time step, which is borrowed
    assert dissipation(energy_of_oscillators(0.0), times, 64, 300.0).value < 0.01 * expected


def test_dissipation_needs_enough_periods_and_close_rows():
    with pytest.raises(UserError, match=r"too short .* needs 16.2 ps, got 10 ps"):
        dissipation(np.zeros(2000), np.arange(2000) * 5.0, 1, 300.0)
    with pytest.raises(UserError, match="2000 fs apart, too far"):
        dissipation(np.zeros(2000), np.arange(2000) * 2000.0, 1, 300.0)
