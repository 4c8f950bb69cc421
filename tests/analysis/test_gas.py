"""Angular motion of rigid bodies with known solutions, spectra of known signals."""

import numpy as np
import pytest
from ase.build import molecule
from scipy import signal
from scipy.spatial.transform import Rotation

from ipi_driver.analysis.orientation import add_alignment
from ipi_driver.analysis.result import Analysis
from ipi_driver.errors import UserError
from ipi_driver.observables.angular import (
    angular_momentum,
    dominant_frequency,
    precession_rate,
    precession_vector,
    rms_torque,
    torque,
    torque_of_rounding,
    turning_angle,
)
from ipi_driver.observables.orientation import alignment, inverse_langevin, langevin
from ipi_driver.observables.spectra import power_spectrum
from ipi_driver.units import DALTON, SPEED_OF_LIGHT

WATER = molecule("H2O")
MASSES = WATER.get_masses()


def free_symmetric_rotor(n: int, spacing: float):
    """A torque-free rigid body (an ammonia-like top) by Euler's solution: L is constant in space."""
    top = molecule("NH3")
    masses = top.get_masses()
    body = top.positions - top.get_center_of_mass()
    inertia, axes = np.linalg.eigh(
        sum(m * ((r @ r) * np.eye(3) - np.outer(r, r)) for m, r in zip(masses, body, strict=True))
    )
    unique = int(np.argmax(np.abs(inertia - np.median(inertia))))
    first, second = [k for k in range(3) if k != unique]
    # axis 3 is the symmetry axis
    axes = np.stack([axes[:, first], axes[:, second], axes[:, unique]], axis=1)
    if np.linalg.det(axes) < 0:
        axes[:, 0] *= -1
    body = body @ axes
    i1, i3 = inertia[first], inertia[unique]
    w1, w3 = 0.02, 0.03
    times = np.arange(n) * spacing
    total = np.hypot(i1 * w1, i3 * w3)
    tilt = np.arctan2(i1 * w1, i3 * w3)
    # Euler angles: precession L/I1 about z, constant tilt, spin w3 (1 - I3/I1) about the body axis
    angles = np.stack([total / i1 * times, np.full(n, tilt), w3 * (1 - i3 / i1) * times], axis=1)
    snapshots = Rotation.from_euler("ZXZ", angles).as_matrix()
    positions = np.einsum("txy,ky->tkx", snapshots, body)
    h = 1e-3
    rates = np.array([total / i1, 0, w3 * (1 - i3 / i1)])
    ahead = Rotation.from_euler("ZXZ", angles + h * rates).as_matrix()
    behind = Rotation.from_euler("ZXZ", angles - h * rates).as_matrix()
    velocities = np.einsum("txy,ky->tkx", (ahead - behind) / (2 * h), body)
    return masses, positions, velocities, DALTON * total


def test_free_rotor_keeps_its_angular_momentum():
    masses, positions, velocities, modulus = free_symmetric_rotor(400, 2.0)
    drifting = positions + np.array([3.0, -1.0, 7.0]) + np.arange(400)[:, None, None] * 0.01
    momenta = angular_momentum(masses, drifting, velocities + np.array([0.005, 0.005, 0.005]))
    np.testing.assert_allclose(momenta, [[0, 0, modulus]] * 400, atol=1e-6 * modulus)
    assert np.linalg.norm(precession_vector(momenta, 2.0)) < 1e-8
    assert turning_angle(momenta).max() < 1e-6


def test_angular_momentum_agrees_with_ase():
    rng = np.random.default_rng(0)
    atoms = WATER.copy()
    atoms.rattle(0.1, seed=1)
    atoms.set_velocities(rng.normal(size=(3, 3)) * 0.01)
    ours = angular_momentum(MASSES, atoms.positions, atoms.get_velocities())
    # ASE's momenta are in dalton Å per ASE time: its angular momentum differs by the factor of the mass unit
    np.testing.assert_allclose(ours, atoms.get_angular_momentum() * DALTON, rtol=1e-10)


def test_torque_is_the_rate_of_change_of_energy_under_rotation():
    """V = sum_i f_i . r_i turned about an axis n changes by -n . T per radian."""
    rng = np.random.default_rng(4)
    positions, forces = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    forces -= forces.mean(axis=0)
    result = torque(np.arange(1.0, 6.0), positions, forces)
    h = 1e-5
    for axis in np.eye(3):
        plus = (Rotation.from_rotvec(h * axis).apply(positions) * -forces).sum()
        minus = (Rotation.from_rotvec(-h * axis).apply(positions) * -forces).sum()
        assert (plus - minus) / (2 * h) == pytest.approx(-(result @ axis), rel=1e-6)
    central = positions - positions.mean(axis=0)
    np.testing.assert_allclose(torque(np.ones(5), positions, 2.7 * central), 0, atol=1e-13)


