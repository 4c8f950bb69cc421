import numpy as np
import pytest

from ipi_driver.errors import UserError
from ipi_driver.observables.dissipation import dissipation, heating_spectrum
from ipi_driver.observables.thermodynamics import drift
from ipi_driver.units import DALTON, KB


def implied(*run):
    return dissipation(heating_spectrum(*run))


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
        estimate = implied(energy, times, 64, 300.0)
        assert estimate.n_blocks == 97
        found.append(float(estimate.value))
        pulls.append((estimate.value - expected) / estimate.error)
        direct.append(float(drift(energy, times, 64).error))
    assert np.mean(found) == pytest.approx(expected, rel=0.04)
    assert np.sqrt(np.mean(np.square(pulls))) == pytest.approx(1.05, abs=0.2)
    # what it is for: the drift itself is lost in the walk
    assert np.std(found) < 0.4 * np.mean(direct)


@pytest.mark.parametrize("offset", [0.0, 1e-3])
def test_dissipation_does_not_use_the_drift(offset):
    rng = np.random.default_rng(7)
    times = np.arange(6000) * 10.0
    walk = np.cumsum(rng.normal(size=6000) * 1e-3)
    plain = implied(walk, times, 1, 300.0)
    assert implied(walk + offset * times, times, 1, 300.0).value == pytest.approx(float(plain.value))


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
    estimate = implied(energy_of_oscillators(spread), times, 64, 300.0)
    assert estimate.error < 0.25 * expected
    assert estimate.value == pytest.approx(expected, abs=2.5 * float(estimate.error))
    # without noise the energy swings by the error of the time step, which is borrowed
    assert implied(energy_of_oscillators(0.0), times, 64, 300.0).value < 0.01 * expected


def test_energy_borrowed_at_the_last_row_is_not_work():
    """Without tapers the difference of the ends, 2 A, would count as work: (2 A)² / 2 kT over the length of the run."""
    spacing, amplitude, temperature = 5.0, 0.05, 300.0
    times = np.arange(4001) * spacing
    energy = amplitude * np.cos(2 * np.pi * times * 200.5 / times[-1])  # period 100 fs
    leak = (2.0 * amplitude) ** 2 / (2.0 * KB * temperature) / times[-1] * 1e6
    walk = np.cumsum(np.random.default_rng(11).normal(size=len(times)) * 1e-5)
    alone = implied(walk, times, 1, temperature)
    assert alone.value < 1e-3 * leak
    assert implied(energy + walk, times, 1, temperature).value < 0.02 * leak


def test_heating_spectrum_of_a_random_walk_is_flat():
    """Its level is variance per time over 2 kT, up to the rate of the samples."""
    rng = np.random.default_rng(12)
    times = np.arange(40_000) * 5.0
    expected = 1e-6 / 5.0 / (2.0 * KB * 300.0) * 1e6 / 64
    pulls = []
    for _ in range(20):
        spectrum = heating_spectrum(np.cumsum(rng.normal(size=len(times)) * 1e-3), times, 64, 300.0)
        frequencies, density, error = spectrum.bands()
        assert np.all(np.diff(frequencies) > 0.0)
        assert frequencies[-1] > 0.015
        # the error is in proportion to the density that was found
        pulls.append(((density - expected) * density / (error * expected))[frequencies > 2e-4])
    assert np.mean(pulls) == pytest.approx(0.0, abs=0.2)
    assert np.std(pulls) == pytest.approx(1.0, abs=0.15)


def test_borrowed_energy_rises_with_the_square_of_the_frequency():
    rng = np.random.default_rng(13)
    times = np.arange(80_000) * 5.0
    frequencies, density, error = heating_spectrum(rng.normal(size=80_000) * 1e-3, times, 1, 300.0).bands()
    low = (frequencies > 2e-4) & (frequencies < 2e-3)
    # white noise of variance s² at every row: s² spacing (2 pi f)² / 2 kT
    expected = 1e-6 * 5.0 * (2 * np.pi * frequencies) ** 2 / (2.0 * KB * 300.0) * 1e6
    assert np.abs((density - expected) / error)[low].max() < 4.0


@pytest.mark.parametrize(
    ("n", "spacing", "need"), [(1000, 5.0, "10.8 ps, got 5 ps"), (60, 500.0, "55 ps, got 29.5 ps")]
)
def test_dissipation_of_a_short_run_is_refused(n, spacing, need):
    with pytest.raises(UserError, match=rf"too short .* rows {spacing:g} fs apart need {need}"):
        implied(np.zeros(n), np.arange(n) * spacing, 1, 300.0)


def test_dissipation_of_few_rows_is_refused():
    with pytest.raises(UserError, match="needs 16 rows, got 3"):
        implied(np.zeros(3), np.arange(3) * 5.0, 1, 300.0)


def test_energy_that_does_not_change_has_no_dissipation():
    estimate = implied(np.full(8000, -400.0), np.arange(8000) * 5.0, 1, 300.0)
    assert (estimate.value, estimate.error) == (0.0, 0.0)
