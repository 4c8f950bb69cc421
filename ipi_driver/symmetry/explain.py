r"""What a model's dependence on the orientation is: a relaxed network fitted to its residual forces.

Of structures x turned by rotations R, the residual forces are what an average over the rotations removes,

.. math:: \Delta F(R x) = F(R x) - \bar F(R x) .

A relaxed network (`ipi_driver.networks.e3nn.relaxed`) of one layer is trained on them. Its weights up to l = 2 in both
parities are the same for all atoms and structures, as an external field is: what it explains of residual forces that it
has not seen is what a vector, a pseudovector or a tensor fixed in the laboratory can do. A real field is explained by
one of them, and its weights keep a symmetry (C∞v of a vector). The error of an unconstrained model is of many degrees,
other for each environment, and keeps no symmetry.

A uniform field on charges is tested for by itself, without a network: :math:`\Delta F_i = f_{Z_i}`, one vector for each
element, all along one axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import nn

from ipi_driver.elements import places_in
from ipi_driver.neighbors import NeighborList
from ipi_driver.networks.e3nn.config import E3nnConfig, RelaxedConfig
from ipi_driver.networks.e3nn.network import E3nnNetwork
from ipi_driver.networks.graph import Graph, build_graph
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.chunks import Progress, RotationChunks, no_progress
from ipi_driver.rotations.quadrature import quadrature
from ipi_driver.rotations.transmission import IN_WORDS
from ipi_driver.structure import FloatArray, Structure
from ipi_driver.symmetry.breaking import PointGroup, Weights, largest_point_group
from ipi_driver.units import MILLI

REAL, MOST = 0.8, 0.9
"""Share of the residual forces that a real field explains at least, and of that share what one irrep explains."""

NOTHING = 1e-6
"""Root mean square of residual forces that are rounding, eV/Å."""

_RELEVANT = 0.05
"""Share of what all explain, below which the weights of an irrep are taken for noise."""

PARTLY = 0.25
"""Share that one vector for each element explains where a uniform field is a part of the residual forces."""

_GRID = "Ih"
_KEPT_APART = 0.2
_CUTOFF = 4.0


@dataclass(frozen=True, eq=False)
class Explanation:
    """A relaxed network fitted to the residual forces.

    Attributes
    ----------
    residual
        Root mean square of the residual forces, eV/Å per component.
    explained
        Share of the mean square of residual forces kept apart that the relaxed fit explains.
    by_irrep
        The same with the weights of one irrep alone (and the scalar), by its name.
    uniform
        Share that one vector for each element explains, and `axis`, which all of them share best.
    axis
        (3,) unit vector.
    aligned
        Share of the squared vectors of the elements that lies along `axis`; 1 in a field.
    weights
        Relaxed weights (2l + 1,) by irrep.
    group
        Largest point group that leaves the weights within a tenth, without those that explain nothing by themselves.
    n_structures, n_rotations
        What the fit saw and was tested on.
    """

    residual: float
    explained: float
    by_irrep: dict[str, float]
    uniform: float
    axis: FloatArray
    aligned: float
    weights: Weights
    group: PointGroup
    n_structures: int
    n_rotations: int
    history: tuple[float, ...] = field(default=(), repr=False)

    @property
    def leading(self) -> str:
        """The irrep that explains most by itself."""
        return max(self.by_irrep, key=lambda name: self.by_irrep[name])

    @property
    def is_field(self) -> bool:
        """Whether this looks like one field fixed in the laboratory."""
        return (
            self.residual > NOTHING
            and self.explained >= REAL
            and self.by_irrep[self.leading] >= MOST * self.explained
        )

    @property
    def text(self) -> str:
        """Two sentences for people."""
        if self.residual <= NOTHING:
            return f"No residual forces to explain ({MILLI * self.residual:.1g} meV/Å): the model is equivariant."
        shares = ", ".join(
            f"{IN_WORDS[name]} ({name}) {100 * max(share, 0.0):.0f} %"
            for name, share in self.by_irrep.items()
        )
        found = (
            f"Of the residual forces ({MILLI * self.residual:.3g} meV/Å) a relaxed network explains "
            f"{100 * max(self.explained, 0.0):.0f} %; alone: {shares}. One vector for each element explains "
            f"{100 * max(self.uniform, 0.0):.0f} %."
        )
        along = "along (" + ", ".join(f"{x:.3f}" for x in self.axis) + ")"
        if not self.is_field and self.uniform >= PARTLY and self.aligned > MOST:
            return (
                f"{found} Part of it looks like a real uniform field {along}, which an average would remove as well; "
                "the rest is not one vector or tensor fixed in the laboratory, but an artefact."
            )
        if not self.is_field:
            return (
                f"{found} This is no field: what depends on the orientation is not one vector or tensor fixed in the "
                "laboratory, but an artefact, which an average removes."
            )
        kind = IN_WORDS[self.leading]
        if self.leading == "1o" and self.uniform >= REAL * self.explained and self.aligned > MOST:
            kind = f"uniform field {along}"
        return (
            f"{found} This looks like a real external {kind} (largest group that leaves the weights: "
            f"{self.group.name}): an average would remove it."
        )


def explain(
    potential: Potential,
    structures: Sequence[Structure],
    steps: int = 150,
    seed: int = 0,
    rotation_batch: int | None = None,
    progress: Progress = no_progress,
    most_atoms: int = 1000,
) -> Explanation:
    """Fit a relaxed network to the residual forces of a potential.

    Parameters
    ----------
    potential
        Without averaging.
    structures
        Some; of as many as ``most_atoms`` allow the residual forces are used.
    steps
        Of the optimizer.
    seed
        Of the frame of the rotations, the split and the weights.
    rotation_batch
        Rotations per call of the potential; None chooses.
    progress
        Called with the number of evaluations done.
    most_atoms
        Atoms of all rotations of all structures together.
    """
    data = _residuals(potential, structures, seed, rotation_batch, progress, most_atoms)
    uniform, axis, aligned = _uniform(data)
    network, history = _fit(data, steps, seed)
    weights = network.relaxed_weights[0]
    by_irrep = {}
    for name in IN_WORDS:
        by_irrep[name] = _explained(_with_one(network, name), data)
    found = {name: values.double().numpy().copy() for name, values in weights.by_irrep().items()}
    explained = _explained(network, data)
    relevant = {name: found[name] for name in found if by_irrep.get(name, 1.0) > _RELEVANT * explained}
    return Explanation(
        residual=float(data.forces.square().mean().sqrt()),
        explained=explained,
        by_irrep=by_irrep,
        uniform=uniform,
        axis=axis,
        aligned=aligned,
        weights=found,
        group=largest_point_group(relevant, tolerance=0.1),
        n_structures=data.n_structures,
        n_rotations=data.n_rotations,
        history=history,
    )


@dataclass(frozen=True, eq=False)
class _Residuals:
    """Turned structures and their residual forces as one batch.

    Attributes
    ----------
    vectors, forces, energies
        (n_edges, 3) Å, (n_atoms, 3) eV/Å and (n_graphs,) eV, of the turned structures in their own frame.
    owner
        (n_atoms,) turned structure of each atom.
    apart
        (n_atoms,) whether its rotation is kept apart from the fit.
    numbers
        (n_atoms,) atomic numbers.
    """

    graph: Graph
    vectors: torch.Tensor
    forces: torch.Tensor
    energies: torch.Tensor
    owner: torch.Tensor
    apart: torch.Tensor
    numbers: np.ndarray
    species: tuple[int, ...]
    n_structures: int
    n_rotations: int


def _residuals(
    potential: Potential,
    structures: Sequence[Structure],
    seed: int,
    rotation_batch: int | None,
    progress: Progress,
    most_atoms: int,
) -> _Residuals:
    grid = quadrature(_GRID)
    rng = np.random.default_rng(seed)
    frame = Rotation.random(random_state=seed).as_matrix()
    rotations = np.ascontiguousarray(grid.rotations @ frame)
    largest = max(structure.n_atoms for structure in structures)
    n_used = min(len(grid), max(12, most_atoms // (largest * len(structures))))
    chosen = structures[: max(1, most_atoms // (largest * n_used))]
    used = rng.permutation(len(grid))[:n_used]
    kept_apart = np.arange(n_used) < max(1, round(_KEPT_APART * n_used))
    species = tuple(sorted({int(z) for structure in chosen for z in structure.numbers}))
    places = places_in(species)
    chunks = RotationChunks(potential, rotation_batch)
    lists, vectors, forces, energies, numbers, apart = [], [], [], [], [], []
    for structure in chosen:
        results = chunks.evaluate(structure, rotations, progress)
        energy, force = results.energies[0], results.forces[0]
        energies.append((energy - grid.weights @ energy)[used])
        residual = force - np.einsum("k,kia->ia", grid.weights, force)
        forces.append((residual[used] @ rotations[used].transpose(0, 2, 1)).reshape(-1, 3))
        edges = NeighborList(_CUTOFF, skin=0.0).edges(structure)
        lists += [edges] * n_used
        vectors.append((edges.vectors @ rotations[used].transpose(0, 2, 1)).reshape(-1, 3))
        numbers += [structure.numbers] * n_used
        apart.append(np.repeat(kept_apart, structure.n_atoms))
    sizes = np.array([len(n) for n in numbers])
    return _Residuals(
        build_graph([places[n] for n in numbers], lists),
        torch.from_numpy(np.concatenate(vectors)),
        torch.from_numpy(np.concatenate(forces)),
        torch.from_numpy(np.concatenate(energies)),
        torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)),
        torch.from_numpy(np.concatenate(apart)),
        np.concatenate(numbers),
        species,
        len(chosen),
        n_used,
    )


def _uniform(data: _Residuals) -> tuple[float, FloatArray, float]:
    """Share that one vector for each element explains, the axis, and what of the vectors is along it."""
    forces = data.forces.numpy()
    vectors, left, squares = [], 0.0, float((forces**2).sum())
    for z in data.species:
        chosen = data.numbers == z
        mean = forces[chosen].mean(axis=0)
        vectors.append(mean * np.sqrt(chosen.sum()))
        left += float(((forces[chosen] - mean) ** 2).sum())
    _, sizes, axes = np.linalg.svd(np.array(vectors))
    axis = axes[0] * np.sign(axes[0][np.argmax(np.abs(axes[0]))])
    whole = float((sizes**2).sum())
    aligned = float(sizes[0] ** 2 / whole) if whole > 0.0 else 0.0
    return (1.0 - left / squares if squares > 0.0 else 0.0), axis, aligned


def _fit(data: _Residuals, steps: int, seed: int) -> tuple[E3nnNetwork, tuple[float, ...]]:
    """The trained network, and the share of the fitted residual forces that it explains on the way."""
    config = E3nnConfig(
        species=data.species,
        cutoff=_CUTOFF,
        l_max=2,
        channels=8,
        product_channels=8,
        n_layers=1,
        d_radial=16,
        average_neighbors=max(1.0, len(data.vectors) / len(data.owner)),
        relaxed=RelaxedConfig(l_max=2, parities="both", regularization=1e-4),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = E3nnNetwork(config).double()
    scale = float(data.forces.square().mean().sqrt()) or 1.0
    wanted, fitted = data.forces / scale, ~data.apart
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    history = []
    for _ in range(steps):
        optimizer.zero_grad()
        forces = _forces(network, data, create_graph=True)
        loss = (forces - wanted)[fitted].square().mean()
        history.append(1.0 - float(loss.detach() / wanted[fitted].square().mean().clamp(min=1e-30)))
        penalty = network.penalty()
        (loss if penalty is None else loss + penalty).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
    return network, tuple(history)


def _forces(network: E3nnNetwork, data: _Residuals, create_graph: bool = False) -> torch.Tensor:
    """(n_atoms, 3) forces of the network, in units of the residual forces."""
    leaf = data.vectors.detach().requires_grad_(True)
    energy = network(leaf, data.graph)[0].sum()
    (gradient,) = torch.autograd.grad(energy, leaf, create_graph=create_graph)
    total = gradient.new_zeros(len(data.owner), 3)
    return total.index_add(0, data.graph.centers, gradient - gradient[data.graph.reverse])


def _explained(network: E3nnNetwork, data: _Residuals) -> float:
    """Share of the mean square of the residual forces kept apart."""
    scale = float(data.forces.square().mean().sqrt()) or 1.0
    wanted = (data.forces / scale)[data.apart]
    left = (_forces(network, data).detach()[data.apart] - wanted).square().sum()
    return 1.0 - float(left / wanted.square().sum().clamp(min=1e-30))


def _with_one(network: E3nnNetwork, name: str) -> E3nnNetwork:
    """A copy whose non-scalar weights are those of one irrep alone."""
    other = E3nnNetwork(network.config).double()
    other.load_state_dict(network.state_dict())
    for weights in other.relaxed_weights:
        parts = [
            values if key in ("0e", name) else 0.0 * values for key, values in weights.by_irrep().items()
        ]
        weights.theta.data = torch.cat(parts)
    return other
