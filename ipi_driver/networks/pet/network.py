"""The PET network: edge vectors of a batch in, atomic and bond energies out.

Per atom, one token for each neighbor within the cutoff and a central token enter a transformer:

    edge token  t_ij = compress([linear(features of the edge), m_ij])  m_ij: message from j to i
                                                                       features: x, y, z, |r|, see `pet.features`
    attention   a_ij = f_c(r_ij) exp(s_ij) / sum_k f_c(r_ik) exp(s_ik)  f_c: cutoff function, 1 for the central token
    messages    m_ij <- residual_factor (m_ij + t_ji)                   t_ji: output token of the reversed edge

In every GNN layer one head reads the central token and one each bond (times f_c); all are summed.

Source: S. Pozdnyakov, M. Ceriotti, "Smooth, exact rotational symmetrization for deep learning on point clouds",
NeurIPS 2023.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import nn

from ipi_driver.networks.base import EdgeNetwork, GradientFunction, NetworkConfig
from ipi_driver.networks.graph import Graph
from ipi_driver.networks.pet.config import PetConfig
from ipi_driver.networks.pet.features import EdgeFeatures
from ipi_driver.networks.pet.rows import from_heads, reverse_edges, to_heads

# Added under the square root, so that the length of a padded zero vector has a derivative.
_LENGTH_FLOOR = 1e-15
# Smallest attention weight of an edge: keeps the logarithm finite exactly at the cutoff.
_WEIGHT_FLOOR = 1e-15


def cutoff_function(lengths: torch.Tensor, cutoff: float, width: float) -> torch.Tensor:
    """1 below ``cutoff - width``, 0 above ``cutoff``, half a cosine between; any shape, Å."""
    x = ((lengths - (cutoff - width)) / width).clamp(0.0, 1.0)
    return 0.5 + 0.5 * torch.cos(math.pi * x)


def _activation(name: str) -> nn.Module:
    return nn.SiLU() if name == "silu" else nn.Mish()


class TransformerLayer(nn.Module):
    """Multi-head attention and feed-forward, with the norms before ("pre") or after ("post") them."""

    def __init__(self, config: PetConfig) -> None:
        super().__init__()
        d = config.d_model
        self.n_heads = config.n_heads
        self.scale = (d // config.n_heads) ** -0.5
        self.pre_norm = config.norm == "pre"
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)
        self.norm_attention = nn.LayerNorm(d)
        self.norm_feedforward = nn.LayerNorm(d)
        self.feedforward = nn.Sequential(
            nn.Linear(d, config.d_feedforward),
            _activation(config.activation),
            nn.Linear(config.d_feedforward, d),
        )

    def attend(self, tokens: torch.Tensor, bias: torch.Tensor, graph: Graph) -> torch.Tensor:
        """Attention among the tokens of each node; tokens (n_tokens, d), bias (n_nodes, 1, row_length)."""
        queries, keys, values = to_heads(self.qkv(tokens), self.n_heads, graph).unbind(0)
        scores = torch.bmm(queries * self.scale, keys.transpose(1, 2))
        weights = (scores.view(self.n_heads, graph.n_nodes, graph.row_length, -1) + bias).softmax(-1)
        mixed = torch.bmm(weights.view_as(scores), values)
        return self.out(from_heads(mixed, self.n_heads, graph))

    def forward(self, tokens: torch.Tensor, bias: torch.Tensor, graph: Graph) -> torch.Tensor:
        if self.pre_norm:
            tokens = tokens + self.attend(self.norm_attention(tokens), bias, graph)
            return tokens + self.feedforward(self.norm_feedforward(tokens))
        tokens = self.norm_attention(tokens + self.attend(tokens, bias, graph))
        return self.norm_feedforward(tokens + self.feedforward(tokens))


class GnnLayer(nn.Module):
    """Embedding of the edges, the transformer, and the heads of one message-passing step."""

    def __init__(self, config: PetConfig, first: bool) -> None:
        super().__init__()
        d, n_species = config.d_model, len(config.species)
        embedding: list[nn.Module] = [nn.Linear(config.n_edge_features, d)]
        if config.embedding_activation:
            embedding.append(_activation(config.activation))
        self.edge_embedding = nn.Sequential(*embedding)
        self.blend = config.blend_neighbor_species and not first
        n_merged = 3 if self.blend else 2
        compress: list[nn.Module] = [nn.Linear(n_merged * d, d)]
        if config.compress == "mlp":
            compress += [_activation(config.activation), nn.Linear(d, d)]
        self.compress = nn.Sequential(*compress)
        self.center_embedding = nn.Embedding(n_species, d)
        self.neighbor_embedding = nn.Embedding(n_species, d) if self.blend else None
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.n_attention_layers))
        self.final_norm = nn.LayerNorm(d) if config.norm == "pre" else None
        self.center_head = self._head(config)
        self.bond_head = self._head(config) if config.bond_energies else None

    @staticmethod
    def _head(config: PetConfig) -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(config.d_model, config.d_head),
            _activation(config.activation),
            nn.Linear(config.d_head, config.d_head),
            _activation(config.activation),
            nn.Linear(config.d_head, 1),
        )

    def forward(
        self, features: torch.Tensor, messages: torch.Tensor, bias: torch.Tensor, graph: Graph
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Output tokens of the centers (n_nodes, d) and of the edges (n_edges, d)."""
        edge_tokens = self._edge_tokens(features, messages, graph)
        tokens = torch.cat([self.center_embedding(graph.species), edge_tokens])
        for layer in self.layers:
            tokens = layer(tokens, bias, graph)
        if self.final_norm is not None:
            tokens = self.final_norm(tokens)
        return tokens[: graph.n_nodes], tokens[graph.n_nodes :]

    def _edge_tokens(self, features: torch.Tensor, messages: torch.Tensor, graph: Graph) -> torch.Tensor:
        """compress([edge_embedding(features), (neighbor species), messages]), (n_edges, d)."""
        first, *rest = self.compress
        linear = self.edge_embedding[0]
        assert isinstance(first, nn.Linear)
        assert isinstance(linear, nn.Linear)
        d = messages.shape[1]
        of_edges, of_messages = first.weight[:, :d], first.weight[:, -d:]
        if len(self.edge_embedding) == 1:  # two linear maps in a row are one, and the features are few
            bias = torch.addmv(first.bias, of_edges, linear.bias)
            tokens = nn.functional.linear(features, of_edges @ linear.weight, bias)
        else:
            tokens = nn.functional.linear(self.edge_embedding(features), of_edges, first.bias)
        tokens = tokens + nn.functional.linear(messages, of_messages)
        if self.neighbor_embedding is not None:
            of_species = self.neighbor_embedding.weight @ first.weight[:, d : 2 * d].T
            tokens = tokens + nn.functional.embedding(graph.neighbor_species, of_species)
        for layer in rest:
            tokens = layer(tokens)
        return tokens


