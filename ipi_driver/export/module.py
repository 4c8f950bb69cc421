r"""The exported model: energies of metatomic's systems, averaged over rotations of the edge vectors.

.. math::  \bar E = \sum_k w_k E(\{R_k d_e\}), \qquad
           \frac{\partial \bar E}{\partial d_e} = \sum_k w_k\, \frac{\partial E}{\partial d_e}(\{R_k d_e\})\, R_k .

A simulation code differentiates the energy. Were the average an ordinary sum, torch would keep the activations of all
rotations until then. Instead each chunk of rotations is differentiated at once and forgotten, and the energy that is
returned has these derivatives: it is E + sum_e g_e (d_e - d_e'), with d' the same vectors without a derivative.
Atomic energies are differentiable each, as an ordinary sum, and keep the activations.
"""

# The annotations of TorchScript are evaluated when the module is compiled: no `from __future__ import annotations`.
from typing import Dict, List, Optional  # noqa: UP035 - metatomic compares these annotations with its own

import numpy as np
import torch
from metatensor.torch import Labels, TensorBlock, TensorMap
from metatomic.torch import ModelOutput, NeighborListOptions, System
from torch import nn

from ipi_driver.export.baseline import BaselineModule
from ipi_driver.export.index import Batch, repeated, rows, select, sorted_edges
from ipi_driver.structure import FloatArray, IntArray


