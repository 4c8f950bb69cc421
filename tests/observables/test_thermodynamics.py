import numpy as np
import pytest

from ipi_driver.errors import UserError
from ipi_driver.observables.thermodynamics import KineticTemperature, drift
from ipi_driver.units import DALTON, KB


@pytest.mark.parametrize("n_molecules", [1, 20])
def test_kinetic_temperature_without_center_of_mass_motion(n_molecules):
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
