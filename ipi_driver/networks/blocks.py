"""Blocks of atoms: what a layer does with an atom's tokens does not depend on the other atoms.

A block holds the central tokens of consecutive nodes and the tokens of their edges. A transformer that goes from block
to block works on arrays that stay in the cache, and its temporary memory does not grow with the system.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from ipi_driver.networks.graph import Graph
from ipi_driver.structure import IntArray


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive nodes of a `Graph` with their edges; tokens: first the nodes, then the edges.

    Attributes
    ----------
    nodes, edges
        Of the graph.
    n_nodes, n_tokens
        Their number, and with the edges.
    row_length
        1 + largest number of neighbors in the block.
    gather_qkv
        (3 * n_heads * n_nodes * row_length,) from tokens cut in 3 * n_heads parts to the rows of each part; empty slots
        take token 0.
    scatter_qkv
        (n_tokens * 3 * n_heads,) the way back.
    gather, scatter
        The same for tokens cut in n_heads parts.
    empty
        Slots of the rows of the heads without a token, or None if all rows are full.
    edge_slots
        (n_edges,) slot of each edge in the rows.
    """

    nodes: slice
    edges: slice
    n_nodes: int
    n_tokens: int
    row_length: int
    gather_qkv: torch.Tensor
    scatter_qkv: torch.Tensor
    gather: torch.Tensor
    scatter: torch.Tensor
    empty: torch.Tensor | None
    edge_slots: torch.Tensor


def blocks_of(graph: Graph, n_heads: int, max_tokens: int) -> list[Block]:
    """Blocks of about equal size, of at most ``max_tokens`` tokens where an atom has not more; kept by the graph."""
    key = (n_heads, max_tokens)
    if key not in graph.blocks:
        graph.blocks[key] = _build(graph, n_heads, max_tokens)
    return graph.blocks[key]


def _build(graph: Graph, n_heads: int, max_tokens: int) -> list[Block]:
    centers = graph.centers.cpu().numpy()
    counts = np.bincount(centers, minlength=graph.n_nodes)
    tokens_before = np.concatenate([[0], np.cumsum(counts + 1)])
    n_blocks = -(-int(tokens_before[-1]) // max_tokens)
    targets = tokens_before[-1] * np.arange(1, n_blocks) / n_blocks
    ends = np.unique(np.concatenate([[0], np.searchsorted(tokens_before, targets), [graph.n_nodes]]))
    edges_before = np.concatenate([[0], np.cumsum(counts)])
    return [
        _block(centers, counts, edges_before, int(start), int(end), n_heads, graph.centers.device)
        for start, end in pairwise(ends)
    ]


def _block(
    centers: IntArray,
    counts: IntArray,
    edges_before: IntArray,
    start: int,
    end: int,
    n_heads: int,
    device: torch.device,
) -> Block:
    n_nodes, counts = end - start, counts[start:end]
    edges = slice(int(edges_before[start]), int(edges_before[end]))
    local = centers[edges] - start
    length = 1 + int(counts.max(initial=0))
    position = np.arange(len(local)) - (edges_before[start:end] - edges.start)[local]
    edge_slots = local * length + 1 + position
    to_tokens = np.concatenate([np.arange(n_nodes) * length, edge_slots])
    n_slots = n_nodes * length
    to_rows = np.full(n_slots, -1)
    to_rows[to_tokens] = np.arange(len(to_tokens))
    empty = np.flatnonzero(to_rows < 0)
    to_rows[empty] = 0
    parts, heads = np.arange(3 * n_heads), np.arange(n_heads)

    def tensor(array: IntArray, kind: type[np.integer] = np.int32) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array.reshape(-1), dtype=kind)).to(device)

    return Block(
        nodes=slice(start, end),
        edges=edges,
        n_nodes=n_nodes,
        n_tokens=len(to_tokens),
        row_length=length,
        gather_qkv=tensor(to_rows * len(parts) + parts[:, None]),
        scatter_qkv=tensor(to_tokens[:, None] + n_slots * parts),
        gather=tensor(to_rows * n_heads + heads[:, None]),
        scatter=tensor(to_tokens[:, None] + n_slots * heads),
        empty=tensor(empty + n_slots * heads[:, None], np.int64) if len(empty) else None,
        edge_slots=tensor(edge_slots, np.int64),
    )
