"""Attention among the tokens of each atom of a block, forward and backward, without autograd.

Of all PETs here: ``softmax(q k^T / temperature + bias) v`` for every head, on rows that hold the tokens of one atom.
The scale of the scores is a part of the weights of the queries.
"""

from __future__ import annotations

import torch
from torch.nn.functional import linear

from ipi_driver.networks import kernels
from ipi_driver.networks.blocks import Block

Tensors = tuple[torch.Tensor, ...]


class Attention:
    """Constant weights of one attention layer.

    Parameters
    ----------
    qkv, qkv_bias
        (3 d, d), (3 d,) weights of queries, keys and values.
    out, out_bias
        (d, d), (d,) weights of the output.
    scale
        Factor of the scores.
    n_heads
        Heads, which divide d.
    """

    def __init__(
        self,
        qkv: torch.Tensor,
        qkv_bias: torch.Tensor,
        out: torch.Tensor,
        out_bias: torch.Tensor,
        scale: float,
        n_heads: int,
    ) -> None:
        d = out.shape[0]
        factors = torch.ones_like(qkv_bias)
        factors[:d] = scale
        self.qkv, self.qkv_bias = (qkv * factors[:, None]).detach(), (qkv_bias * factors).detach()
        self.out, self.out_bias = out.detach(), out_bias.detach()
        self.n_heads, self.d_head = n_heads, d // n_heads

    def forward(self, tokens: torch.Tensor, bias: torch.Tensor, block: Block) -> tuple[torch.Tensor, Tensors]:
        """Output (n_tokens, d), and what `backward` needs; bias (n_heads * n_nodes, 1, row_length)."""
        qkv = linear(tokens, self.qkv, self.qkv_bias)
        if kernels.attention_usable(qkv, self.d_head, block):
            mixed = kernels.attention(qkv, bias, block, self.n_heads)
            return linear(mixed, self.out, self.out_bias), (qkv, bias)
        rows = qkv.view(-1, self.d_head).index_select(0, block.gather_qkv)
        rows = rows.view(3, self.n_heads * block.n_nodes, block.row_length, self.d_head)
        queries, keys, values = rows.unbind(0)
        weights = torch.softmax(torch.baddbmm(bias, queries, keys.transpose(1, 2)), -1)
        mixed = torch.bmm(weights, values).view(-1, self.d_head).index_select(0, block.scatter)
        return linear(mixed.view(block.n_tokens, -1), self.out, self.out_bias), (rows, weights)

    def backward(
        self, gradient: torch.Tensor, kept: Tensors, block: Block
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Derivatives by the tokens (n_tokens, d) and by the scores (n_heads * n_nodes, row_length, row_length).

        Those by the scores may be summed over the queries already, to (n_heads * n_nodes, 1, row_length).
        """
        rows, weights = kept
        if kernels.attention_usable(rows, self.d_head, block):
            g_mixed = gradient @ self.out
            g_qkv, g_scores = kernels.attention_backward(g_mixed, rows, weights, block, self.n_heads)
            return g_qkv @ self.qkv, g_scores
        queries, keys, values = rows.unbind(0)
        g_mixed = (gradient @ self.out).view(-1, self.d_head).index_select(0, block.gather)
        if block.empty is not None:
            g_mixed.index_fill_(0, block.empty, 0.0)
        g_mixed = g_mixed.view(values.shape)
        g_rows = torch.empty_like(rows)
        torch.bmm(weights.transpose(1, 2), g_mixed, out=g_rows[2])
        g_weights = torch.bmm(g_mixed, values.transpose(1, 2))
        g_scores = torch._softmax_backward_data(g_weights, weights, -1, weights.dtype)
        torch.bmm(g_scores, keys, out=g_rows[0])
        torch.bmm(g_scores.transpose(1, 2), queries, out=g_rows[1])
        g_qkv = g_rows.view(-1, self.d_head).index_select(0, block.scatter_qkv)
        return g_qkv.view(block.n_tokens, -1) @ self.qkv, g_scores
