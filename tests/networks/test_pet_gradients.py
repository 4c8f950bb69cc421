"""The hand-written passes of PET against autograd, in float64, for every setting and every way to cut into blocks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from ipi_driver.neighbors import NeighborList
from ipi_driver.networks.base import EdgeNetwork
from ipi_driver.networks.baseline import Baseline
from ipi_driver.networks.graph import Graph, build_graph
from ipi_driver.networks.pet import PetConfig, PetNetwork
from ipi_driver.networks.pet.gradients import PetGradients, supported
from ipi_driver.potentials.network import NetworkPotential
from ipi_driver.structure import Structure


def make_network(**options: object) -> PetNetwork:
    torch.manual_seed(3)
    small = {
        "species": (1, 8),
        "cutoff": 3.0,
        "cutoff_width": 0.6,
        "d_model": 12,
        "n_heads": 3,
        "d_feedforward": 10,
        "n_gnn_layers": 2,
        "d_head": 6,
    }
    network = PetNetwork(PetConfig(**(small | options))).double().eval().requires_grad_(False)
    with torch.no_grad():  # biases and norms that are zero and one at the start would hide mistakes
        for weights in network.parameters():
            weights += 0.1 * torch.randn_like(weights)
    return network


def make_batch(copies: int = 2) -> tuple[torch.Tensor, Graph]:
    """Two structures and a lone atom, so that the rows have different lengths; edges up to the cutoff."""
    rng = np.random.default_rng(1)
    structures = [
        Structure(np.array([8, 1, 1, 8, 1]), rng.normal(scale=1.3, size=(5, 3))),
        Structure(np.array([8]), np.zeros((1, 3))),
        Structure(np.array([1, 8, 1]), rng.normal(scale=0.9, size=(3, 3)), np.eye(3) * 4.1, True),
    ]
    edges = [NeighborList(3.0, skin=0.0).edges(structure) for structure in structures]
    graph = build_graph([np.where(s.numbers == 8, 1, 0) for s in structures], edges, copies=copies)
    vectors = np.concatenate([e.vectors for e in edges])
    return torch.from_numpy(np.concatenate([vectors, 0.97 * vectors])), graph


def check(network: PetNetwork, block_tokens: int | None = None, memory: int = 1 << 30) -> None:
    vectors, graph = make_batch()
    expected = EdgeNetwork.gradient_function(network)(vectors, graph)
    found = PetGradients(network, block_tokens, memory)(vectors, graph)
    for one, other in zip(found, expected, strict=True):
        assert float(other.abs().max()) > 1e-3
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("norm", "compress", "activation", "radial_basis"),
    list(itertools.product(("post", "pre"), ("mlp", "linear"), ("silu", "mish"), (0, 5))),
)
def test_matches_autograd(norm: str, compress: str, activation: str, radial_basis: int) -> None:
    check(make_network(norm=norm, compress=compress, activation=activation, radial_basis=radial_basis))


@pytest.mark.parametrize(
    "options",
    [
        {"embedding_activation": True},
        {"blend_neighbor_species": True},
        {"residual_factor": 0.3, "n_gnn_layers": 3},
        {"n_gnn_layers": 1},
        {"n_attention_layers": 3, "n_heads": 1, "radial_basis": 1},
        {"angular_basis": 3, "angular_order": 4},
        {"angular_basis": 1, "radial_basis": 5},
        {"angular_basis": 3, "radial_basis": 5, "cartesian": False},
        {"angular_basis": 2, "cartesian": False},
    ],
    ids=str,
)
def test_matches_autograd_with_other_settings(options: dict[str, object]) -> None:
    check(make_network(**options))


def test_without_bond_energies() -> None:
    network = make_network(bond_energies=False)
    vectors, graph = make_batch()
    expected = EdgeNetwork.gradient_function(network)(vectors, graph)
    found = PetGradients(network)(vectors, graph)
    assert not found[1].any()
    torch.testing.assert_close(found[0], expected[0], rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(found[2], expected[2], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("block_tokens", [1, 7, 20])
@pytest.mark.parametrize("memory", [0, 20_000, 1 << 30])
def test_blocks_and_memory_do_not_matter(block_tokens: int, memory: int) -> None:
    check(make_network(n_gnn_layers=3), block_tokens, memory)


def test_lone_atoms_have_no_derivatives() -> None:
    network = make_network()
    edges = NeighborList(3.0).edges(Structure(np.array([8]), np.zeros((1, 3))))
    graph = build_graph([np.array([1])], [edges], copies=2)
    vectors = torch.zeros(0, 3, dtype=torch.float64)
    expected = EdgeNetwork.gradient_function(network)(vectors, graph)
    found = PetGradients(network)(vectors, graph)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_recorded_pass_gives_bitwise_the_same(norm: str, dtype: torch.dtype) -> None:
    angles = {"angular_basis": 3, "cartesian": False} if norm == "pre" else {}
    network = make_network(norm=norm, d_model=48, d_feedforward=520, radial_basis=4, **angles).to(dtype)
    vectors, graph = make_batch()
    plain, recording = PetGradients(network, record_after=None), PetGradients(network, record_after=3)
    for k in range(8):
        turned = (vectors * (1.0 - 0.01 * k)).to(dtype)
        for one, other in zip(recording(turned, graph), plain(turned, graph), strict=True):
            assert torch.equal(one, other)
        assert len(recording.recordings) == (k >= 2)
    assert not plain.recordings
    in_blocks = PetGradients(network, block_tokens=20, record_after=1)
    in_blocks(vectors.to(dtype), graph)
    assert not in_blocks.recordings
    del graph
    assert not recording.recordings
    _, again = make_batch()  # as after a new search for neighbors
    for one, other in zip(recording(turned, again), plain(turned, again), strict=True):
        assert torch.equal(one, other)
    assert len(recording.recordings) == 1  # the one that torch keeps anyway, not another


def test_recordings_which_torch_never_frees_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, graph = make_batch()
    network = make_network(norm="pre", d_model=48, d_feedforward=520, radial_basis=4)
    for most in (1, 0):
        monkeypatch.setattr("ipi_driver.networks.pet.gradients.MOST_RECORDED", most)
        recording = PetGradients(network, record_after=1)
        recording(vectors, graph)
        assert len(recording.recordings) == most


def test_a_setting_that_is_not_known_is_refused() -> None:
    class Wider(PetConfig):
        sharpness: float = 1.0

    class Derived(PetNetwork):
        pass

    assert supported(make_network())
    small = {"species": (1, 8), "d_model": 12, "n_heads": 3}
    assert supported(PetNetwork(Wider(**small)))
    assert not supported(PetNetwork(Wider(**small, sharpness=2.0)))
    assert not supported(Derived(PetConfig(**small)))
    assert not supported(PetNetwork(PetConfig(**small).model_copy(update={"norm": "rms"})))


def test_the_pass_of_a_flying_molecule_is_recorded() -> None:
    """Its neighbor list is built again every few steps, which does not begin the count of evaluations anew."""
    network = make_network()
    potential = NetworkPotential(network, Baseline((1, 8), np.zeros(2), 3.0), dtype="float64")
    potential._gradient_function = passes = PetGradients(network, record_after=10)
    atoms = np.array([[0.0, 0.0, 0.0], [0.76, 0.59, 0.0], [-0.76, 0.59, 0.0]])
    for k in range(12):
        potential.predict(Structure([8, 1, 1], atoms + 0.5 * k))
        assert len(passes.recordings) == (k >= 9)
