"""Compare the pass of a PET in float32 with kernels to that in float64 without; for tests of tests/networks."""

from __future__ import annotations

import sys
from functools import partial

import numpy as np
import torch

from ipi_driver.neighbors import NeighborList
from ipi_driver.networks import kernels
from ipi_driver.networks.base import EdgeNetwork
from ipi_driver.networks.graph import build_graph
from ipi_driver.networks.metatrain_pet import MetatrainPetConfig, MetatrainPetNetwork
from ipi_driver.networks.metatrain_pet.gradients import MetatrainPetGradients
from ipi_driver.networks.pet import PetConfig, PetNetwork
from ipi_driver.networks.pet.gradients import PetGradients
from ipi_driver.structure import Structure

SMALL = {
    "species": (1, 8),
    "cutoff": 3.0,
    "cutoff_width": 0.6,
    "d_model": 48,
    "n_heads": 3,
    "d_feedforward": 20,
    "n_gnn_layers": 2,
    "d_head": 6,
}


def make(name: str) -> tuple[EdgeNetwork, type]:
    """A network and the class of its passes."""
    if name == "metatrain":
        return MetatrainPetNetwork(MetatrainPetConfig(**SMALL, d_node=64)), MetatrainPetGradients
    return PetNetwork(PetConfig(**SMALL, norm=name)), partial(PetGradients, record_after=None)


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(3)
    network, passes = make(sys.argv[1])
    network = network.double().eval().requires_grad_(False)
    with torch.no_grad():
        for weights in network.parameters():
            weights += 0.1 * torch.randn_like(weights)
    rng = np.random.default_rng(1)
    structures = [
        Structure(np.array([8, 1, 1, 8, 1]), rng.normal(scale=1.3, size=(5, 3))),
        Structure(np.array([8]), np.zeros((1, 3))),
        Structure(np.array([1, 8, 1]), rng.normal(scale=0.9, size=(3, 3)), np.eye(3) * 2.6, True),
    ]
    edges = [NeighborList(3.0, skin=0.0).edges(structure) for structure in structures]
    species = [np.where(s.numbers == 8, 1, 0) for s in structures]
    graph = build_graph(species, edges)
    vectors = torch.from_numpy(np.concatenate([e.vectors for e in edges]))
    expected = passes(network)(vectors, graph)
    calls = []
    plain = kernels.attention
    kernels.attention = lambda *arguments: calls.append(1) or plain(*arguments)
    network, graph = network.float().to(device), build_graph(species, edges, device)
    for block_tokens in (None, 40):
        found = passes(network, block_tokens)(vectors.float().to(device), graph)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one.double().cpu(), other, rtol=2e-5, atol=2e-5)
    kernels._kernels = lambda: None  # as where nothing can be compiled
    kernels._work.cache_clear()
    torch.testing.assert_close(
        passes(network)(vectors.float().to(device), graph)[0].double().cpu(),
        expected[0],
        rtol=2e-5,
        atol=2e-5,
    )
    assert not kernels._work(vectors.device), "the kernels are taken for usable"
    print("attention:", "yes" if calls else "no", graph.row_length)


if __name__ == "__main__":
    main()
