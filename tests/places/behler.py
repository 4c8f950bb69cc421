"""A network kind that another package could add: densities of the neighbors by element, and an MLP for each atom.

rho_ikZ = sum_{j of Z} g_k(r_ij) f_c(r_ij),      v_ikZ = sum_{j of Z} g_k(r_ij) f_c(r_ij) r_ij / |r_ij|
e_i = MLP([rho_i, |v_i|^2, element of i])
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import nn

from ipi_driver.networks.base import EdgeNetwork, NetworkConfig
from ipi_driver.networks.graph import Graph


class BehlerConfig(NetworkConfig):
    """Settings of `BehlerNetwork`."""

    kind: ClassVar[str] = "behler"
    growing: ClassVar[tuple[str, ...]] = ()

    n_radial: int = Field(8, gt=1, description="Gaussians of the distance")
    hidden: int = Field(24, gt=0)


class BehlerNetwork(EdgeNetwork):
    """Invariant densities and one MLP."""

    config_class: ClassVar[type[NetworkConfig]] = BehlerConfig
    config: BehlerConfig

    def __init__(self, config: BehlerConfig) -> None:
        super().__init__(config)
        n_species = len(config.species)
        self.register_buffer("centers", torch.linspace(0.5, config.cutoff, config.n_radial))
        self.layers = nn.Sequential(
            nn.Linear(2 * n_species * config.n_radial + n_species, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, 1),
        )

    def forward(self, vectors: torch.Tensor, graph: Graph) -> tuple[torch.Tensor, torch.Tensor]:
        config, n_species = self.config, len(self.config.species)
        lengths = vectors.norm(dim=1)
        cutoff = (1.0 - (lengths / config.cutoff).clamp(max=1.0) ** 2) ** 3
        offsets = (lengths[:, None] - self.centers) * (config.n_radial / config.cutoff)
        radial = torch.exp(-0.5 * offsets**2) * cutoff[:, None]
        # a row for each atom and element of the neighbors
        row = graph.centers * n_species + graph.neighbor_species
        direction = vectors / lengths[:, None]
        shape = (graph.n_nodes * n_species, config.n_radial)
        density = radial.new_zeros(shape).index_add(0, row, radial)
        moments = radial.new_zeros(*shape, 3).index_add(0, row, radial[:, :, None] * direction[:, None])
        features = [density, moments.square().sum(2)]
        flat = [f.view(graph.n_nodes, -1) for f in features]
        flat.append(nn.functional.one_hot(graph.species, n_species).to(vectors.dtype))
        atomic = self.layers(torch.cat(flat, dim=1))[:, 0]
        return atomic, vectors.new_zeros(graph.n_edges)
