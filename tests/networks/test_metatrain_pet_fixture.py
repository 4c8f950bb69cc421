"""metatrain's PET against numbers that metatrain gave (see `metatrain_fixture/make.py`), and its physics."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.data import covalent_radii
from random_structures import random_structure

from ipi_driver.neighbors import NeighborList
from ipi_driver.networks.baseline import Baseline
from ipi_driver.networks.graph import build_graph
from ipi_driver.networks.metatrain_pet.cutoffs import averaged_cutoffs, bump, solved_cutoffs
from ipi_driver.networks.storage import load_model, save_model
from ipi_driver.potentials import load_potential
from ipi_driver.rotations.quadrature import quadrature
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
    """About the wanted number of neighbors; an atom alone has the largest cutoff of the solver."""
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


def test_repulsion_within_covalent_radii() -> None:
    """The screened repulsion at short distance, zero with two derivatives at the sum of the radii, forces as slopes."""
    baseline = Baseline((1, 8), np.zeros(2), 4.0, covalent_repulsion=True)
    end, h = covalent_radii[1] + covalent_radii[8], 1e-4

    def at(distance: float) -> tuple[float, np.ndarray]:
        dimer = Structure([8, 1], [[0.0, 0.0, 0.0], [0.0, 0.0, distance]])
        found = baseline.evaluate(dimer.numbers, NeighborList(4.0, skin=0.0).edges(dimer))
        return found[0], found[1]

    # 8 e^2 / (4 pi eps_0 r) screened by 0.971 at 0.01 Å
    assert at(0.01)[0] == pytest.approx(14.3996454784 * 8 / 0.01, rel=0.1)
    assert at(end + 0.01)[0] == 0.0
    assert at(end - 1e-3)[0] == pytest.approx(0.0, abs=1e-6)
    assert at(end - 1e-3)[1][1, 2] == pytest.approx(0.0, abs=1e-3)
    slope = (at(0.6 + h)[0] - at(0.6 - h)[0]) / (2 * h)
    assert slope < -1.0
    assert at(0.6)[1][1, 2] == pytest.approx(-slope, rel=1e-5)


def test_repulsion_is_part_of_the_model(tmp_path: Path) -> None:
    """Also through the model folder, and beside a network that uses some of the edges alone."""
    network, plain = load_model(FOLDER / "feedforward")
    repulsive = replace(plain, covalent_repulsion=True)
    save_model(tmp_path, network, repulsive, double=True)
    structure = Structure([8, 1, 8, 1], [[0.0, 0.0, 0.0], [0.7, 0.0, 0.0], [0.0, 1.1, 0.3], [3.0, 0.0, 0.0]])
    edges = NeighborList(5.0, skin=0.0).edges(structure)
    extra = repulsive.evaluate(structure.numbers, edges)[0] - plain.evaluate(structure.numbers, edges)[0]
    assert extra > 0.1
    with_it = load_potential(tmp_path, dtype="float64").predict(structure)
    without = load_potential(FOLDER / "feedforward", dtype="float64").predict(structure)
    assert with_it.energy - without.energy == pytest.approx(extra, rel=1e-10)


@pytest.mark.parametrize("name", ["feedforward", "residual"])
def test_many_structures_and_rotations(name: str) -> None:
    """Structures together under rotations equal rotated structures one by one; edges are selected once for all."""
    structures = list(STRUCTURES.values())
    rotations = quadrature("T").rotations
    potential = load_potential(FOLDER / name, dtype="float64")
    together = potential.evaluate(structures, rotations)
    for k, structure in enumerate(structures):
        for n in (0, 5, 11):
            r = rotations[n]
            one = load_potential(FOLDER / name, dtype="float64").predict(structure.rotated(r))
            assert together.energies[k, n] == pytest.approx(one.energy, abs=1e-10)
            np.testing.assert_allclose(together.forces[k][n], one.forces @ r, atol=1e-10)
            np.testing.assert_allclose(together.virials[k, n], r.T @ one.virial @ r, atol=1e-10)


def test_zero_output() -> None:
    network, _ = load_model(FOLDER / "feedforward")
    network.zero_output()
    structure = random_structure()
    edges = NeighborList(5.0, skin=0.0).edges(structure)
    graph = build_graph([np.where(structure.numbers == 8, 1, 0)], [edges])
    atomic, bonds = network(torch.from_numpy(edges.vectors), graph)
    assert not atomic.any()
    assert not bonds.any()
