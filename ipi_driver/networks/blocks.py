"""Blocks of atoms: what a layer does with an atom's tokens does not depend on the other atoms.

A block holds the central tokens of consecutive nodes and the tokens of their edges. A transformer that goes from block
to block works on arrays that stay in the cache, and its temporary memory does not grow with the system.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
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
    n_heads
        Of the attention.
    slots
        (n_tokens,) slot of each token in the rows of the nodes.
    edge_slots
        (n_edges,) slot of each edge, on the device.
    starts
        (n_nodes + 1,) first edge of each node in the block, and their number, on the device.
    """

    nodes: slice
    edges: slice
    n_nodes: int
    n_tokens: int
    row_length: int
    n_heads: int
    slots: IntArray
    edge_slots: torch.Tensor
    starts: torch.Tensor

    @cached_property
    def _tokens(self) -> torch.Tensor:
        """(n_nodes * row_length,) int32 token in each slot, -1 for none."""
        tokens = np.full(self.n_nodes * self.row_length, -1, dtype=np.int32)
        tokens[self.slots] = np.arange(self.n_tokens, dtype=np.int32)
        return torch.from_numpy(tokens)

    @cached_property
    def gather_qkv(self) -> torch.Tensor:
        """(3 * n_heads * n_nodes * row_length,) from tokens cut in 3 * n_heads parts to the rows of each part.

        Empty slots take token 0.
        """
        return self._gather(3 * self.n_heads)

    @cached_property
    def scatter_qkv(self) -> torch.Tensor:
        """(n_tokens * 3 * n_heads,) the way back."""
        return self._scatter(3 * self.n_heads)

    @cached_property
    def gather(self) -> torch.Tensor:
        """As `gather_qkv` for tokens cut in n_heads parts."""
        return self._gather(self.n_heads)

    @cached_property
    def scatter(self) -> torch.Tensor:
        """The way back."""
        return self._scatter(self.n_heads)

    @cached_property
    def empty(self) -> torch.Tensor | None:
        """Slots of the rows of the heads without a token, or None if all rows are full."""
        empty = torch.nonzero(self._tokens < 0).view(-1)
        heads = torch.arange(self.n_heads) * len(self._tokens)
        return (heads[:, None] + empty).view(-1).to(self.starts.device) if len(empty) else None

    def make_indices(self) -> None:
        """Make the index arrays, which otherwise are made at their first use: kernels on a GPU need none."""
        _ = self.gather_qkv, self.scatter_qkv, self.gather, self.scatter, self.empty

    def _gather(self, n_parts: int) -> torch.Tensor:
        parts = torch.arange(n_parts, dtype=torch.int32)
        places = self._tokens.clamp_min(0) * n_parts
        return (parts[:, None] + places).view(-1).to(self.starts.device)

    def _scatter(self, n_parts: int) -> torch.Tensor:
        parts = torch.arange(n_parts, dtype=torch.int32) * len(self._tokens)
        places = torch.from_numpy(self.slots.astype(np.int32))
        return (places[:, None] + parts).view(-1).to(self.starts.device)


def _tensor(array: IntArray, device: torch.device, kind: type[np.integer] = np.int32) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array.reshape(-1), dtype=kind)).to(device)


def blocks_of(graph: Graph, n_heads: int, max_tokens: int) -> list[Block]:
    """Blocks of about equal size, of at most ``max_tokens`` tokens where an atom has not more; kept by the graph."""
    key = (n_heads, max_tokens)
    if key not in graph.blocks:
        graph.blocks[key] = blocks = _build(graph, n_heads, max_tokens)
        if graph.centers.device.type == "cpu":  # now: within a pass they drive its arrays out of the caches
            for block in blocks:
                block.make_indices()
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
    return Block(
        nodes=slice(start, end),
        edges=edges,
        n_nodes=n_nodes,
        n_tokens=n_nodes + len(edge_slots),
        row_length=length,
        n_heads=n_heads,
        slots=np.concatenate([np.arange(n_nodes) * length, edge_slots]),
        edge_slots=_tensor(edge_slots, device, np.int64),
        starts=_tensor(edges_before[start : end + 1] - edges.start, device),
    )
