"""Orientational free energy: from the orientations of a run, and by perturbation from its snapshots."""

from __future__ import annotations

import numpy as np

from ipi_driver.analysis.common import System, add_modulus, spread_out, temperature_of
from ipi_driver.analysis.result import Analysis, Curve, Map, Options, Scalar
from ipi_driver.errors import UserError
from ipi_driver.observables.dynamics import decay_time
from ipi_driver.observables.orientation import OrientationHistogram, alignment, inverse_langevin
from ipi_driver.potentials.base import Potential
from ipi_driver.structure import FloatArray, Structure
from ipi_driver.symmetry.orientation import (
    PerturbedFreeEnergy,
    orientational_free_energy,
    orientational_free_energy_in_liquid,
)
from ipi_driver.units import FS_PER_PS

FEWEST_TURNS = 10.0
"""Reorientation times that a map of orientations needs: blocks of a shorter run look independent and are not."""

_PERTURBED_SNAPSHOTS = 50
_LIQUID_SNAPSHOTS = 20


def reorientation_time(correlation: FloatArray, spacing: float) -> float:
    """Time in fs at which the orientation correlation C(t), at lags ``spacing`` fs apart, falls to 1/e."""
    return decay_time(correlation, spacing)


def add_orientation_result(
    analysis: Analysis, histogram: OrientationHistogram, spacing: float, turning: float
) -> None:
    """The map of the orientational free energy and how rough it is.

    Parameters
    ----------
    turning
        Reorientation time of a molecule, fs: the correlation time of the map is taken to be no shorter.

    Raises
    ------
    UserError
        If the run is shorter than `FEWEST_TURNS` reorientation times, or too short for a block average.
    """
    length = histogram.n_samples * spacing
    if length < FEWEST_TURNS * turning:
        found = f"{turning / FS_PER_PS:.3g} ps" if np.isfinite(turning) else "longer than the longest lag"
        need = f", {FEWEST_TURNS * turning / FS_PER_PS:.3g} ps," if np.isfinite(turning) else ""
        raise UserError(
            f"too short: the reorientation time of a molecule is {found}, a map needs {FEWEST_TURNS:g} times "
            f"that{need} the run has {length / FS_PER_PS:.3g} ps; a shorter one shows where molecules began as "
            "an anisotropy"
        )
    result = histogram.result(spacing, turning)
    analysis.maps["orientation"] = Map(
        result.cos_theta,
        result.phi,
        result.free_energy,
        result.error,
        "cos θ",
        "φ / rad",
        "F / kT",
        blocks=result.density.blocks,
        correction=result.density.correction,
        block_length=result.density.block_length / FS_PER_PS,
    )
    tau, block = result.density.correlation_time / FS_PER_PS, result.density.block_length / FS_PER_PS
    details = (tau, block, result.density.n_blocks)
    nan = float("nan")
    analysis.scalars["roughness"] = Scalar(
        "orientational free energy, rms", result.roughness, nan, "kT", *details
    )
    analysis.scalars["roughness_noise"] = Scalar(
        "... of which noise explains", result.noise, nan, "kT", *details
    )
    analysis.scalars["roughness_chi2"] = Scalar(
        "... chi² per cell (flat: 1 of many blocks, 3 of four)", result.significance, nan, "", *details
    )
    add_modulus(analysis, "mean_orientation", "modulus of the mean orientation |<u>|", result.dipole, "")


def add_alignment(
    analysis: Analysis, orientations: FloatArray, axis: FloatArray, spacing: float, turning: float
) -> None:
    """Mean cosine and free energy of the orientations against the axis of an external field.

    Parameters
    ----------
    orientations
        (n_snapshots, n_molecules, 3) unit vectors.
    axis
        (3,) of any length.
    spacing, turning
        Time between snapshots and reorientation time, fs.
    """
    found = alignment(orientations @ (axis / np.linalg.norm(axis)), spacing, least_correlation_time=turning)
    analysis.curves["alignment"] = Curve(
        found.cos_theta, found.free_energy, found.error, "cos θ to the axis", "F / kT"
    )
    analysis.scalars["mean_cosine"] = Scalar.of("mean cos θ to the axis", found.mean_cosine, "")
    if abs(float(found.mean_cosine.value)) < 1.0:
        strength = found.mean_cosine.derived(lambda mean: inverse_langevin(float(mean)))
        analysis.scalars["alignment"] = Scalar.of("... as a = µE/kT, from coth a − 1/a", strength, "")


def add_perturbed_orientation(
    analysis: Analysis, system: System, options: Options, potential: Potential
) -> None:
    """Map of the orientational free energy of a gas-phase molecule by perturbation, with the potential of `Options`.

    Raises
    ------
    UserError
        If the molecule has no orientation, or the temperature of the run is not known.
    """
    run, molecule = system.run, system.molecules
    temperature = temperature_of(run, options)
    atoms = molecule.indices[0]
    structures = [
        Structure(run.numbers[atoms], molecule.whole(snapshot.positions, snapshot.cell)[0]).conditioned(
            *run.conditions
        )
        for snapshot in spread_out(run, options.skip, _PERTURBED_SNAPSHOTS)
    ]
    _add_perturbed(analysis, orientational_free_energy(potential, structures, temperature, options.vector))


def add_perturbed_orientation_in_liquid(
    analysis: Analysis, system: System, options: Options, potential: Potential
) -> None:
    """The same of the molecules of a liquid, in boxes that are turned as a whole.

    Raises
    ------
    UserError
        If the molecules have no orientation or are too few for a map, or the temperature of the run is not known.
    """
    run = system.run
    structures = [
        Structure(run.numbers, snapshot.positions, snapshot.cell, system.structure.pbc, *run.conditions)
        for snapshot in spread_out(run, options.skip, _LIQUID_SNAPSHOTS)
    ]
    found = orientational_free_energy_in_liquid(
        potential, structures, temperature_of(run, options), system.molecules, options.vector
    )
    _add_perturbed(analysis, found)


def _add_perturbed(analysis: Analysis, found: PerturbedFreeEnergy) -> None:
    """A map by perturbation and its numbers."""
    analysis.maps["orientation_perturbation"] = Map(
        found.cos_theta, found.phi, found.free_energy, found.error, "cos θ", "φ / rad", "F / kT"
    )
    label = f"orientational free energy by perturbation, rms ({found.n_structures} snapshots)"
    analysis.scalars["orientation_rms"] = Scalar(label, found.rms, found.rms_error, "kT")
    nan = float("nan")
    for key, word, value in (
        ("lowest", "lowest", float(found.free_energy.min())),
        ("highest", "highest", float(found.free_energy.max())),
        ("noise", "rms of its errors", found.noise),
    ):
        analysis.scalars[f"orientation_{key}"] = Scalar(f"... {word}", value, nan, "kT")
