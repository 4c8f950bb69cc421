"""Forward and backward passes of the parts of PET on one block of atoms, without autograd.

Autograd records every operation, keeps inputs that only derivatives by the weights need, and calls back into Python
for the gathers; for a small molecule that costs several times the arithmetic. Here the weights are constants: a pass
forward returns its result and what the pass backward needs, a pass backward turns the derivative of the energy by the
result into that by the input. The names of the arrays are those of `ipi_driver.networks.pet.network`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import linear

from ipi_driver.networks import kernels
from ipi_driver.networks.attention import Attention, Tensors
from ipi_driver.networks.blocks import Block
from ipi_driver.networks.pet.network import GnnLayer, TransformerLayer

_norm_backward = torch.ops.aten.native_layer_norm_backward.default
_ONLY_INPUT = [True, False, False]


def _norm_backward_of_input(
    gradient: torch.Tensor,
    x: torch.Tensor,
    shape: list[int],
    mean: torch.Tensor,
    inverse_std: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
) -> torch.Tensor:
    return torch.ops.aten.native_layer_norm_backward(
        gradient, x, shape, mean, inverse_std, weight, bias, [True, False, False]
    )[0]


@cache
def _recordable_norm_backward() -> Callable[..., torch.Tensor]:
    """The same as a script: a recording does not take the list of booleans."""
    script: Callable[..., torch.Tensor] = torch.jit.script(_norm_backward_of_input)
    return script


class Activation(NamedTuple):
    """An activation function, and the derivative of the energy by its argument from that by its value."""

    value: Callable[[torch.Tensor], torch.Tensor]
    backward: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


ACTIVATIONS = {
    "silu": Activation(nn.functional.silu, torch.ops.aten.silu_backward.default),
    "mish": Activation(nn.functional.mish, torch.ops.aten.mish_backward.default),
}


class Norm:
    """Layer normalization; keeps its argument, the means and the inverse standard deviations."""

    def __init__(self, module: nn.LayerNorm) -> None:
        self.shape = list(module.normalized_shape)
        self.weight, self.bias, self.eps = module.weight.detach(), module.bias.detach(), module.eps

    def forward(self, x: torch.Tensor, added: torch.Tensor | None = None) -> tuple[torch.Tensor, Tensors]:
        """The norm of ``x + added``; the sum is written to ``x``."""
        if kernels.usable(x):
            y, *kept = kernels.sum_norm(x, added, self.weight, self.bias, self.eps)
            return y, tuple(kept)
        if added is not None:
            x += added
        y, mean, inverse_std = torch.native_layer_norm(x, self.shape, self.weight, self.bias, self.eps)
        return y, (x, mean, inverse_std)

    def backward(
        self,
        gradient: torch.Tensor,
        kept: Tensors,
        before: torch.Tensor | None = None,
        after: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Derivative by the argument; ``before`` is added to ``gradient``, or ``after`` to the result."""
        x, mean, inverse_std = kept
        if kernels.usable(x):
            added = after if before is None else before
            return kernels.norm_backward(
                gradient, x, mean, inverse_std, self.weight, added, before is not None
            )
        if before is not None:
            gradient = gradient.add_(before)
        result = self._backward(gradient, x, mean, inverse_std)
        return result if after is None else result.add_(after)

    def _backward(
        self, gradient: torch.Tensor, x: torch.Tensor, mean: torch.Tensor, inverse_std: torch.Tensor
    ) -> torch.Tensor:
        if torch.jit.is_tracing():
            return _recordable_norm_backward()(
                gradient, x, self.shape, mean, inverse_std, self.weight, self.bias
            )
        result: torch.Tensor = _norm_backward(
            gradient, x, self.shape, mean, inverse_std, self.weight, self.bias, _ONLY_INPUT
        )[0]
        return result


