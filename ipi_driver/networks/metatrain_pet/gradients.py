"""Energies of metatrain's PET and their derivatives in one hand-written pass, block of atoms by block of atoms."""

from __future__ import annotations

import math

import torch
from torch import nn

from ipi_driver.networks.blocks import Block, blocks_of
from ipi_driver.networks.graph import Graph
from ipi_driver.networks.metatrain_pet.layers import GnnLayer
from ipi_driver.networks.metatrain_pet.layers import Head as HeadModule
from ipi_driver.networks.metatrain_pet.network import _LENGTH_FLOOR, _WEIGHT_FLOOR, MetatrainPetNetwork
from ipi_driver.networks.metatrain_pet.passes import Combination, EdgeTokens, Tensors, Transformer
from ipi_driver.networks.pet.gradients import BLOCK_TOKENS, DEVICE_BLOCK_TOKENS
from ipi_driver.networks.pet.passes import ACTIVATIONS, Head


class _Layer:
    """The parts of a `GnnLayer`."""

    def __init__(self, layer: GnnLayer, table: torch.Tensor | None) -> None:
        self.edge_tokens = EdgeTokens(layer, table)
        self.transformers = [Transformer(t) for t in layer.layers]  # type: ignore[arg-type]


def _head(module: nn.Module, scale: float) -> Head:
    assert isinstance(module, HeadModule)
    head = Head(nn.Sequential(*module.hidden, module.last), ACTIVATIONS["silu"])
    head.last, head.last_bias = head.last * scale, head.last_bias * scale
    return head


