"""metatrain's PET against numbers that metatrain gave (see `metatrain_fixture/make.py`), and its physics."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from random_structures import random_structure

from ipi_driver.neighbors import NeighborList
from ipi_driver.networks.graph import build_graph
from ipi_driver.networks.metatrain_pet.cutoffs import averaged_cutoffs, bump, solved_cutoffs
from ipi_driver.networks.storage import load_model
from ipi_driver.potentials import load_potential
from ipi_driver.structure import Structure

FOLDER = Path(__file__).parent / "metatrain_fixture"
REFERENCE = json.loads((FOLDER / "reference.json").read_text())
STRUCTURES = {
    name: Structure(s["numbers"], np.array(s["positions"]), np.array(s["cell"]), s["pbc"])
    for name, s in REFERENCE["structures"].items()
}


@pytest.mark.parametrize("which", STRUCTURES)
@pytest.mark.parametrize("name", ["feedforward", "residual"])
def test_numbers_of_metatrain(name: str, which: str) -> None:
    expected = REFERENCE[name][which]
    for dtype, tolerance in (("float64", 1e-10), ("float32", 1e-5)):
        result = load_potential(FOLDER / name, dtype=dtype).predict(STRUCTURES[which])
        assert result.energy == pytest.approx(expected["energy"], rel=tolerance)
        np.testing.assert_allclose(result.forces, expected["forces"], atol=tolerance)
        np.testing.assert_allclose(result.virial, expected["virial"], atol=2 * tolerance)


@pytest.mark.parametrize("name", ["feedforward", "residual"])
def test_virial_matches_strained_cells(name: str) -> None:
    potential = load_potential(FOLDER / name, dtype="float64")
    structure, h = STRUCTURES["small cell"], 1e-5
    virial = potential.predict(structure).virial
    numerical = np.zeros((3, 3))
    for a in range(3):
        for b in range(3):
            energies = []
            for sign in (1, -1):
                strain = np.eye(3)
                strain[a, b] += sign * h
                strained = Structure(
                    structure.numbers, structure.positions @ strain.T, structure.cell @ strain.T, True
                )
                energies.append(potential.predict(strained).energy)
            numerical[a, b] = -(energies[0] - energies[1]) / (2 * h)
    np.testing.assert_allclose(virial, numerical, atol=1e-6)


def test_derivative_is_followed_where_edges_come_and_go() -> None:
    potential = load_potential(FOLDER / "feedforward", dtype="float64")
    base = random_structure()
    direction = np.random.default_rng(4).normal(size=base.positions.shape)

    def at(step: float) -> Structure:
        return Structure(base.numbers, base.positions + step * direction, base.cell, base.pbc)

    for step in np.linspace(0.0, 0.4, 5):
        slope = (potential.predict(at(step + 1e-5)).energy - potential.predict(at(step - 1e-5)).energy) / 2e-5
        assert -(potential.predict(at(step)).forces * direction).sum() == pytest.approx(slope, abs=1e-5)


@pytest.mark.parametrize("method", [solved_cutoffs, averaged_cutoffs])
def test_adaptive_cutoffs(method: object) -> None:
    """About the wanted number of neighbours; an atom alone has the largest cutoff of the solver."""
    structure = random_structure(n=40, box=8.0)
    edges = NeighborList(5.0, skin=0.0).edges(structure)
    lengths = torch.from_numpy(np.linalg.norm(edges.vectors, axis=1)).requires_grad_(True)
    centers = torch.from_numpy(edges.centers)
    cutoffs = method(lengths, centers, 40, 6.0, 5.0, 0.8)  # type: ignore[operator]
    counted = torch.zeros(40, dtype=torch.float64).index_add(0, centers, bump(lengths, cutoffs[centers], 0.8))
    baseline = 6.0 * (cutoffs / 5.0) ** 3
    if method is solved_cutoffs:
        torch.testing.assert_close(counted + baseline, torch.full_like(counted, 6.0), atol=1e-9, rtol=0)
        alone = solved_cutoffs(lengths[:0], centers[:0], 2, 6.0, 5.0, 0.8)
        torch.testing.assert_close(alone, torch.full_like(alone, 5.0))
    # the average over the grid is coarse
    assert ((counted + baseline).mean() - 6.0).abs() < 1.0

    def total(x: torch.Tensor) -> torch.Tensor:
        return (method(x, centers, 40, 6.0, 5.0, 0.8) ** 2).sum()  # type: ignore[operator]

    assert torch.autograd.gradcheck(total, lengths, fast_mode=True, atol=1e-4)


def test_selected_edges_are_the_graph_of_the_selected_edges() -> None:
    structure = random_structure(n=12)
    long, short = (NeighborList(cutoff, skin=0.0).edges(structure) for cutoff in (3.5, 2.4))
    species = np.where(structure.numbers == 8, 1, 0)
    kept = torch.from_numpy(np.flatnonzero(np.linalg.norm(long.vectors, axis=1) < 2.4))
    selected, built = build_graph([species], [long]).select(kept), build_graph([species], [short])
    for name in ("species", "neighbor_species", "centers", "reverse", "to_rows", "to_tokens", "empty_slots"):
        torch.testing.assert_close(getattr(selected, name), getattr(built, name))
    assert selected.row_length == built.row_length


def test_zero_output() -> None:
    network, _ = load_model(FOLDER / "feedforward")
    network.zero_output()
    structure = random_structure()
    edges = NeighborList(5.0, skin=0.0).edges(structure)
    graph = build_graph([np.where(structure.numbers == 8, 1, 0)], [edges])
    atomic, bonds = network(torch.from_numpy(edges.vectors), graph)
    assert not atomic.any()
    assert not bonds.any()
