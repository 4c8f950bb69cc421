"""Least-squares fit of the baseline: atomic energies and pair terms, jointly to energies and forces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ipi_driver.neighbors import Edges, NeighborList
from ipi_driver.potentials.pet.baseline import Baseline
from ipi_driver.structure import FloatArray
from ipi_driver.training.data import LabelledStructure

# Ridge on the pair coefficients (1/eV²), per structure: they are of the order of eV and must not cancel each other.
_RIDGE = 1e-3


def fit_atomic_energies(data: Sequence[LabelledStructure], species: tuple[int, ...]) -> FloatArray:
    """(n_species,) eV by least squares.

    Where compositions do not tell the elements apart (water alone), the energies are shared in proportion to the
    square of the atomic number, which keeps each of a reasonable size; sums over the compositions are exact.
    """
    counts = np.array([[np.sum(d.structure.numbers == z) for z in species] for d in data], dtype=float)
    energies = np.array([d.energy for d in data])
    prior = -np.array([float(z) ** 2 for z in species])
    scale = float(energies @ (counts @ prior)) / float((counts @ prior) @ (counts @ prior))
    prior *= scale
    correction, *_ = np.linalg.lstsq(counts, energies - counts @ prior, rcond=1e-8)
    return np.asarray(prior + correction)


def fit_baseline(
    data: Sequence[LabelledStructure],
    cutoff: float,
    pair: bool = True,
    n_gaussians: int = 24,
    species: tuple[int, ...] | None = None,
) -> Baseline:
    """Baseline of a training set.

    Parameters
    ----------
    cutoff
        Å.
    pair
        Whether to fit pair terms; without them only the atomic energies.
    n_gaussians
        Gaussians per pair of elements.
    species
        Atomic numbers; None takes those of the data.
    """
    species = species or tuple(sorted({int(z) for d in data for z in d.structure.numbers}))
    if not pair:
        return Baseline(species, fit_atomic_energies(data, species), cutoff)
    n_pairs = len(species) * (len(species) + 1) // 2
    shortest = np.full(n_pairs, cutoff)
    empty = Baseline(species, np.zeros(len(species)), cutoff, np.zeros((n_pairs, n_gaussians)))
    size = n_pairs * n_gaussians
    normal, right = np.zeros((size, size)), np.zeros(size)
    rows, rest = np.empty((len(data), size)), np.empty(len(data))
    for k, item in enumerate(data):
        edges = NeighborList(cutoff, skin=0.0).edges(item.structure)
        lengths = np.linalg.norm(edges.vectors, axis=1)
        np.minimum.at(shortest, empty.pair_index(item.structure.numbers, edges), lengths)
        energy, forces, _ = empty.evaluate(item.structure.numbers, edges)
        rows[k], design = _design(empty, item, edges, n_gaussians)
        rest[k] = item.energy - energy
        normal += design.T @ design
        right += design.T @ (item.forces - forces).ravel()
    # Energies count per atom, and only in how they differ from what the composition says.
    counts = np.array([[np.sum(d.structure.numbers == z) for z in species] for d in data], dtype=float)
    projector = np.eye(len(data)) - counts @ np.linalg.pinv(counts)
    weights = 3.0 / np.sqrt(counts.sum(1))
    relative, target = (projector @ rows) * weights[:, None], (projector @ rest) * weights
    normal += relative.T @ relative + _RIDGE * len(data) * np.eye(size)
    # Where there are no distances a Gaussian would be fixed by its tail alone, and could dig a well into the wall.
    centers, width = empty.grid(n_gaussians)
    used = np.flatnonzero((centers[None, :] >= shortest[:, None] - width).ravel())
    coefficients = np.zeros(size)
    coefficients[used] = np.linalg.solve(normal[np.ix_(used, used)], (right + relative.T @ target)[used])
    without_pairs = [
        LabelledStructure(d.structure, float(e), d.forces)
        for d, e in zip(data, rest - rows @ coefficients, strict=True)
    ]
    atomic = fit_atomic_energies(without_pairs, species)
    return Baseline(species, atomic, cutoff, coefficients.reshape(n_pairs, n_gaussians))


def _design(
    baseline: Baseline, item: LabelledStructure, edges: Edges, n_gaussians: int
) -> tuple[FloatArray, FloatArray]:
    """Derivatives of the energy (size,) and of the forces (3 n_atoms, size) by the coefficients."""
    n_atoms = item.structure.n_atoms
    n_pairs = len(baseline.pairs)
    lengths = np.linalg.norm(edges.vectors, axis=1)
    basis, slope = baseline.pair_basis(lengths, n_gaussians)
    pair = baseline.pair_index(item.structure.numbers, edges)
    energy = np.zeros((n_pairs, n_gaussians))
    np.add.at(energy, pair, 0.5 * basis)
    forces = np.zeros((n_atoms * n_pairs, 3, n_gaussians))
    directions = edges.vectors / lengths[:, None]
    # an atom is pulled towards its neighbour where the energy rises with the distance
    np.add.at(forces, edges.centers * n_pairs + pair, slope[:, None, :] * directions[:, :, None])
    by_atom = forces.reshape(n_atoms, n_pairs, 3, n_gaussians).transpose(0, 2, 1, 3)
    return energy.ravel(), by_atom.reshape(3 * n_atoms, -1)


def force_rms(data: Sequence[LabelledStructure], baseline: Baseline | None = None) -> float:
    """Root mean square of the forces that ``baseline`` leaves (all of them without one), eV/Å."""
    squares = []
    for item in data:
        rest = item.forces
        if baseline is not None:
            edges = NeighborList(baseline.cutoff, skin=0.0).edges(item.structure)
            rest = rest - baseline.evaluate(item.structure.numbers, edges)[1]
        squares.append(np.square(rest).ravel())
    return float(np.sqrt(np.mean(np.concatenate(squares))))
