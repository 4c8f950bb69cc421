"""The hand-written passes of metatrain's PET against autograd, in float64, for every setting and cut into blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ipi_driver.neighbors import NeighborList
from ipi_driver.networks.base import EdgeNetwork
from ipi_driver.networks.graph import Graph, build_graph
from ipi_driver.networks.metatrain_pet import MetatrainPetConfig, MetatrainPetNetwork
from ipi_driver.networks.metatrain_pet.gradients import MetatrainPetGradients
from ipi_driver.structure import Structure

NETWORKS = {
    "default": {},
    "adaptive": {"cutoff": 4.0, "adaptive_neighbors": 3.0},
    "grid": {"cutoff": 4.0, "adaptive_neighbors": 3.0, "adaptive_method": "grid", "system_bias": True},
    "residual": {"featurizer": "residual", "n_gnn_layers": 3, "energy_scale": 1.7},
    "residual-one": {"featurizer": "residual", "n_gnn_layers": 1, "d_node": 12, "system_bias": True},
    "post": {"norm": "post", "cutoff_function": "cosine"},
    "post-layer-narrow": {"norm": "post", "norm_type": "layer", "activation": "silu", "d_node": 12},
    "layer-narrow": {"norm_type": "layer", "activation": "silu", "d_node": 12, "n_attention_layers": 1},
    "one-layer": {"n_gnn_layers": 1, "energy_scale": 0.3},
}


def make_network(name: str) -> MetatrainPetNetwork:
    torch.manual_seed(3)
    small = {
        "species": (1, 8),
        "cutoff": 3.0,
        "cutoff_width": 0.6,
        "d_model": 12,
        "d_node": 18,
        "n_heads": 3,
        "d_feedforward": 10,
        "d_head": 6,
    }
    network = MetatrainPetNetwork(MetatrainPetConfig(**(small | NETWORKS[name])))
    network = network.double().eval().requires_grad_(False)
    with torch.no_grad():  # biases and norms that are zero and one at the start would hide mistakes
        for weights in network.parameters():
            weights += 0.1 * torch.randn_like(weights)
    return network


def make_batch(cutoff: float) -> tuple[torch.Tensor, Graph]:
    """Two structures and a lone atom, so that the rows have different lengths, twice."""
    rng = np.random.default_rng(1)
    structures = [
        Structure(np.array([8, 1, 1, 8, 1]), rng.normal(scale=1.3, size=(5, 3))),
        Structure(np.array([8]), np.zeros((1, 3))),
        Structure(np.array([1, 8, 1]), rng.normal(scale=0.9, size=(3, 3)), np.eye(3) * 4.1, True),
    ]
    edges = [NeighborList(cutoff, skin=0.0).edges(structure) for structure in structures]
    graph = build_graph([np.where(s.numbers == 8, 1, 0) for s in structures], edges, copies=2)
    vectors = np.concatenate([e.vectors for e in edges])
    return torch.from_numpy(np.concatenate([vectors, 0.97 * vectors])), graph


@pytest.mark.parametrize("block_tokens", [None, 1, 20])
@pytest.mark.parametrize("name", NETWORKS)
def test_equals_autograd(name: str, block_tokens: int | None) -> None:
    network = make_network(name)
    vectors, graph = make_batch(network.config.cutoff)
    expected = EdgeNetwork.gradient_function(network)(vectors, graph)
    found = MetatrainPetGradients(network, block_tokens)(vectors, graph)
    for one, other in zip(found, expected, strict=True):
        assert float(other.abs().max()) > 1e-3
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ["adaptive", "residual"])
def test_a_lone_atom(name: str) -> None:
    network = make_network(name)
    edges = NeighborList(3.0).edges(Structure(np.array([8]), np.zeros((1, 3))))
    graph = build_graph([np.array([1])], [edges])
    vectors = torch.zeros(0, 3, dtype=torch.float64)
    atomic, bonds, gradients = network.gradient_function()(vectors, graph)
    torch.testing.assert_close(atomic, network(vectors, graph)[0])
    assert bonds.shape == (0,)
    assert gradients.shape == (0, 3)
