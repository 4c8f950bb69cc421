"""Least-squares fit of the baseline: atomic energies and pair terms, jointly to energies and forces.

With the forces ``D_s c`` and the energies ``b_s c`` that the pair coefficients c give to structure s, and with F_s, E_s
the labels without the fixed screened nuclear repulsion, c and the atomic energies e minimize

    sum_s |F_s - D_s c|^2  +  w^2 sum_s (E_s - n_s e - b_s c)^2 / n_atoms  +  ridge |c|^2

The normal equations are summed structure by structure. Where there are no data, below the shortest distance of each
pair of elements, the whole pair term (with the screened nuclear repulsion) is constrained to be a wall: convex, and
repulsive from nine tenths of the shortest distance down.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls
from scipy.sparse import csr_array

from ipi_driver.errors import UserError
from ipi_driver.neighbors import Edges, NeighborList
from ipi_driver.networks.baseline import Baseline, zbl
from ipi_driver.structure import FloatArray, IntArray
from ipi_driver.training.data import LabelledStructure

logger = logging.getLogger(__name__)

# 1/Å: an energy error of 1 eV per square root of the number of atoms counts as a force error of this many eV/Å.
_ENERGY_WEIGHT = 3.0
# eV/Å: weakest repulsion at and below this fraction of the shortest distance of the data; nearer than that the data
# may still be attractive, where a pair of elements never comes into contact.
_WALL_SLOPE, _WALL_START = 1.0, 0.9
# Å: grid on which the wall is constrained.
_WALL_STEP, _WALL_END = 0.02, 0.3


def fit_atomic_energies(
    counts: FloatArray, energies: FloatArray, species: tuple[int, ...], weights: FloatArray
) -> FloatArray:
    """Weighted least squares for the energies of the species.

    Where the compositions do not separate the elements (water alone), the data fix only the sums over a composition.
    Among all solutions the function takes the one nearest to energies proportional to Z^2.4, as total energies of atoms
    roughly are, so that each energy keeps a reasonable size.

    Parameters
    ----------
    counts
        (n_structures, n_species) atoms of each species.
    energies
        (n_structures,) eV.
    species
        Atomic numbers.
    weights
        (n_structures,).

    Returns
    -------
    FloatArray
        (n_species,) eV.
    """
    shape = np.array(species, dtype=float) ** 2.4
    sums = counts @ shape
    prior = (
        shape * float((weights * sums) @ (weights * energies)) / float((weights * sums) @ (weights * sums))
    )
    rest = weights * (energies - counts @ prior)
    correction, *_ = np.linalg.lstsq(weights[:, None] * counts, rest, rcond=1e-8)
    return np.asarray(prior + correction)


_MEMORY = 2e9
"""Bytes of the normal equations of a fit, at most: 35 elements."""


def fit_baseline(
    data: Sequence[LabelledStructure],
    cutoff: float,
    pair: bool = True,
    n_gaussians: int = 24,
    species: tuple[int, ...] | None = None,
    ridge: float = 1e-5,
) -> Baseline:
    """Baseline of a training set.

    Parameters
    ----------
    data
        Training structures.
    cutoff
        Å.
    pair
        Whether to fit pair terms; without them only the atomic energies.
    n_gaussians
        Gaussians per pair of elements.
    species
        Atomic numbers; None takes those of the data.
    ridge
        Of the pair coefficients, relative to the mean diagonal element of the normal equations.

    Returns
    -------
    Baseline
        With ``pair_coefficients=None`` without pair terms.

    Raises
    ------
    UserError
        If there are no data, they hold elements that ``species`` does not, or the elements are too many for pair terms.
    """
    if not data:
        raise UserError("the baseline needs at least one labelled structure")
    present = {int(z) for d in data for z in d.structure.numbers}
    species = species or tuple(sorted(present))
    if present - set(species):
        raise UserError(
            f"`species` {species} lacks the atomic numbers {sorted(present - set(species))} of the data"
        )
    counts = np.array(
        [[np.count_nonzero(d.structure.numbers == z) for z in species] for d in data], dtype=float
    )
    weights = 1.0 / np.sqrt(counts.sum(1))
    if not pair:
        energies = np.array([d.energy for d in data])
        return Baseline(species, fit_atomic_energies(counts, energies, species, weights), cutoff)

    n_pairs = len(species) * (len(species) + 1) // 2
    needed = 8 * (n_pairs * n_gaussians) ** 2
    if needed > _MEMORY:
        raise UserError(
            f"the pair terms of {len(species)} elements take {needed / 1e9:.0f} GB to fit; set `baseline: "
            "{pair: false}`, or name the elements that you need in `species`"
        )
    empty = Baseline(species, np.zeros(len(species)), cutoff, np.zeros((n_pairs, n_gaussians)))
    equations = _accumulate(data, empty, n_gaussians)
    coefficients = _solve(equations, empty, counts, weights, ridge)
    rest = equations.energies - equations.energy_rows @ coefficients
    atomic = fit_atomic_energies(counts, rest, species, weights)
    logger.info("pair baseline: force RMS %.3f -> %.3f eV/Å", *equations.force_rms(coefficients))
    return Baseline(species, atomic, cutoff, coefficients.reshape(n_pairs, n_gaussians))


@dataclass(eq=False)
class _Equations:
    """Sums over the structures: forces as normal equations, energies row by row.

    ``normal`` (size, size), ``right`` (size,); ``labels`` and ``rest`` are the sums of the squared forces with and
    without the screened nuclear repulsion, (eV/Å)²; ``energies`` (n_structures,) in eV without it; ``shortest``
    (n_pairs,) in Å.
    """

    normal: FloatArray
    right: FloatArray
    energy_rows: FloatArray
    energies: FloatArray
    shortest: FloatArray
    labels: float = 0.0
    rest: float = 0.0
    n_components: int = 0

    def force_rms(self, coefficients: FloatArray) -> tuple[float, float]:
        """Force RMS before and after the fit, eV/Å."""
        after = self.rest - 2.0 * coefficients @ self.right + coefficients @ self.normal @ coefficients
        count = max(self.n_components, 1)
        return (self.labels / count) ** 0.5, (max(float(after), 0.0) / count) ** 0.5


def _accumulate(data: Sequence[LabelledStructure], empty: Baseline, n_gaussians: int) -> _Equations:
    """Equations of all structures; ``empty`` is the baseline with vanishing coefficients."""
    n_pairs = len(empty.pairs)
    size = n_pairs * n_gaussians
    found = _Equations(
        np.zeros((size, size)),
        np.zeros(size),
        np.zeros((len(data), size)),
        np.zeros(len(data)),
        np.full(n_pairs, empty.cutoff),
    )
    for k, item in enumerate(data):
        edges = NeighborList(empty.cutoff, skin=0.0).edges(item.structure)
        lengths = np.linalg.norm(edges.vectors, axis=1)
        pair = empty.pair_index(item.structure.numbers, edges)
        np.minimum.at(found.shortest, pair, lengths)
        energy, forces, _ = empty.evaluate(item.structure.numbers, edges)
        rest = (item.forces - forces).ravel()
        design, found.energy_rows[k] = _design(empty, item.structure.n_atoms, edges, pair, n_gaussians)
        found.energies[k] = item.energy - energy
        found.normal += design.T @ design
        found.right += design.T @ rest
        found.labels += float(np.square(item.forces).sum())
        found.rest += float(rest @ rest)
        found.n_components += rest.size
    return found


def _design(
    baseline: Baseline, n_atoms: int, edges: Edges, pair: IntArray, n_gaussians: int
) -> tuple[FloatArray, FloatArray]:
    """Derivatives by the coefficients of the forces, (3 n_atoms, size), and of the energy, (size,)."""
    n_pairs = len(baseline.pairs)
    lengths = np.linalg.norm(edges.vectors, axis=1)
    basis, slope = baseline.pair_basis(lengths, n_gaussians)
    directions = edges.vectors / lengths[:, None]
    forces = np.zeros((n_atoms, 3, n_pairs, n_gaussians))
    energy = np.zeros((n_pairs, n_gaussians))
    for p in range(n_pairs):
        chosen = np.flatnonzero(pair == p)
        energy[p] = 0.5 * basis[chosen].sum(0)
        for axis in range(3):
            # an atom is pulled towards its neighbor where the energy rises with the distance
            pull = (directions[chosen, axis], (edges.centers[chosen], np.arange(len(chosen))))
            forces[:, axis, p] = csr_array(pull, shape=(n_atoms, len(chosen))) @ slope[chosen]
    return forces.reshape(3 * n_atoms, -1), energy.ravel()


def _solve(
    equations: _Equations, empty: Baseline, counts: FloatArray, weights: FloatArray, ridge: float
) -> FloatArray:
    """(size,) coefficients, with the pair terms repulsive below the data."""
    # the energies count in so far as the composition does not explain them: the atomic energies are eliminated
    scaled = weights[:, None] * counts
    inverse = np.linalg.pinv(scaled, rcond=1e-8)

    def outside(values: FloatArray) -> FloatArray:
        return np.asarray(values - scaled @ (inverse @ values))

    rows = _ENERGY_WEIGHT * outside(weights[:, None] * equations.energy_rows)
    target = _ENERGY_WEIGHT * outside(weights * equations.energies)
    normal = equations.normal + rows.T @ rows
    right = equations.right + rows.T @ target
    scale = float(np.trace(normal)) / len(normal)
    if scale == 0.0:
        return np.zeros(len(normal))
    normal = normal + ridge * scale * np.eye(len(normal))
    return least_squares_above(normal, right, *_wall_conditions(equations, empty))


def least_squares_above(
    normal: FloatArray, right: FloatArray, conditions: FloatArray, bounds: FloatArray
) -> FloatArray:
    """Minimum of ``x N x / 2 - right x`` with ``conditions x >= bounds``, for positive definite N.

    With ``N = L L^T`` and ``y = L^T x - L^-1 right`` this is the least |y| with ``G y >= h``, whose dual is a
    non-negative least-squares problem (Lawson, Hanson, Solving Least Squares Problems, ch. 23).

    Parameters
    ----------
    normal
        (n, n).
    right
        (n,).
    conditions
        (m, n).
    bounds
        (m,).

    Raises
    ------
    UserError
        If no x fulfils the conditions.
    """
    lower = cholesky(normal, lower=True)
    free = solve_triangular(lower, right, lower=True)
    g = solve_triangular(lower, conditions.T, lower=True).T
    h = bounds - g @ free
    y = np.zeros(len(free))
    if (h > 0.0).any():
        size = np.linalg.norm(g, axis=1)
        g, h = g / size[:, None], h / size
        unit = np.append(np.zeros(len(free)), 1.0)
        # lengths in units of the largest violation, so that the last row weighs as much as the others
        largest = float(h.max())
        multipliers, distance = nnls(np.vstack([g.T, h / largest]), unit)
        if distance < 1e-10:
            raise UserError(
                "the pair terms cannot be made repulsive at short distance; use more Gaussians or `pair: false`"
            )
        residual = np.append(g.T @ multipliers, h @ multipliers / largest) - unit
        y = -largest * residual[:-1] / residual[-1]
    return np.asarray(solve_triangular(lower, y + free, lower=True, trans="T"))


def _wall_conditions(equations: _Equations, empty: Baseline) -> tuple[FloatArray, FloatArray]:
    """Conditions ``A c >= b`` that make the pair terms walls below the shortest distances of the data."""
    n_pairs = len(empty.pairs)
    n_gaussians = len(equations.right) // n_pairs
    conditions, bounds = [np.zeros((0, n_pairs * n_gaussians))], [np.zeros(0)]
    for p, (a, b) in enumerate(empty.pairs):
        stop = float(equations.shortest[p])
        if stop >= empty.cutoff or stop <= _WALL_END:
            continue  # the data do not have this pair, or reach down to where nothing but the nuclei acts
        r = np.linspace(_WALL_END, stop, 2 + int((stop - _WALL_END) / _WALL_STEP))
        fixed = zbl(r, np.full(len(r), a), np.full(len(r), b), empty.cutoff)[1]
        slopes = np.zeros((len(r), n_pairs * n_gaussians))
        slopes[:, p * n_gaussians : (p + 1) * n_gaussians] = empty.pair_basis(r, n_gaussians)[1]
        first = r <= _WALL_START * stop
        conditions += [np.diff(slopes, axis=0), -slopes[first]]
        bounds += [-np.diff(fixed), _WALL_SLOPE + fixed[first]]
    return np.concatenate(conditions), np.concatenate(bounds)


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
