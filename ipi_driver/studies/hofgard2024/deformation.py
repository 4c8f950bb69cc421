"""The deformation of a cube: eight equal atoms in, a displacement of each out.

An equivariant network cannot make a prism of a cube, whose symmetry its output keeps. A relaxed one can, and the
relaxed weights that it finds have the symmetry of the prism: of those up to l = 2, D4h leaves 0e and one combination
of 2e.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from e3nn import o3
from torch import nn

from ipi_driver.neighbors import NeighborList
from ipi_driver.networks.e3nn.config import E3nnConfig, RelaxedConfig
from ipi_driver.networks.e3nn.layers import Linear
from ipi_driver.networks.e3nn.network import E3nnNetwork
from ipi_driver.networks.graph import Graph, build_graph
from ipi_driver.structure import FloatArray, Structure
from ipi_driver.symmetry.breaking import Weights

CUBE = np.array(list(product((-0.5, 0.5), repeat=3)))
"""(8, 3) corners."""
TARGETS = ("cube", "prism", "random")
STRETCH = 0.5
"""The prism's corners are moved along z by this fraction of their z."""

_CONFIG = E3nnConfig(
    species=(1,),
    cutoff=3.0,
    l_max=2,
    channels=8,
    parities="both",
    n_layers=2,
    n_radial=4,
    d_radial=8,
    correlation=1,
    average_neighbors=7.0,
    relaxed=RelaxedConfig(l_max=2, parities="both"),
)


def displacements(target: str, seed: int = 0) -> FloatArray:
    """(8, 3) from the cube to itself, to a prism with a square base, or to anywhere."""
    if target == "cube":
        return np.zeros((8, 3))
    if target == "prism":
        return CUBE * np.array([0.0, 0.0, STRETCH])
    return np.asarray(np.random.default_rng(seed).normal(scale=0.2, size=(8, 3)))


class DeformationNetwork(nn.Module):
    """Two relaxed layers, and a linear map of their vectors to displacements (n_nodes, 3)."""

    def __init__(self) -> None:
        super().__init__()
        body = E3nnNetwork(_CONFIG, scalars_last=False)
        self.body = body
        self.out = Linear(_CONFIG.hidden, [(1, o3.Irrep("1o"))])

    def forward(self, vectors: torch.Tensor, graph: Graph) -> torch.Tensor:
        displaced: torch.Tensor = self.out(self.body.features(vectors, graph)[-1])[0][:, 0]
        return displaced


@dataclass(frozen=True)
class Deformation:
    """Result of a training.

    Attributes
    ----------
    target
        Of `TARGETS`.
    loss
        Mean squared error of a component, in units of the cube's edge.
    layers
        Relaxed weights of each layer, (2l + 1,) by irrep.
    """

    target: str
    loss: float
    layers: list[Weights]


def learn_deformation(
    target: str, steps: int = 2500, seed: int = 0, progress: Callable[[int], object] = lambda done: None
) -> Deformation:
    """Train on one deformation with plain gradient descent, as published.

    Parameters
    ----------
    target
        Of `TARGETS`.
    steps
        Of the descent.
    seed
        Of the weights, and of the random target.
    progress
        Receives the number of steps done since its last call.
    """
    torch.manual_seed(seed)
    network = DeformationNetwork().double()
    structure = Structure(np.ones(8, dtype=np.int64), CUBE)
    edges = NeighborList(_CONFIG.cutoff, skin=0.0).edges(structure)
    graph = build_graph([np.zeros(8, dtype=np.int64)], [edges])
    vectors = torch.from_numpy(edges.vectors)
    wanted = torch.from_numpy(displacements(target, seed))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    value = torch.zeros(())
    for _ in range(steps):
        optimizer.zero_grad()
        value = (network(vectors, graph) - wanted).square().mean()
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        progress(1)
    layers = [
        {name: weights.numpy() for name, weights in relaxed.by_irrep().items()}
        for relaxed in network.body.relaxed_weights
    ]
    return Deformation(target, float(value.detach()), layers)