@pytest.mark.parametrize("spacing", [0.5, 40.0])
def test_precession_of_a_turning_vector(spacing):
    omega = np.array([0.003, -0.004, 0.012])
    times = np.arange(200) * spacing
    momenta = Rotation.from_rotvec(times[:, None] * omega).apply([0.2, 0.5, -0.1])
    np.testing.assert_allclose(precession_vector(momenta, spacing), omega, rtol=1e-9)
    estimate = precession_rate(momenta, spacing)
    np.testing.assert_allclose(estimate.value, omega, rtol=1e-9)
    assert estimate.error.max() < 1e-10


def test_precession_error_is_the_spread_under_random_torques():
    rng = np.random.default_rng(6)
    omega = np.array([0.0, 0.0, 0.004])
    pulls = []
    for _ in range(60):
        steps = Rotation.from_rotvec(omega + rng.normal(size=(1600, 3)) * 0.01).as_matrix()
        momenta = [np.array([1.0, 0.0, 0.5])]
        for step in steps:
            momenta.append(step @ momenta[-1])
        estimate = precession_rate(np.array(momenta), 1.0)
        pulls.append((estimate.value[2] - omega[2]) / estimate.error[2])
    assert np.sqrt(np.mean(np.square(pulls))) == pytest.approx(1.0, abs=0.35)
    with pytest.raises(UserError, match="needs 24 snapshots"):
        precession_rate(np.ones((10, 3)), 1.0)


@pytest.mark.parametrize("rounded", [(True, True), (True, False), (False, True), (False, False)])
def test_torque_of_printed_digits(rounded):
    """Forces without a torque, and positions, written and read as i-PI prints them, or in binary."""
    rng = np.random.default_rng(11)
    found = []
    expected = []
    for _ in range(400):
        positions = rng.uniform(2.0, 6.0, size=(3, 3))
        forces = np.zeros((3, 3))
        for i, j, strength in ((0, 1, 1.3), (1, 2, -0.4), (0, 2, 2.1)):
            along = strength * (positions[j] - positions[i])
            forces[i] += along
            forces[j] -= along
        assert np.linalg.norm(torque(MASSES, positions, forces)) < 1e-12
        printed = [
            np.array([[float(f"{x:12.5e}") for x in row] for row in a]) if text else a
            for a, text in zip((positions, forces), rounded, strict=True)
        ]
        found.append(np.linalg.norm(torque(MASSES, *printed)) ** 2)
        expected.append(float(torque_of_rounding(MASSES, positions, forces, rounded)) ** 2)
    assert np.mean(expected) == pytest.approx(np.mean(found), rel=0.1, abs=1e-24)


def test_torque_of_a_maxwell_distribution():
    torques = np.random.default_rng(3).normal(size=(20_000, 3)) * 0.005
    estimate = rms_torque(torques, 1.0)
    assert estimate.value == pytest.approx(0.005 * np.sqrt(3), abs=4 * float(estimate.error))
    assert estimate.error < 5e-5


def test_spectrum_of_a_cosine_and_of_noise():
    spacing = 0.5
    wavenumber = 3650.0
    times = np.arange(60_000) * spacing
    series = 3.0 + 0.2 * np.cos(2 * np.pi * wavenumber * SPEED_OF_LIGHT * times)
    spectrum = power_spectrum(series, spacing)
    assert spectrum.wavenumbers[spectrum.density.argmax()] == pytest.approx(
        wavenumber, abs=spectrum.wavenumbers[1]
    )
    assert np.trapezoid(spectrum.density, spectrum.wavenumbers) == pytest.approx(0.2**2 / 2, rel=1e-3)
    noise = np.random.default_rng(0).normal(size=60_000)
    spectrum = power_spectrum(noise, spacing)
    flat = 2 * spacing * SPEED_OF_LIGHT
    inside = spectrum.density[2:-2]
    assert inside.mean() == pytest.approx(flat, rel=0.02)
    pulls = (inside - flat) / spectrum.error[2:-2]
    assert np.abs(pulls).mean() < 1.3


def test_spectrum_agrees_with_scipy():
    rng = np.random.default_rng(9)
    series = signal.lfilter([1.0], [1.0, -0.9], rng.normal(size=8000))
    spectrum = power_spectrum(series, 2.0, n_windows=15)
    frequencies, density = signal.welch(series, fs=0.5, nperseg=1000)
    np.testing.assert_allclose(spectrum.wavenumbers * SPEED_OF_LIGHT, frequencies)
    np.testing.assert_allclose(spectrum.density, density * SPEED_OF_LIGHT, rtol=1e-10)


