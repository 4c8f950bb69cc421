"""Index arrays of a batch of structures and rotations, in the layout that `PetNetwork` works on.

Tokens stand in one flat array: first one central token per node, then one token per edge. Everything that acts on
tokens alone (linear layers, norms, feed-forward) runs on this array and wastes nothing on padding; only attention
gathers the tokens of each node into rows of equal length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from ipi_driver.neighbors import Edges
from ipi_driver.structure import IntArray

if TYPE_CHECKING:
    from ipi_driver.networks.blocks import Block


@dataclass(frozen=True, eq=False)
class Graph:
    """A batch of n_nodes atoms and n_edges directed edges, sorted by center.

    Attributes
    ----------
    species
        (n_nodes,) index into the model's species.
    neighbor_species
        (n_edges,) index of the neighbor's species.
    centers
        (n_edges,) node index.
    reverse
        (n_edges,) index of the reversed edge.
    to_rows
        (n_nodes * row_length,) for each slot of the rows the token in it; empty slots point to token 0.
    to_tokens
        (n_nodes + n_edges,) for each token its slot in the rows.
    empty_slots
        Slots of the rows without a token.
    none
        An empty index.
    row_length
        1 + largest number of neighbors.
    blocks
        See `ipi_driver.networks.blocks.blocks_of`.
    """

    species: torch.Tensor
    neighbor_species: torch.Tensor
    centers: torch.Tensor
    reverse: torch.Tensor
    to_rows: torch.Tensor
    to_tokens: torch.Tensor
    empty_slots: torch.Tensor
    none: torch.Tensor
    row_length: int
    blocks: dict[tuple[int, int], list[Block]] = field(default_factory=dict)
    _heads: dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    @property
    def n_nodes(self) -> int:
        return self.species.shape[0]

    @property
    def n_edges(self) -> int:
        return self.centers.shape[0]

    @property
    def n_tokens(self) -> int:
        return self.to_tokens.shape[0]

    @property
    def neighbors(self) -> torch.Tensor:
        """(n_edges,) node index of each edge's neighbor."""
        return self.centers[self.reverse]

    def select(self, kept: torch.Tensor) -> Graph:
        """The graph with the edges ``kept`` (n_kept,) alone, in ascending order; with an edge its reverse is kept."""
        renumbered = torch.zeros_like(self.centers)
        renumbered[kept] = torch.arange(len(kept), device=kept.device)
        centers = self.centers[kept]
        counts = torch.bincount(centers, minlength=self.n_nodes)
        row_length = 1 + int(counts.max()) if self.n_nodes else 1
        first = counts.cumsum(0) - counts
        nodes = torch.arange(self.n_nodes, device=kept.device) * row_length
        slots = centers * row_length + 1 + torch.arange(len(kept), device=kept.device) - first[centers]
        to_tokens = torch.cat([nodes, slots])
        to_rows = to_tokens.new_full((self.n_nodes * row_length,), -1)
        to_rows[to_tokens] = torch.arange(len(to_tokens), device=kept.device)
        empty = torch.nonzero(to_rows < 0)[:, 0]
        to_rows[empty] = 0
        return Graph(
            species=self.species,
            neighbor_species=self.neighbor_species[kept],
            centers=centers,
            reverse=renumbered[self.reverse[kept]],
            to_rows=to_rows,
            to_tokens=to_tokens,
            empty_slots=empty,
            none=self.none,
            row_length=row_length,
        )

    @property
    def edge_slots(self) -> torch.Tensor:
        """(n_edges,) slot of each edge in the rows."""
        return self.to_tokens[self.n_nodes :]

    def head_slots(self, n_parts: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Slots of the parts (heads) of the tokens, when every token is cut in ``n_parts``; kept.

        Returns
        -------
        tuple
            (n_parts * n_slots,) the part of a token in each slot, with the part as the slowest index of the slots and
            the fastest of the tokens; (n_tokens * n_parts,) the inverse; the empty slots.
        """
        if n_parts not in self._heads:
            n_slots = self.to_rows.shape[0]
            part = torch.arange(n_parts, device=self.to_rows.device)
            self._heads[n_parts] = (
                (self.to_rows * n_parts + part[:, None]).flatten(),
                (self.to_tokens[:, None] + n_slots * part).flatten(),
                (self.empty_slots + n_slots * part[:, None]).flatten(),
            )
        return self._heads[n_parts]


def build_graph(
    species: Sequence[IntArray], edges: Sequence[Edges], device: torch.device | str = "cpu", copies: int = 1
) -> Graph:
    """Graph of several structures, the whole batch repeated ``copies`` times (once per rotation).

    Parameters
    ----------
    species
        One (n_atoms,) array of species indices per structure.
    edges
        The edges of each structure.
    """
    sizes = np.array([len(s) for s in species])
    n_edges = np.array([len(e.centers) for e in edges])
    node_start = np.cumsum(sizes) - sizes
    edge_start = np.cumsum(n_edges) - n_edges
    nodes = np.concatenate(species)
    centers = np.concatenate([e.centers + s for e, s in zip(edges, node_start, strict=True)])
    neighbors = np.concatenate([e.neighbors + s for e, s in zip(edges, node_start, strict=True)])
    reverse = np.concatenate([e.reverse + s for e, s in zip(edges, edge_start, strict=True)])
    if copies > 1:
        rotation = np.arange(copies)[:, None]
        centers = (centers + rotation * len(nodes)).reshape(-1)
        neighbors = (neighbors + rotation * len(nodes)).reshape(-1)
        reverse = (reverse + rotation * len(reverse)).reshape(-1)
        nodes = np.tile(nodes, copies)
    counts = np.bincount(centers, minlength=len(nodes))
    first = np.cumsum(counts) - counts
    row_length = 1 + int(counts.max(initial=0))
    slots = centers * row_length + 1 + np.arange(len(centers)) - first[centers]
    to_tokens = np.concatenate([np.arange(len(nodes)) * row_length, slots])
    to_rows = np.full(len(nodes) * row_length, -1)
    to_rows[to_tokens] = np.arange(len(to_tokens))
    empty = np.flatnonzero(to_rows < 0)
    to_rows[empty] = 0

    def tensor(array: IntArray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64)).to(device)

    return Graph(
        species=tensor(nodes),
        neighbor_species=tensor(nodes[neighbors]),
        centers=tensor(centers),
        reverse=tensor(reverse),
        to_rows=tensor(to_rows),
        to_tokens=tensor(to_tokens),
        empty_slots=tensor(empty),
        none=tensor(np.zeros(0, dtype=np.int64)),
        row_length=row_length,
    )
