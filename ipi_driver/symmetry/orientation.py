"""Orientational free energy of a molecule, alone or in a liquid, by perturbation from an isotropic ensemble.

A potential that is not invariant gives a molecule in the orientation R an energy ``E(R x)`` that differs from its
rotational average ``Ebar(x) = int E(R x) dR``. Under the average every orientation of a geometry x is equally likely,
so that by free-energy perturbation (Zwanzig, J. Chem. Phys. 22, 1420 (1954))

``F(R) / kT = -ln <exp(-(E(R x) - Ebar(x)) / kT)>_x``

over snapshots x of a run with averaged forces. The map on the sphere is that of the direction u of the molecule's
orientation vector, with the turn psi about u integrated over as well, the mean of ``exp(-F)`` being 1. It needs
evaluations of single molecules alone, where a histogram over a run needs nanoseconds before the orientations are
sampled better than a hundredth of kT.

In a liquid R turns the whole box, with its cell, and each of its molecules looks in a direction of its own, so that the
map is that of ``-ln`` of the mean factor of all molecules of all turned snapshots that look into a cell. It says how a
molecule is turned by what the model has of its own directions, in a box without directions; that a cubic cell fixes
directions in a run is not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from ipi_driver.errors import UserError
from ipi_driver.observables.molecules import Molecules, find_molecules, vanishing
from ipi_driver.observables.orientation import cells_of, centers_of
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.chunks import Progress, RotationChunks, no_progress
from ipi_driver.structure import FloatArray, Structure
from ipi_driver.units import KB


@dataclass(frozen=True, eq=False)
class PerturbedFreeEnergy:
    """Map of the orientational free energy, in kT.

    Attributes
    ----------
    cos_theta, phi
        (n_cos,), (n_phi,) centers of cells of equal solid angle; phi in rad from -pi.
    free_energy, error
        (n_cos, n_phi) in kT, and the standard error over the snapshots (jackknife).
    rms, rms_error
        Root mean square over the sphere less what the noise of finitely many snapshots adds, and its standard error.
    noise
        Root mean square of the errors: what an isotropic potential with as much noise would show.
    temperature
        K.
    n_structures, n_rotations
        Snapshots, and evaluations of each.
    """

    cos_theta: FloatArray
    phi: FloatArray
    free_energy: FloatArray
    error: FloatArray
    rms: float
    rms_error: float
    noise: float
    temperature: float
    n_structures: int
    n_rotations: int


def orientational_free_energy(
    potential: Potential,
    structures: Sequence[Structure],
    temperature: float = 300.0,
    vector: str | None = None,
    shape: tuple[int, int, int] = (12, 24, 6),
    rotation_batch: int | None = None,
    progress: Progress = no_progress,
) -> PerturbedFreeEnergy:
    """Free energy of the orientations of a molecule, in the field of what is not invariant in a potential.

    Parameters
    ----------
    potential
        Without averaging.
    structures
        Snapshots of one isolated molecule from a run with averaged forces, taken as independent.
    temperature
        K.
    vector
        Orientation vector, as for `Molecules.weights`.
    shape
        Cells in cos theta and phi, and turns about the vector.
    rotation_batch
        Rotations per call of the model; None chooses.
    progress
        Called with the number of evaluations done.

    Raises
    ------
    UserError
        If there are fewer than 2 snapshots, one is periodic or more than a molecule, or it has no orientation.
    """
    _check(structures, temperature)
    n_cos, n_phi, n_psi = shape
    cos_theta, phi = centers_of(n_cos, n_phi)
    turns = _orientations(cos_theta, phi, n_psi)
    chunks = RotationChunks(potential, rotation_batch)
    weights = np.empty((len(structures), n_cos * n_phi))
    for k, structure in enumerate(structures):
        frame = _molecular_frame(structure, vector)
        energies = chunks.evaluate(structure, turns @ frame.T).energies[0]
        factors = np.exp(-(energies - energies.mean()) / (KB * temperature))
        weights[k] = factors.reshape(n_cos * n_phi, n_psi).mean(axis=1)
        progress(len(turns))
    return _summary(weights, np.ones_like(weights), (cos_theta, phi), temperature, len(turns))


def orientational_free_energy_in_liquid(
    potential: Potential,
    structures: Sequence[Structure],
    temperature: float = 300.0,
    molecules: Molecules | None = None,
    vector: str | None = None,
    shape: tuple[int, int] = (6, 12),
    n_rotations: int = 75,
    seed: int = 0,
    rotation_batch: int | None = None,
    progress: Progress = no_progress,
) -> PerturbedFreeEnergy:
    """Free energy of the orientations of the molecules of a periodic box.

    Parameters
    ----------
    potential, structures, temperature, vector, rotation_batch, progress
        As for `orientational_free_energy`, of snapshots of a box.
    molecules
        Those that are looked at; None takes the most frequent kind.
    shape
        Cells in cos theta and phi.
    n_rotations
        Random rotations of each snapshot.
    seed
        Of the rotations.

    Raises
    ------
    UserError
        If there are fewer than 2 snapshots, or the molecules have no orientation.
    """
    _check(structures, temperature)
    n_cos, n_phi = shape
    grid, n_cells = centers_of(n_cos, n_phi), n_cos * n_phi
    molecules = molecules or find_molecules(structures[0])
    weights = molecules.weights(vector)
    if not molecules.have_orientation(structures[0], weights):
        raise UserError(vanishing(molecules))
    chunks, rng = RotationChunks(potential, rotation_batch), np.random.default_rng(seed)
    sums, counts = np.zeros((2, len(structures), n_cells))
    for k, structure in enumerate(structures):
        turns = Rotation.random(n_rotations, rng=rng).as_matrix()
        energies = chunks.evaluate(structure, turns).energies[0]
        factors = np.exp(-(energies - energies.mean()) / (KB * temperature))
        directions = molecules.orientations(structure.positions, structure.cell, weights)
        cells = cells_of(directions @ turns.transpose(0, 2, 1), n_cos, n_phi)  # (n_rotations, n_molecules)
        sums[k] = np.bincount(cells.ravel(), np.repeat(factors, len(directions)), n_cells)
        counts[k] = np.bincount(cells.ravel(), minlength=n_cells)
        progress(len(turns))
    if (counts.sum(axis=0) == counts).any():
        raise UserError(
            f"too few snapshots, rotations and molecules for a map of {n_cos} x {n_phi} cells: some hold molecules of "
            "one snapshot alone or none; give more snapshots"
        )
    return _summary(sums, counts, grid, temperature, n_rotations)


def _check(structures: Sequence[Structure], temperature: float) -> None:
    if len(structures) < 2:
        raise UserError(f"an orientational free energy needs at least 2 snapshots, got {len(structures)}")
    if temperature <= 0.0:
        raise UserError(f"the temperature must be positive, got {temperature:g} K")


def is_molecule(structure: Structure, vector: str | None = None) -> bool:
    """Whether a structure is one isolated molecule that has an orientation."""
    try:
        _molecular_frame(structure, vector)
    except UserError:
        return False
    return True


def _summary(
    sums: FloatArray,
    counts: FloatArray,
    grid: tuple[FloatArray, FloatArray],
    temperature: float,
    n_rotations: int,
) -> PerturbedFreeEnergy:
    """Map and errors from sums and counts of the Boltzmann factors of every snapshot, (n_structures, n_cells)."""
    n = len(sums)
    total, count = sums.sum(axis=0), counts.sum(axis=0)
    map_ = _map_of(total / count)
    left_out = np.array([_map_of((total - s) / (count - c)) for s, c in zip(sums, counts, strict=True)])
    error = np.sqrt((n - 1) / n * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0))
    noise = float(np.sqrt((error**2).mean()))
    # the mean square of value and noise together is that of the value plus that of the noise
    squares = (map_**2).mean() - noise**2
    of_left_out = (left_out**2).mean(axis=1)
    spread = np.sqrt((n - 1) / n * ((of_left_out - of_left_out.mean()) ** 2).sum())
    rms = float(np.sqrt(max(squares, 0.0)))
    shape = (len(grid[0]), len(grid[1]))
    return PerturbedFreeEnergy(
        *grid,
        map_.reshape(shape),
        error.reshape(shape),
        rms,
        float(spread / (2.0 * max(rms, noise))) if spread else 0.0,
        noise,
        temperature,
        n,
        n_rotations,
    )


def _map_of(weights: FloatArray) -> FloatArray:
    """Free energy in kT from Boltzmann factors of cells of equal solid angle: their mean counts as zero."""
    return np.asarray(-np.log(weights / weights.mean()))


def _orientations(cos_theta: FloatArray, phi: FloatArray, n_psi: int) -> FloatArray:
    """(n_cos * n_phi * n_psi, 3, 3) rotations that turn z into each direction, after a turn psi about z."""
    psi = np.arange(n_psi) * 2.0 * np.pi / n_psi
    theta, around, about = np.meshgrid(np.arccos(cos_theta), phi, psi, indexing="ij")
    angles = np.stack([around.ravel(), theta.ravel(), about.ravel()], axis=1)
    return np.asarray(Rotation.from_euler("ZYZ", angles).as_matrix())


def _molecular_frame(structure: Structure, vector: str | None) -> FloatArray:
    """(3, 3) rotation whose third column is the orientation of the molecule, the first in a plane with an atom."""
    if structure.periodic:
        raise UserError(
            "the orientational free energy by perturbation is of an isolated molecule, got a periodic box"
        )
    molecules: Molecules = find_molecules(structure)
    if molecules.n_sites != structure.n_atoms:
        raise UserError(f"one molecule expected, got {molecules.n_all} groups of atoms")
    weights = molecules.weights(vector)
    if not molecules.have_orientation(structure, weights):
        raise UserError(vanishing(molecules))
    (direction,) = molecules.orientations(structure.positions, structure.cell, weights)
    arms = structure.positions - structure.positions.mean(axis=0)
    across = arms - np.outer(arms @ direction, direction)
    largest = across[np.argmax(np.linalg.norm(across, axis=1))]
    length = np.linalg.norm(largest)
    if length < 1e-6:  # a linear molecule: any direction across it will do
        largest = np.cross(direction, np.eye(3)[np.argmin(np.abs(direction))])
        length = np.linalg.norm(largest)
    first = largest / length
    return np.stack([first, np.cross(direction, first), direction], axis=1)
