"""A network behind the contract of `Potential`: structures and rotations in one batch, one pass forward and back.

The neighbor list, species and index arrays are made once per structure; a rotation only turns the edge vectors
d_e. With G_e = dE/dd_e from one pass back over all rotations, in each rotation

    F_i = sum_{e: center i} (G_e - G_reverse(e)),      virial = -sum_e G_e (x) d_e,

both turned back to the laboratory frame in float64.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ipi_driver.elements import places_in
from ipi_driver.errors import UserError
from ipi_driver.neighbors import Edges, NeighborList
from ipi_driver.networks.base import EdgeNetwork, GradientFunction, SelectedGradientFunction
from ipi_driver.networks.baseline import Baseline
from ipi_driver.networks.graph import Graph
from ipi_driver.networks.selection import EdgeSelection, Topologies
from ipi_driver.potentials.assembly import Assembly
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.chunks import edges_per_call, groups
from ipi_driver.potentials.spec import PotentialSpec
from ipi_driver.potentials.torch_device import torch_device, torch_dtype
from ipi_driver.shipped import find_shipped
from ipi_driver.structure import FloatArray, RotatedResults, Structure

# Threads pay only above this many numbers (tokens × width): below, starting them costs more than the work.
_WIDTH_FOR_THREADS = 25_000
# Edges (times rotations) from which the work around the network is done on a GPU, too: below, starts of operations
# cost more than the work.
_EDGES_FOR_DEVICE = 50_000
# Distinct structures (by their atoms) whose neighbor lists are kept, unless a call has more.
_MAX_LISTS = 8
# Sets of structures, each for one number of rotations, whose index arrays are kept.
_MAX_ASSEMBLIES = 8


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


def _on_the_host(results: Sequence[torch.Tensor]) -> Iterator[FloatArray]:
    """In float64, flat; from another device in one transfer."""
    if results[0].device.type == "cpu":
        yield from (result.double().numpy().reshape(-1) for result in results)
        return
    flat = torch.cat([result.reshape(-1) for result in results]).cpu().double().numpy()
    yield from np.split(flat, np.cumsum([result.numel() for result in results])[:-1])


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
        Where and in which precision the network runs: "float32", "float64", or "tf32" for float32 with products of
        matrices in TF32 (10 binary digits), on GPUs.
    skin
        Å, of the neighbor list.
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
        self.name = f"{name}, TF32" if dtype == "tf32" else name
        self.config = network.config
        self.cutoff = network.config.cutoff
        self.species = network.config.species
        self.directions = network.directions
        self.baseline = baseline
        self.skin = skin
        self.device = torch_device(device)
        self.dtype, self.tf32 = torch_dtype(dtype), dtype == "tf32"
        self.network = network.to(self.device, self.dtype).eval().requires_grad_(False)
        self._species_index = places_in(self.species)
        self._begin()

    def _begin(self) -> None:
        """Nothing is known of any structure yet."""
        self._gradient_function: GradientFunction | None = None
        self._selected_function: SelectedGradientFunction | None = None
        self._selections: dict[int, tuple[Edges | None, EdgeSelection | None, Topologies]] = {}
        self._lists: dict[tuple[bytes, int], NeighborList] = {}
        self._assemblies: dict[tuple[tuple[int, ...], int], tuple[list[int], Assembly]] = {}
        # neighbor lists and recorded passes belong to one evaluation at a time
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        """What a copy needs: it finds neighbors and records passes of its own."""
        made_here = (
            "_lock",
            "_gradient_function",
            "_selected_function",
            "_selections",
            "_lists",
            "_assemblies",
        )
        return {key: value for key, value in vars(self).items() if key not in made_here}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin()

    @classmethod
    def from_spec(
        cls, spec: PotentialSpec, device: str = "cpu", dtype: str | None = None
    ) -> NetworkPotential:
        """From the name of a shipped model or the path of a model folder; in float32 by default."""
        potential = cls.load(find_shipped("models", spec.name), device, dtype or "float32")
        network = potential.network
        if unknown := sorted(set(spec.options) - set(network.options)):
            known = "it takes none; --dtype and --device are options of the command"
            if network.options:
                known = f"expected one of {', '.join(network.options)}"
            raise UserError(f"{spec}: unknown option {unknown[0]!r}, {known}")
        if spec.options:
            network.configure(spec.options)
            potential.directions = network.directions
            potential.name = f"{potential.name}?{spec.body.partition('?')[2]}"
        return potential

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", dtype: str = "float32") -> NetworkPotential:
        """Load a model folder (``model.yaml`` and ``weights.safetensors``)."""
        from ipi_driver.networks.storage import load_model

        network, baseline = load_model(folder)
        return cls(network, baseline, name=Path(folder).name, device=device, dtype=dtype)

    def check_species(self, structure: Structure) -> None:
        """As of every potential; `UserError` also for another charge or spin than a model was imported for."""
        super().check_species(structure)
        for name in ("charge", "spin"):
            known, given = getattr(self.config, name, None), getattr(structure, name)
            if None not in (known, given) and given != known:
                raise UserError(
                    f"the model {self.name} was imported for {name} {known}, but the structure has {name} {given:g}; "
                    f"import it again with --{name} {given:g}"
                )

    def edges_hint(self, structure: Structure) -> int:
        """Number of edges of ``structure``, from which the number of rotations in a batch is chosen."""
        with self._lock:
            neighbors = self._lists_of([structure])[0]
            edges = neighbors.edges(structure)
            selection = self._selection(structure, neighbors, edges)
        return len((edges if selection is None else selection.edges).centers)

    def _lists_of(self, structures: Sequence[Structure]) -> list[NeighborList]:
        """A neighbor list for each structure: for the k-th with the same atoms always the same."""
        seen: dict[bytes, int] = {}
        found = []
        for structure in structures:
            atoms = structure.numbers.tobytes() + structure.pbc.tobytes()
            position = seen[atoms] = seen.get(atoms, -1) + 1
            known = self._lists.pop((atoms, position), None)
            if known is None:
                known = NeighborList(self.cutoff or 0.0, self.skin)
            self._lists[atoms, position] = known  # the last used stands last
            found.append(known)
        if len(self._lists) > max(_MAX_LISTS, len(structures)):
            for key in list(self._lists)[: -max(_MAX_LISTS, len(structures))]:
                del self._lists[key]
            self._selections.clear()
            self._assemblies.clear()  # they are known by the lists' addresses, which may be used again
        return found

    def _assembly(
        self, structures: list[Structure], lists: list[NeighborList], edges: list[Edges], copies: int
    ) -> Assembly:
        """The assembly of these structures, kept until a set of edges changes."""
        key = (tuple(id(neighbors) for neighbors in lists), copies)
        topologies = [e.topology for e in edges]
        known = self._assemblies.get(key)
        if known is not None and known[0] == topologies:
            return known[1]
        for old in [k for k, (t, _) in self._assemblies.items() if k[0] == key[0] and t != topologies]:
            del self._assemblies[old]
        while len(self._assemblies) >= _MAX_ASSEMBLIES:
            del self._assemblies[next(iter(self._assemblies))]
        made = Assembly.build(structures, edges, self._species_index, self.baseline, copies, self.device)
        self._assemblies[key] = (topologies, made)
        return made

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        with self._lock:
            return self._evaluate_alone(structures, rotations)

    def _evaluate_alone(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        lists = self._lists_of(structures)
        edges = [neighbors.edges(structure) for neighbors, structure in zip(lists, structures, strict=True)]
        selections = [
            selection
            for parts in zip(structures, lists, edges, strict=True)
            if (selection := self._selection(*parts)) is not None
        ]
        if selections:
            edges = [selection.edges for selection in selections]
        parts = []
        together = [slice(0, 1)]
        if len(structures) > 1:
            sizes = [len(e.centers) for e in edges]
            together = groups(sizes, edges_per_call(self.device) // len(rotations))
        for group in together:
            assembly = self._assembly(structures[group], lists[group], edges[group], len(rotations))
            parts.append(self._evaluate_together(assembly, edges[group], rotations, selections[group]))
        return RotatedResults.joined(parts)

    def _selection(self, structure: Structure, neighbors: NeighborList, edges: Edges) -> EdgeSelection | None:
        """The network's selection of edges, which depends on the distances alone; computed once for equal edges."""
        if self.baseline.has_pairs:  # the baseline needs all edges
            return None
        last, selection, topologies = self._selections.get(id(neighbors), (None, None, Topologies()))
        if last is not edges:
            selection = self.network.select_edges(edges, structure.n_atoms, topologies)
            self._selections[id(neighbors)] = (edges, selection, topologies)
        return selection

    def _evaluate_together(
        self,
        assembly: Assembly,
        edges: list[Edges],
        rotations: FloatArray,
        selections: list[EdgeSelection],
    ) -> RotatedResults:
        vectors = edges[0].vectors if len(edges) == 1 else np.concatenate([e.vectors for e in edges])
        large = len(rotations) * len(vectors) > _EDGES_FOR_DEVICE
        if self.device.type == "cuda" and large and not selections:
            return self._evaluate_on_device(assembly, vectors, rotations)
        turned = (vectors @ rotations.transpose(0, 2, 1)).reshape(-1, 3)
        n = len(rotations)
        work = assembly.graph.n_tokens * self.network.width if self.device.type == "cpu" else None
        with _threads_for(work):
            flat = torch.from_numpy(turned).to(self.device, self.dtype)
            found = self._network(flat, assembly.graph, selections, n)
            atomic, bonds, flat_gradients, *by_weight = (
                array.reshape(n, -1) for array in _on_the_host(found)
            )
            gradients = flat_gradients.reshape(n, len(vectors), 3)
            if not selections:
                return assembly.results(vectors, rotations, atomic, bonds, gradients)
            along = np.concatenate(
                [
                    selection.along_edges(by_weight[0][:, place])
                    for selection, place in zip(selections, assembly.edges, strict=True)
                ],
                axis=1,
            )
            gradients += along @ rotations.transpose(0, 2, 1)
            results = assembly.results(vectors, rotations, atomic, bonds, gradients)
            extra = [
                selection.of_cutoffs(by_weight[0][:, place], len(forces[0]))
                for selection, place, forces in zip(selections, assembly.edges, results.forces, strict=True)
            ]
            return RotatedResults(
                results.energies,
                tuple(f + more for f, (more, _) in zip(results.forces, extra, strict=True)),
                results.virials + np.array([virial for _, virial in extra]),
            )

    def _evaluate_on_device(
        self, assembly: Assembly, vectors: FloatArray, rotations: FloatArray
    ) -> RotatedResults:
        """As `_evaluate_together`; only edge vectors, energies and forces go to the device and back."""
        flat, turns = (torch.tensor(array, device=self.device) for array in (vectors, rotations))
        turned = (flat @ turns.transpose(1, 2)).view(-1, 3).to(self.dtype)
        atomic, bonds, gradients, *_ = self._network(turned, assembly.graph, [], len(rotations))
        return assembly.results_on_device(flat, turns, atomic, bonds, gradients)

    def _network(
        self, vectors: torch.Tensor, graph: Graph, selections: list[EdgeSelection], copies: int
    ) -> tuple[torch.Tensor, ...]:
        """Results of the network; the functions are made at the first use, until then the weights may still be set."""
        if self.tf32:
            before = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("high")
            try:
                return self._network_as_set(vectors, graph, selections, copies)
            finally:
                torch.set_float32_matmul_precision(before)
        return self._network_as_set(vectors, graph, selections, copies)

    def _network_as_set(
        self, vectors: torch.Tensor, graph: Graph, selections: list[EdgeSelection], copies: int
    ) -> tuple[torch.Tensor, ...]:
        """`_network` in the precision of products that is set."""
        if not selections:
            if self._gradient_function is None:
                self._gradient_function = self.network.gradient_function()
            return self._gradient_function(vectors, graph)
        if self._selected_function is None:
            self._selected_function = self.network.selected_gradient_function()
        weights = torch.from_numpy(np.tile(np.concatenate([s.weights for s in selections]), copies))
        return self._selected_function(vectors, weights.to(vectors.device, vectors.dtype), graph)


# the name before networks had kinds
PetPotential = NetworkPotential
