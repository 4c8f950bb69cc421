"""Edges that a network selects by the distances, with what every rotation shares: weights and their derivatives.

Distances do not depend on the rotation. A network with a smooth weight w_e on every edge, that depends on its length
and on cutoffs r_i of its two atoms, which depend on all lengths around them, is therefore asked for them once:

    dE/dd_e = sum_k (dE/dw_k) dw_k/dd_e,     w_k = w(d_k, (r_i + r_j) / 2),     r_i = r_i({d_e: center i}).

The forces that follow act along the edges, in the laboratory frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ipi_driver.neighbors import Edges
from ipi_driver.structure import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class EdgeSelection:
    """The edges that a network uses, of those within its largest cutoff.

    Attributes
    ----------
    kept
        (n_kept,) indices of the edges used.
    edges
        These edges.
    weights
        (n_kept,) their weights.
    by_length, by_cutoff
        (n_kept,) derivatives of the weights by the edge's length and by its cutoff, 1/Å.
    moving_centers, moving_neighbors
        (n_moving,) atoms of the edges whose lengths change the cutoff of their center.
    moving_vectors
        (n_moving, 3) from center to neighbor, Å.
    moving_slopes
        (n_moving, 3) derivative of the center's cutoff by the edge vector.
    """

    kept: IntArray
    edges: Edges
    weights: FloatArray
    by_length: FloatArray
    by_cutoff: FloatArray
    moving_centers: IntArray
    moving_neighbors: IntArray
    moving_vectors: FloatArray
    moving_slopes: FloatArray

    def along_edges(self, by_weight: FloatArray) -> FloatArray:
        """Derivatives (n_rotations, n_kept, 3) by the vectors of the edges, at fixed cutoffs, eV/Å.

        Parameters
        ----------
        by_weight
            (n_rotations, n_kept) derivatives of the energies by the weights, eV.
        """
        vectors = self.edges.vectors
        slopes = self.by_length / np.linalg.norm(vectors, axis=1)
        return (by_weight * slopes)[:, :, None] * vectors

    def of_cutoffs(self, by_weight: FloatArray, n_atoms: int) -> tuple[FloatArray, FloatArray]:
        """Forces (n_rotations, n_atoms, 3) in eV/Å and virials (n_rotations, 3, 3) in eV through the cutoffs."""
        n = len(by_weight)
        by_pair = torch.from_numpy(0.5 * by_weight * self.by_cutoff)
        by_atom = torch.zeros(n, n_atoms, dtype=torch.float64)
        for atoms in (self.edges.centers, self.edges.neighbors):
            by_atom.index_add_(1, torch.from_numpy(atoms), by_pair)
        gradients = by_atom.numpy()[:, self.moving_centers, None] * self.moving_slopes
        forces = torch.zeros(n, n_atoms, 3, dtype=torch.float64)
        forces.index_add_(1, torch.from_numpy(self.moving_centers), torch.from_numpy(gradients))
        forces.index_add_(1, torch.from_numpy(self.moving_neighbors), torch.from_numpy(-gradients))
        return forces.numpy(), -gradients.transpose(0, 2, 1) @ self.moving_vectors


class Topologies:
    """Numbers for sets of edges: equal numbers mean equal sets."""

    def __init__(self) -> None:
        self._last: tuple[int, IntArray, Edges] | None = None
        self._count = 0

    def select(self, edges: Edges, kept: IntArray) -> Edges:
        """The edges ``kept`` of ``edges``, with the number of the last selection if they are the same."""
        vectors = edges.vectors[kept]
        if self._last is not None:
            topology, before, selected = self._last
            if topology == edges.topology and np.array_equal(before, kept):
                return Edges(
                    selected.centers, selected.neighbors, selected.reverse, vectors, selected.topology
                )
        renumbered = np.zeros(len(edges.centers), dtype=np.int64)
        renumbered[kept] = np.arange(len(kept))
        self._count += 1
        selected = Edges(
            edges.centers[kept], edges.neighbors[kept], renumbered[edges.reverse[kept]], vectors, self._count
        )
        self._last = (edges.topology, kept, selected)
        return selected
