"""Rotationally exact baseline under the network: atomic energies and smooth pair terms.

    E_0 = sum_i e(Z_i) + 1/2 sum_edges [ u_ZBL(r) + sum_k c_k(Z_i, Z_j) g_k(r) f_c(r) ]

with Gaussians g_k on an even grid, whose coefficients are linear and fitted by least squares, and the universal
screened nuclear repulsion (Ziegler, Biersack, Littmark 1985), which gives a repulsive wall where there are no data.
The baseline is evaluated once per structure, however many rotations the network sees.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations_with_replacement

import numpy as np
from ase.data import covalent_radii

from ipi_driver.elements import N_NUMBERS
from ipi_driver.neighbors import Edges
from ipi_driver.structure import FloatArray, IntArray
from ipi_driver.units import COULOMB

ZBL_AMPLITUDES = np.array([0.18175, 0.50986, 0.28022, 0.02817])
ZBL_DECAYS = np.array([3.19980, 0.94229, 0.40290, 0.20162])
ZBL_LENGTH = 0.46850  # Å


def _smooth_step(r: FloatArray, start: float, stop: float) -> tuple[FloatArray, FloatArray]:
    """1 below ``start``, 0 above ``stop``, twice differentiable between; value and derivative."""
    x = np.clip((r - start) / (stop - start), 0.0, 1.0)
    value = 1.0 - x**3 * (10.0 - 15.0 * x + 6.0 * x * x)
    return value, -30.0 * x * x * (1.0 - x) ** 2 / (stop - start)


def _bare_zbl(r: FloatArray, z_i: IntArray, z_j: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Screened nuclear repulsion (eV) at ``r`` (n,) Å and its first and second derivatives."""
    length = ZBL_LENGTH / (z_i**0.23 + z_j**0.23)
    exponentials = ZBL_AMPLITUDES * np.exp(-ZBL_DECAYS * (r / length)[:, None])
    screening = exponentials.sum(1)
    slope = -(exponentials * ZBL_DECAYS).sum(1) / length
    curvature = (exponentials * ZBL_DECAYS**2).sum(1) / length**2
    prefactor = COULOMB * z_i * z_j / r
    first = prefactor * (slope - screening / r)
    second = prefactor * (curvature - 2.0 * slope / r + 2.0 * screening / r**2)
    return prefactor * screening, first, second


def zbl(r: FloatArray, z_i: IntArray, z_j: IntArray, cutoff: float) -> tuple[FloatArray, FloatArray]:
    """Screened nuclear repulsion (eV) and its derivative (eV/Å) at ``r`` (n,) Å, smoothly zero at ``cutoff``."""
    value, derivative, _ = _bare_zbl(r, z_i, z_j)
    step, step_slope = _smooth_step(r, 0.0, cutoff)
    return value * step, derivative * step + value * step_slope


def covalent_zbl(r: FloatArray, z_i: IntArray, z_j: IntArray) -> tuple[FloatArray, FloatArray]:
    """As `zbl`, switched off as in LAMMPS and metatrain, between zero and the sum R of the two covalent radii.

    A/3 r^3 + B/4 r^4 + C is added, such that the value and two derivatives vanish at R; 0 beyond.
    """
    end = covalent_radii[z_i] + covalent_radii[z_j]
    value_end, slope_end, curvature_end = _bare_zbl(end, z_i, z_j)
    a = (-3.0 * slope_end + end * curvature_end) / end**2
    b = (2.0 * slope_end - end * curvature_end) / end**3
    c = -value_end + end * slope_end / 2.0 - end**2 * curvature_end / 12.0
    value, slope, _ = _bare_zbl(r, z_i, z_j)
    inside = r <= end
    value = np.where(inside, value + a / 3.0 * r**3 + b / 4.0 * r**4 + c, 0.0)
    return value, np.where(inside, slope + a * r**2 + b * r**3, 0.0)


