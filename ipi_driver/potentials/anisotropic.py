r"""An analytic potential that breaks rotational symmetry by terms of known degree l and parity.

With :math:`n_q` null vectors (complex, :math:`n_q \cdot n_q = 0`) fixed in the laboratory, the polynomial

.. math::  S_l(r) = \frac1Q \sum_q \mathrm{Re}\,(n_q \cdot r)^l

is a solid harmonic of degree l. A term of natural parity :math:`(-1)^l` sums it over pairs,

.. math::  E = A \sum_{i<j} w_{ij} f_c(r_{ij})\, S_l(\hat r_{ij}), \qquad
           w_{ij} = 1 \text{ (l even)},\ \frac{Z_i - Z_j}{Z_i + Z_j} \text{ (l odd)},

and one of the opposite parity (a pseudo-tensor such as ``1e``) sums, over atoms, the symmetric traceless
tensor of S_l applied to the vectors :math:`v_i = \sum_j f_c \hat r_{ij}`, l-1 times, and the axial vector
:math:`v_i \times u_i`, once, with :math:`u_i = \sum_j f_c^2 (1 + Z_j)^{-1} \hat r_{ij}`. Every term
averages to zero over SO(3): the exact average is the invariant part, Morse terms between all pairs.

Odd terms of natural parity vanish where all atoms are of one element.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ipi_driver.errors import UserError
from ipi_driver.neighbors import Edges, NeighborList
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.one_at_a_time import OneAtATime
from ipi_driver.potentials.spec import PotentialSpec
from ipi_driver.structure import FloatArray, RotatedResults, Structure

ComplexArray = NDArray[np.complex128]

MORSE = {(1, 8): (4.6, 2.2, 0.96), (1, 1): (0.5, 2.0, 1.52), (8, 8): (0.2, 1.5, 2.8)}
"""Depth (eV), inverse width (1/Å), distance (Å) for pairs of elements: they hold a water molecule
together."""


@dataclass(frozen=True)
class Term:
    """One symmetry-breaking term.

    Attributes
    ----------
    l
        Degree, at least 1.
    parity
        +1 (even, ``e``) or -1 (odd, ``o``) under inversion of the structure.
    amplitude
        eV per pair or atom.
    """

    l: int  # noqa: E741 - the field's name for it
    parity: int
    amplitude: float

    @property
    def natural(self) -> bool:
        """Whether the parity is that of a spherical harmonic, (-1)^l."""
        return self.parity == (-1) ** self.l

    @classmethod
    def parse(cls, text: str, amplitude: float) -> Term:
        """From ``"4"`` (natural parity), ``"4e"`` or ``"4o"``."""
        number, letter = (text[:-1], text[-1]) if text[-1:] in ("e", "o") else (text, "")
        if not number.isdigit() or not 1 <= int(number) <= 20:
            raise UserError(f"anisotropic: `l` must be 1 to 20 with an optional parity e or o, got {text!r}")
        degree = int(number)
        parity = {"e": 1, "o": -1, "": (-1) ** degree}[letter]
        return cls(degree, parity, amplitude)


class AnisotropicPotential(Potential):
    """Pair potential plus `Term`s; any elements, periodic or not.

    Parameters
    ----------
    terms
        Symmetry-breaking terms; none: invariant.
    cutoff
        Å.
    invariant
        Whether the Morse terms are included.
    seed
        Chooses the directions of the terms in the laboratory.
    """

    options = ("l", "amplitude", "cutoff", "invariant", "seed")

    def __init__(
        self,
        terms: Sequence[Term] = (Term(2, 1, 0.02),),
        cutoff: float = 4.0,
        invariant: bool = True,
        seed: int = 0,
    ) -> None:
        if not 0 < cutoff < np.inf:
            raise UserError(f"anisotropic: `cutoff` must be positive, got {cutoff}")
        self.terms = tuple(terms)
        self.cutoff = cutoff
        self.invariant = invariant
        self.seed = seed
        self.name = "anisotropic"
        self._neighbors, self._alone = NeighborList(cutoff), OneAtATime()
        self._directions = [_null_vectors(seed + 1000 * k) for k in range(len(self.terms))]

    @classmethod
    def from_spec(
        cls, spec: PotentialSpec, device: str = "cpu", dtype: str | None = None
    ) -> AnisotropicPotential:
        """From ``anisotropic?l=4&amplitude=0.1``, see `from_options`."""
        if spec.name:
            raise UserError(f"anisotropic takes options and no name, got {spec.name!r}: anisotropic?l=4")
        return cls.from_options(spec.options)

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> AnisotropicPotential:
        """From ``l`` (``4``, ``3e``, list ``1,2e,4``), ``amplitude``, ``cutoff``, ``invariant``, ``seed``."""
        known = {"l": "2", "amplitude": "0.02", "cutoff": "4.0", "invariant": "true", "seed": "0"}
        if unknown := sorted(set(options) - set(known)):
            raise UserError(f"anisotropic: unknown option {unknown[0]!r}, expected one of {', '.join(known)}")
        values = {**known, **options}
        if values["invariant"].lower() not in ("true", "false"):
            raise UserError(f"anisotropic: `invariant` must be true or false, got {values['invariant']!r}")
        try:
            amplitudes = [float(part) for part in values["amplitude"].split(",")]
            cutoff, seed = float(values["cutoff"]), int(values["seed"])
        except ValueError as error:
            raise UserError(f"anisotropic: amplitude, cutoff and seed must be numbers: {error}") from None
        if not np.isfinite(amplitudes).all():
            raise UserError(f"anisotropic: `amplitude` must be finite, got {values['amplitude']}")
        if seed < 0:
            raise UserError(f"anisotropic: `seed` must be 0 or larger, got {seed}")
        degrees = [part.strip() for part in values["l"].split(",")]
        if len(amplitudes) == 1:
            amplitudes *= len(degrees)
        if len(amplitudes) != len(degrees):
            raise UserError(f"anisotropic: got {len(degrees)} degrees and {len(amplitudes)} amplitudes")
        terms = [Term.parse(text, a) for text, a in zip(degrees, amplitudes, strict=True)]
        return cls(terms, cutoff, values["invariant"].lower() == "true", seed)

    def exact_average(self) -> AnisotropicPotential:
        """The potential averaged over all rotations: its invariant part."""
        return AnisotropicPotential((), self.cutoff or 4.0, self.invariant, self.seed)

    def edges_hint(self, structure: Structure) -> int:
        """Number of edges of one rotation."""
        return len(self._edges(structure).centers)

    def _edges(self, structure: Structure) -> Edges:
        with self._alone:  # the list is of one structure at a time
            return self._neighbors.edges(structure)

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        results = [self._one(structure, rotations) for structure in structures]
        shape = (len(structures), len(rotations))
        return RotatedResults(
            np.array([energies for energies, _, _ in results]).reshape(shape),
            tuple(forces for _, forces, _ in results),
            np.array([virials for _, _, virials in results]).reshape(*shape, 3, 3),
        )

    def _one(self, structure: Structure, rotations: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Energies, forces, virials of one structure. Turning the directions n back is turning the atoms."""
        edges = self._edges(structure)
        geometry = _Geometry(structure, edges, self.cutoff or 4.0)
        n_rotations = len(rotations)
        energies = np.zeros(n_rotations)
        gradients = np.zeros((n_rotations, len(edges.centers), 3))
        if self.invariant:
            energy, gradient = _morse(geometry)
            energies += energy
            gradients += gradient
        for term, directions in zip(self.terms, self._directions, strict=True):
            turned = np.einsum("qa,kab->kqb", directions, rotations)
            kind = _natural if term.natural else _pseudo
            term_energies, term_gradients = kind(geometry, turned, term.l)
            # an axial vector of the atoms turned by R is det(R) R times that of the atoms
            factor = np.full(n_rotations, term.amplitude) * (
                1.0 if term.natural else np.linalg.det(rotations)
            )
            energies += factor * term_energies
            gradients += factor[:, None, None] * term_gradients
        columns = gradients.transpose(1, 0, 2).reshape(len(edges.centers), 3 * n_rotations)
        forces = (geometry.out - geometry.into) @ columns
        forces = np.asarray(forces).reshape(structure.n_atoms, n_rotations, 3).transpose(1, 0, 2)
        virials = -np.einsum("kea,eb->kab", gradients, edges.vectors)
        return energies, np.ascontiguousarray(forces), virials