class MetatrainPetGradients:
    """The function (edge vectors, graph) -> (atomic energies, bond energies, derivatives by the edge vectors).

    Parameters
    ----------
    network
        Its weights are taken as they are now.
    block_tokens
        Largest number of tokens in a block; None chooses by the device.
    """

    def __init__(self, network: MetatrainPetNetwork, block_tokens: int | None = None) -> None:
        self.network, self.config, self.block_tokens = network, network.config, block_tokens
        self.table = network.message_embedding.weight.detach()
        self.centers = [e.weight.detach() for e in network.center_embeddings if isinstance(e, nn.Embedding)]
        self.layers = [
            _Layer(layer, None if k else self.table)  # type: ignore[arg-type]
            for k, layer in enumerate(network.gnn_layers)
        ]
        scale = self.config.energy_scale
        self.center_heads = [_head(head, scale) for head in network.center_heads]
        self.bond_heads = [_head(head, scale) for head in network.bond_heads]
        self.system_bias = None if network.system_bias is None else network.system_bias.detach()
        self.combinations = []
        if self.config.featurizer == "feedforward":
            parts = zip(network.combination_norms, network.combinations, strict=True)
            self.combinations = [Combination(norm, mlp) for norm, mlp in parts]

    def __call__(
        self, vectors: torch.Tensor, graph: Graph
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Atomic (n_nodes,) and bond energies (n_edges,), eV, and derivatives (n_edges, 3) of their sum, eV/Å."""
        lengths = vectors.norm(dim=1).requires_grad_(True)
        with torch.enable_grad():
            kept, weights = self.network.select(lengths, graph)
        if kept is None:
            atomic, bonds, gradients, by_weight = self.energies(vectors, weights.detach(), graph)
        else:
            inner = self.energies(vectors[kept], weights.detach(), graph.select(kept))
            atomic, inner_bonds, inner_gradients, by_weight = inner
            bonds = vectors.new_zeros(graph.n_edges).index_copy_(0, kept, inner_bonds)
            gradients = torch.zeros_like(vectors).index_copy_(0, kept, inner_gradients)
        if graph.n_edges:
            (by_length,) = torch.autograd.grad(weights, lengths, by_weight)
            gradients.addcmul_(vectors, (by_length / lengths.detach())[:, None])
        return atomic, bonds, gradients

    def energies(
        self, vectors: torch.Tensor, weights: torch.Tensor, graph: Graph
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """As `MetatrainPetNetwork.energies`, with the derivatives by vectors (n_edges, 3) and weights (n_edges,)."""
        chosen = BLOCK_TOKENS if vectors.device.type == "cpu" else DEVICE_BLOCK_TOKENS
        blocks = blocks_of(graph, self.config.n_heads, self.block_tokens or chosen)
        with torch.no_grad():
            evaluation = _Evaluation(self, vectors, weights, graph, blocks)
            return evaluation.feedforward() if self.combinations else evaluation.residual()


class _Evaluation:
    """One evaluation: the arrays that the layers and blocks share."""

    def __init__(
        self,
        parts: MetatrainPetGradients,
        vectors: torch.Tensor,
        weights: torch.Tensor,
        graph: Graph,
        blocks: list[Block],
    ) -> None:
        self.parts, self.vectors, self.weights, self.graph, self.blocks = (
            parts,
            vectors,
            weights,
            graph,
            blocks,
        )
        self.n_heads = parts.config.n_heads
        self.lengths = vectors.square().sum(1).add_(_LENGTH_FLOOR).sqrt_()
        self.features = torch.cat([vectors, self.lengths[:, None]], dim=1)
        log_weights = weights.clamp_min(_WEIGHT_FLOOR).log_()
        self.biases = [self._bias(log_weights, block) for block in blocks]
        self.atomic = vectors.new_zeros(graph.n_nodes)
        self.bonds = vectors.new_zeros(graph.n_edges)
        self.g_features = torch.zeros_like(self.features)
        self.g_log_weights = torch.zeros_like(log_weights)
        self.kept: dict[tuple[int, int], tuple[torch.Tensor, list[list[Tensors]]]] = {}

    def _bias(self, log_weights: torch.Tensor, block: Block) -> torch.Tensor:
        """(n_heads * n_nodes, 1, row_length): 0 for centers, -inf for empty slots."""
        bias = log_weights.new_full((block.n_nodes * block.row_length,), -math.inf)
        bias[:: block.row_length] = 0.0
        bias.index_copy_(0, block.edge_slots, log_weights[block.edges])
        rows = bias.view(1, block.n_nodes, 1, block.row_length)
        return rows.expand(self.n_heads, -1, -1, -1).reshape(-1, 1, block.row_length)

    def _results(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Energies and derivatives, when all layers have been passed forward and back."""
        by_weight = torch.where(self.weights < _WEIGHT_FLOOR, 0.0, self.g_log_weights / self.weights)
        by_length = self.g_features[:, 3] / self.lengths
        by_vector = torch.addcmul(self.g_features[:, :3], self.vectors, by_length[:, None])
        return self.atomic, self.bonds * self.weights, by_vector, by_weight.add_(self.bonds)

    def _forward(
        self, k: int, i: int, centers: torch.Tensor, messages: torch.Tensor | None, sent: torch.Tensor
    ) -> torch.Tensor:
        """Central tokens of block ``i`` after GNN layer ``k``; its edge tokens are written to ``sent``."""
        layer, block = self.parts.layers[k], self.blocks[i]
        n, edges = block.n_nodes, block.edges
        tokens = sent.new_empty(block.n_tokens, sent.shape[1])
        received = None if messages is None else messages[edges]
        species = self.graph.neighbor_species[edges]
        of_edges = layer.edge_tokens.forward(self.features[edges], received, species, tokens[n:])
        kept = []
        for transformer in layer.transformers:
            centers, tokens, more = transformer.forward(centers, tokens, self.biases[i], block)
            kept.append(more)
        self.kept[k, i] = (of_edges, kept)
        sent[edges] = tokens[n:]
        return centers if self.parts.system_bias is None else centers + self.parts.system_bias

    def _backward(
        self,
        k: int,
        i: int,
        g_centers: torch.Tensor,
        g_edges: torch.Tensor,
        g_messages: torch.Tensor | None,
        constant_centers: bool,
    ) -> torch.Tensor | None:
        """Derivatives by the central tokens of a block; adds those by its features, weights and messages."""
        layer, block = self.parts.layers[k], self.blocks[i]
        edges = block.edges
        of_edges, kept = self.kept.pop((k, i))
        scores: torch.Tensor | None = None
        of_centers: torch.Tensor | None = g_centers
        for position in range(len(layer.transformers) - 1, -1, -1):
            assert of_centers is not None
            last = constant_centers and position == 0
            of_centers, g_edges, more = layer.transformers[position].backward(
                of_centers, g_edges, kept.pop(), block, last
            )
            scores = more if scores is None else scores.add_(more)
        assert scores is not None
        rows = scores.view(self.n_heads, block.n_nodes, -1, block.row_length)
        self.g_log_weights[edges] += rows.sum((0, 2)).view(-1).index_select(0, block.edge_slots)
        layer.edge_tokens.backward(
            g_edges, of_edges, self.g_features[edges], None if g_messages is None else g_messages[edges]
        )
        return of_centers

    def feedforward(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """The featurizer "feedforward"."""
        parts, graph, blocks = self.parts, self.graph, self.blocks
        centers = [parts.centers[0].index_select(0, graph.species[block.nodes]) for block in blocks]
        reverse = graph.reverse
        pairs = torch.stack([torch.arange(len(reverse), device=reverse.device), reverse], dim=1).view(-1)
        of_pairs: dict[tuple[int, int], Tensors] = {}
        messages: torch.Tensor | None = None
        d = parts.table.shape[1]
        for k, combination in enumerate(parts.combinations):
            sent = self.vectors.new_empty(graph.n_edges, d)
            centers = [self._forward(k, i, centers[i], messages, sent) for i in range(len(blocks))]
            before = parts.table.index_select(0, graph.neighbor_species) if messages is None else messages
            messages = before + sent
            for i, block in enumerate(blocks):
                edges = block.edges
                both = sent.index_select(0, pairs[2 * edges.start : 2 * edges.stop]).view(-1, 2 * d)
                of_pairs[k, i] = combination.forward(both, messages[edges])
        assert messages is not None
        g_messages = torch.empty_like(messages)
        g_centers: list[torch.Tensor] = []
        for i, block in enumerate(blocks):
            g_centers.append(
                self._readout(0, block, centers[i], messages[block.edges], g_messages[block.edges])
            )
        for k in range(len(parts.layers) - 1, -1, -1):
            g_both = self.vectors.new_empty(graph.n_edges, 2 * d)
            for i, block in enumerate(blocks):
                g_both[block.edges] = parts.combinations[k].backward(
                    g_messages[block.edges], of_pairs.pop((k, i))
                )
            g_sent = g_both.view(-1, d).index_select(0, 2 * reverse + 1).add_(g_both[:, :d]).add_(g_messages)
            for i, block in enumerate(blocks):
                onward = g_messages if k else None
                found = self._backward(k, i, g_centers[i], g_sent[block.edges], onward, k == 0)
                if found is not None:
                    g_centers[i] = found
        return self._results()

    def _readout(
        self, k: int, block: Block, centers: torch.Tensor, tokens: torch.Tensor, out: torch.Tensor
    ) -> torch.Tensor:
        """Add the energies of a block; returns the derivatives by the centers, writes those by the edge tokens."""
        g_centers = torch.empty_like(centers)
        self.atomic[block.nodes] += self.parts.center_heads[k].evaluate(centers, g_centers)
        weights = self.weights[block.edges]
        self.bonds[block.edges] += self.parts.bond_heads[k].evaluate(tokens, out, weights)
        return g_centers

    def residual(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """The featurizer "residual"."""
        parts, graph, blocks = self.parts, self.graph, self.blocks
        messages: torch.Tensor | None = None
        seeds: list[tuple[list[torch.Tensor], torch.Tensor]] = []
        for k in range(len(parts.layers)):
            sent = self.vectors.new_empty(graph.n_edges, parts.table.shape[1])
            g_centers, g_sent = [], torch.empty_like(sent)
            for i, block in enumerate(blocks):
                centers = parts.centers[k].index_select(0, graph.species[block.nodes])
                centers = self._forward(k, i, centers, messages, sent)
                g_centers.append(self._readout(k, block, centers, sent[block.edges], g_sent[block.edges]))
            seeds.append((g_centers, g_sent))
            before = parts.table.index_select(0, graph.neighbor_species) if messages is None else messages
            messages = sent.index_select(0, graph.reverse).add_(before).mul_(0.5)
        g_messages: torch.Tensor | None = None
        for k in range(len(parts.layers) - 1, -1, -1):
            g_centers, g_sent = seeds.pop()
            onward: torch.Tensor | None = None
            if g_messages is not None:
                g_sent.add_(g_messages.index_select(0, graph.reverse), alpha=0.5)
                onward = g_messages.mul_(0.5)
            elif k:
                onward = torch.zeros_like(g_sent)
            for i, block in enumerate(blocks):
                self._backward(k, i, g_centers[i], g_sent[block.edges], onward if k else None, True)
            g_messages = onward
        return self._results()
