"""Energies of PET and their derivatives by the edge vectors in one hand-written pass, block of atoms by block of atoms.

What a block needs for its way back is kept as long as there is memory for it (`PetGradients.memory`); beyond, the
block is computed forward a second time. Between blocks stand only the messages of the edges, so that the memory of a
large system is that of a few arrays (n_edges, d_model) per GNN layer.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch

from ipi_driver.networks.blocks import Block, blocks_of
from ipi_driver.networks.graph import Graph
from ipi_driver.networks.pet.features import BlockFeatures
from ipi_driver.networks.pet.network import (
    _LENGTH_FLOOR,
    _WEIGHT_FLOOR,
    GnnLayer,
    PetNetwork,
    TransformerLayer,
)
from ipi_driver.networks.pet.passes import ACTIVATIONS, EdgeTokens, Head, Norm, Tensors, Transformer
from ipi_driver.networks.pet.recorded import Results, record

BLOCK_TOKENS = 1024
"""Tokens of a block on a CPU: their arrays fit the caches, and each product is long enough."""

DEVICE_BLOCK_TOKENS = 1 << 18
"""Tokens of a block on other devices, which want work in large pieces."""

DEVICE_BLOCK_SHARE = 0.15
"""Of the memory of another device, for the arrays of a block."""

MEMORY = 1 << 30
"""Bytes kept for the way back on a CPU."""

DEVICE_MEMORY_SHARE = 0.4
"""Of the memory of another device, kept for the way back."""

RECORD_AFTER = 50
"""Evaluations of one graph after which recording it pays."""

MOST_RECORDED = 16
"""Recordings of a network: torch never frees one."""

DEVICE_RECORDED_TOKENS = 1 << 14
"""Most tokens of a pass that is recorded on another device: a recording keeps its arrays."""

SWITCH = "IPI_DRIVER_RECORD"
"""Environment variable; ``off``: passes are not recorded."""

# The settings that this module knows; another one must have its default value, which changes nothing.
_KNOWN = frozenset(
    (
        "species",
        "cutoff",
        "cutoff_width",
        "d_model",
        "n_heads",
        "d_feedforward",
        "n_gnn_layers",
        "n_attention_layers",
    )
    + (
        "d_head",
        "norm",
        "compress",
        "activation",
        "embedding_activation",
        "blend_neighbor_species",
        "bond_energies",
    )
    + ("residual_factor", "radial_basis", "angular_basis", "angular_order", "cartesian")
)


def supported(network: torch.nn.Module) -> bool:
    """Whether `PetGradients` computes what this network computes."""
    if type(network) is not PetNetwork:
        return False
    config = network.config
    for name, field in type(config).model_fields.items():
        if name not in _KNOWN and getattr(config, name) != field.get_default(call_default_factory=True):
            return False
    return (
        config.norm in ("pre", "post")
        and config.compress in ("linear", "mlp")
        and config.activation in ACTIVATIONS
    )


class _Layer:
    """The parts of a `GnnLayer`."""

    def __init__(self, layer: GnnLayer, activation: str) -> None:
        chosen = ACTIVATIONS[activation]
        self.edge_tokens = EdgeTokens(layer, chosen)
        self.centers = layer.center_embedding.weight.detach()
        self.transformers = [Transformer(t, chosen) for t in layer.layers if isinstance(t, TransformerLayer)]
        self.final_norm = None if layer.final_norm is None else Norm(layer.final_norm)
        self.center_head = Head(layer.center_head, chosen)
        self.bond_head = None if layer.bond_head is None else Head(layer.bond_head, chosen)


class PetGradients:
    """The function (edge vectors, graph) -> (atomic energies, bond energies, derivatives by the edge vectors).

    Parameters
    ----------
    network
        For which `supported` is true; its weights are taken as they are now.
    block_tokens
        Largest number of tokens in a block; None chooses by the device.
    memory
        Bytes kept for the way back; None chooses by the device.
    record_after
        Evaluations of one graph after which its pass is recorded, where it is a single block; None: never.
    """

    def __init__(
        self,
        network: PetNetwork,
        block_tokens: int | None = None,
        memory: int | None = None,
        record_after: int | None = RECORD_AFTER,
    ) -> None:
        self.config = network.config
        self.network = network
        self.layers = [
            _Layer(layer, network.config.activation)
            for layer in network.gnn_layers
            if isinstance(layer, GnnLayer)
        ]
        self.first_messages = network.message_embedding.weight.detach()
        self.block_tokens = block_tokens
        self.memory = memory
        self.record_after = None if os.environ.get(SWITCH) == "off" else record_after
        self._uses: WeakKeyDictionary[Graph, int] = WeakKeyDictionary()
        self.recordings: WeakKeyDictionary[Graph, Callable[..., Results]] = WeakKeyDictionary()
        self._known: dict[bytes, Callable[..., Results]] = {}

    def __call__(
        self, vectors: torch.Tensor, graph: Graph
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Atomic (n_nodes,) and bond energies (n_edges,), eV, and derivatives (n_edges, 3) of their sum, eV/Å."""
        recording = self.recordings.get(graph)
        if recording is not None:
            with torch.inference_mode():
                return recording(vectors)
        blocks = blocks_of(
            graph, self.config.n_heads, self.block_tokens or self._block_tokens(vectors, graph)
        )
        short = vectors.device.type == "cpu" or graph.n_tokens <= DEVICE_RECORDED_TOKENS
        if len(blocks) == 1 and short and self.record_after is not None:
            self._count(vectors, graph, blocks)
        with torch.inference_mode():
            return _Evaluation(self, vectors, graph, blocks).run()

    def _block_tokens(self, vectors: torch.Tensor, graph: Graph) -> int:
        if vectors.device.type == "cpu":
            return BLOCK_TOKENS
        config = self.config
        layers = config.n_gnn_layers * config.n_attention_layers
        numbers = layers * (8 * config.d_model + config.d_feedforward + config.n_heads * graph.row_length)
        room = DEVICE_BLOCK_SHARE * _device_memory(vectors.device)
        return max(BLOCK_TOKENS, min(DEVICE_BLOCK_TOKENS, int(room / (numbers * vectors.element_size()))))

    def memory_on(self, device: torch.device) -> int:
        """Bytes that may be kept for the way back."""
        if self.memory is not None:
            return self.memory
        return MEMORY if device.type == "cpu" else int(DEVICE_MEMORY_SHARE * _device_memory(device))

    def _count(self, vectors: torch.Tensor, graph: Graph, blocks: list[Block]) -> None:
        """Record the pass of a graph that has been used often; one with the same edges takes its recording."""
        self._uses[graph] = count = self._uses.get(graph, 0) + 1
        if count == 1 and self._known:
            known = self._known.get(_content(graph, vectors))
            if known is not None:
                self.recordings[graph] = known
        elif count == self.record_after and len(self._known) < MOST_RECORDED:
            found = record(lambda x: _Evaluation(self, x, graph, blocks).run(), vectors)
            if found is not None:
                self.recordings[graph] = self._known[_content(graph, vectors)] = found


