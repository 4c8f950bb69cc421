"""What the tests of equivariant networks share: a small network, structures without symmetry, their graph."""

from __future__ import annotations

import numpy as np
import torch
from ase.build import molecule

from ipi_driver.neighbors import NeighborList
from ipi_driver.networks.e3nn.network import E3nnNetwork
from ipi_driver.networks.graph import Graph, build_graph
from ipi_driver.networks.kinds import build_network, network_config
from ipi_driver.structure import Structure

SMALL = {"kind": "e3nn", "cutoff": 3.5, "channels": 8, "product_channels": 4, "d_radial": 8, "d_head": 8}


def network_of(**changes: object) -> E3nnNetwork:
    torch.manual_seed(3)
    network = build_network(network_config(SMALL | changes, (1, 8)))
    assert isinstance(network, E3nnNetwork)
    return network.double()


def cluster() -> Structure:
    """Methanol-like: no symmetry is left."""
    atoms = molecule("CH3OH")
    atoms.numbers[atoms.numbers == 6] = 8
    atoms.positions += np.random.default_rng(1).normal(scale=0.1, size=(len(atoms), 3))
    return Structure.from_atoms(atoms)


def crystal() -> Structure:
    rng = np.random.default_rng(2)
    cell = np.array([[4.1, 0.0, 0.0], [0.4, 3.9, 0.0], [-0.3, 0.5, 4.3]])
    return Structure(np.array([8, 1, 1, 8]), rng.uniform(size=(4, 3)) @ cell, cell, np.ones(3, dtype=bool))


def graph_of(structure: Structure, cutoff: float = 3.5) -> tuple[torch.Tensor, Graph]:
    edges = NeighborList(cutoff, skin=0.0).edges(structure)
    species = (structure.numbers == 8).astype(np.int64)
    return torch.from_numpy(edges.vectors), build_graph([species], [edges])
