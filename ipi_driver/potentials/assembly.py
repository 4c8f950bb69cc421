"""Several structures as one: their atoms and edges side by side, for one call of a network.

Structures do not interact, because no edge leads from one to another. Everything here is fixed while the sets of edges
are, so that a simulation makes it once for many steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ipi_driver.neighbors import Edges
from ipi_driver.networks.baseline import Baseline, PairTerms
from ipi_driver.networks.graph import Graph, build_graph
from ipi_driver.structure import FloatArray, IntArray, RotatedResults, Structure


@dataclass(frozen=True, eq=False)
class Assembly:
    """Structures side by side.

    Attributes
    ----------
    graph
        Of all structures, repeated for each rotation.
    atoms, edges
        Where each structure's atoms and edges stand.
    centers
        (n_edges,) atom.
    reverse
        (n_edges,) index of the reversed edge.
    pair_terms
        The baseline of the edges.
    atomic_energies
        (n_structures,) the atomic energies of the baseline, summed, eV.
    """

    graph: Graph
    atoms: list[slice]
    edges: list[slice]
    centers: torch.Tensor
    reverse: IntArray
    pair_terms: PairTerms | None
    atomic_energies: FloatArray

    @classmethod
    def build(
        cls,
        structures: Sequence[Structure],
        edges: Sequence[Edges],
        species_index: IntArray,
        baseline: Baseline,
        copies: int,
        device: torch.device | str,
    ) -> Assembly:
        """The assembly of structures with their edges, for ``copies`` rotations; ``species_index`` by atomic number."""
        atoms = _slices([structure.n_atoms for structure in structures])
        places = _slices([len(e.centers) for e in edges])
        numbers = np.concatenate([structure.numbers for structure in structures])
        centers = np.concatenate([e.centers + a.start for e, a in zip(edges, atoms, strict=True)])
        neighbors = np.concatenate([e.neighbors + a.start for e, a in zip(edges, atoms, strict=True)])
        return cls(
            graph=build_graph([species_index[s.numbers] for s in structures], edges, device, copies),
            atoms=atoms,
            edges=places,
            centers=torch.from_numpy(centers),
            reverse=np.concatenate([e.reverse + p.start for e, p in zip(edges, places, strict=True)]),
            pair_terms=baseline.pair_terms(numbers, centers, neighbors),
            atomic_energies=np.array([baseline.atomic(structure.numbers) for structure in structures]),
        )

    def results(
        self,
        vectors: FloatArray,
        rotations: FloatArray,
        atomic: FloatArray,
        bonds: FloatArray,
        gradients: FloatArray,
    ) -> RotatedResults:
        """The results of the potential from those of the network.

        Parameters
        ----------
        vectors
            (n_edges, 3) edge vectors in the laboratory frame, Å.
        rotations
            (n_rotations, 3, 3).
        atomic, bonds
            (n_rotations, n_atoms) and (n_rotations, n_edges) energies, eV.
        gradients
            (n_rotations, n_edges, 3) derivatives by the turned edge vectors, eV/Å.
        """
        # back to the laboratory frame: row vectors are multiplied by R
        gradients = gradients @ rotations
        if self.pair_terms is not None:
            pair_energies, pair_gradients = self.pair_terms.evaluate(vectors)
            bonds = bonds + pair_energies
            gradients += pair_gradients
        net = torch.from_numpy(gradients - gradients[:, self.reverse])
        zeros = torch.zeros(len(rotations), self.atoms[-1].stop, 3, dtype=torch.float64)
        forces: FloatArray = zeros.index_add_(1, self.centers, net).numpy()
        transposed = gradients.transpose(0, 2, 1)
        if len(self.atoms) == 1:
            energies = atomic.sum(1) + bonds.sum(1) + self.atomic_energies
            return RotatedResults(energies[None], (forces,), -(transposed @ vectors)[None])
        places = list(zip(self.atoms, self.edges, strict=True))
        energies = np.array([atomic[:, a].sum(1) + bonds[:, e].sum(1) for a, e in places])
        return RotatedResults(
            energies + self.atomic_energies[:, None],
            tuple(forces[:, a] for a in self.atoms),
            np.array([-(transposed[:, :, e] @ vectors[e]) for e in self.edges]),
        )

    @cached_property
    def _on_device(self) -> tuple[torch.Tensor, torch.Tensor]:
        """``reverse``, and the number of edges of each atom, on the network's device."""
        device = self.graph.species.device
        counts = torch.bincount(self.centers, minlength=self.atoms[-1].stop)
        return torch.from_numpy(self.reverse).to(device), counts.to(device)

    def results_on_device(
        self,
        vectors: torch.Tensor,
        rotations: torch.Tensor,
        atomic: torch.Tensor,
        bonds: torch.Tensor,
        gradients: torch.Tensor,
    ) -> RotatedResults:
        """As `results`, on the device that holds the arrays, in their own order: for large ones, which are not moved.

        Sums over the edges of an atom go from the first to the last, so that they are the same at every call.

        Parameters
        ----------
        vectors, rotations
            As of `results`, float64.
        atomic, bonds, gradients
            As of `results`, in the precision of the network.
        """
        device, n = vectors.device, len(rotations)
        turned = gradients.double().view(n, -1, 3) @ rotations
        bond_energies = bonds.double().view(n, -1)
        if self.pair_terms is not None:
            pair_energies, pair_gradients = self.pair_terms.evaluate(vectors.cpu().numpy())
            bond_energies = bond_energies + torch.from_numpy(pair_energies).to(device)
            turned += torch.from_numpy(pair_gradients).to(device)
        reverse, counts = self._on_device
        net = (turned - turned[:, reverse]).transpose(0, 1).reshape(len(reverse), -1)
        forces = torch.segment_reduce(net, "sum", lengths=counts, axis=0, initial=0.0)
        forces = forces.view(-1, n, 3).transpose(0, 1)
        energies = torch.stack(
            [
                atomic.double().view(n, -1)[:, a].sum(1) + bond_energies[:, e].sum(1)
                for a, e in zip(self.atoms, self.edges, strict=True)
            ]
        )
        virials = torch.stack([-(turned[:, e].transpose(1, 2) @ vectors[e]) for e in self.edges])
        of_atoms: FloatArray = forces.cpu().numpy()
        return RotatedResults(
            energies.cpu().numpy() + self.atomic_energies[:, None],
            tuple(of_atoms[:, a] for a in self.atoms),
            virials.cpu().numpy(),
        )


def _slices(sizes: Sequence[int]) -> list[slice]:
    ends = np.cumsum(sizes).tolist()
    return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