def _device_memory(device: torch.device) -> int:
    """Bytes; of a device that does not tell, as much as a CPU may take."""
    if device.type != "cuda":
        return MEMORY
    return int(torch.cuda.get_device_properties(device).total_memory)


def _content(graph: Graph, vectors: torch.Tensor) -> bytes:
    """A digest of what the pass of a graph depends on besides the edge vectors."""
    digest = hashlib.sha256(f"{vectors.dtype} {vectors.device} {graph.row_length}".encode())
    for tensor in (graph.species, graph.neighbor_species, graph.centers, graph.reverse):
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.digest()


class _Geometry:
    """What the network takes from the edge vectors, and its derivatives."""

    def __init__(self, network: PetNetwork, vectors: torch.Tensor, graph: Graph, blocks: list[Block]) -> None:
        config = network.config
        self.vectors, self.width = vectors, config.cutoff_width
        self.lengths = vectors.square().sum(1).add_(_LENGTH_FLOOR).sqrt_()
        inner = config.cutoff - config.cutoff_width
        self.angles = self.lengths.sub(inner).mul_(1.0 / self.width).clamp_(0.0, 1.0).mul_(math.pi)
        self.weights = self.angles.cos().mul_(0.5).add_(0.5)
        self.floored = self.weights + _WEIGHT_FLOOR
        self.of_edges = BlockFeatures(network.features, vectors, self.lengths, self.weights, graph, blocks)
        self.features = self.of_edges.values

    def gradient(self, g_features: torch.Tensor, g_weights: torch.Tensor) -> torch.Tensor:
        """Derivatives (n_edges, 3) by the vectors from those by the features and by the weights."""
        g_vectors, g_lengths, more = self.of_edges.gradient(g_features)
        slope = self.angles.sin().mul_(-0.5 * math.pi / self.width)
        g_lengths.addcmul_(slope, more.add_(g_weights))
        return g_vectors.addcmul_(self.vectors, g_lengths.div_(self.lengths)[:, None])


