"""Layers of metatrain's PET: a transformer over the tokens of each atom, whose central token is wider."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import embedding, glu, linear

from ipi_driver.networks.graph import Graph
from ipi_driver.networks.metatrain_pet.config import MetatrainPetConfig
from ipi_driver.networks.pet.rows import from_heads, to_heads


class FeedForward(nn.Module):
    """Linear, SiLU, linear; "swiglu": v sigmoid(g) of the halves v, g of a linear layer of twice the width."""

    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.gated = activation == "swiglu"
        self.w_in = nn.Linear(width, 2 * hidden if self.gated else hidden)
        self.w_out = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.w_in(x)
        return self.w_out(glu(x, -1) if self.gated else nn.functional.silu(x))


def _norm(config: MetatrainPetConfig, width: int) -> nn.Module:
    return nn.RMSNorm(width) if config.norm_type == "rms" else nn.LayerNorm(width)


class TransformerLayer(nn.Module):
    """Attention and feed-forward; central tokens of another width have a feed-forward layer of their own."""

    def __init__(self, config: MetatrainPetConfig) -> None:
        super().__init__()
        d, d_node = config.d_model, config.d_node
        self.n_heads = config.n_heads
        self.scale = (d // config.n_heads) ** -0.5 / config.attention_temperature
        self.pre_norm = config.norm == "pre"
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)
        self.norm_attention = _norm(config, d)
        self.norm_feedforward = _norm(config, d)
        self.feedforward = FeedForward(d, config.d_feedforward, config.activation)
        self.wide_center = d_node != d
        if self.wide_center:
            self.contraction = nn.Linear(d_node, d)
            self.expansion = nn.Linear(d, d_node)
            self.norm_center = _norm(config, d_node)
            self.center_feedforward = FeedForward(d_node, 2 * d_node, config.activation)

    def attend(self, tokens: torch.Tensor, bias: torch.Tensor, graph: Graph) -> torch.Tensor:
        """Attention among the tokens of each node; tokens (n_tokens, d), bias (n_nodes, 1, row_length)."""
        queries, keys, values = to_heads(self.qkv(tokens), self.n_heads, graph).unbind(0)
        scores = torch.bmm(queries * self.scale, keys.transpose(1, 2))
        weights = (scores.view(self.n_heads, graph.n_nodes, graph.row_length, -1) + bias).softmax(-1)
        mixed = torch.bmm(weights.view_as(scores), values)
        return self.out(from_heads(mixed, self.n_heads, graph))

    def forward(
        self, centers: torch.Tensor, edges: torch.Tensor, bias: torch.Tensor, graph: Graph
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Central tokens (n_nodes, d_node) and edge tokens (n_edges, d) after the layer."""
        n = graph.n_nodes
        narrow = self.contraction(centers) if self.wide_center else centers
        tokens = torch.cat([narrow, edges])
        if self.pre_norm:
            new = self.attend(self.norm_attention(tokens), bias, graph)
            edges = edges + new[n:]
            edges = edges + self.feedforward(self.norm_feedforward(edges))
        else:
            new = self.norm_attention(tokens + self.attend(tokens, bias, graph))
            new = self.norm_feedforward(new + self.feedforward(new))
            edges = new[n:]
        if not self.wide_center:  # the central token has no residual connection
            return new[:n], edges
        centers = centers + self.expansion(new[:n])
        return centers + self.center_feedforward(self.norm_center(centers)), edges


class GnnLayer(nn.Module):
    """Edge tokens from geometry, neighbor species and messages; then the transformer layers."""

    def __init__(self, config: MetatrainPetConfig, first: bool) -> None:
        super().__init__()
        d = config.d_model
        self.edge_embedding = nn.Linear(4, d)
        self.neighbor_embedding = None if first else nn.Embedding(len(config.species), d)
        self.compress = nn.Sequential(nn.Linear((2 if first else 3) * d, d), nn.SiLU(), nn.Linear(d, d))
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.n_attention_layers))

    def edge_tokens(
        self, features: torch.Tensor, messages: torch.Tensor, of_species: bool, graph: Graph
    ) -> torch.Tensor:
        """compress([edge_embedding(features), (neighbor species), messages]), (n_edges, d).

        ``features`` (n_edges, 4); ``messages`` (n_edges, d), or with ``of_species`` (n_species, d), one message for all
        neighbors of a species. The first linear layer acts on the parts before they are put together: on four
        features and on the species, not on every edge.
        """
        first, activation, last = self.compress
        assert isinstance(first, nn.Linear)
        d = messages.shape[1]
        geometry, message = first.weight[:, :d], first.weight[:, -d:]
        bias = torch.addmv(first.bias, geometry, self.edge_embedding.bias)
        tokens = linear(features, geometry @ self.edge_embedding.weight, bias)
        table = linear(messages, message)
        tokens = tokens + (embedding(graph.neighbor_species, table) if of_species else table)
        if self.neighbor_embedding is not None:
            species = linear(self.neighbor_embedding.weight, first.weight[:, d : 2 * d])
            tokens = tokens + embedding(graph.neighbor_species, species)
        result: torch.Tensor = last(activation(tokens))
        return result


class Head(nn.Module):
    """Energy of each token: linear, SiLU, linear, SiLU, linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.last = nn.Linear(hidden, 1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.last(self.hidden(tokens))[:, 0]
        return result