class ExportedModule(nn.Module):
    """A network with its baseline, raw or averaged, as metatomic calls it.

    Parameters
    ----------
    energies, selection
        See `ipi_driver.export.trace.traced`.
    baseline
        What is added to the network's energy.
    species_index
        (N_NUMBERS,) place of each atomic number among the network's species.
    cutoff
        Å.
    rotations, weights
        (n_rotations, 3, 3) and (n_rotations,).
    edges_per_call
        Edges × rotations that are evaluated together.
    """

    averaged: torch.jit.Final[bool]
    selects: torch.jit.Final[bool]
    species_index: torch.Tensor
    rotations: torch.Tensor
    weights: torch.Tensor

    def __init__(
        self,
        energies: nn.Module,
        selection: nn.Module | None,
        baseline: BaselineModule,
        species_index: IntArray,
        cutoff: float,
        rotations: FloatArray,
        weights: FloatArray,
        edges_per_call: int,
    ) -> None:
        super().__init__()
        self.energies = energies
        self.selects = selection is not None
        self.selection = nn.Identity() if selection is None else selection
        self.baseline = baseline
        self.averaged = len(weights) > 1 or not np.array_equal(rotations[0], np.eye(3))
        self.edges_per_call = edges_per_call
        self.register_buffer("species_index", torch.from_numpy(species_index.copy()))
        self.register_buffer("rotations", torch.from_numpy(rotations.copy()))
        self.register_buffer("weights", torch.from_numpy(weights.copy()))
        self.options = NeighborListOptions(cutoff=cutoff, full_list=True, strict=True)

    def requested_neighbor_lists(self) -> List[NeighborListOptions]:  # noqa: UP006
        """All pairs within the cutoff, each in both directions."""
        return [self.options]

    def forward(
        self,
        systems: List[System],  # noqa: UP006
        outputs: Dict[str, ModelOutput],  # noqa: UP006
        selected_atoms: Optional[Labels] = None,  # noqa: UP045 - a class of TorchScript has no `|`
    ) -> Dict[str, TensorMap]:  # noqa: UP006
        """The energy, of each system or of each atom, eV."""
        results: dict[str, TensorMap] = {}
        if "energy" not in outputs:
            return results
        device = systems[0].positions.device
        sizes = torch.tensor([len(system) for system in systems], device=device)
        system_of = torch.repeat_interleave(torch.arange(len(systems), device=device), sizes)
        first = sizes.cumsum(0) - sizes
        places = torch.arange(system_of.shape[0], device=device)
        chosen = places
        if selected_atoms is not None:
            wanted = selected_atoms.values.to(device=device, dtype=torch.int64)
            chosen = first[wanted[:, 0]] + wanted[:, 1]
        per_atom = outputs["energy"].sample_kind == "atom"
        energies, shift = self.evaluate(systems, system_of, chosen, per_atom)
        energies = energies[chosen]
        if per_atom:
            samples = torch.stack([system_of[chosen], chosen - first[system_of[chosen]]], dim=1)
            labels = Labels(["system", "atom"], samples.to(torch.int32))
        else:
            energies = shift.index_add(0, system_of[chosen], energies)
            samples = torch.arange(len(systems), device=device).reshape(-1, 1)
            labels = Labels(["system"], samples.to(torch.int32))
        no_components: list[Labels] = []
        zero = torch.zeros((1, 1), dtype=torch.int32, device=device)
        block = TensorBlock(
            values=energies.reshape(-1, 1).to(systems[0].positions.dtype),
            samples=labels,
            components=no_components,
            properties=Labels(["energy"], zero),
        )
        results["energy"] = TensorMap(Labels(["_"], zero), [block])
        return results

    def evaluate(
        self, systems: list[System], system_of: torch.Tensor, chosen: torch.Tensor, per_atom: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Energies (n_atoms,), eV, and zeros (n_systems,) with the derivatives that the energies lack; in float64.

        With ``per_atom`` the energies lack none. Else the derivatives of a system are those of the sum of its
        energies of atoms that are ``chosen``.
        """
        vectors, centers, neighbors, reverse, numbers = self.graph(systems)
        energies = self.baseline.atomic(numbers)
        shift = torch.zeros(len(systems), dtype=torch.float64, device=vectors.device)
        if (
            numbers.shape[0] == 0
        ):  # a domain without atoms; the sum of no vectors is zero, and can be differentiated
            return energies, shift + vectors.to(torch.float64).sum()
        if self.baseline.has_pairs:
            pairs = self.baseline.pairs(vectors, numbers[centers], numbers[neighbors])
            energies = energies.index_add(0, centers, pairs)
        species = self.species_index[numbers]
        neighbor_species = species[neighbors]
        weights = torch.ones(vectors.shape[0], dtype=vectors.dtype, device=vectors.device)
        if self.selects:
            to_rows, to_tokens, empty = rows(centers, species.shape[0])
            lengths = vectors.square().sum(1).sqrt()
            kept, weights = self.selection(
                lengths, species, neighbor_species, centers, reverse, to_rows, to_tokens, empty
            )
            vectors, neighbor_species = vectors[kept], neighbor_species[kept]
            centers, reverse = select(kept, centers, reverse)
        batch = Batch(vectors, weights, species, neighbor_species, centers, reverse)
        if not self.averaged:
            return energies + self.rotated(batch, 0, 0), shift
        if per_atom or vectors.shape[0] == 0 or not vectors.requires_grad:
            return energies + self.plain_average(batch), shift
        average, edge_shift = self.differentiated_average(batch, chosen)
        return energies + average, shift.index_add(0, system_of[centers], edge_shift)

    def graph(
        self, systems: list[System]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Edge vectors (n_edges, 3), their centers, neighbors and reverses, and the atomic numbers (n_atoms,)."""
        vectors: list[torch.Tensor] = []
        edges: list[torch.Tensor] = []
        n_nodes = 0
        for system in systems:
            block = system.get_neighbor_list(self.options)
            samples = block.samples.values.to(torch.int64)
            vectors.append(block.values.reshape(-1, 3))
            edges.append(torch.cat([samples[:, :2] + n_nodes, samples[:, 2:]], dim=1))
            n_nodes += len(system)
        numbers = torch.cat([system.types for system in systems]).to(torch.int64)
        pairs = torch.cat(edges)
        order, reverse = sorted_edges(pairs[:, 0], pairs[:, 1], pairs[:, 2:], n_nodes)
        pairs = pairs[order]
        return torch.cat(vectors)[order], pairs[:, 0], pairs[:, 1], reverse, numbers

    def rotated(self, batch: Batch, start: int, stop: int) -> torch.Tensor:
        """Energies of the atoms (n_atoms,), eV, weighted sum over the rotations from ``start`` to ``stop``.

        Without rotations (start = stop) as the systems stand.
        """
        n_nodes, n_edges, copies = batch.species.shape[0], batch.vectors.shape[0], 1
        vectors = batch.vectors
        if stop > start:
            copies = stop - start
            matrices = self.rotations[start:stop].to(vectors.dtype)
            vectors = torch.matmul(vectors, matrices.transpose(1, 2)).reshape(-1, 3)
        centers = repeated(batch.centers, n_nodes, copies)
        to_rows, to_tokens, empty = rows(centers, n_nodes * copies)
        atomic, bonds = self.energies(
            vectors,
            batch.weights.repeat(copies),
            batch.species.repeat(copies),
            batch.neighbor_species.repeat(copies),
            centers,
            repeated(batch.reverse, n_edges, copies),
            to_rows,
            to_tokens,
            empty,
        )
        energies = atomic.to(torch.float64).index_add(0, centers, bonds.to(torch.float64))
        if stop == start:
            return energies
        return torch.matmul(self.weights[start:stop], energies.reshape(copies, n_nodes))

    def chunk(self, batch: Batch) -> int:
        """Rotations that are evaluated together."""
        return max(1, self.edges_per_call // max(1, batch.vectors.shape[0]))

    def plain_average(self, batch: Batch) -> torch.Tensor:
        """(n_atoms,) averaged energies of the network, eV."""
        n_rotations, chunk = self.weights.shape[0], self.chunk(batch)
        energies = torch.zeros(batch.species.shape[0], dtype=torch.float64, device=batch.vectors.device)
        for start in range(0, n_rotations, chunk):
            energies = energies + self.rotated(batch, start, min(start + chunk, n_rotations))
        return energies

    def differentiated_average(self, batch: Batch, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Averaged energies without derivatives; zeros (n_edges,) carry those of the sum over the atoms ``chosen``."""
        n_rotations, chunk = self.weights.shape[0], self.chunk(batch)
        energies = torch.zeros(batch.species.shape[0], dtype=torch.float64, device=batch.vectors.device)
        by_vectors = torch.zeros_like(batch.vectors, dtype=torch.float64)
        by_weights = torch.zeros_like(batch.weights, dtype=torch.float64)
        for start in range(0, n_rotations, chunk):
            vectors = batch.vectors.detach().requires_grad_(True)
            weights = batch.weights.detach().requires_grad_(True)
            leaves = Batch(
                vectors, weights, batch.species, batch.neighbor_species, batch.centers, batch.reverse
            )
            part = self.rotated(leaves, start, min(start + chunk, n_rotations))
            found = torch.autograd.grad([part[chosen].sum()], [vectors, weights], allow_unused=True)
            of_vectors, of_weights = found[0], found[1]
            if of_vectors is not None:
                by_vectors += of_vectors
            if of_weights is not None:
                by_weights += of_weights
            energies = energies + part.detach()
        shift = ((batch.vectors - batch.vectors.detach()).to(torch.float64) * by_vectors).sum(1)
        if self.selects:
            shift = shift + (batch.weights - batch.weights.detach()).to(torch.float64) * by_weights
        return energies, shift