class _Geometry:
    """Distances, unit vectors, smooth cutoff and its derivative of every directed edge."""

    def __init__(self, structure: Structure, edges: Edges, cutoff: float) -> None:
        self.n_atoms = structure.n_atoms
        self.r = np.sqrt(np.einsum("ea,ea->e", edges.vectors, edges.vectors))
        self.unit = edges.vectors / self.r[:, None]
        inside = 1.0 - (self.r / cutoff) ** 2
        self.fc = inside**3  # twice differentiable at the cutoff
        self.dfc = -6.0 * self.r / cutoff**2 * inside**2
        self.z_i = structure.numbers[edges.centers]
        self.z_j = structure.numbers[edges.neighbors]
        shape = (self.n_atoms, len(self.r))
        index, ones = np.arange(len(self.r)), np.ones(len(self.r))
        self.out = csr_matrix((ones, (edges.centers, index)), shape=shape)
        self.into = csr_matrix((ones, (edges.neighbors, index)), shape=shape)
        self.centers = edges.centers


def _null_vectors(seed: int, count: int = 2) -> ComplexArray:
    """(count, 3) vectors a + i b with a, b orthonormal, in general position."""
    generator = np.random.default_rng(seed)
    bases = [np.linalg.qr(generator.standard_normal((3, 3)))[0] for _ in range(count)]
    return np.array([basis[0] + 1j * basis[1] for basis in bases])


