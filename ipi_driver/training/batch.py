"""From structures to what the network and the losses need: rotated edge vectors, index arrays, labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ipi_driver.elements import places_in
from ipi_driver.neighbors import Edges, NeighborList
from ipi_driver.networks.baseline import Baseline
from ipi_driver.networks.graph import Graph, build_graph
from ipi_driver.structure import FloatArray, IntArray, Structure
from ipi_driver.training.data import LabelledStructure


@dataclass(frozen=True, eq=False)
class Sample:
    """One structure, ready to be batched: edges once and for all, labels with the baseline taken off.

    Attributes
    ----------
    species
        (n_atoms,) species index.
    energy, forces, virial
        What the network is to learn (eV, eV/Å, eV); None for unlabelled structures. The energy is NaN where it is not
        known.
    group
        Number of the data set.
    weight, energy_weight
        Of its labels in the loss, and of its energy beside that.
    """

    species: IntArray
    edges: Edges
    energy: float | None
    forces: FloatArray | None
    virial: FloatArray | None
    group: int = 0
    weight: float = 1.0
    energy_weight: float = 1.0

    @property
    def n_atoms(self) -> int:
        return len(self.species)

    @property
    def energy_known(self) -> bool:
        """Whether the energy is a label that counts."""
        return self.energy is not None and bool(np.isfinite(self.energy)) and self.energy_weight > 0.0


@dataclass(frozen=True, eq=False)
class Batch:
    """Rotated structures, concatenated.

    Attributes
    ----------
    vectors
        (n_edges, 3) rotated edge vectors, Å.
    node_structure, edge_structure
        (n_nodes,), (n_edges,) index of the structure.
    n_atoms
        (n_structures,).
    energies, forces, virials
        Rotated labels: (n_structures,), (n_nodes, 3), (n_structures, 3, 3), or None.
    rotations
        (n_structures, 3, 3).
    groups
        (n_structures,) number of the data set.
    weights, energy_weights
        (n_structures,) of the labels in the loss, and of the energies (0 where they are not known).
    """

    graph: Graph
    vectors: torch.Tensor
    node_structure: torch.Tensor
    edge_structure: torch.Tensor
    n_atoms: torch.Tensor
    energies: torch.Tensor | None
    forces: torch.Tensor | None
    virials: torch.Tensor | None
    rotations: torch.Tensor
    groups: IntArray
    weights: torch.Tensor
    energy_weights: torch.Tensor


def make_sample(
    item: LabelledStructure | Structure, species: tuple[int, ...], cutoff: float, baseline: Baseline
) -> Sample:
    """Neighbor list and labels without the baseline of one structure."""
    structure = item.structure if isinstance(item, LabelledStructure) else item
    edges = NeighborList(cutoff, skin=0.0).edges(structure)
    index = places_in(species)[structure.numbers]
    if not isinstance(item, LabelledStructure):
        return Sample(index, edges, None, None, None)
    energy, forces, virial = baseline.evaluate(structure.numbers, edges)
    rest = None if item.virial is None else item.virial - virial
    return Sample(index, edges, item.energy - energy, item.forces - forces, rest, item.group)


def collate(
    samples: Sequence[Sample], rotations: FloatArray, device: torch.device, dtype: torch.dtype
) -> Batch:
    """One batch of ``samples``, each turned by its rotation (n_structures, 3, 3): vectors and labels as r -> R r."""

    def tensor(array: FloatArray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device, dtype)

    sizes = np.array([s.n_atoms for s in samples])
    n_edges = np.array([len(s.edges.centers) for s in samples])
    vectors = np.concatenate([s.edges.vectors @ r.T for s, r in zip(samples, rotations, strict=True)])
    labelled = all(s.forces is not None for s in samples)
    energies = forces = virials = None
    if labelled:
        energies = tensor(np.array([s.energy if s.energy_known else 0.0 for s in samples]))
        forces = tensor(np.concatenate([s.forces @ r.T for s, r in zip(samples, rotations, strict=True)]))
        if all(s.virial is not None for s in samples):
            virials = tensor(np.stack([r @ s.virial @ r.T for s, r in zip(samples, rotations, strict=True)]))
    return Batch(
        graph=build_graph([s.species for s in samples], [s.edges for s in samples], device),
        vectors=tensor(vectors),
        node_structure=torch.from_numpy(np.repeat(np.arange(len(samples)), sizes)).to(device),
        edge_structure=torch.from_numpy(np.repeat(np.arange(len(samples)), n_edges)).to(device),
        n_atoms=tensor(sizes.astype(float)),
        energies=energies,
        forces=forces,
        virials=virials,
        rotations=tensor(np.asarray(rotations)),
        groups=np.array([s.group for s in samples], dtype=np.int64),
        weights=tensor(np.array([s.weight for s in samples])),
        energy_weights=tensor(np.array([s.weight * s.energy_weight * s.energy_known for s in samples])),
    )