@dataclass(frozen=True, eq=False)
class Baseline:
    """Atomic energies and, optionally, pair terms.

    Attributes
    ----------
    species
        Atomic numbers.
    atomic_energies
        (n_species,) eV.
    cutoff
        Å.
    pair_coefficients
        (n_pairs, n_gaussians) in eV for the pairs of `pairs`, or None without pair terms.
    covalent_repulsion
        Whether to add `covalent_zbl` for every pair, which some imported models have.
    """

    species: tuple[int, ...]
    atomic_energies: FloatArray
    cutoff: float = 4.0
    pair_coefficients: FloatArray | None = field(default=None)
    covalent_repulsion: bool = False

    @property
    def has_pairs(self) -> bool:
        """Whether there are pair terms."""
        return self.pair_coefficients is not None or self.covalent_repulsion

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Pairs of atomic numbers in the order of the coefficients."""
        return list(combinations_with_replacement(sorted(self.species), 2))

    def grid(self, n_gaussians: int) -> tuple[FloatArray, float]:
        """Centers (n_gaussians,) and width of the Gaussians, Å."""
        centers = np.linspace(0.5, self.cutoff, n_gaussians)
        return centers, float(centers[1] - centers[0])

    def pair_position(self, z_centers: IntArray, z_neighbors: IntArray) -> IntArray:
        """(n_edges,) position in `pairs` of the elements with these atomic numbers (n_edges,)."""
        table = np.zeros((N_NUMBERS, N_NUMBERS), dtype=np.int64)
        for k, (a, b) in enumerate(self.pairs):
            table[a, b] = table[b, a] = k
        return np.asarray(table[z_centers, z_neighbors])

    def pair_index(self, numbers: IntArray, edges: Edges) -> IntArray:
        """(n_edges,) position of each edge's pair of elements in `pairs`."""
        return self.pair_position(numbers[edges.centers], numbers[edges.neighbors])

    def pair_basis(self, lengths: FloatArray, n_gaussians: int) -> tuple[FloatArray, FloatArray]:
        """Basis functions (n_edges, n_gaussians) and their derivatives by the distance (1/Å)."""
        centers, width = self.grid(n_gaussians)
        offset = (lengths[:, None] - centers) / width
        gaussians = np.exp(-0.5 * offset**2)
        step, step_slope = _smooth_step(lengths, self.cutoff - 1.0, self.cutoff)
        values = gaussians * step[:, None]
        return values, -offset / width * values + gaussians * step_slope[:, None]

    def atomic(self, numbers: IntArray) -> float:
        """Sum of the atomic energies, eV."""
        energies = np.zeros(N_NUMBERS)
        energies[list(self.species)] = self.atomic_energies
        return float(energies[numbers].sum())

    def pair_terms(self, numbers: IntArray, centers: IntArray, neighbors: IntArray) -> PairTerms | None:
        """The pair terms of a set of edges; None if there are none.

        Parameters
        ----------
        numbers
            (n_atoms,) atomic numbers.
        centers, neighbors
            (n_edges,) atoms at both ends of each edge; every pair stands there twice, once in each direction.
        """
        if not self.has_pairs or len(centers) == 0:
            return None
        return PairTerms(self, numbers[centers], numbers[neighbors])

    def evaluate(self, numbers: IntArray, edges: Edges) -> tuple[float, FloatArray, FloatArray]:
        """Energy (eV), forces (n_atoms, 3) in eV/Å and virial (3, 3) in eV of one structure."""
        energy = self.atomic(numbers)
        forces = np.zeros((len(numbers), 3))
        terms = self.pair_terms(numbers, edges.centers, edges.neighbors)
        if terms is None:
            return energy, forces, np.zeros((3, 3))
        values, gradient = terms.evaluate(edges.vectors)
        for axis in range(3):
            forces[:, axis] = 2.0 * np.bincount(edges.centers, gradient[:, axis], minlength=len(numbers))
        return energy + float(values.sum()), forces, -gradient.T @ edges.vectors


class PairTerms:
    """Pair terms of a `Baseline` for a fixed set of edges.

    Parameters
    ----------
    baseline
        With pair terms.
    z_centers, z_neighbors
        (n_edges,) atomic numbers at both ends.
    """

    def __init__(self, baseline: Baseline, z_centers: IntArray, z_neighbors: IntArray) -> None:
        self._baseline, self._z = baseline, (z_centers, z_neighbors)
        self._coefficients: FloatArray | None = None
        if baseline.pair_coefficients is not None:
            self._coefficients = baseline.pair_coefficients[baseline.pair_position(z_centers, z_neighbors)]

    def evaluate(self, vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Energies (n_edges,), half a pair's each, eV, and their derivatives (n_edges, 3) by ``vectors``, eV/Å."""
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        value, slope = np.zeros_like(lengths), np.zeros_like(lengths)
        if self._baseline.covalent_repulsion:
            value, slope = covalent_zbl(lengths, *self._z)
        if self._coefficients is not None:
            wall, wall_slope = zbl(lengths, *self._z, self._baseline.cutoff)
            basis, basis_slope = self._baseline.pair_basis(lengths, self._coefficients.shape[1])
            value = value + (wall + np.einsum("ij,ij->i", self._coefficients, basis))
            slope = slope + (wall_slope + np.einsum("ij,ij->i", self._coefficients, basis_slope))
        return 0.5 * value, (0.5 * slope / lengths)[:, None] * vectors
