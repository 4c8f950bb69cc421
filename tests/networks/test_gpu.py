"""The same numbers on a GPU as on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import molecule

from ipi_driver.potentials import load_potential
from ipi_driver.rotations import RotationalAverage
from ipi_driver.structure import Structure

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def structures() -> list[Structure]:
    water, rng = molecule("H2O"), np.random.default_rng(0)
    box = Structure(
        np.tile(water.numbers, 8),
        np.concatenate([water.positions + 3.1 * np.array([k & 1, k >> 1 & 1, k >> 2]) for k in range(8)]),
        np.eye(3) * 6.2,
        True,
    )
    beads = [Structure(water.numbers, water.positions + 0.05 * rng.normal(size=(3, 3))) for _ in range(3)]
    return [*beads, box]


@pytest.mark.parametrize("model", ["pet-water-s", "pet-water-s3", "pet-water-sym3"])
@pytest.mark.parametrize("average", ["none", "O"])
def test_gpu_and_cpu_agree_in_float64(average: str, model: str) -> None:
    cpu = RotationalAverage(load_potential(model, dtype="float64"), average)
    gpu = RotationalAverage(load_potential(model, device="cuda", dtype="float64"), average)
    for expected, found in zip(cpu.predict_all(structures()), gpu.predict_all(structures()), strict=True):
        assert found.energy == pytest.approx(expected.energy, abs=1e-9)
        np.testing.assert_allclose(found.forces, expected.forces, atol=1e-9)
        np.testing.assert_allclose(found.virial, expected.virial, atol=1e-8)


@pytest.mark.parametrize("model", ["pet-water-s", "pet-water-s3"])
def test_a_recorded_pass_on_the_gpu(model: str) -> None:
    """More steps than it takes to record the pass of a molecule."""
    cpu, gpu = load_potential(model), load_potential(model, device="cuda")
    water = molecule("H2O")
    for k in range(60):
        structure = Structure(water.numbers, water.positions * (1.0 + 1e-4 * k))
        np.testing.assert_allclose(gpu.predict(structure).forces, cpu.predict(structure).forces, atol=2e-4)


def test_tf32_rounds_the_products_of_its_potential_alone() -> None:
    box = structures()[-1]
    exact = RotationalAverage(load_potential("pet-water-s", device="cuda"), "O")
    expected = exact.predict(box)
    found = RotationalAverage(load_potential("pet-water-s", device="cuda", dtype="tf32"), "O").predict(box)
    assert 1e-5 < np.abs(found.forces - expected.forces).max() < 0.02
    np.testing.assert_array_equal(exact.predict(box).forces, expected.forces)
