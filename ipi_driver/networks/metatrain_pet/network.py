"""metatrain's PET: edge vectors of a batch in, atomic and bond energies out.

It differs from the PET of `ipi_driver.networks.pet` in these points. Atoms may have adaptive cutoffs (`cutoffs`). The
central token of an atom is wider than its edge tokens and has a feed-forward layer of its own. With the featurizer
"feedforward" the central token is handed on from GNN layer to GNN layer, the messages follow

    m_ij <- m_ij + t_ij + MLP(LayerNorm([t_ij, t_ji])),          t: tokens after the layer,

and one pair of heads reads the last of both; with "residual" every layer embeds the species anew and has heads, and
m_ij <- (m_ij + t_ji) / 2, as in the original.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from ipi_driver.neighbors import Edges
from ipi_driver.networks.base import EdgeNetwork, GradientFunction, SelectedGradientFunction
from ipi_driver.networks.graph import Graph
from ipi_driver.networks.metatrain_pet.config import MetatrainPetConfig
from ipi_driver.networks.metatrain_pet.cutoffs import averaged_cutoffs, cutoff_weight, solved_cutoffs
from ipi_driver.networks.metatrain_pet.layers import GnnLayer, Head
from ipi_driver.networks.pet.rows import reverse_edges
from ipi_driver.networks.selection import EdgeSelection, Topologies

# Added under the square root, so that the length of a zero vector has a derivative.
_LENGTH_FLOOR = 1e-15
# Smallest attention weight of an edge: keeps the logarithm finite.
_WEIGHT_FLOOR = 1e-15


class MetatrainPetNetwork(EdgeNetwork):
    """metatrain's PET with one energy head; see the module's description for the formulas.

    Parameters
    ----------
    config
        The architecture.
    """

    config_class: ClassVar[type[MetatrainPetConfig]] = MetatrainPetConfig
    config: MetatrainPetConfig

    def __init__(self, config: MetatrainPetConfig) -> None:
        super().__init__(config)
        d, n_species = config.d_model, len(config.species)
        n_readouts = 1 if config.featurizer == "feedforward" else config.n_gnn_layers
        self.message_embedding = nn.Embedding(n_species, d)
        self.center_embeddings = nn.ModuleList(
            nn.Embedding(n_species, config.d_node) for _ in range(n_readouts)
        )
        self.gnn_layers = nn.ModuleList(GnnLayer(config, k == 0) for k in range(config.n_gnn_layers))
        if config.featurizer == "feedforward":
            self.combination_norms = nn.ModuleList(nn.LayerNorm(2 * d) for _ in range(config.n_gnn_layers))
            self.combinations = nn.ModuleList(
                nn.Sequential(nn.Linear(2 * d, 2 * d), nn.SiLU(), nn.Linear(2 * d, d))
                for _ in range(config.n_gnn_layers)
            )
        self.system_bias = nn.Parameter(torch.zeros(config.d_node)) if config.system_bias else None
        self.center_heads = nn.ModuleList(Head(config.d_node, config.d_head) for _ in range(n_readouts))
        self.bond_heads = nn.ModuleList(Head(d, config.d_head) for _ in range(n_readouts))

    @property
    def interaction_range(self) -> float:
        """Å; the last messages of "feedforward" and adaptive cutoffs reach one neighbor further than the layers."""
        config = self.config
        further = (config.featurizer == "feedforward") + (config.adaptive_neighbors is not None)
        return (config.n_gnn_layers + further) * config.cutoff

    @property
    def width(self) -> int:
        """Numbers that the network holds for an edge."""
        return self.config.d_model

    def zero_output(self) -> None:
        """Set the last layer of every head to zero, so that the network's energy is zero for any structure."""
        for head in [*self.center_heads, *self.bond_heads]:
            nn.init.zeros_(head.last.weight)
            nn.init.zeros_(head.last.bias)

    def forward(self, vectors: torch.Tensor, graph: Graph) -> tuple[torch.Tensor, torch.Tensor]:
        """Atomic energies (n_nodes,) and bond energies (n_edges,), eV, from edge vectors (n_edges, 3), Å."""
        lengths = vectors.norm(dim=1)
        kept, weights = self.select(lengths, graph)
        if kept is None:
            return self.energies(vectors, weights, graph)
        atomic, bonds = self.energies(vectors[kept], weights, graph.select(kept))
        return atomic, vectors.new_zeros(graph.n_edges).index_put((kept,), bonds)

    def gradient_function(self) -> GradientFunction:
        """See `EdgeNetwork.gradient_function`; without autograd."""
        from ipi_driver.networks.metatrain_pet.gradients import MetatrainPetGradients

        return MetatrainPetGradients(self)

    def selected_gradient_function(self) -> SelectedGradientFunction:
        """See `EdgeNetwork.selected_gradient_function`."""
        from ipi_driver.networks.metatrain_pet.gradients import MetatrainPetGradients

        return MetatrainPetGradients(self).energies

    def select_edges(self, edges: Edges, n_atoms: int, topologies: Topologies) -> EdgeSelection | None:
        """See `EdgeNetwork.select_edges`; None without adaptive cutoffs."""
        if self.config.adaptive_neighbors is None:
            return None
        lengths = torch.from_numpy(np.linalg.norm(edges.vectors, axis=1)).requires_grad_(True)
        centers, neighbors = torch.from_numpy(edges.centers), torch.from_numpy(edges.neighbors)
        with torch.enable_grad():
            of_atoms = self.atomic_cutoffs(lengths, centers, n_atoms)
            # each length belongs to one center, so that the derivative of the sum is that of each cutoff
            slopes = torch.zeros_like(lengths)
            if len(lengths):
                (slopes,) = torch.autograd.grad(of_atoms.sum(), lengths)
        fixed, of_atoms = lengths.detach(), of_atoms.detach()
        cutoffs = 0.5 * (of_atoms[centers] + of_atoms[neighbors])
        kept = torch.nonzero(fixed <= cutoffs)[:, 0]
        d, r = (x[kept].requires_grad_(True) for x in (fixed, cutoffs))
        with torch.enable_grad():
            weights = cutoff_weight(self.config.cutoff_function, d, r, self.config.cutoff_width)
        by_length, by_cutoff = torch.autograd.grad(weights.sum(), [d, r])
        moving = torch.nonzero(slopes)[:, 0].numpy()
        vectors = edges.vectors[moving]
        return EdgeSelection(
            kept=kept.numpy(),
            edges=topologies.select(edges, kept.numpy()),
            weights=weights.detach().numpy(),
            by_length=by_length.numpy(),
            by_cutoff=by_cutoff.numpy(),
            moving_centers=edges.centers[moving],
            moving_neighbors=edges.neighbors[moving],
            moving_vectors=vectors,
            moving_slopes=vectors * (slopes.numpy() / fixed.numpy())[moving, None],
        )

    def select(self, lengths: torch.Tensor, graph: Graph) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Which edges exist (n_kept,), None for all, and their weights (n_kept,)."""
        config = self.config
        if config.adaptive_neighbors is None:
            return None, cutoff_weight(config.cutoff_function, lengths, config.cutoff, config.cutoff_width)
        cutoffs = self.pair_cutoffs(lengths, graph)
        inside = lengths.detach() <= cutoffs.detach()
        # an edge and its reverse have one length, up to rounding and to trial displacements of the training
        kept = torch.nonzero(inside | inside[graph.reverse])[:, 0]
        weights = cutoff_weight(config.cutoff_function, lengths[kept], cutoffs[kept], config.cutoff_width)
        return kept, weights

    def pair_cutoffs(self, lengths: torch.Tensor, graph: Graph) -> torch.Tensor:
        """(n_edges,) mean of the adaptive cutoffs of the two atoms of each edge, Å."""
        of_atoms = self.atomic_cutoffs(lengths, graph.centers, graph.n_nodes)
        return 0.5 * (of_atoms[graph.centers] + of_atoms[graph.neighbors])

    def atomic_cutoffs(self, lengths: torch.Tensor, centers: torch.Tensor, n_nodes: int) -> torch.Tensor:
        """(n_nodes,) adaptive cutoff of each atom, Å."""
        config = self.config
        assert config.adaptive_neighbors is not None
        method = solved_cutoffs if config.adaptive_method == "solver" else averaged_cutoffs
        wanted, width = config.adaptive_neighbors, config.adaptive_width
        return method(lengths, centers, n_nodes, wanted, config.cutoff, width)

    def energies(
        self, vectors: torch.Tensor, weights: torch.Tensor, graph: Graph
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Atomic (n_nodes,) and bond energies (n_edges,), eV, from the vectors and weights of the edges that exist."""
        lengths = (vectors.square().sum(1) + _LENGTH_FLOOR).sqrt()
        features = torch.cat([vectors, lengths[:, None]], dim=1)
        bias = self._attention_bias(weights, graph)
        if self.config.featurizer == "feedforward":
            atomic, bonds = self._feedforward(features, bias, graph)
        else:
            atomic, bonds = self._residual(features, bias, graph)
        scale = self.config.energy_scale
        return atomic * scale, bonds * weights * scale

    def _feedforward(
        self, features: torch.Tensor, bias: torch.Tensor, graph: Graph
    ) -> tuple[torch.Tensor, torch.Tensor]:
        centers = self.center_embeddings[0](graph.species)
        messages = self.message_embedding.weight
        for k, layer in enumerate(self.gnn_layers):
            assert isinstance(layer, GnnLayer)
            tokens = layer.edge_tokens(features, messages, k == 0, graph)
            for transformer in layer.layers:
                centers, tokens = transformer(centers, tokens, bias, graph)
            if self.system_bias is not None:
                centers = centers + self.system_bias
            if k == 0:
                messages = messages[graph.neighbor_species]
            both = torch.cat([tokens, reverse_edges(tokens, graph)], dim=1)
            messages = messages + tokens + self.combinations[k](self.combination_norms[k](both))
        return self.center_heads[0](centers), self.bond_heads[0](messages)

    def _residual(
        self, features: torch.Tensor, bias: torch.Tensor, graph: Graph
    ) -> tuple[torch.Tensor, torch.Tensor]:
        atomic = features.new_zeros(graph.n_nodes)
        bonds = features.new_zeros(graph.n_edges)
        messages = self.message_embedding.weight
        for k, layer in enumerate(self.gnn_layers):
            assert isinstance(layer, GnnLayer)
            tokens = layer.edge_tokens(features, messages, k == 0, graph)
            centers = self.center_embeddings[k](graph.species)
            for transformer in layer.layers:
                centers, tokens = transformer(centers, tokens, bias, graph)
            if self.system_bias is not None:
                centers = centers + self.system_bias
            atomic = atomic + self.center_heads[k](centers)
            bonds = bonds + self.bond_heads[k](tokens)
            if k == 0:
                messages = messages[graph.neighbor_species]
            messages = 0.5 * (messages + reverse_edges(tokens, graph))
        return atomic, bonds

    @staticmethod
    def _attention_bias(weights: torch.Tensor, graph: Graph) -> torch.Tensor:
        """Logarithm of the weight of every slot (n_nodes, 1, row_length): 0 for centers, -inf for empty slots."""
        n_slots = graph.n_nodes * graph.row_length
        bias = weights.new_full((n_slots,), -math.inf)
        bias[:: graph.row_length] = 0.0
        bias = bias.index_put((graph.edge_slots,), weights.clamp_min(_WEIGHT_FLOOR).log())
        return bias.view(graph.n_nodes, 1, graph.row_length)