class PetNetwork(EdgeNetwork):
    """PET; see the module's description for the formulas.

    Parameters
    ----------
    config
        The architecture.
    """

    config_class: ClassVar[type[NetworkConfig]] = PetConfig
    config: PetConfig

    def __init__(self, config: PetConfig) -> None:
        super().__init__(config)
        self.message_embedding = nn.Embedding(len(config.species), config.d_model)
        self.gnn_layers = nn.ModuleList(GnnLayer(config, k == 0) for k in range(config.n_gnn_layers))
        self.features = EdgeFeatures(config)

    def gradient_function(self) -> GradientFunction:
        from ipi_driver.networks.pet.gradients import PetGradients, supported

        return PetGradients(self) if supported(self) else super().gradient_function()

    @property
    def interaction_range(self) -> float:
        return self.config.n_gnn_layers * self.config.cutoff

    @property
    def width(self) -> int:
        return self.config.d_model

    def zero_output(self) -> None:
        """Set the last layer of every head to zero, so that the network's energy is zero for any structure."""
        for name, weights in self.named_parameters():
            if "_head.4." in name:
                nn.init.zeros_(weights)

    def invariant(self) -> PetNetwork | None:
        """The network that is told the angles alone, where it has been told them beside x, y and z."""
        config = self.config
        if not (config.cartesian and config.angular_basis):
            return None

        def told(weight: torch.Tensor) -> torch.Tensor:
            _, length, _, radial, angles = weight.split(config.edge_feature_sizes, 1)
            return torch.cat([length, radial, angles], 1)

        weights = {
            name: told(w) if name.endswith("edge_embedding.0.weight") else w
            for name, w in self.state_dict().items()
        }
        result = PetNetwork(config.model_copy(update={"cartesian": False}))
        result.load_state_dict(weights)
        return result

    def forward(self, vectors: torch.Tensor, graph: Graph) -> tuple[torch.Tensor, torch.Tensor]:
        """Atomic energies (n_nodes,) and bond energies (n_edges,), eV, from edge vectors (n_edges, 3), Å."""
        config = self.config
        lengths = (vectors.square().sum(1) + _LENGTH_FLOOR).sqrt()
        weights = cutoff_function(lengths, config.cutoff, config.cutoff_width)
        features = self.features(vectors, lengths, weights, graph)
        bias = self._attention_bias(weights, graph)
        messages = self.message_embedding(graph.neighbor_species)
        atomic = vectors.new_zeros(graph.n_nodes)
        bonds = vectors.new_zeros(graph.n_edges)
        last = len(self.gnn_layers) - 1
        for k, layer in enumerate(self.gnn_layers):
            centers, edge_tokens = layer(features, messages, bias, graph)
            assert isinstance(layer, GnnLayer)
            atomic = atomic + layer.center_head(centers)[:, 0]
            if layer.bond_head is not None:
                bonds = bonds + layer.bond_head(edge_tokens)[:, 0]
            if k < last:
                received = reverse_edges(edge_tokens, graph)
                messages = config.residual_factor * (messages + received)
        return atomic, bonds * weights

    @staticmethod
    def _attention_bias(weights: torch.Tensor, graph: Graph) -> torch.Tensor:
        """Logarithm of the weight of every slot (n_nodes, 1, row_length): 0 for centers, -inf for empty slots."""
        n_slots = graph.n_nodes * graph.row_length
        bias = weights.new_full((n_slots,), -math.inf)
        bias[:: graph.row_length] = 0.0
        bias = bias.index_put((graph.edge_slots,), (weights + _WEIGHT_FLOOR).log())
        return bias.view(graph.n_nodes, 1, graph.row_length)
