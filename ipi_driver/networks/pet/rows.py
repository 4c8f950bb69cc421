"""Tokens of a batch in rows, one for each atom, and back; for training, so at any order of differentiation."""

from __future__ import annotations

import torch

from ipi_driver.networks.graph import Graph


class _TakeRows(torch.autograd.Function):
    """``x[index]`` with zeros in the rows ``empty``; the derivative is a gather too (a scatter is slow).

    ``inverse`` undoes ``index`` outside ``empty``; ``inverse_empty`` are the rows of the argument that no row of the
    result was taken from. The adjoint of the map is then the same map with the two pairs exchanged, at any order
    of differentiation.
    """

    @staticmethod
    def forward(ctx, x, index, inverse, empty, inverse_empty):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(index, inverse, empty, inverse_empty)
        rows = x.index_select(0, index)
        return rows if empty.shape[0] == 0 else rows.index_fill_(0, empty, 0.0)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        index, inverse, empty, inverse_empty = ctx.saved_tensors
        return _TakeRows.apply(grad, inverse, index, inverse_empty, empty), None, None, None, None


# Below, the scatter in the derivative of a plain gather costs less than calling Python from the backward pass.
_FEW_TOKENS = 1500


def to_rows(tokens: torch.Tensor, graph: Graph) -> torch.Tensor:
    """(n_tokens, d) -> (n_nodes * row_length, d): the tokens of each node in one row.

    Empty slots hold zeros or token 0; nothing may depend on them.
    """
    if graph.n_tokens < _FEW_TOKENS:
        return tokens.index_select(0, graph.to_rows)
    result: torch.Tensor = _TakeRows.apply(
        tokens, graph.to_rows, graph.to_tokens, graph.empty_slots, graph.none
    )
    return result


def to_tokens(rows: torch.Tensor, graph: Graph) -> torch.Tensor:
    """Inverse of `to_rows`: (n_nodes * row_length, d) -> (n_tokens, d)."""
    if graph.n_tokens < _FEW_TOKENS:
        return rows.index_select(0, graph.to_tokens)
    result: torch.Tensor = _TakeRows.apply(
        rows, graph.to_tokens, graph.to_rows, graph.none, graph.empty_slots
    )
    return result


def to_heads(tokens: torch.Tensor, n_heads: int, graph: Graph) -> torch.Tensor:
    """(n_tokens, 3 d) -> (3, n_heads * n_nodes, row_length, d / n_heads): queries, keys and values of each node's row.

    One gather moves the tokens to their rows and separates the heads, where the products of attention need no copies.
    Empty slots hold token 0; nothing may depend on them.
    """
    d_head = tokens.shape[1] // (3 * n_heads)
    if graph.n_tokens < _FEW_TOKENS:
        rows = to_rows(tokens, graph).view(graph.n_nodes, graph.row_length, 3, n_heads, d_head)
        return rows.permute(2, 3, 0, 1, 4).reshape(3, n_heads * graph.n_nodes, graph.row_length, d_head)
    index, inverse, _ = graph.head_slots(3 * n_heads)
    cut: torch.Tensor = _TakeRows.apply(tokens.view(-1, d_head), index, inverse, graph.none, graph.none)
    return cut.view(3, n_heads * graph.n_nodes, graph.row_length, d_head)


def from_heads(rows: torch.Tensor, n_heads: int, graph: Graph) -> torch.Tensor:
    """(n_heads * n_nodes, row_length, d / n_heads) -> (n_tokens, d)."""
    d_head = rows.shape[-1]
    if graph.n_tokens < _FEW_TOKENS:
        rows = rows.view(n_heads, graph.n_nodes * graph.row_length, d_head).transpose(0, 1)
        return to_tokens(rows.reshape(-1, n_heads * d_head), graph)
    index, inverse, empty = graph.head_slots(n_heads)
    tokens: torch.Tensor = _TakeRows.apply(rows.view(-1, d_head), inverse, index, graph.none, empty)
    return tokens.view(graph.n_tokens, n_heads * d_head)


def reverse_edges(messages: torch.Tensor, graph: Graph) -> torch.Tensor:
    """(n_edges, d): for each edge the row of its reversed edge."""
    if graph.n_tokens < _FEW_TOKENS:
        return messages.index_select(0, graph.reverse)
    result: torch.Tensor = _TakeRows.apply(messages, graph.reverse, graph.reverse, graph.none, graph.none)
    return result
