"""Quadratures against Wigner matrices (e3nn) and i-PI's own grids."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from e3nn import o3
from ipi.utils.mathtools import get_rotation_quadrature_lebedev, get_rotation_quadrature_legendre

from ipi_driver.errors import UserError
from ipi_driver.rotations import Quadrature, quadrature

COUNTS = {
    "none": 1, "i": 2, "2": 18, "2i": 36, "3": 75, "3i": 150, "4": 196, "D2": 4, "D2h": 8, "T": 12, "Th": 24,
    "O": 24, "Oh": 48, "I": 60, "Ih": 120, "lebedev-3": 18, "lebedev-5": 70, "lebedev-9": 342,
}  # fmt: skip
GROUPS = ["none", "i", "D2", "D2h", "T", "Th", "O", "Oh", "I", "Ih"]


def moments(grid: Quadrature, degree: int) -> tuple[float, float]:
    """Largest element of sum w D^l(R), and of the same weighted with det R (what is odd under inversion)."""
    rotations, weights = torch.tensor(grid.rotations.copy()), torch.tensor(grid.weights.copy())
    signs = torch.linalg.det(rotations)
    wigner = o3.wigner_D(degree, *o3.matrix_to_angles(rotations * signs[:, None, None]))
    even = torch.einsum("k,kij->ij", weights, wigner)
    odd = torch.einsum("k,kij->ij", weights * signs, wigner)
    return float(even.abs().max()), float(odd.abs().max())


@pytest.fixture(autouse=True)
def _double_precision() -> object:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("name", COUNTS)
def test_degree_is_what_wigner_matrices_say(name: str) -> None:
    grid = quadrature(name)
    for degree in range(1, grid.degree + 1):
        assert moments(grid, degree)[0] < 1e-7
    assert moments(grid, grid.degree + 1)[0] > 1e-3


@pytest.mark.parametrize("name", COUNTS)
def test_inversion_removes_everything_odd(name: str) -> None:
    grid = quadrature(name)
    assert grid.has_inversion == (name in ("i", "2i", "3i") or name.endswith("h"))
    odd = [abs(grid.weights @ np.linalg.det(grid.rotations))] + [
        moments(grid, degree)[1] for degree in range(1, 7)
    ]
    assert (max(odd) < 1e-12) == grid.has_inversion


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_counts_weights_orthogonality(name: str, count: int) -> None:
    grid = quadrature(name)
    assert len(grid) == count
    assert grid.rotations.shape == (count, 3, 3)
    assert grid.weights.sum() == pytest.approx(1.0, abs=1e-14)
    assert (grid.weights > 0).all()
    assert grid.rotations @ grid.rotations.transpose(0, 2, 1) == pytest.approx(
        np.tile(np.eye(3), (count, 1, 1))
    )


@pytest.mark.parametrize("name", GROUPS)
def test_groups_are_closed_with_the_identity_first(name: str) -> None:
    rotations = quadrature(name).rotations
    assert np.array_equal(rotations[0], np.eye(3))
    assert quadrature(name).identity == 0
    products = np.einsum("iab,jbc->ijac", rotations, rotations).reshape(-1, 9)
    members = rotations.reshape(-1, 9)
    for product in products:
        assert np.abs(members - product).max(axis=1).min() < 1e-12
    distances = np.abs(members[:, None] - members[None]).max(axis=2) + np.eye(len(members))
    assert distances.min() > 0.1  # all different


def assert_same_set(grid: Quadrature, rotations: np.ndarray, weights: np.ndarray) -> None:
    distances = np.abs(grid.rotations[:, None] - rotations[None]).max(axis=(2, 3))
    partner = distances.argmin(axis=1)
    assert sorted(partner) == list(range(len(grid)))
    assert distances.min(axis=1).max() < 1e-10
    assert grid.weights == pytest.approx(weights[partner] / weights.sum())


@pytest.mark.parametrize("order", [2, 3, 4])
def test_euler_angle_grids_are_those_of_ipi(order: int) -> None:
    rotations = get_rotation_quadrature_legendre(order)
    rotations, weights = np.array([f[0] for f in rotations]), np.array([f[1] for f in rotations])
    assert_same_set(quadrature(str(order)), rotations, weights)
    both = np.concatenate([rotations, -rotations])
    assert_same_set(quadrature(f"{order}i"), both, np.concatenate([weights, weights]))


@pytest.mark.filterwarnings("ignore:path is deprecated:DeprecationWarning")
@pytest.mark.parametrize("order", [3, 5, 7, 9])
def test_lebedev_grids_are_those_of_ipi(order: int) -> None:
    rotations = get_rotation_quadrature_lebedev(order)
    assert_same_set(
        quadrature(f"lebedev-{order}"),
        np.array([f[0] for f in rotations]),
        np.array([f[1] for f in rotations]),
    )


def test_icosahedral_rotations_contain_the_smaller_groups() -> None:
    everything = quadrature("Ih").rotations
    for name in ("none", "i", "D2", "D2h", "T", "Th", "I"):
        for rotation in quadrature(name).rotations:
            assert np.abs(everything - rotation).max(axis=(1, 2)).min() < 1e-12


def test_random_names() -> None:
    assert quadrature("random").random == "o3"
    assert quadrature("random-so3").random == "so3"
    assert quadrature("random-2i").random == "o3"
    assert len(quadrature("random-2i")) == 36
    assert quadrature("random-T").identity is None
    assert quadrature("T").random is None


def test_shared_arrays_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        quadrature("T").rotations[0] = 0.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("5x", "unknown average '5x'"),
        ("th", "did you mean Th"),
        ("", "Known: none, i, 2, 2i"),
        ("1", "must be 2 to 40, got 1"),
        ("lebedev-4", "no Lebedev rule of order 4"),
        ("random-random", "random-NAME"),
    ],
)
def test_errors_name_what_is_known(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        quadrature(name)
    assert "\n" not in str(caught.value)
