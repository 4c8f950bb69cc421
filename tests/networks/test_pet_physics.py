"""Physics of PET in float64: derivatives, invariances, continuity; references are finite differences and identities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.geometry import get_angles
from random_structures import random_structure
from scipy.spatial.transform import Rotation

from ipi_driver.errors import UserError
from ipi_driver.neighbors import NeighborList
from ipi_driver.networks.baseline import Baseline
from ipi_driver.networks.graph import build_graph
from ipi_driver.networks.pet import PetConfig, PetNetwork
from ipi_driver.networks.pet import rows as rows_module
from ipi_driver.networks.pet.features import EdgeFeatures
from ipi_driver.potentials import load_potential
from ipi_driver.potentials.network import PetPotential
from ipi_driver.structure import Structure

CONFIGS = {
    "published": {},
    "pre-norm-radial": {"norm": "pre", "radial_basis": 6, "compress": "linear"},
    "blend-mish-no-bonds": {
        "blend_neighbor_species": True,
        "embedding_activation": True,
        "activation": "mish",
        "bond_energies": False,
    },
    "angles": {"norm": "pre", "radial_basis": 6, "angular_basis": 3, "angular_order": 3},
    "invariant": {"norm": "pre", "radial_basis": 6, "angular_basis": 3, "cartesian": False},
}


def make_potential(kind: str = "published", **changes: object) -> PetPotential:
    torch.manual_seed(7)
    options = {
        "species": (1, 8),
        "cutoff": 3.0,
        "cutoff_width": 0.6,
        "d_model": 12,
        "n_heads": 2,
        "d_feedforward": 16,
        "n_gnn_layers": 2,
        "n_attention_layers": 2,
        "d_head": 8,
    }
    network = PetNetwork(PetConfig(**(options | CONFIGS[kind] | changes)))
    coefficients = np.random.default_rng(3).normal(scale=0.2, size=(3, 10))
    baseline = Baseline((1, 8), np.array([-13.0, -430.0]), network.config.cutoff, coefficients)
    return PetPotential(network, baseline, dtype="float64")


def moved(structure: Structure, positions: np.ndarray, cell: np.ndarray | None = None) -> Structure:
    return Structure(structure.numbers, positions, structure.cell if cell is None else cell, structure.pbc)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("pbc", [True, False])
def test_forces_match_finite_differences(kind: str, pbc: bool) -> None:
    potential = make_potential(kind)
    structure = random_structure(pbc=pbc)
    forces = potential.predict(structure).forces
    h = 1e-4
    for atom, axis in [(0, 0), (3, 1), (8, 2)]:
        step = np.zeros_like(structure.positions)
        step[atom, axis] = h
        plus = potential.predict(moved(structure, structure.positions + step)).energy
        minus = potential.predict(moved(structure, structure.positions - step)).energy
        assert forces[atom, axis] == pytest.approx(-(plus - minus) / (2 * h), abs=1e-5)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("box", [5.0, 2.6])
def test_virial_matches_strained_cells(kind: str, box: float) -> None:
    """Triclinic; the smaller cell is shorter than the cutoff, so that atoms see several images of each other."""
    potential = make_potential(kind)
    structure = random_structure(n=9 if box > 4 else 3, box=box)
    virial = potential.predict(structure).virial
    h = 1e-5
    numerical = np.zeros((3, 3))
    for a in range(3):
        for b in range(3):
            energies = []
            for sign in (1, -1):
                strain = np.eye(3)
                strain[a, b] += sign * h
                strained = moved(structure, structure.positions @ strain.T, structure.cell @ strain.T)
                energies.append(potential.predict(strained).energy)
            numerical[a, b] = -(energies[0] - energies[1]) / (2 * h)
    np.testing.assert_allclose(virial, numerical, atol=2e-5)


def test_atoms_that_leave_each_other_and_come_back() -> None:
    """Beyond cutoff and skin the list is empty, whatever it was before."""
    potential = make_potential()
    for distance in (0.9, 6.0, 1.1, 3.3, 7.0):
        dimer = Structure(np.array([8, 1]), np.array([[0.0, 0.0, 0.0], [distance, 0.0, 0.0]]))
        expected = make_potential().predict(dimer)
        found = potential.predict(dimer)
        assert found.energy == pytest.approx(expected.energy, abs=1e-10)
        np.testing.assert_allclose(found.forces, expected.forces, atol=1e-10)


def test_a_structure_does_not_change_with_the_array_it_was_made_from() -> None:
    potential, positions = make_potential(), np.array([[0.0, 0.0, 0.0], [0.9, 0.0, 0.0]])
    before = potential.predict(Structure(np.array([8, 1]), positions)).energy
    positions[1, 0] += 0.2
    after = potential.predict(Structure(np.array([8, 1]), positions)).energy
    assert after == pytest.approx(make_potential().predict(Structure(np.array([8, 1]), positions)).energy)
    assert after != pytest.approx(before)


def test_a_periodic_structure_needs_a_cell() -> None:
    with pytest.raises(UserError, match="needs as many independent cell vectors"):
        make_potential().predict(Structure(np.array([8]), np.zeros((1, 3)), pbc=np.ones(3, dtype=bool)))


def test_a_trained_model_takes_no_options() -> None:
    with pytest.raises(UserError, match="unknown option 'dtype', it takes none; --dtype"):
        load_potential("pet-water-s?dtype=float64")


@pytest.mark.parametrize("few_tokens", [0, 1000], ids=["gather", "scatter"])
def test_network_gradcheck(few_tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """First and second derivatives by the edge vectors, through both kinds of gather with padded rows."""
    monkeypatch.setattr(rows_module, "_FEW_TOKENS", few_tokens)
    potential = make_potential("pre-norm-radial", d_model=4, d_feedforward=4, d_head=4, n_attention_layers=1)
    structure = random_structure(n=5, box=4.0)
    edges = NeighborList(2.2, skin=0.0).edges(structure)
    counts = np.bincount(edges.centers, minlength=5)
    assert counts.min() < counts.max()  # else no row is padded
    graph = build_graph([np.where(structure.numbers == 8, 1, 0)], [edges])
    vectors = torch.from_numpy(edges.vectors).requires_grad_(True)

    def energy(x: torch.Tensor) -> torch.Tensor:
        atomic, bonds = potential.network(x, graph)
        return atomic.sum() + bonds.sum()

    assert torch.autograd.gradcheck(energy, vectors, fast_mode=True)
    assert torch.autograd.gradgradcheck(energy, vectors, fast_mode=True)


@pytest.mark.parametrize("kind", CONFIGS)
def test_invariances(kind: str) -> None:
    potential = make_potential(kind)
    structure = random_structure()
    reference = potential.predict(structure)
    rng = np.random.default_rng(5)
    order = rng.permutation(structure.n_atoms)
    permuted = Structure(structure.numbers[order], structure.positions[order], structure.cell, structure.pbc)
    shifts = rng.integers(-2, 3, (structure.n_atoms, 3))
    fractional = np.linalg.solve(structure.cell.T, structure.positions.T).T
    others = {
        "translated": (moved(structure, structure.positions + [0.3, -7.0, 2.2]), reference.forces),
        "permuted": (permuted, reference.forces[order]),
        "lattice shifts": (moved(structure, structure.positions + shifts @ structure.cell), reference.forces),
        "wrapped": (moved(structure, (fractional % 1.0) @ structure.cell), reference.forces),
    }
    for name, (other, forces) in others.items():
        result = potential.predict(other)
        assert result.energy == pytest.approx(reference.energy, abs=1e-8), name
        np.testing.assert_allclose(result.forces, forces, atol=1e-8, err_msg=name)
        np.testing.assert_allclose(result.virial, reference.virial, atol=1e-7, err_msg=name)


def test_supercell_holds_twice_the_energy() -> None:
    """A cell shorter than the cutoff against its repetition, which sees the same images as atoms."""
    potential = make_potential()
    small = random_structure(n=3, box=2.6)
    double = Structure(
        np.tile(small.numbers, 2),
        np.concatenate([small.positions, small.positions + small.cell[0]]),
        small.cell * [[2.0], [1.0], [1.0]],
        small.pbc,
    )
    one, two = potential.predict(small), potential.predict(double)
    assert two.energy == pytest.approx(2 * one.energy, rel=1e-12)
    np.testing.assert_allclose(two.forces, np.tile(one.forces, (2, 1)), atol=1e-9)


def test_slab_does_not_see_images_across_the_vacuum() -> None:
    potential = make_potential()
    structure = random_structure(n=6, triclinic=False)
    thin = structure.cell.copy()
    slab = Structure(structure.numbers, structure.positions, thin, [True, True, False])
    thick = thin.copy()
    thick[2, 2] = 40.0
    reference = Structure(structure.numbers, structure.positions, thick, True)
    assert potential.predict(slab).energy == pytest.approx(potential.predict(reference).energy, abs=1e-9)


def test_isolated_atoms() -> None:
    potential = make_potential()
    lone = Structure([8], [[0.0, 0.0, 0.0]])
    hydrogen = Structure([1], [[0.0, 0.0, 0.0]])
    result = potential.predict(lone)
    assert np.isfinite(result.energy)
    assert not result.forces.any()
    assert not result.virial.any()
    far = Structure([8, 1], [[0.0, 0.0, 0.0], [0.0, 0.0, 50.0]])
    total = result.energy + potential.predict(hydrogen).energy
    assert potential.predict(far).energy == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize("kind", CONFIGS)
def test_continuous_at_the_cutoff(kind: str) -> None:
    """Energy and forces do not jump where a neighbor enters."""
    potential = make_potential(kind)
    base = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])

    def at(distance: float) -> tuple[float, np.ndarray]:
        positions = np.vstack([base, [0.0, 0.0, distance]])
        result = potential.predict(Structure([8, 1, 1, 8], positions))
        return result.energy, result.forces

    # the hydrogen atoms are further away than the oxygen atom: only its crossing is seen here
    inside, outside = at(3.0 - 1e-6), at(3.0 + 1e-6)
    assert inside[0] == pytest.approx(outside[0], abs=1e-8)
    np.testing.assert_allclose(inside[1], outside[1], atol=2e-4)
    assert abs(at(2.5)[0] - outside[0]) > 1e-6  # the neighbor matters once it is inside


def test_frames_are_rotated_structures() -> None:
    """Results in many frames equal those of rotated structures, turned back."""
    potential = make_potential()
    structure = random_structure()
    rotations = Rotation.random(4, rng=np.random.default_rng(1)).as_matrix()
    rotations[1] *= -1.0
    frames = potential.evaluate([structure], rotations)
    for k, r in enumerate(rotations):
        one = potential.predict(structure.rotated(r))
        assert frames.energies[0, k] == pytest.approx(one.energy, abs=1e-9)
        np.testing.assert_allclose(frames.forces[0][k], one.forces @ r, atol=1e-9)
        np.testing.assert_allclose(frames.virials[0, k], r.T @ one.virial @ r, atol=1e-8)
    assert np.ptp(frames.energies[0]) > 1e-5  # the network is not invariant, or this would test nothing


def test_batch_equals_single() -> None:
    potential = make_potential()
    structures = [random_structure(), random_structure(n=4, seed=2, pbc=False), random_structure(seed=3)]
    batch = potential.evaluate(structures, np.eye(3)[None])
    for k, structure in enumerate(structures):
        single = make_potential().predict(structure)
        assert batch.energies[k, 0] == pytest.approx(single.energy, abs=1e-10)
        np.testing.assert_allclose(batch.forces[k][0], single.forces, atol=1e-10)


def test_one_graph_of_several_structures_equals_single() -> None:
    potential = make_potential()
    structures = [random_structure(n=7), random_structure(n=4, seed=2, pbc=False)]
    edges = [NeighborList(3.0, skin=0.0).edges(s) for s in structures]
    species = [np.where(s.numbers == 8, 1, 0) for s in structures]
    together, bonds = potential.network(
        torch.from_numpy(np.concatenate([e.vectors for e in edges])), build_graph(species, edges)
    )
    separate = [
        potential.network(torch.from_numpy(e.vectors), build_graph([s], [e]))
        for s, e in zip(species, edges, strict=True)
    ]
    torch.testing.assert_close(together, torch.cat([s[0] for s in separate]))
    torch.testing.assert_close(bonds, torch.cat([s[1] for s in separate]))


def test_neighbor_list_is_reused_with_the_same_result() -> None:
    structure = random_structure(n=30, box=7.0)
    reused = NeighborList(3.0, skin=0.8)
    rng = np.random.default_rng(0)
    positions = structure.positions.copy()
    for _ in range(12):
        positions = positions + rng.normal(scale=0.04, size=positions.shape)
        now = moved(structure, positions)
        a, b = reused.edges(now), NeighborList(3.0, skin=0.0).edges(now)
        # in the same order: a client that was started later rounds every sum as one that has seen the steps before
        np.testing.assert_array_equal(a.vectors, b.vectors)
        np.testing.assert_array_equal(a.neighbors, b.neighbors)
        np.testing.assert_array_equal(a.vectors[a.reverse], -a.vectors)
        np.testing.assert_array_equal(a.centers[a.reverse], a.neighbors)
    assert 1 <= reused.builds < 12


def test_unknown_element_is_one_clear_error() -> None:
    with pytest.raises(UserError, match="knows the elements H, O, but the structure holds C"):
        make_potential().predict(Structure([6, 8], [[0.0, 0.0, 0.0], [0.0, 0.0, 1.2]]))


def test_angles_are_sums_over_pairs_of_edges() -> None:
    """Against the sum over all pairs of edges of an atom, with the angle from ASE."""
    config = PetConfig(
        species=(1, 8), cutoff=3.0, cutoff_width=0.6, angular_basis=2, angular_order=3, cartesian=False
    )
    structure = random_structure(n=6, box=6.0, pbc=False)
    edges = NeighborList(3.0, skin=0.0).edges(structure)
    graph = build_graph([np.where(structure.numbers == 8, 1, 0)], [edges])
    lengths = np.linalg.norm(edges.vectors, axis=1)
    inside = np.clip((lengths - 2.4) / 0.6, 0.0, 1.0)
    weights = 0.5 + 0.5 * np.cos(np.pi * inside)
    arguments = [torch.from_numpy(a) for a in (edges.vectors, lengths, weights)]
    found = EdgeFeatures(config)(*arguments, graph).numpy()

    expected = np.zeros((len(lengths), 3, 2, 2))  # order, species, radial function
    for e, center in enumerate(edges.centers):
        for f in np.flatnonzero(edges.centers == center):
            angle = np.deg2rad(get_angles([edges.vectors[e]], [edges.vectors[f]])[0]) if e != f else 0.0
            radial = weights[f] * np.exp(-0.5 * ((lengths[f] - np.array([1.0, 3.0])) / 2.0) ** 2)
            species = int(structure.numbers[edges.neighbors[f]] == 8)
            for k in range(3):
                expected[e, k, species] += radial * np.cos(angle) ** (k + 1)
    assert found.shape == (len(lengths), config.n_edge_features)
    np.testing.assert_allclose(found[:, 1:], expected.reshape(len(lengths), -1), atol=1e-12)


def test_without_cartesian_features_the_energy_is_invariant() -> None:
    structure = random_structure()
    for kind, invariant in (("invariant", True), ("angles", False)):
        potential = make_potential(kind)
        reference = potential.predict(structure)
        for matrix in (*Rotation.random(2, rng=4).as_matrix(), -np.eye(3)):
            turned = potential.predict(structure.rotated(matrix))
            off = np.abs(turned.forces - reference.forces @ matrix.T).max()
            assert (off < 1e-10) == invariant
            assert (abs(turned.energy - reference.energy) < 1e-9) == invariant


def test_a_network_without_any_angles_is_refused() -> None:
    with pytest.raises(ValueError, match="`cartesian: false` needs `angular_basis`"):
        PetConfig(species=(1, 8), cartesian=False)