class Transformer:
    """One `TransformerLayer` on the tokens (n_tokens, d) of a block."""

    def __init__(self, layer: TransformerLayer, activation: Activation) -> None:
        self.pre_norm, self.activation = layer.pre_norm, activation
        self.attention = Attention(
            layer.qkv.weight, layer.qkv.bias, layer.out.weight, layer.out.bias, layer.scale, layer.n_heads
        )
        first, _, second = layer.feedforward
        assert isinstance(first, nn.Linear)
        assert isinstance(second, nn.Linear)
        self.up, self.up_bias = first.weight.detach(), first.bias.detach()
        self.down, self.down_bias = second.weight.detach(), second.bias.detach()
        self.norm_attention, self.norm_feedforward = Norm(layer.norm_attention), Norm(layer.norm_feedforward)

    def forward(self, tokens: torch.Tensor, bias: torch.Tensor, block: Block) -> tuple[torch.Tensor, Tensors]:
        """Output tokens, and what `backward` needs."""
        if self.pre_norm:
            normed, kept_first = self.norm_attention.forward(tokens)
            middle, kept = self.attention.forward(normed, bias, block)
            normed, kept_second = self.norm_feedforward.forward(middle, tokens)
            hidden = linear(normed, self.up, self.up_bias)
            result = linear(self.activation.value(hidden), self.down, self.down_bias).add_(middle)
            return result, (*kept, *kept_first, *kept_second, hidden)
        attended, kept = self.attention.forward(tokens, bias, block)
        middle, kept_first = self.norm_attention.forward(attended, tokens)
        hidden = linear(middle, self.up, self.up_bias)
        added = linear(self.activation.value(hidden), self.down, self.down_bias)
        result, kept_second = self.norm_feedforward.forward(added, middle)
        return result, (*kept, *kept_first, *kept_second, hidden)

    def backward(
        self, gradient: torch.Tensor, kept: Tensors, block: Block
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Derivatives by the input tokens and by the scores (n_heads * n_nodes, row_length, row_length)."""
        of_attention, of_first, of_second, hidden = kept[:2], kept[2:5], kept[5:8], kept[8]
        if not self.pre_norm:
            gradient = self.norm_feedforward.backward(gradient, of_second)
        g_hidden = self.activation.backward(gradient @ self.down, hidden)
        if self.pre_norm:
            g_middle = self.norm_feedforward.backward(g_hidden @ self.up, of_second, after=gradient)
        else:
            g_middle = self.norm_attention.backward(g_hidden @ self.up, of_first, before=gradient)
        g_tokens, g_scores = self.attention.backward(g_middle, of_attention, block)
        if self.pre_norm:
            return self.norm_attention.backward(g_tokens, of_first, after=g_middle), g_scores
        return g_tokens.add_(g_middle), g_scores


class Head:
    """The energy of each token, and at once its derivative by the token."""

    def __init__(self, head: nn.Sequential, activation: Activation) -> None:
        first, _, second, _, last = head
        assert isinstance(first, nn.Linear)
        assert isinstance(second, nn.Linear)
        assert isinstance(last, nn.Linear)
        self.activation = activation
        self.first, self.first_bias = first.weight.detach(), first.bias.detach()
        self.second, self.second_bias = second.weight.detach(), second.bias.detach()
        self.last, self.last_bias = last.weight[0].detach(), last.bias.detach()

    def evaluate(
        self, tokens: torch.Tensor, out: torch.Tensor, factors: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Energies (n,) of tokens (n, d); ``out`` (n, d) takes the derivatives of their sum, times ``factors`` (n,)."""
        hidden = linear(tokens, self.first, self.first_bias)
        upper = linear(self.activation.value(hidden), self.second, self.second_bias)
        energies = torch.addmv(self.last_bias, self.activation.value(upper), self.last)
        seed = self.last.expand_as(upper) if factors is None else torch.outer(factors, self.last)
        gradient = self.activation.backward(seed, upper) @ self.second
        torch.mm(self.activation.backward(gradient, hidden), self.first, out=out)
        return energies


class EdgeTokens:
    """The edge tokens of a `GnnLayer` from features and messages."""

    def __init__(self, layer: GnnLayer, activation: Activation) -> None:
        self.activation = activation
        embedding, (first, *rest) = layer.edge_embedding[0], layer.compress
        assert isinstance(embedding, nn.Linear)
        assert isinstance(first, nn.Linear)
        d = embedding.weight.shape[0]
        of_edges, self.of_messages = first.weight[:, :d].detach(), first.weight[:, -d:].detach()
        self.embed, self.embed_bias = embedding.weight.detach(), embedding.bias.detach()
        self.of_edges: torch.Tensor | None = None
        self.bias = first.bias.detach()
        if len(layer.edge_embedding) == 1:  # two linear maps in a row are one
            self.embed_bias = torch.addmv(self.bias, of_edges, self.embed_bias)
            self.embed = of_edges @ self.embed
        else:
            self.of_edges = of_edges
        self.of_species: torch.Tensor | None = None
        if layer.neighbor_embedding is not None:
            self.of_species = (layer.neighbor_embedding.weight @ first.weight[:, d : 2 * d].T).detach()
        self.last = self.last_bias = None
        if rest:
            last = rest[-1]
            assert isinstance(last, nn.Linear)
            self.last, self.last_bias = last.weight.detach(), last.bias.detach()
        self.of_messages_t, self.last_t = self.of_messages.t(), None if self.last is None else self.last.t()

    def forward(
        self, features: torch.Tensor, messages: torch.Tensor, species: torch.Tensor, out: torch.Tensor
    ) -> Tensors:
        """Write the tokens (n_edges, d) to ``out``; returns what `backward` needs."""
        kept: Tensors = ()
        tokens = linear(features, self.embed, self.embed_bias)
        if self.of_edges is not None:
            kept = (tokens,)
            tokens = linear(self.activation.value(tokens), self.of_edges, self.bias)
        tokens.addmm_(messages, self.of_messages_t)
        if self.of_species is not None:
            tokens += self.of_species.index_select(0, species)
        if self.last_t is None or self.last_bias is None:
            out.copy_(tokens)
            return kept
        torch.mm(self.activation.value(tokens), self.last_t, out=out).add_(self.last_bias)
        return (*kept, tokens)

    def backward(
        self,
        gradient: torch.Tensor,
        kept: Tensors,
        g_features: torch.Tensor,
        g_messages: torch.Tensor | None,
    ) -> None:
        """Add the derivatives by the features, and write those by the messages, from those by the tokens."""
        if self.last is not None:
            gradient = self.activation.backward(gradient @ self.last, kept[-1])
        if g_messages is not None:
            torch.mm(gradient, self.of_messages, out=g_messages)
        if self.of_edges is not None:
            gradient = self.activation.backward(gradient @ self.of_edges, kept[0])
        g_features.addmm_(gradient, self.embed)