class _Evaluation:
    """One evaluation: the arrays that the layers and blocks share."""

    def __init__(
        self, gradients: PetGradients, vectors: torch.Tensor, graph: Graph, blocks: list[Block]
    ) -> None:
        self.layers, self.graph, self.blocks = gradients.layers, graph, blocks
        self.factor, self.n_heads = gradients.config.residual_factor, gradients.config.n_heads
        self.geometry = _Geometry(gradients.network, vectors, graph, blocks)
        log_weights = self.geometry.floored.log()
        self.biases = [self._bias(log_weights, block) for block in blocks]
        self.messages = [gradients.first_messages.index_select(0, graph.neighbor_species)]
        self.atomic = vectors.new_zeros(graph.n_nodes)
        self.bonds = vectors.new_zeros(graph.n_edges)
        self.g_features = torch.zeros_like(self.geometry.features)
        self.g_log_weights = torch.zeros_like(log_weights)
        self.kept: dict[tuple[int, int], list[Tensors]] = {}
        self.left = gradients.memory_on(vectors.device)

    def _bias(self, log_weights: torch.Tensor, block: Block) -> torch.Tensor:
        """(n_heads * n_nodes, 1, row_length): 0 for centers, -inf for empty slots."""
        bias = log_weights.new_full((block.n_nodes * block.row_length,), -math.inf)
        bias[:: block.row_length] = 0.0
        bias.index_copy_(0, block.edge_slots, log_weights[block.edges])
        rows = bias.view(1, block.n_nodes, 1, block.row_length)
        return rows.expand(self.n_heads, -1, -1, -1).reshape(-1, 1, block.row_length)

    def run(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See `PetGradients`."""
        last = len(self.layers) - 1
        for k in range(last):
            self._forward_layer(k)
        gradient: torch.Tensor | None = None
        for k in range(last, -1, -1):
            gradient = self._backward_layer(k, gradient)
        g_weights = self.g_log_weights.div_(self.geometry.floored).add_(self.bonds)
        derivatives = self.geometry.gradient(self.g_features, g_weights)
        return self.atomic, self.bonds.mul_(self.geometry.weights), derivatives

    def _forward_layer(self, k: int) -> None:
        """GNN layer ``k`` of all blocks; the messages of the next."""
        sent = torch.empty_like(self.messages[k])
        for i, block in enumerate(self.blocks):
            tokens, kept = self._forward(k, i, count=True)
            sent[block.edges] = tokens[block.n_nodes :]
            if len(self.blocks) > 1:
                self.left -= sum(tensor.nbytes for group in kept for tensor in group)
            if self.left >= 0:
                self.kept[k, i] = kept
        received = sent.index_select(0, self.graph.reverse)
        self.messages.append(received.add_(self.messages[k]).mul_(self.factor))

    def _backward_layer(self, k: int, g_next: torch.Tensor | None) -> torch.Tensor | None:
        """Derivatives by the messages of layer ``k`` (None for the first) from those of the next."""
        g_sent = None if g_next is None else g_next.index_select(0, self.graph.reverse).mul_(self.factor)
        g_messages = torch.empty_like(self.messages[k]) if k else None
        for i, block in enumerate(self.blocks):
            kept = self.kept.pop((k, i), None)
            if kept is None:  # the last layer comes here first, for it there is no other way than to and back
                kept = self._forward(k, i, count=g_next is None)[1]
            self._backward(k, block, kept, g_sent, g_messages)
        if g_messages is not None and g_next is not None:
            g_messages.add_(g_next, alpha=self.factor)
        return g_messages

    def _forward(self, k: int, i: int, count: bool) -> tuple[torch.Tensor, list[Tensors]]:
        """Output tokens of a block, and what `_backward` needs; energies are added if ``count``."""
        layer, block = self.layers[k], self.blocks[i]
        n, edges = block.n_nodes, block.edges
        messages = self.messages[k][edges]
        tokens = messages.new_empty(block.n_tokens, messages.shape[1])
        torch.index_select(layer.centers, 0, self.graph.species[block.nodes], out=tokens[:n])
        species = self.graph.neighbor_species[edges]
        kept = [layer.edge_tokens.forward(self.geometry.features[edges], messages, species, tokens[n:])]
        for transformer in layer.transformers:
            tokens, more = transformer.forward(tokens, self.biases[i], block)
            kept.append(more)
        if layer.final_norm is not None:
            tokens, more = layer.final_norm.forward(tokens)
            kept.append(more)
        seed = torch.empty_like(tokens) if layer.bond_head is not None else torch.zeros_like(tokens)
        energies = layer.center_head.evaluate(tokens[:n], seed[:n])
        if count:
            self.atomic[block.nodes] += energies
        if layer.bond_head is not None:
            energies = layer.bond_head.evaluate(tokens[n:], seed[n:], self.geometry.weights[edges])
            if count:
                self.bonds[edges] += energies
        kept.append((seed,))
        return tokens, kept

    def _backward(
        self,
        k: int,
        block: Block,
        kept: list[Tensors],
        g_sent: torch.Tensor | None,
        g_messages: torch.Tensor | None,
    ) -> None:
        """Add the derivatives of a block by features and weights, write those by its messages."""
        layer, n, edges = self.layers[k], block.n_nodes, block.edges
        (gradient,) = kept.pop()
        if g_sent is not None:
            gradient[n:] += g_sent[edges]
        if layer.final_norm is not None:
            gradient = layer.final_norm.backward(gradient, kept.pop())
        g_scores: torch.Tensor | None = None
        for transformer in reversed(layer.transformers):
            gradient, scores = transformer.backward(gradient, kept.pop(), block)
            g_scores = scores if g_scores is None else g_scores.add_(scores)
        if g_scores is not None:
            rows = g_scores.view(self.n_heads, block.n_nodes, -1, block.row_length)
            self.g_log_weights[edges] += rows.sum((0, 2)).view(-1).index_select(0, block.edge_slots)
        layer.edge_tokens.backward(
            gradient[n:],
            kept.pop(),
            self.g_features[edges],
            None if g_messages is None else g_messages[edges],
        )
