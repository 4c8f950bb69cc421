r"""The average `ecse`: exact and smooth symmetrization of an isolated structure by frames of its own.

A grid of fixed rotations removes the error up to a degree. A set of frames that turns *with* the structure removes all
of it: with an orthonormal frame :math:`R_p(A)` from each pair p of edges that share an atom, and a weight that depends
on distances and angles alone,

.. math:: \bar y(A) = \frac{\sum_p w_p(A)\, \tfrac12 \sum_{s = \pm} y(R_{ps}(A) A)}{\sum_p w_p(A)}

is invariant under every rotation and inversion, as :math:`R_p(QA)\, QA = R_p(A)\, A`. The first axis of a frame lies
along the first edge, the second in the plane of both, and the third has either sign, s. The weights make it smooth:

.. math:: w_p = v_p\, h(v_p / V), \quad v_p = e^{-(r_1^2 + r_2^2)/\sigma^2} f_c(r_1) f_c(r_2) \sin^4\theta, \quad
          V = \left(\sum_q v_q^{16}\right)^{1/16}

vanishes with three derivatives where the edges of a pair become collinear and where an edge leaves the cutoff, and (h)
with two where other pairs are far better, so that few frames are left: 4 for water. The forces hold the derivatives of
frames and weights.

It is not the mean over all rotations, but another invariant function, as far from that mean as the raw model is.

S. Pozdnyakov, M. Ceriotti, "Smooth, exact rotational symmetrization for deep learning on point clouds", NeurIPS (2023);
there for the environment of each atom, here for a whole molecule, whose energy is a single function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.chunks import RotationChunks
from ipi_driver.rotations.average import net_force_and_torque
from ipi_driver.structure import FloatArray, IntArray, Prediction, RotatedResults, Structure

if TYPE_CHECKING:
    import torch

MOST_ATOMS = 30
"""Triples of atoms grow with the third power; above this a fixed grid is the better choice."""

SCALE = 1.0
"""Length σ that prefers short edges, Å."""

CUTOFF = 4.0
"""Å; edges longer than this make no frames."""

_WIDTH = 1.0
_POWER = 16
_LOW, _HIGH = 0.3, 0.55
"""Ratios of a weight to the largest below which a frame is left out, and above which it counts fully."""


class ExactSymmetrization(Potential):
    """An invariant potential from one that is not: the average over smooth frames of an isolated structure.

    Parameters
    ----------
    potential
        Any potential.
    rotation_batch
        Rotations in one call of the potential; None chooses.

    Examples
    --------
    >>> import ase.build
    >>> from ipi_driver.potentials import load_potential
    >>> water = Structure.from_atoms(ase.build.molecule("H2O"))
    >>> exact = ExactSymmetrization(load_potential("anisotropic"))
    >>> exact.predict(water).n_rotations
    4
    """

    average = "ecse"

    def __init__(self, potential: Potential, rotation_batch: int | None = None) -> None:
        self.potential = potential
        self.name = potential.name
        self.cutoff = potential.cutoff
        self.species = potential.species
        self._chunks = RotationChunks(potential, rotation_batch)

    def predict(self, structure: Structure) -> Prediction:
        """Energy, forces and virial of one structure.

        Raises
        ------
        UserError
            If the structure is periodic, linear, has fewer than 3 atoms or more than `MOST_ATOMS`.
        """
        self.check_species(structure)
        check_structure(structure)
        pairs = _pairs(structure)
        positions = _tensor(structure.positions)
        weights, frames = frames_of(positions, pairs)
        used = np.flatnonzero(weights.detach().numpy() > 0.0)
        total = float(weights.detach().sum())
        rotations = frames.detach().numpy()[used].reshape(-1, 3, 3)
        results = self._chunks.evaluate(structure, rotations)
        share = np.repeat(0.5 * weights.detach().numpy()[used] / total, 2)
        energies, lab_forces = results.energies[0], results.forces[0]
        energy = float(share @ energies)
        forces = np.einsum("k,kia->ia", share, lab_forces)
        # the surrogate has the derivative that weights and frames add to the energy, with all else held fixed
        by_weight = np.zeros(len(weights))
        by_weight[used] = (energies.reshape(-1, 2).mean(axis=1) - energy) / total
        moments = np.einsum("kia,ib->kab", lab_forces, structure.positions)
        by_frame = np.zeros((len(weights), 2, 3, 3))
        by_frame[used] = (-share[:, None, None] * (rotations @ moments)).reshape(-1, 2, 3, 3)
        surrogate = (_tensor(by_weight) * weights).sum() + (_tensor(by_frame) * frames).sum()
        surrogate.backward()
        assert positions.grad is not None
        deviation = float(np.sqrt(share @ ((lab_forces - forces) ** 2).mean(axis=(1, 2))))
        forces = forces - positions.grad.numpy()
        net_force, net_torque = net_force_and_torque(structure, forces)
        return Prediction(
            energy=energy,
            forces=forces,
            virial=None if results.virials is None else forces.T @ structure.positions,
            n_rotations=len(rotations),
            energy_std=float(np.sqrt(share @ (energies - energy) ** 2)),
            forces_std=deviation,
            virial_std=None if results.virials is None else 0.0,
            net_force=net_force,
            net_torque=net_torque,
            extras={name: np.tensordot(share, values[0], axes=1) for name, values in results.extras.items()},
        )

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        rows = [[self._turned(structure, rotation) for rotation in rotations] for structure in structures]
        return RotatedResults.from_predictions(rows)

    def _turned(self, structure: Structure, rotation: FloatArray) -> Prediction:
        found = self.predict(structure.rotated(rotation))
        virial = None if found.virial is None else rotation.T @ found.virial @ rotation
        return Prediction(found.energy, found.forces @ rotation, virial)


def check_structure(structure: Structure) -> None:
    """Raise `UserError` where the scheme has no frames or needs more than it gives."""
    if structure.pbc.any():
        raise UserError(
            "the average `ecse` is for isolated structures, got a periodic one: a frame would have to turn the whole "
            "cell with one molecule; use a fixed grid such as Th"
        )
    if not 3 <= structure.n_atoms <= MOST_ATOMS:
        raise UserError(
            f"the average `ecse` is for 3 to {MOST_ATOMS} atoms, got {structure.n_atoms}; use a fixed grid such as Th"
        )


def _pairs(structure: Structure) -> IntArray:
    """(n_pairs, 3) center, first and second neighbor of every ordered pair of edges within the cutoff."""
    distances = np.linalg.norm(structure.positions[:, None] - structure.positions, axis=2)
    near = (distances < CUTOFF) & ~np.eye(structure.n_atoms, dtype=bool)
    found = [
        (i, j, k)
        for i in range(structure.n_atoms)
        for j in np.flatnonzero(near[i])
        for k in np.flatnonzero(near[i])
        if j != k
    ]
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def _tensor(values: FloatArray) -> torch.Tensor:
    import torch

    return torch.tensor(values, dtype=torch.float64, requires_grad=values.ndim == 2)


def frames_of(positions: torch.Tensor, pairs: IntArray) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and frames, as functions that torch can differentiate.

    Parameters
    ----------
    positions
        (n_atoms, 3), Å, float64.
    pairs
        (n_pairs, 3) atoms: center, end of the first edge, end of the second edge.

    Returns
    -------
    tuple
        Weights (n_pairs,), not normalized, and frames (n_pairs, 2, 3, 3) in O(3), whose rows are the axes; those of
        weight zero are arbitrary.

    Raises
    ------
    UserError
        If all weights vanish, as in a linear molecule.
    """
    import torch

    first = positions[pairs[:, 1]] - positions[pairs[:, 0]]
    second = positions[pairs[:, 2]] - positions[pairs[:, 0]]
    r1, r2 = first.norm(dim=1), second.norm(dim=1)
    cosine = (first * second).sum(1) / (r1 * r2)
    sine2 = (1.0 - cosine**2).clamp(min=0.0)
    values = torch.exp(-(r1**2 + r2**2) / SCALE**2) * _switch(r1) * _switch(r2) * sine2**2
    largest = values.detach().max() if len(values) else torch.zeros(())
    if not len(values) or float(sine2.detach().max()) < 1e-6 or float(largest) <= 0.0:
        raise UserError(
            "the average `ecse` needs two edges that are not collinear, got a linear structure or atoms more than "
            f"{CUTOFF:g} Å apart; use a fixed grid such as Th"
        )
    scaled = values / largest  # only ratios matter, and powers of small numbers underflow
    ratio = scaled / (scaled**_POWER).sum() ** (1.0 / _POWER)
    x = ((ratio - _LOW) / (_HIGH - _LOW)).clamp(0.0, 1.0)
    weights = values * (x**3 * (10.0 - 15.0 * x + 6.0 * x**2))
    kept = weights.detach() > 0.0
    safe = torch.where(kept[:, None], second, first[:, [1, 2, 0]] + positions.new_tensor([0.1, 0.2, 0.3]))
    e1 = first / r1[:, None]
    across = safe - (safe * e1).sum(1, keepdim=True) * e1
    e2 = across / across.norm(dim=1, keepdim=True).clamp(min=1e-9)
    e3 = torch.linalg.cross(e1, e2)
    frames = torch.stack([torch.stack([e1, e2, sign * e3], dim=1) for sign in (1.0, -1.0)], dim=1)
    return weights, frames


def _switch(distance: torch.Tensor) -> torch.Tensor:
    """1 below the switching region, 0 beyond the cutoff, with three continuous derivatives."""
    x = ((CUTOFF - distance) / _WIDTH).clamp(0.0, 1.0)
    return x**4 * (35.0 - 84.0 * x + 70.0 * x**2 - 20.0 * x**3)
