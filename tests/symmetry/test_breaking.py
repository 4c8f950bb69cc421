"""Point groups of relaxed weights: fields and strains along any axis, and what their generators leave of a signal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from e3nn import o3
from scipy.spatial.transform import Rotation

from ipi_driver.symmetry.breaking import (
    deviations,
    largest_point_group,
    representation,
    signal,
    split_parities,
    symmetric_tensor,
    transformed,
)

Z_STRETCH = np.array(
    [0.0, 0.0, -1.0, 0.0, np.sqrt(3.0)]
)  # 2z² - x² - y² in e3nn's components, whose axis is y


@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"1o": [0, 0, 1.0]}, "C∞v"),  # an electric field
        ({"1e": [0, 0, 1.0]}, "C∞h"),  # a magnetic field
        ({"0o": [0.3]}, "SO(3)"),
        ({"2e": Z_STRETCH}, "D∞h"),
        ({"2e": Z_STRETCH + [0, 0, 0.3, 0, 0]}, "D2h"),
        ({"1o": [0, 0, 1.0], "1e": [0, 0, 0.5]}, "C∞"),
        ({"1o": [0, 0, 1.0], "1e": [1.0, 0, 0]}, "Cs"),
        ({"1o": [0, 0, 1.0], "2e": [0, 1.0, 0, 0, 0]}, "C2v"),
        ({"1o": [0.2, 0.5, 1.0], "1e": [1.0, 0.3, 0], "2e": [1.0, 0.5, 0.3, 0.2, 0.1]}, "C1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_groups(weights: dict[str, list[float]], expected: str, seed: int | None) -> None:
    arrays = {"0e": np.ones(1)} | {name: np.array(values, dtype=float) for name, values in weights.items()}
    if seed is not None:
        arrays = transformed(arrays, Rotation.random(rng=seed).as_matrix())
    found = largest_point_group(arrays)
    assert found.name == expected
    assert found.deviation < 1e-5 or expected == "C1"
    if expected in ("C∞v", "C∞h"):
        vector = arrays.get("1o", arrays.get("1e"))
        assert abs(np.dot(found.axis, vector)) == pytest.approx(np.linalg.norm(vector))


@pytest.mark.parametrize(
    ("expected", "generator", "names"),
    [
        ("S6", -Rotation.from_euler("z", 120, degrees=True).as_matrix(), ("1e", "2e", "3e")),
        ("C6", Rotation.from_euler("z", 60, degrees=True).as_matrix(), ("1o", "2e", "6e", "6o")),
    ],
)
def test_groups_of_an_axis_that_only_high_degrees_have(
    expected: str, generator: np.ndarray, names: tuple[str, ...]
) -> None:
    powers = np.array([np.linalg.matrix_power(generator, k) for k in range(6)])
    rng = np.random.default_rng(0)
    weights = {n: representation(n, powers).mean(axis=0) @ rng.normal(size=o3.Irrep(n).dim) for n in names}
    assert largest_point_group(weights).name == expected


def test_no_breaking() -> None:
    weights = {"0e": np.array([0.7]), "1o": np.full(3, 1e-9)}
    assert largest_point_group(weights).name == "O(3)"
    assert deviations({"0e": np.ones(1)}, -np.eye(3)[None]) == [0.0]


def test_signals_turn_with_the_weights() -> None:
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=o3.Irrep(name).dim) for name in ("0e", "0o", "1o", "1e", "2e", "2o")}
    natural, other = split_parities(weights)
    assert (sorted(natural), sorted(other)) == (["1o", "2e"], ["0o", "1e", "2o"])
    points = rng.normal(size=(7, 3))
    rotation = Rotation.random(rng=3).as_matrix()
    for improper, sign in ((1, 1), (-1, -1)):
        matrix = improper * rotation
        for part, parity in ((natural, 1), (other, sign)):
            before = signal(part, points)
            after = signal(transformed(part, matrix), points @ matrix.T)
            np.testing.assert_allclose(after, parity * before, atol=1e-6)


def test_the_tensor_of_a_signal() -> None:
    rng = np.random.default_rng(1)
    components, points = rng.normal(size=5), rng.normal(size=(6, 3))
    tensor = symmetric_tensor(components)
    assert np.trace(tensor) == pytest.approx(0.0, abs=1e-6)
    units = points / np.linalg.norm(points, axis=1)[:, None]
    expected = np.einsum("ni,ij,nj->n", units, tensor, units)
    np.testing.assert_allclose(signal({"2e": components}, points), expected, atol=1e-5)


@pytest.mark.parametrize("irrep", ["0e", "0o", "1e", "1o", "2e", "2o", "3e"])
def test_representations_are_those_of_e3nn(irrep: str) -> None:
    matrices = Rotation.random(4, rng=0).as_matrix() * np.array([1, -1, 1, -1])[:, None, None]
    expected = o3.Irrep(irrep).D_from_matrix(torch.from_numpy(matrices))
    np.testing.assert_allclose(representation(irrep, matrices), expected.numpy(), atol=1e-6)
