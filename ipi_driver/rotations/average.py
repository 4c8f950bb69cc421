r"""`RotationalAverage`: a potential averaged over frames, itself a potential.

With the results of the frames turned back to the laboratory, :math:`F_k = F(R_k x) R_k` and
:math:`\Xi_k = R_k^T \Xi(R_k x) R_k`, the averages are plain weighted means, and the averaged forces and
virial are the exact derivatives of the averaged energy:

.. math::

    \bar E = \sum_k w_k E_k, \quad \bar F = \sum_k w_k F_k, \quad \bar\Xi = \sum_k w_k \Xi_k, \quad
    \sigma_E^2 = \sum_k w_k (E_k - \bar E)^2 .
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ase.data import atomic_masses
from numpy.typing import NDArray

from ipi_driver.errors import UserError
from ipi_driver.potentials.base import Potential
from ipi_driver.rotations.chunks import FrameChunks
from ipi_driver.rotations.quadrature import Quadrature, quadrature
from ipi_driver.rotations.random import random_frame
from ipi_driver.structure import FloatArray, Frames, Prediction, Structure


def net_force_and_torque(structure: Structure, forces: FloatArray) -> tuple[FloatArray, FloatArray | None]:
    """Net force (3,) in eV/Å; torque (3,) about the centre of mass in eV, None for periodic structures."""
    net_force = forces.sum(axis=0)
    if structure.pbc.any():
        return net_force, None
    masses = atomic_masses[structure.numbers]
    center = masses @ structure.positions / masses.sum()
    moment = structure.positions.T @ forces - np.multiply.outer(center, net_force)
    torque = np.array([moment[1, 2] - moment[2, 1], moment[2, 0] - moment[0, 2], moment[0, 1] - moment[1, 0]])
    return net_force, torque


def weighted_mean(
    structure: Structure,
    energies: FloatArray,
    forces: FloatArray,
    virials: FloatArray | None,
    weights: FloatArray,
) -> Prediction:
    """Means and spreads over frames that are already turned back to the laboratory.

    Parameters
    ----------
    structure
        The atoms, for the torque.
    energies, forces, virials
        (n_rotations,) in eV, (n_rotations, n_atoms, 3) in eV/Å, (n_rotations, 3, 3) in eV or None.
    weights
        (n_rotations,), sum 1.
    """
    energy = float(weights @ energies)
    mean_forces, forces_spread = _mean_and_spread(forces, weights)
    virial, virial_spread = (None, None) if virials is None else _mean_and_spread(virials, weights)
    net_force, net_torque = net_force_and_torque(structure, mean_forces)
    return Prediction(
        energy=energy,
        forces=mean_forces,
        virial=virial,
        n_frames=len(weights),
        energy_spread=float(np.sqrt(weights @ (energies - energy) ** 2)),
        forces_spread=forces_spread,
        virial_spread=virial_spread,
        net_force=net_force,
        net_torque=net_torque,
    )


def _mean_and_spread(values: FloatArray, weights: FloatArray) -> tuple[FloatArray, float]:
    flat = values.reshape(len(values), -1)
    mean = weights @ flat
    spread = float(np.sqrt(weights @ ((flat - mean) ** 2).mean(axis=1))) if flat.shape[1] else 0.0
    return mean.reshape(values.shape[1:]), spread


class RotationalAverage(Potential):
    """A potential averaged over a quadrature of rotations, or seen from a random frame.

    Parameters
    ----------
    potential
        Any potential.
    average
        Name (see `ipi_driver.rotations.quadrature`) or a `Quadrature`.
    seed
        Of the random frames; they are a function of (seed, positions, cell) only.
    rotation_batch
        Frames per call of the potential; None chooses by the number of edges and the device.

    Raises
    ------
    UserError
        If the average is unknown.
    """

    def __init__(
        self,
        potential: Potential,
        average: str | Quadrature = "none",
        seed: int = 0,
        rotation_batch: int | None = None,
    ) -> None:
        self.potential = potential
        self.quadrature = quadrature(average) if isinstance(average, str) else average
        self.seed = seed
        self.name = potential.name
        self.cutoff = potential.cutoff
        self.species = potential.species
        self._chunks = FrameChunks(potential, rotation_batch)
        self._others: NDArray[np.int64] = np.array(
            [k for k in range(len(self.quadrature)) if k != self.quadrature.identity], dtype=np.int64
        )

    @property
    def average(self) -> str:
        """Name of the average."""
        return self.quadrature.name

    @property
    def n_rotations(self) -> int:
        """Frames per evaluation."""
        return len(self.quadrature)

    @property
    def has_identity(self) -> bool:
        """Whether the raw result is one of the frames."""
        return self.quadrature.identity is not None

    def predict(self, structure: Structure, raw: Prediction | None = None) -> Prediction:
        """Average of one structure.

        Parameters
        ----------
        structure
            The atoms.
        raw
            The unrotated result, if already known: not computed again where the identity is among the frames.

        Returns
        -------
        Prediction
            With spreads, net force, torque; and `raw` where the identity is among the frames or it was given.
        """
        identity = self.quadrature.identity
        if self.n_rotations == 1 and identity == 0:
            return self._unrotated(structure, raw)
        if raw is not None and identity is not None:
            frames = self._join(
                raw, self._chunks.evaluate(structure, self.quadrature.rotations[self._others])
            )
        else:
            frames = self._chunks.evaluate(structure, self._rotations(structure))
        virials = None if frames.virials is None else frames.virials[0]
        result = weighted_mean(
            structure, frames.energies[0], frames.forces[0], virials, self.quadrature.weights
        )
        if raw is None and identity is not None:
            forces = frames.forces[0][identity]
            net_force, net_torque = net_force_and_torque(structure, forces)
            virial = None if virials is None else virials[identity]
            energy = float(frames.energies[0, identity])
            raw = Prediction(energy, forces, virial, net_force=net_force, net_torque=net_torque)
        return result if raw is None else replace(result, raw=raw)

    def _unrotated(self, structure: Structure, raw: Prediction | None) -> Prediction:
        """`predict` without averaging, kept short: this is every step of a plain simulation."""
        if raw is None:
            raw = self.potential.predict(structure)
        net_force, net_torque = raw.net_force, raw.net_torque
        if net_force is None:
            net_force, net_torque = net_force_and_torque(structure, raw.forces)
        return Prediction(
            raw.energy,
            raw.forces,
            raw.virial,
            virial_spread=None if raw.virial is None else 0.0,
            raw=raw,
            net_force=net_force,
            net_torque=net_torque,
        )

    def _rotations(self, structure: Structure) -> FloatArray:
        if self.quadrature.random is None:
            return self.quadrature.rotations
        return self.quadrature.rotations @ random_frame(self.seed, structure, self.quadrature.random)

    def _join(self, raw: Prediction, others: Frames) -> Frames:
        """The frames with the known raw result put in its place."""
        at = int(self.quadrature.identity or 0)
        virials = None
        if others.virials is not None:
            if raw.virial is None:
                raise UserError("`raw` has no virial, but the potential gives one in the other frames")
            virials = np.insert(others.virials, at, raw.virial, axis=1)
        return Frames(
            np.insert(others.energies, at, raw.energy, axis=1),
            (np.insert(others.forces[0], at, raw.forces, axis=0),),
            virials,
        )

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> Frames:
        """The averaged potential seen from outer frames Q: the average over R_k of the frames R_k Q."""
        predictions = [[self._in_frame(structure, frame) for frame in rotations] for structure in structures]
        energies = np.array([[p.energy for p in row] for row in predictions]).reshape(
            len(structures), len(rotations)
        )
        forces = tuple(np.array([p.forces for p in row]) for row in predictions)
        virials = [[p.virial for p in row if p.virial is not None] for row in predictions]
        complete = all(len(row) == len(rotations) for row in virials)
        return Frames(energies, forces, np.array(virials) if complete else None)

    def _in_frame(self, structure: Structure, frame: FloatArray) -> Prediction:
        rotations = self.quadrature.rotations
        if self.quadrature.random is not None:
            rotations = self._rotations(structure.rotated(frame))
        frames = self._chunks.evaluate(structure, rotations @ frame)
        virials = None if frames.virials is None else frames.virials[0]
        return weighted_mean(
            structure, frames.energies[0], frames.forces[0], virials, self.quadrature.weights
        )