@pytest.mark.parametrize("n", [400, 403, 411, 999])
def test_the_density_is_the_mean_of_periodograms(n: int) -> None:
    """Against the definition, for windows of even and odd length."""
    series = np.random.default_rng(n).normal(size=(n, 2)).cumsum(axis=0)
    found = power_spectrum(series, 0.5, n_windows=7)
    length = 2 * n // 8
    window = 0.5 * (1.0 - np.cos(2.0 * np.pi * np.arange(length) / length))
    rows = []
    for k in range(7):
        part = series[k * (length // 2) :][:length]
        power = np.abs(np.fft.rfft((part - part.mean(axis=0)) * window[:, None], axis=0)) ** 2
        row = power.sum(axis=1) * 0.5 / (window**2).sum()
        row[1 : (length + 1) // 2] *= 2.0
        rows.append(row)
    assert found.density / SPEED_OF_LIGHT == pytest.approx(np.mean(rows, axis=0), rel=1e-10)
    assert found.error / SPEED_OF_LIGHT == pytest.approx(np.std(rows, axis=0, ddof=1) / np.sqrt(7), rel=1e-10)
    assert found.wavenumbers == pytest.approx(np.fft.rfftfreq(length, 0.5) / SPEED_OF_LIGHT, rel=1e-12)


def test_spectrum_of_too_few_samples():
    with pytest.raises(UserError, match="needs at least 64 samples"):
        power_spectrum(np.zeros(40), 1.0)


def test_dominant_frequency_of_a_wobbling_precession():
    times = np.arange(4000) * 2.0
    turning = Rotation.from_rotvec(times[:, None] * [0.0, 0.0, 0.005]).apply([2.0, 0.0, 3.5])
    wobble = 1.2 * np.cos(0.04 * times)[:, None] * [1.0, 0.0, 0.0]
    frequency, resolution = dominant_frequency(turning + wobble, 2.0)
    assert resolution == pytest.approx(np.pi / 8000)
    assert frequency == pytest.approx(0.005, abs=resolution)


def test_a_tremor_about_a_fixed_direction_is_no_precession():
    """L trembles by 1e-4 of itself at 5 rad/ps, as with averaged forces: it does not turn."""
    times = np.arange(2001) * 5.0
    tremor = 1e-4 * np.column_stack([np.cos(0.005 * times), np.sin(0.005 * times), np.zeros_like(times)])
    assert np.linalg.norm(precession_vector(tremor + [0.0, 0.0, 1.0], 5.0)) < 1e-8
    # a tilt that can be seen is precession
    tilted = np.sin(0.1) / 1e-4 * tremor + [0.0, 0.0, np.cos(0.1)]
    np.testing.assert_allclose(precession_vector(tilted, 5.0), [0.0, 0.0, 0.005], atol=1e-6)


def test_orientations_in_a_field_have_the_langevin_mean():
    """A molecule whose density of orientations is exp(a cos theta), drawn anew for each snapshot."""
    a, axis, n = 2.0, np.array([1.0, -2.0, 2.0]) / 3.0, 4000
    rng = np.random.default_rng(3)
    cosines = np.log(np.exp(-a) + rng.uniform(size=n) * (np.exp(a) - np.exp(-a))) / a
    helper = np.linalg.qr(np.column_stack([axis, rng.normal(size=(3, 2))]))[0][:, 1:]
    around = rng.uniform(0.0, 2.0 * np.pi, size=n)
    across = np.cos(around)[:, None] * helper[:, 0] + np.sin(around)[:, None] * helper[:, 1]
    u = cosines[:, None] * axis + np.sqrt(1.0 - cosines**2)[:, None] * across
    found = alignment(u[:, None] @ axis, 1.0)
    assert found.mean_cosine.value == pytest.approx(langevin(a), abs=4.0 * found.mean_cosine.error)
    assert found.mean_cosine.error < 0.02
    assert inverse_langevin(float(found.mean_cosine.value)) == pytest.approx(a, abs=0.15)
    slope, offset = np.polyfit(found.cos_theta, found.free_energy, 1, w=1.0 / found.error)
    assert slope == pytest.approx(-a, abs=0.12)
    assert offset == pytest.approx(np.log(np.sinh(a) / a), abs=0.1)
    analysis = Analysis("run", "gas", "", "1 H2O", {})
    add_alignment(analysis, u[:, None], 5.0 * axis, 1.0, 0.0)
    assert analysis.scalars["alignment"].value == pytest.approx(
        a, abs=5.0 * analysis.scalars["alignment"].error
    )
    assert np.abs(langevin([1e-4, 1e-2]) - [1e-4 / 3, 1e-2 / 3]).max() < 1e-7
