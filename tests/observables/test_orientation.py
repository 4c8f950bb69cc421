import numpy as np
import pytest

from ipi_driver.errors import UserError
from ipi_driver.observables.orientation import OrientationHistogram


def sphere(rng: np.random.Generator, n: int) -> np.ndarray:
    vectors = rng.normal(size=(n, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def biased(rng: np.random.Generator, n: int, a: float) -> np.ndarray:
    """Density (1 + a cos theta) / 4 pi by rejection."""
    kept = []
    while len(kept) < n:
        u = sphere(rng, 4 * n)
        kept.extend(u[rng.uniform(size=4 * n) * (1 + abs(a)) < 1 + a * u[:, 2]])
    return np.array(kept[:n])


def histogram(draw, n_snapshots: int = 600, n_molecules: int = 64):
    histogram = OrientationHistogram(n_cos=8, n_phi=12)
    for _ in range(n_snapshots):
        histogram.add(draw(n_molecules))
    return histogram.result(spacing=10.0)


def test_isotropic_density_is_flat_within_its_errors():
    rng = np.random.default_rng(0)
    result = histogram(lambda n: sphere(rng, n))
    assert np.isfinite(result.free_energy).all()
    assert result.significance == pytest.approx(1.0, abs=0.35)
    assert result.roughness == pytest.approx(result.noise, rel=0.2)
    expected = np.sqrt(96 / (600 * 64))
    assert np.sqrt((result.error**2).mean()) == pytest.approx(expected, rel=0.15)
    assert np.abs(result.dipole.value / result.dipole.error).max() < 4


def test_known_density_gives_its_free_energy():
    rng = np.random.default_rng(1)
    a = 0.3
    result = histogram(lambda n: biased(rng, n, a))
    edges = np.linspace(-1, 1, 9)
    # mean of 1 + a c over each cell of cos theta
    expected = -np.log(1 + a * 0.5 * (edges[1:] + edges[:-1]))
    pulls = (result.free_energy - expected[:, None]) / result.error
    assert np.sqrt((pulls**2).mean()) == pytest.approx(1.0, abs=0.3)
    assert result.significance > 5
    assert result.roughness > 2 * result.noise
    np.testing.assert_allclose(result.dipole.value[2], a / 3, atol=4 * result.dipole.error[2])


def test_cells_are_where_they_say():
    histogram = OrientationHistogram(n_cos=4, n_phi=8)
    direction = np.array([np.cos(2.0) * np.sqrt(1 - 0.36), np.sin(2.0) * np.sqrt(1 - 0.36), -0.6])
    for _ in range(40):
        histogram.add(direction[None])
    with pytest.raises(UserError, match="have visited 1 of the 32 cells"):
        histogram.result(1.0)
    half = OrientationHistogram(n_cos=4, n_phi=8)
    others = np.random.default_rng(2).normal(size=(40, 31, 3))
    others[:, :, 2] = np.abs(others[:, :, 2])  # the upper half of the sphere
    for rest in others:
        half.add(np.concatenate([direction[None], rest / np.linalg.norm(rest, axis=1, keepdims=True)]))
    result = half.result(1.0)
    i, j = np.argwhere(result.density.value[:2] > 0)[0]
    assert abs(result.cos_theta[i] - -0.6) <= 0.25
    assert abs(result.phi[j] - 2.0) <= np.pi / 8
    assert result.density.value[i, j] == pytest.approx(1.0)
    assert np.isnan(result.free_energy).sum() == 15
    for pole in ([0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [-1.0, -0.0, 0.0], [-1.0, 1e-17, 0.0]):
        histogram.add(np.array([pole]))  # the edges of the grid belong to a cell


def test_kernel_density_is_a_sum_of_gaussians():
    """Folded at cos theta = -1 and 1, periodic in phi, as published; by a sum over the vectors."""
    rng = np.random.default_rng(9)
    u = rng.normal(size=(60, 40, 3)) + np.array([0.3, 0.0, 0.5])
    u /= np.linalg.norm(u, axis=-1, keepdims=True)
    histogram = OrientationHistogram(bandwidth=0.1)
    for vectors in u:
        histogram.add(vectors)
    found = histogram.result(1.0)
    assert found.free_energy.shape == (12, 24)
    z, phi = u[..., 2].ravel(), np.arctan2(u[..., 1], u[..., 0]).ravel()

    def normal(x):
        return np.exp(-0.5 * (x / 0.1) ** 2) / (0.1 * np.sqrt(2 * np.pi))

    at_z, at_phi = found.cos_theta[:, None], found.phi[:, None]
    along = normal(at_z - z) + normal(at_z - 2.0 + z) + normal(at_z + 2.0 + z)
    around = sum(normal(at_phi - phi + shift) for shift in (-2 * np.pi, 0.0, 2 * np.pi))
    density = along @ around.T / z.size * 4.0 * np.pi
    np.testing.assert_allclose(found.density.value, density, atol=0.05 * density.max())
    assert np.abs(found.density.value - density).mean() < 0.02 * density.mean()
