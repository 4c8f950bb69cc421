"""metatrain's PET against metatrain itself, with random weights of many options; needs metatrain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from random_structures import random_structure
from scipy.spatial.transform import Rotation

from ipi_driver.networks.metatrain_pet.checkpoint import import_checkpoint
from ipi_driver.potentials.network import PetPotential
from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.rotations.quadrature import quadrature
from ipi_driver.structure import Structure

pytest.importorskip("metatrain")
import metatrain_models as mtt

ADAPTIVE = {"num_neighbors_adaptive": 3, "cutoff": 5.0}
ORIGINAL = {
    "featurizer_type": "residual",
    "transformer_type": "PostLN",
    "normalization": "LayerNorm",
    "activation": "SiLU",
    "cutoff_function": "Cosine",
    "cutoff_width": 0.3,
    "d_node": 16,
}
MODELS = {
    "default": {},
    "adaptive": ADAPTIVE,
    "adaptive-narrow": {**ADAPTIVE, "num_neighbors_adaptive": 8, "cutoff_width_adaptive": 0.4},
    "grid": {**ADAPTIVE, "adaptive_cutoff_method": "grid"},
    "grid-cosine": {**ADAPTIVE, "adaptive_cutoff_method": "grid", "cutoff_function": "Cosine"},
    "original": ORIGINAL,
    "original-adaptive": {**ORIGINAL, **ADAPTIVE},
    "residual": {"featurizer_type": "residual", "num_gnn_layers": 3},
    "narrow-center": {"d_node": 16, "num_attention_layers": 1},
    "post": {"transformer_type": "PostLN", "attention_temperature": 2.5},
    "zbl": {"zbl": True, **ADAPTIVE},
    "layer-norm": {"normalization": "LayerNorm", "activation": "SiLU", "num_heads": 2},
    "one-layer": {"num_gnn_layers": 1, "d_pet": 32, "num_heads": 8, "d_node": 8},
}
STRUCTURES = {
    "triclinic": random_structure(),
    "isolated": random_structure(n=7, pbc=False),
    "small-cell": random_structure(n=3, box=2.6),
    "atom": Structure([8], [[0.0, 0.0, 0.0]]),
    "far-atoms": Structure([8, 1, 1], [[0.0, 0.0, 0.0], [0.0, 0.9, 0.0], [0.0, 0.0, 40.0]]),
}


def imported(
    model: object, tmp_path: Path, dtype: str = "float64", target: str | None = None
) -> PetPotential:
    found = import_checkpoint(mtt.save_checkpoint(model, tmp_path / "model.ckpt"), target)
    return PetPotential(found.network, found.baseline, dtype=dtype)


def assert_equal(result: object, expected: tuple, relative: float) -> None:
    energy, forces, virial = expected
    # the terms of the energy are of the order of 1 eV, their sum may be smaller
    assert result.energy == pytest.approx(energy, rel=relative, abs=relative)
    scale = max(np.abs(forces).max(), 1.0)
    np.testing.assert_allclose(result.forces, forces, atol=relative * scale)
    np.testing.assert_allclose(result.virial, virial, atol=relative * max(np.abs(virial).max(), 1.0))


@pytest.mark.parametrize("name", MODELS)
def test_equals_metatrain(name: str, tmp_path: Path) -> None:
    model = mtt.random_model(MODELS[name])
    potentials = {dtype: imported(model, tmp_path, dtype) for dtype in ("float64", "float32")}
    # metatrain rounds the screening length of its ZBL to single precision, whatever the model's
    tolerance = 1e-7 if name == "zbl" else 1e-10
    for structure in STRUCTURES.values():
        assert_equal(potentials["float64"].predict(structure), mtt.reference(model, structure), tolerance)
    model.float()
    for structure in STRUCTURES.values():
        assert_equal(potentials["float32"].predict(structure), mtt.reference(model, structure), 1e-5)


@pytest.mark.parametrize("name", ["default", "adaptive", "grid-cosine"])
def test_averaged_equals_metatrain_of_rotated_structures(name: str, tmp_path: Path) -> None:
    model = mtt.random_model(MODELS[name])
    potential = imported(model, tmp_path)
    grid = quadrature("Th")
    for structure in (STRUCTURES["triclinic"], STRUCTURES["isolated"]):
        results = [mtt.reference(model, structure.rotated(r)) for r in grid.rotations]
        assert np.ptp([r[0] for r in results]) > 1e-4  # not invariant, or this would test nothing
        average = RotationalAverage(potential, grid).predict(structure)
        expected = (
            sum(w * r[0] for w, r in zip(grid.weights, results, strict=True)),
            sum(w * r[1] @ q for w, r, q in zip(grid.weights, results, grid.rotations, strict=True)),
            sum(w * q.T @ r[2] @ q for w, r, q in zip(grid.weights, results, grid.rotations, strict=True)),
        )
        assert_equal(average, expected, 1e-10)


def test_many_elements_and_variants(tmp_path: Path) -> None:
    """Each variant has its heads, its scale and its atomic energies."""
    species = (1, 6, 7, 8, 16, 55)
    names = ("energy", "energy/r2scan", "energy/pbesol")
    model = mtt.random_model(targets=names, species=species, forces=True, seed=3)
    rng = np.random.default_rng(2)
    structure = Structure(rng.choice(species, 8), rng.uniform(0, 5, (8, 3)), 5.0 * np.eye(3), True)
    energies = []
    for name in names:
        potential = imported(model, tmp_path, target=name)
        expected = mtt.reference(model, structure, name)
        assert_equal(potential.predict(structure), expected, 1e-10)
        energies.append(expected[0])
    assert len({round(e, 3) for e in energies}) == 3
    assert import_checkpoint(tmp_path / "model.ckpt", "r2scan").target == "energy/r2scan"


def test_edges_enter_and_leave_smoothly(tmp_path: Path) -> None:
    """Along a path on which the set of edges changes, metatrain's energies and the derivative are followed."""
    model = mtt.random_model(MODELS["adaptive"])
    potential = imported(model, tmp_path)
    base = STRUCTURES["triclinic"]
    direction = np.random.default_rng(4).normal(size=base.positions.shape)
    n_edges = set()
    for step in np.linspace(0.0, 0.4, 9):
        moved = Structure(base.numbers, base.positions + step * direction, base.cell, base.pbc)
        result = potential.predict(moved)
        assert_equal(result, mtt.reference(model, moved), 1e-10)
        energies = []
        for sign in (1, -1):
            positions = moved.positions + sign * 1e-5 * direction
            energies.append(potential.predict(Structure(base.numbers, positions, base.cell, base.pbc)).energy)
        slope = (energies[0] - energies[1]) / 2e-5
        assert -(result.forces * direction).sum() == pytest.approx(slope, abs=1e-5)
        n_edges.add(potential.edges_hint(moved))
    assert len(n_edges) > 3


def test_rotated_structures(tmp_path: Path) -> None:
    potential = imported(mtt.random_model(MODELS["adaptive"]), tmp_path)
    structure = STRUCTURES["small-cell"]
    rotations = Rotation.random(5, rng=np.random.default_rng(1)).as_matrix()
    rotations[1] *= -1.0
    many = potential.evaluate([structure], rotations)
    for k, r in enumerate(rotations):
        one = potential.predict(structure.rotated(r))
        assert many.energies[0, k] == pytest.approx(one.energy, abs=1e-10)
        np.testing.assert_allclose(many.forces[0][k], one.forces @ r, atol=1e-10)
        np.testing.assert_allclose(many.virials[0, k], r.T @ one.virial @ r, atol=1e-10)