def _morse(g: _Geometry) -> tuple[float, FloatArray]:
    """Energy and (n_edges, 3) gradient of the Morse terms, each pair counted by its two edges."""
    pairs = np.stack([np.minimum(g.z_i, g.z_j), np.maximum(g.z_i, g.z_j)], axis=1)
    depth, width, r0 = np.full(len(g.r), 0.5), np.full(len(g.r), 1.8), covalent_radii[pairs].sum(axis=1)
    for (low, high), values in MORSE.items():
        chosen = (pairs[:, 0] == low) & (pairs[:, 1] == high)
        depth[chosen], width[chosen], r0[chosen] = values
    decay = np.exp(-width * (g.r - r0))
    well = depth * (decay**2 - 2.0 * decay)
    slope = depth * 2.0 * width * (decay - decay**2)
    energy = 0.5 * float((well * g.fc).sum())
    return energy, (0.5 * (slope * g.fc + well * g.dfc))[:, None] * g.unit


def _natural(g: _Geometry, directions: ComplexArray, degree: int) -> tuple[FloatArray, FloatArray]:
    """Energies (n_rotations,), gradients (n_rotations, n_edges, 3) of a term of natural parity."""
    weight = 0.5 * ((g.z_i - g.z_j) / (g.z_i + g.z_j) if degree % 2 else np.ones(len(g.r)))
    projection = np.einsum("kqa,ea->kqe", directions, g.unit)
    power = projection ** (degree - 1)
    count = directions.shape[1]
    values = (power * projection).real.sum(axis=1) / count
    slopes = degree * np.einsum("kqe,kqa->kea", power, directions).real / count
    radial = weight * (g.dfc - degree * g.fc / g.r) * values
    gradients = radial[..., None] * g.unit + (weight * g.fc / g.r)[:, None] * slopes
    return (weight * g.fc * values).sum(axis=1), gradients


def _pseudo(g: _Geometry, directions: ComplexArray, degree: int) -> tuple[FloatArray, FloatArray]:
    """As `_natural`, for the parity -(-1)^l."""
    second, dsecond = g.fc**2 / (1.0 + g.z_j), 2.0 * g.fc * g.dfc / (1.0 + g.z_j)
    v = np.asarray(g.out @ (g.fc[:, None] * g.unit))
    u = np.asarray(g.out @ (second[:, None] * g.unit))
    count = directions.shape[1]
    along = np.einsum("kqa,ia->kqi", directions, v)
    axial = np.einsum("kqa,ia->kqi", directions, np.cross(v, u))
    power = along ** (degree - 1)
    energies = (power * axial).real.sum(axis=(1, 2)) / count
    n = directions[:, :, None, :]
    grad_v = power[..., None] * np.cross(u[None, None], n)
    if degree > 1:
        grad_v = grad_v + ((degree - 1) * along ** (degree - 2) * axial)[..., None] * n
    grad_u = power[..., None] * np.cross(n, v[None, None])
    slope_v, slope_u = grad_v.real.sum(axis=1) / count, grad_u.real.sum(axis=1) / count
    gradients = _through_sum(g, slope_v[:, g.centers], g.fc, g.dfc)
    gradients += _through_sum(g, slope_u[:, g.centers], second, dsecond)
    return energies, gradients


def _through_sum(g: _Geometry, slopes: FloatArray, radial: FloatArray, dradial: FloatArray) -> FloatArray:
    """Chain rule through ``sum_e radial(r_e) unit_e``: (n_rotations, n_edges, 3) slopes to edge gradients."""
    along = np.einsum("kea,ea->ke", slopes, g.unit)
    across = radial / g.r
    return (along * (dradial - across))[..., None] * g.unit + across[:, None] * slopes
