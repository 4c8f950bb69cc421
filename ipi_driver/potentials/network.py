"""A network behind the contract of `Potential`: many rotations of a structure in one batch, one pass forward and back.

The neighbour list, species and index arrays are made once per structure; a rotation only turns the edge vectors
d_e. With G_e = dE/dd_e from one pass back over all rotations, in each rotation

    F_i = sum_{e: centre i} (G_e - G_reverse(e)),      virial = -sum_e G_e (x) d_e,

both turned back to the laboratory frame in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from ipi_driver.elements import places_in
from ipi_driver.errors import UserError
from ipi_driver.neighbors import Edges, NeighborList
from ipi_driver.networks.base import EdgeNetwork, GradientFunction
from ipi_driver.networks.baseline import Baseline
from ipi_driver.networks.graph import Graph, build_graph
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.spec import PotentialSpec
from ipi_driver.potentials.torch_device import torch_device, torch_dtype
from ipi_driver.shipped import find_shipped
from ipi_driver.structure import FloatArray, IntArray, RotatedResults, Structure

# Threads pay only above this many numbers (tokens × width): below, starting them costs more than the work.
_WIDTH_FOR_THREADS = 25_000
# Distinct structures (by their atoms) whose neighbour lists are kept.
_MAX_LISTS = 8


@contextmanager
def _threads_for(work: int | None) -> Iterator[None]:
    """One thread of torch for little work (tokens × width), else as many as are configured; restored at the end.

    The number of threads belongs to the whole process: what is evaluated afterwards must find it as it was.
    """
    configured = torch.get_num_threads()
    if work is None or work > _WIDTH_FOR_THREADS or configured == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(configured)


class NetworkPotential(Potential):
    """A network of any kind ready to be evaluated.

    Parameters
    ----------
    network
        The network with its weights.
    baseline
        What is added to the network's energy.
    name
        For messages.
    device, dtype
        Where and in which precision the network runs.
    skin
        Å, of the neighbour list.
    """

    takes_device = True
    precision = "chosen"
    options = None  # those of the network

    def __init__(
        self,
        network: EdgeNetwork,
        baseline: Baseline,
        name: str = "network",
        device: str = "cpu",
        dtype: str = "float32",
        skin: float = 0.6,
    ) -> None:
        self.name = name
        self.config = network.config
        self.cutoff = network.config.cutoff
        self.species = network.config.species
        self.baseline = baseline
        self.skin = skin
        self.device = torch_device(device)
        self.dtype = torch_dtype(dtype)
        self.network = network.to(self.device, self.dtype).eval().requires_grad_(False)
        self._gradient_function: GradientFunction | None = None
        self._lists: dict[bytes, NeighborList] = {}
        self._graphs: dict[tuple[tuple[int, int], int], Graph] = {}
        self._species_index = places_in(self.species)

    @classmethod
    def from_spec(
        cls, spec: PotentialSpec, device: str = "cpu", dtype: str | None = None
    ) -> NetworkPotential:
        """From the name of a shipped model or the path of a model folder; in float32 unless said otherwise."""
        potential = cls.load(find_shipped("models", spec.name), device, dtype or "float32")
        network = potential.network
        if unknown := sorted(set(spec.options) - set(network.options)):
            known = "it takes none; --dtype and --device are options of the command"
            if network.options:
                known = f"expected one of {', '.join(network.options)}"
            raise UserError(f"{spec}: unknown option {unknown[0]!r}, {known}")
        if spec.options:
            network.configure(spec.options)
            potential.name = f"{potential.name}?{spec.body.partition('?')[2]}"
        return potential

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", dtype: str = "float32") -> NetworkPotential:
        """Load a model folder (``model.yaml`` and ``weights.safetensors``)."""
        from ipi_driver.networks.storage import load_model

        network, baseline = load_model(folder)
        return cls(network, baseline, name=Path(folder).name, device=device, dtype=dtype)

    def edges_hint(self, structure: Structure) -> int:
        """Number of edges of ``structure``, from which the number of rotations in a batch is chosen."""
        return len(self._list_of(structure).edges(structure).centers)

    def _list_of(self, structure: Structure) -> NeighborList:
        key = structure.numbers.tobytes() + structure.pbc.tobytes()
        found = self._lists.get(key)
        if found is None:
            if len(self._lists) >= _MAX_LISTS:
                self._lists.pop(next(iter(self._lists)))
                self._graphs.clear()
            found = self._lists[key] = NeighborList(self.cutoff or 0.0, self.skin)
        return found

    def _graph(self, neighbors: NeighborList, species: IntArray, edges: Edges, copies: int) -> Graph:
        """Graph of one structure, kept until its set of edges changes."""
        key = (id(neighbors), copies)
        cached = self._graphs.get((key, edges.topology))
        if cached is None:
            for old in [
                k for k in self._graphs if k[0] == key or (k[0][0] == key[0] and k[1] != edges.topology)
            ]:
                del self._graphs[old]
            cached = build_graph([species], [edges], self.device, copies)
            self._graphs[(key, edges.topology)] = cached
        return cached

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        results = [self._evaluate_one(structure, rotations) for structure in structures]
        return RotatedResults(
            energies=np.stack([r[0] for r in results]),
            forces=tuple(r[1] for r in results),
            virials=np.stack([r[2] for r in results]),
        )

    def _evaluate_one(
        self, structure: Structure, rotations: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        neighbors = self._list_of(structure)
        edges = neighbors.edges(structure)
        species = self._species_index[structure.numbers]
        graph = self._graph(neighbors, species, edges, len(rotations))
        rotated = edges.vectors @ rotations.transpose(0, 2, 1)
        with _threads_for(graph.n_tokens * self.network.width if self.device.type == "cpu" else None):
            energies, gradients = self._network_gradients(rotated, graph)
            # back to the laboratory frame: row vectors are multiplied by R
            gradients = gradients @ rotations
            forces = self._scatter_forces(gradients, edges, structure.n_atoms)
        virials = -gradients.transpose(0, 2, 1) @ edges.vectors
        base_energy, base_forces, base_virial = self.baseline.evaluate(structure.numbers, edges)
        return energies + base_energy, forces + base_forces, virials + base_virial

    def _network_gradients(self, vectors: FloatArray, graph: Graph) -> tuple[FloatArray, FloatArray]:
        """Energies (n_rotations,) and their derivatives (n_rotations, n_edges, 3) by the turned edge vectors."""
        n_rotations, n_edges, _ = vectors.shape
        if self._gradient_function is None:  # at the first use: until then the weights may still be set
            self._gradient_function = self.network.gradient_function()
        flat = torch.from_numpy(vectors.reshape(-1, 3)).to(self.device, self.dtype)
        atomic, bonds, gradient = self._gradient_function(flat, graph)
        gradients = gradient.view(n_rotations, n_edges, 3).to("cpu", torch.float64).numpy()
        energies = atomic.double().view(n_rotations, -1).sum(1)
        energies = energies + bonds.double().view(n_rotations, n_edges).sum(1)
        return energies.cpu().numpy(), gradients

    @staticmethod
    def _scatter_forces(gradients: FloatArray, edges: Edges, n_atoms: int) -> FloatArray:
        """(n_rotations, n_atoms, 3) forces from the derivatives (n_rotations, n_edges, 3) by the edge vectors."""
        n_rotations = len(gradients)
        net = torch.from_numpy(gradients - gradients[:, edges.reverse])
        forces = torch.zeros(n_rotations, n_atoms, 3, dtype=torch.float64)
        return forces.index_add_(1, torch.from_numpy(edges.centers), net).numpy()


# the name before networks had kinds
PetPotential = NetworkPotential
