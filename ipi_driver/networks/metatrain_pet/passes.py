"""Forward and backward passes of the parts of metatrain's PET on one block of atoms, without autograd.

As in `ipi_driver.networks.pet.passes` the weights are constants: a pass forward returns its result and what the pass
backward needs, a pass backward turns the derivative of the energy by the result into that by the input. The factors of
a norm that feeds one linear layer are part of that layer's weights.
"""

from __future__ import annotations

import torch
from torch import nn

from ipi_driver.networks.attention import Attention, Tensors
from ipi_driver.networks.blocks import Block
from ipi_driver.networks.metatrain_pet.layers import FeedForward, GnnLayer, TransformerLayer

_layer_norm_backward = torch.ops.aten.native_layer_norm_backward.default
_silu_backward = torch.ops.aten.silu_backward.default
_glu_backward = torch.ops.aten.glu_backward.default
_ONLY_INPUT = [True, False, False]


class Norm:
    """RMS or layer normalization; ``folded`` leaves its factors to the linear layer that follows."""

    def __init__(self, module: nn.Module, folded: bool) -> None:
        assert isinstance(module, nn.RMSNorm | nn.LayerNorm)
        self.width = int(module.normalized_shape[-1])
        self.rms = isinstance(module, nn.RMSNorm)
        weight = module.weight.detach()
        self.eps = torch.finfo(weight.dtype).eps if module.eps is None else module.eps
        self.weight = None if folded else weight
        bias = getattr(module, "bias", None)
        self.bias = None if folded or bias is None else bias.detach()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, Tensors]:
        """Normalized ``x`` (n, width), and what `backward` needs."""
        if self.rms:
            squares = torch.linalg.vector_norm(x, dim=1, keepdim=True).square_()
            inverse = squares.mul_(1.0 / self.width).add_(self.eps).rsqrt_()
            y = x * inverse
            return (y if self.weight is None else y * self.weight), (y, inverse)
        y, mean, inverse = torch.native_layer_norm(x, [self.width], self.weight, self.bias, self.eps)
        return y, (x, mean, inverse)

    def backward(self, gradient: torch.Tensor, kept: Tensors) -> torch.Tensor:
        """Derivative by the input; ``gradient`` is overwritten."""
        if self.rms:
            y, inverse = kept
            if self.weight is not None:
                gradient = gradient.mul_(self.weight)
            along = (gradient * y).sum(1, keepdim=True).mul_(-1.0 / self.width)
            return gradient.addcmul_(y, along).mul_(inverse)
        x, mean, inverse = kept
        result: torch.Tensor = _layer_norm_backward(
            gradient, x, [self.width], mean, inverse, self.weight, self.bias, _ONLY_INPUT
        )[0]
        return result


