r"""`RotationalAverage`: a potential averaged over rotations, itself a potential.

With the results of the rotations turned back to the laboratory, :math:`F_k = F(R_k x) R_k` and
:math:`\Xi_k = R_k^T \Xi(R_k x) R_k`, the averages are plain weighted means, and the averaged forces and
virial are the exact derivatives of the averaged energy:

.. math::

    \bar E = \sum_k w_k E_k, \quad \bar F = \sum_k w_k F_k, \quad \bar\Xi = \sum_k w_k \Xi_k, \quad
    \sigma_E^2 = \sum_k w_k (E_k - \bar E)^2 .
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from ase.data import atomic_masses
from numpy.typing import NDArray

from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.chunks import RotationChunks
from ipi_driver.rotations.quadrature import Quadrature, quadrature
from ipi_driver.rotations.random import random_frame
from ipi_driver.structure import FloatArray, Prediction, RotatedResults, Structure


def net_force_and_torque(structure: Structure, forces: FloatArray) -> tuple[FloatArray, FloatArray | None]:
    """Net force (3,) in eV/Å; torque (3,) about the center of mass in eV, None for periodic structures."""
    net_force = forces.sum(axis=0)
    if structure.pbc.any():
        return net_force, None
    masses = atomic_masses[structure.numbers]
    center = masses @ structure.positions / masses.sum()
    moment = structure.positions.T @ forces - np.multiply.outer(center, net_force)
    torque = np.array([moment[1, 2] - moment[2, 1], moment[2, 0] - moment[0, 2], moment[0, 1] - moment[1, 0]])
    return net_force, torque


def weighted_mean(structure: Structure, results: RotatedResults, weights: FloatArray) -> Prediction:
    """Means and standard deviations over the rotations of one structure.

    Parameters
    ----------
    structure
        The atoms, for the torque.
    results
        Of this structure alone.
    weights
        (n_rotations,), sum 1.
    """
    energies, forces = results.energies[0], results.forces[0]
    virials = None if results.virials is None else results.virials[0]
    energy = float(weights @ energies)
    mean_forces, forces_std = _mean_and_std(forces, weights)
    virial, virial_std = (None, None) if virials is None else _mean_and_std(virials, weights)
    net_force, net_torque = net_force_and_torque(structure, mean_forces)
    return Prediction(
        energy=energy,
        forces=mean_forces,
        virial=virial,
        n_rotations=len(weights),
        energy_std=float(np.sqrt(max(0.0, weights @ (energies - energy) ** 2))),
        forces_std=forces_std,
        virial_std=virial_std,
        net_force=net_force,
        net_torque=net_torque,
        extras={name: _mean_and_std(values[0], weights)[0] for name, values in results.extras.items()},
    )


def _mean_and_std(values: FloatArray, weights: FloatArray) -> tuple[FloatArray, float]:
    flat = values.reshape(len(values), -1)
    mean = weights @ flat
    std = float(np.sqrt(max(0.0, weights @ ((flat - mean) ** 2).mean(axis=1)))) if flat.shape[1] else 0.0
    return mean.reshape(values.shape[1:]), std


class RotationalAverage(Potential):
    """A potential averaged over a quadrature of rotations, fixed or in a random frame.

    Parameters
    ----------
    potential
        Any potential.
    average
        Name (see `ipi_driver.rotations.quadrature`) or a `Quadrature`.
    seed
        Of the random frames; they are a function of (seed, positions, cell) only.
    rotation_batch
        Rotations per call of the potential; None chooses by the number of edges and the device.

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
        self.conditions = potential.conditions
        self.device = potential.device
        self.warm_up = potential.warm_up
        self._chunks = RotationChunks(potential, rotation_batch)
        self._exact = _exact(potential, rotation_batch) if self.quadrature.own_frames else None
        self._others: NDArray[np.int64] = np.array(
            [k for k in range(len(self.quadrature)) if k != self.quadrature.identity], dtype=np.int64
        )

    @property
    def average(self) -> str:
        """Name of the average."""
        return self.quadrature.name

    @property
    def n_rotations(self) -> int:
        """Rotations per evaluation."""
        return len(self.quadrature)

    @property
    def has_identity(self) -> bool:
        """Whether the raw result is one of the rotations."""
        return self.quadrature.identity is not None

    def predict(self, structure: Structure, raw: Prediction | None = None) -> Prediction:
        """Average of one structure.

        Parameters
        ----------
        structure
            The atoms.
        raw
            The unrotated result, if already known: not computed again where the identity is among the rotations.

        Returns
        -------
        Prediction
            With standard deviations, net force, torque; and `raw` where the identity is among the rotations
            or it was given.
        """
        return self.predict_all([structure], [raw])[0]

    def predict_all(
        self, structures: Sequence[Structure], raws: Sequence[Prediction | None] | None = None
    ) -> list[Prediction]:
        """`predict` of each structure, small ones together in one call of the potential.

        Parameters
        ----------
        structures
            The atoms.
        raws
            What is known of each, as in `predict`.
        """
        raws = [None] * len(structures) if raws is None else list(raws)
        if self._exact is not None:
            exact = [self._exact.predict(structure) for structure in structures]
            return [p if raw is None else replace(p, raw=raw) for p, raw in zip(exact, raws, strict=True)]
        pairs = list(zip(structures, raws, strict=True))
        if self.n_rotations == 1 and self.quadrature.identity == 0:
            return [self._unrotated(structure, raw) for structure, raw in self._with_raws(pairs)]
        if self.quadrature.random is not None:  # each has rotations of its own
            return [self._averaged(s, self._chunks.evaluate(s, self._rotations(s)), raw) for s, raw in pairs]
        found: list[Prediction | None] = [None] * len(pairs)
        for known in (False, True):
            chosen = [
                k for k, (_, raw) in enumerate(pairs) if (raw is not None and self.has_identity) == known
            ]
            rotations = self.quadrature.rotations[self._others] if known else self.quadrature.rotations
            results = self._chunks.evaluate_all([structures[k] for k in chosen], rotations) if chosen else []
            for k, result in zip(chosen, results, strict=True):
                found[k] = self._averaged(structures[k], result, raws[k])
        return [prediction for prediction in found if prediction is not None]

    def _with_raws(
        self, pairs: list[tuple[Structure, Prediction | None]]
    ) -> list[tuple[Structure, Prediction | None]]:
        """The raw results that are missing, evaluated together."""
        missing = [k for k, (_, raw) in enumerate(pairs) if raw is None]
        if len(missing) < 2:  # one alone goes the short way
            return pairs
        found = self._chunks.evaluate_all([pairs[k][0] for k in missing], self.quadrature.rotations)
        for k, result in zip(missing, found, strict=True):
            pairs[k] = (pairs[k][0], result.prediction())
        return pairs

    def _averaged(self, structure: Structure, results: RotatedResults, raw: Prediction | None) -> Prediction:
        """The mean of the results, which lack the identity where ``raw`` is known and stands for it."""
        identity = self.quadrature.identity
        if raw is not None and identity is not None:
            results = results.inserted(identity, raw)
        result = weighted_mean(structure, results, self.quadrature.weights)
        if raw is None and identity is not None:
            raw = results.prediction(identity)
            net_force, net_torque = net_force_and_torque(structure, raw.forces)
            raw = replace(raw, net_force=net_force, net_torque=net_torque)
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
            virial_std=None if raw.virial is None else 0.0,
            raw=raw,
            net_force=net_force,
            net_torque=net_torque,
            extras=raw.extras,
        )

    def _rotations(self, structure: Structure) -> FloatArray:
        if self.quadrature.random is None:
            return self.quadrature.rotations
        return self.quadrature.rotations @ random_frame(self.seed, structure, self.quadrature.random)

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        """The averaged potential seen from outer rotations Q: the average over R_k of the rotations R_k Q."""
        return RotatedResults.from_predictions(
            [[self._in_rotation(structure, rotation) for rotation in rotations] for structure in structures]
        )

    def edges_hint(self, structure: Structure) -> int:
        """Edges of all rotations of the average."""
        return self.n_rotations * self.potential.edges_hint(structure)

    def _in_rotation(self, structure: Structure, rotation: FloatArray) -> Prediction:
        if self._exact is not None:
            return self._exact.evaluate([structure], rotation[None]).prediction()
        rotations = self.quadrature.rotations
        if self.quadrature.random is not None:
            rotations = self._rotations(structure.rotated(rotation))
        results = self._chunks.evaluate(structure, rotations @ rotation)
        return weighted_mean(structure, results, self.quadrature.weights)


def _exact(potential: Potential, rotation_batch: int | None) -> Potential:
    from ipi_driver.rotations.ecse import ExactSymmetrization  # it needs torch, and the torque from here

    return ExactSymmetrization(potential, rotation_batch)