def folded_weights(linear: nn.Module, norm: nn.Module | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of a linear layer, with the factors of the norm before it."""
    assert isinstance(linear, nn.Linear)
    weight, bias = linear.weight.detach(), linear.bias.detach()
    if norm is None:
        return weight, bias
    assert isinstance(norm, nn.RMSNorm | nn.LayerNorm)
    shift = getattr(norm, "bias", None)
    if shift is not None:
        bias = torch.addmv(bias, weight, shift.detach())
    return weight * norm.weight.detach(), bias


class Perceptron:
    """`FeedForward` with the factors of the norm before it."""

    def __init__(self, module: FeedForward, norm: nn.Module | None) -> None:
        self.gated = module.gated
        self.up, self.up_bias = folded_weights(module.w_in, norm)
        self.down, self.down_bias = folded_weights(module.w_out, None)

    def forward(self, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Write the result to ``out``; returns what `backward` needs."""
        hidden = torch.addmm(self.up_bias, x, self.up.t())
        active = nn.functional.glu(hidden, -1) if self.gated else nn.functional.silu(hidden)
        torch.addmm(self.down_bias, active, self.down.t(), out=out)
        return hidden

    def backward(self, gradient: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        active = gradient @ self.down
        g_hidden = _glu_backward(active, hidden, -1) if self.gated else _silu_backward(active, hidden)
        result: torch.Tensor = g_hidden @ self.up
        return result


def attention_of(layer: TransformerLayer, norm: nn.Module | None) -> Attention:
    """The attention of a layer, with the factors of the norm before it."""
    return Attention(
        *folded_weights(layer.qkv, norm), *folded_weights(layer.out, None), layer.scale, layer.n_heads
    )


class Transformer:
    """One `TransformerLayer` on a block: ``tokens`` (n_tokens, d), whose first rows are the narrowed central tokens."""

    def __init__(self, layer: TransformerLayer) -> None:
        self.pre, self.wide = layer.pre_norm, layer.wide_center
        before = layer.norm_attention, layer.norm_feedforward
        self.attention = attention_of(layer, before[0] if self.pre else None)
        self.perceptron = Perceptron(layer.feedforward, before[1] if self.pre else None)
        self.norm_attention, self.norm_feedforward = (Norm(norm, self.pre) for norm in before)
        if self.wide:
            self.narrow, self.narrow_bias = folded_weights(layer.contraction, None)
            self.widen, self.widen_bias = folded_weights(layer.expansion, None)
            self.norm_center = Norm(layer.norm_center, True)
            self.center = Perceptron(layer.center_feedforward, layer.norm_center)

    def forward(
        self, centers: torch.Tensor, tokens: torch.Tensor, bias: torch.Tensor, block: Block
    ) -> tuple[torch.Tensor, torch.Tensor, list[Tensors]]:
        """Central tokens (n_nodes, d_node) and tokens after the layer; writes the central rows of ``tokens``."""
        n = block.n_nodes
        if self.wide:
            torch.addmm(self.narrow_bias, centers, self.narrow.t(), out=tokens[:n])
        else:
            tokens[:n] = centers
        result = torch.empty_like(tokens)
        if self.pre:
            normed, first = self.norm_attention.forward(tokens)
            attended, kept = self.attention.forward(normed, bias, block)
            new, middle = attended[:n], attended[n:].add_(tokens[n:])
            normed, second = self.norm_feedforward.forward(middle)
            hidden = self.perceptron.forward(normed, result[n:])
            result[n:] += middle
        else:
            attended, kept = self.attention.forward(tokens, bias, block)
            middle, first = self.norm_attention.forward(attended.add_(tokens))
            hidden = self.perceptron.forward(middle, result)
            result, second = self.norm_feedforward.forward(result.add_(middle))
            new = result[:n]
        if not self.wide:
            return new, result, [kept, first, second, (hidden,)]
        grown = torch.addmm(self.widen_bias, new, self.widen.t()).add_(centers)
        normed, third = self.norm_center.forward(grown)
        centers = torch.empty_like(grown)
        hidden_center = self.center.forward(normed, centers)
        return centers.add_(grown), result, [kept, first, second, (hidden,), third, (hidden_center,)]

    def backward(
        self, g_centers: torch.Tensor, g_edges: torch.Tensor, kept: list[Tensors], block: Block, last: bool
    ) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]:
        """Derivatives by the central tokens (None if ``last``), the edge tokens and the scores."""
        n = block.n_nodes
        of_attention, first, second, (hidden,) = kept[:4]
        if self.wide:
            third, (hidden_center,) = kept[4:]
            g_grown = self.norm_center.backward(self.center.backward(g_centers, hidden_center), third)
            g_grown += g_centers
            g_new = g_grown @ self.widen
        else:
            g_new = g_centers
        gradient = g_edges.new_empty(block.n_tokens, g_edges.shape[1])
        if self.pre:
            inner = self.norm_feedforward.backward(self.perceptron.backward(g_edges, hidden), second)
            g_middle = inner.add_(g_edges)
            gradient[:n], gradient[n:] = g_new, g_middle
            g_tokens, g_scores = self.attention.backward(gradient, of_attention, block)
            g_tokens = self.norm_attention.backward(g_tokens, first)
            g_tokens[n:] += g_middle
        else:
            gradient[:n], gradient[n:] = g_new, g_edges
            g_added = self.norm_feedforward.backward(gradient, second)
            g_middle = self.perceptron.backward(g_added, hidden).add_(g_added)
            g_attended = self.norm_attention.backward(g_middle, first)
            g_tokens, g_scores = self.attention.backward(g_attended, of_attention, block)
            g_tokens += g_attended
        if last:
            return None, g_tokens[n:], g_scores
        if not self.wide:
            return g_tokens[:n], g_tokens[n:], g_scores
        return g_grown.addmm_(g_tokens[:n], self.narrow), g_tokens[n:], g_scores


class EdgeTokens:
    """The edge tokens of a `GnnLayer` from features and messages; ``table``: the messages of the species."""

    def __init__(self, layer: GnnLayer, table: torch.Tensor | None) -> None:
        first, _, last = layer.compress
        assert isinstance(first, nn.Linear)
        d = layer.edge_embedding.weight.shape[0]
        geometry, self.of_messages = first.weight[:, :d].detach(), first.weight[:, -d:].detach()
        self.embed = geometry @ layer.edge_embedding.weight.detach()
        self.bias = torch.addmv(first.bias.detach(), geometry, layer.edge_embedding.bias.detach())
        self.last, self.last_bias = folded_weights(last, None)
        if layer.neighbor_embedding is not None:
            self.of_species = (
                layer.neighbor_embedding.weight.detach() @ first.weight[:, d : 2 * d].detach().t()
            )
        else:
            assert table is not None
            self.of_species = table @ self.of_messages.t()

    def forward(
        self, features: torch.Tensor, messages: torch.Tensor | None, species: torch.Tensor, out: torch.Tensor
    ) -> torch.Tensor:
        """Write the tokens (n_edges, d) to ``out``; returns what `backward` needs."""
        tokens = torch.addmm(self.bias, features, self.embed.t()).add_(
            self.of_species.index_select(0, species)
        )
        if messages is not None:
            tokens.addmm_(messages, self.of_messages.t())
        torch.addmm(self.last_bias, nn.functional.silu(tokens), self.last.t(), out=out)
        return tokens

    def backward(
        self,
        gradient: torch.Tensor,
        tokens: torch.Tensor,
        g_features: torch.Tensor,
        g_messages: torch.Tensor | None,
    ) -> None:
        """Write the derivatives by the features, add those by the messages."""
        gradient = _silu_backward(gradient @ self.last, tokens)
        if g_messages is not None:
            g_messages.addmm_(gradient, self.of_messages)
        g_features.addmm_(gradient, self.embed)


class Combination:
    """MLP(LayerNorm([t_ij, t_ji])) of the featurizer "feedforward"."""

    def __init__(self, norm: nn.Module, mlp: nn.Module) -> None:
        assert isinstance(mlp, nn.Sequential)
        first, _, last = mlp
        self.norm = Norm(norm, True)
        self.first, self.first_bias = folded_weights(first, norm)
        self.last, self.last_bias = folded_weights(last, None)

    def forward(self, pairs: torch.Tensor, out: torch.Tensor) -> Tensors:
        """Add the result for ``pairs`` (n_edges, 2 d) to ``out``; returns what `backward` needs."""
        normed, kept = self.norm.forward(pairs)
        hidden = torch.addmm(self.first_bias, normed, self.first.t())
        out.addmm_(nn.functional.silu(hidden), self.last.t()).add_(self.last_bias)
        return (*kept, hidden)

    def backward(self, gradient: torch.Tensor, kept: Tensors) -> torch.Tensor:
        *of_norm, hidden = kept
        g_hidden = _silu_backward(gradient @ self.last, hidden)
        return self.norm.backward(g_hidden @ self.first, tuple(of_norm))
