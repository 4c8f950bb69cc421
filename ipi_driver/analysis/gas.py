"""Observables of one molecule."""

from __future__ import annotations

import numpy as np

from ipi_driver.analysis.common import (
    Progress,
    System,
    add_drift,
    add_modulus,
    new_analysis,
    optional,
    sampling_of,
    spread_out,
    used_snapshots,
)
from ipi_driver.analysis.orientation import (
    add_alignment,
    add_orientation_result,
    add_perturbed_orientation,
    reorientation_time,
)
from ipi_driver.analysis.result import Analysis, Curve, Options, Scalar
from ipi_driver.analysis.vibrations import add_internal_coordinates, add_spectra, add_vibrations
from ipi_driver.errors import UserError
from ipi_driver.ipi_files.binary_trajectory import BinaryTrajectory
from ipi_driver.observables.angular import (
    angular_momentum,
    dominant_frequency,
    precession_rate,
    rms_torque,
    torque,
    torque_of_rounding,
    turning_angle,
)
from ipi_driver.observables.intramolecular import InternalCoordinates
from ipi_driver.observables.molecules import vanishing
from ipi_driver.observables.orientation import OrientationHistogram
from ipi_driver.observables.statistics import block_average
from ipi_driver.observables.thermodynamics import KineticTemperature
from ipi_driver.potentials.base import Potential
from ipi_driver.structure import FloatArray, Structure
from ipi_driver.symmetry.torques import torque_against_average
from ipi_driver.units import FS_PER_PS, HBAR, MILLI

_CONSERVED = 1e-3
"""Relative change of L below which its motion is integration error and printed digits."""

_POINTS = 4000
"""Most points of a time series in the report."""


def analyze_gas(system: System, options: Options, progress: Progress = lambda n: None) -> Analysis:
    """All observables of a run of one molecule that its files allow.

    Angular momentum and precession of a run without thermostat, orientational free energy of one with; torque,
    temperature, spectra and drift of both. What a file lacks is left out and noted.
    """
    analysis = new_analysis(system, "gas", options.vector)
    constant_energy = system.run.settings.ensemble == "nve"
    if constant_energy:
        if options.axis is not None:
            analysis.note("`axis` is for runs at constant temperature, and not used at constant energy")
        with optional(analysis, "angular momentum"):
            _add_angular_momentum(analysis, system, options, progress)
    else:
        with optional(analysis, "orientational free energy"):
            _add_orientation(analysis, system, options, progress)
        with optional(analysis, "kinetic temperature"):
            add_temperature(analysis, system, options, progress)
    with optional(analysis, "torque"):
        _add_torque(analysis, system, options, progress)
    if options.model is not None and options.averages:
        _add_torque_against_average(analysis, system, options, options.model)
    if options.model is not None and not constant_energy:
        with optional(analysis, "orientational free energy by perturbation"):
            add_perturbed_orientation(analysis, system, options, options.model)
    with optional(analysis, "bonds and angles"):
        _add_internal_coordinates(analysis, system, options)
    with optional(analysis, "drift"):
        add_drift(analysis, system, options)
    if system.run.continuous:
        add_vibrations(analysis, system, options)
        with optional(analysis, "power spectra"):
            add_spectra(analysis, system.run, options)
    for text in system.run.notes:
        analysis.note(text)
    return analysis


def add_temperature(analysis: Analysis, system: System, options: Options, progress: Progress) -> None:
    """Kinetic temperature of each element, of the atoms that are free to move."""
    run = system.run
    mobile = run.mobile
    spacing = sampling_of(run, ["velocities"], options.skip).spacing
    temperature = KineticTemperature(run.numbers[mobile], run.masses[mobile])
    for snapshot in used_snapshots(run, ["velocities"], options.skip, progress):
        temperature.add(snapshot.velocities[mobile])
    for symbol, estimate in temperature.result(spacing).items():
        analysis.scalars[f"temperature_{symbol}"] = Scalar.of(
            f"kinetic temperature of {symbol}", estimate, "K"
        )
    if not mobile.all():
        analysis.note(f"kinetic temperatures of the {mobile.sum()} atoms that are free to move")


def _add_angular_momentum(analysis: Analysis, system: System, options: Options, progress: Progress) -> None:
    run, atoms = system.run, system.molecules.indices[0]
    if run.settings.n_beads > 1:
        raise UserError("with several beads no symmetry conserves that of the centroids")
    if not run.continuous:
        raise UserError("it is one of a trajectory")
    spacing = sampling_of(run, ["positions", "velocities"], options.skip).spacing
    series, steps = [], []
    for snapshot in used_snapshots(run, ["positions", "velocities"], options.skip, progress):
        steps.append(snapshot.step)
        whole = system.molecules.whole(snapshot.positions, snapshot.cell)[0]
        series.append(angular_momentum(run.masses[atoms], whole, snapshot.velocities[atoms]))
    momenta = np.array(series)
    in_hbar = momenta / HBAR
    times = np.array(steps) * (run.timestep / FS_PER_PS)
    thin = max(1, len(momenta) // _POINTS)
    for k, axis in enumerate("xyz"):
        _add_series(analysis, f"L_{axis}", times, in_hbar[:, k], thin, f"L{axis} / ħ")
    _add_series(analysis, "L", times, np.linalg.norm(in_hbar, axis=1), thin, "|L| / ħ")
    _add_series(analysis, "L_angle", times, np.degrees(turning_angle(momenta)), thin, "angle to L(0) / °")
    rate = precession_rate(momenta, spacing)
    add_modulus(analysis, "precession", "mean precession rate |Ω| of L", rate, "rad/ps", FS_PER_PS)
    deviation, first = in_hbar - in_hbar[0], float(np.linalg.norm(in_hbar[0]))
    if first == 0.0:
        analysis.note("the molecule starts without angular momentum: no relative change of it")
        return
    largest = float(np.linalg.norm(deviation, axis=1).max() / first)
    if largest > _CONSERVED:
        frequency, resolution = (FS_PER_PS * value for value in dominant_frequency(momenta, spacing))
        label = "dominant angular frequency of L"
        analysis.scalars["L_frequency"] = Scalar(label, frequency, resolution, "rad/ps")
    analysis.scalars["L_change"] = Scalar("largest |L(t) - L(0)| / |L(0)|", largest, float("nan"), "")


def _add_series(
    analysis: Analysis, key: str, times: FloatArray, values: FloatArray, thin: int, label: str
) -> None:
    no_error = np.full(len(times[::thin]), np.nan)
    analysis.curves[key] = Curve(times[::thin], values[::thin], no_error, "time / ps", label)


def _add_torque(analysis: Analysis, system: System, options: Options, progress: Progress) -> None:
    run, atoms = system.run, system.molecules.indices[0]
    if run.settings.n_beads > 1:  # the mean of r x F over the beads is not that of the centroids
        run = run.of_one_bead()
        analysis.note("the torque is that of one bead")
    spacing = sampling_of(run, ["positions", "forces"], options.skip).spacing
    of_text = [not isinstance(run.trajectory(name), BinaryTrajectory) for name in ("positions", "forces")]
    rounded = (of_text[0], of_text[1])
    series, digits = [], []
    for snapshot in used_snapshots(run, ["positions", "forces"], options.skip, progress):
        whole = system.molecules.whole(snapshot.positions, snapshot.cell)[0]
        series.append(torque(run.masses[atoms], whole, snapshot.forces[atoms]))
        digits.append(torque_of_rounding(run.masses[atoms], whole, snapshot.forces[atoms], rounded))
    torques = np.array(series)
    analysis.scalars["torque"] = Scalar.of(
        "torque |T|, root mean square", rms_torque(torques, spacing), "meV", MILLI
    )
    if any(rounded):
        floor = MILLI * float(np.sqrt(np.mean(np.square(digits))))
        label = "... that the digits of the files explain"
        analysis.scalars["torque_digits"] = Scalar(label, floor, float("nan"), "meV")
    with optional(analysis, "modulus of the mean torque"):
        label = "modulus of the mean torque |<T>|"
        add_modulus(analysis, "torque_vector", label, block_average(torques, spacing), "meV", MILLI)


def _add_torque_against_average(
    analysis: Analysis, system: System, options: Options, potential: Potential
) -> None:
    """Root-mean-square torque of a potential under each average, on snapshots of the run (at equal distances)."""
    run, molecule = system.run, system.molecules
    atoms = molecule.indices[0]
    structures = [
        Structure(run.numbers[atoms], molecule.whole(snapshot.positions, snapshot.cell)[0]).conditioned(
            *run.conditions
        )
        for snapshot in spread_out(run, options.skip, options.torque_snapshots)
    ]
    results = torque_against_average(potential, structures, options.averages)
    for result in results:
        how = f"average {result.average} ({result.n_rotations} evaluations)"
        label = f"torque, root mean square, {potential.name}, {how}"
        scalar = Scalar(label, MILLI * result.rms, MILLI * result.rms_error, "meV")
        analysis.scalars[f"torque_{result.average}"] = scalar
    counts = np.array([float(result.n_rotations) for result in results])
    order = np.argsort(counts, kind="stable")
    analysis.curves["torque_average"] = Curve(
        counts[order],
        np.array([MILLI * results[k].rms for k in order]),
        np.array([MILLI * results[k].rms_error for k in order]),
        "evaluations per step",
        "root mean square torque / meV",
    )


def _add_orientation(analysis: Analysis, system: System, options: Options, progress: Progress) -> None:
    run, molecules = system.run, system.molecules
    weights = molecules.weights(options.vector)
    if not molecules.have_orientation(system.structure, weights):
        raise UserError(vanishing(molecules))
    spacing = sampling_of(run, ["positions"], options.skip).spacing
    histogram = OrientationHistogram(bandwidth=options.map_bandwidth)
    series = []
    for snapshot in used_snapshots(run, ["positions"], options.skip, progress):
        series.append(molecules.orientations(snapshot.positions, snapshot.cell, weights))
        histogram.add(series[-1])
    orientations = np.array(series)
    moving = orientations[:, 0]
    if options.axis is not None:
        moving = moving - moving.mean(axis=0)  # in a field <u> is not zero and never decays
    correlation = _correlation(moving)
    turning = reorientation_time(correlation / correlation[0], spacing)
    if options.axis is not None:
        add_alignment(analysis, orientations, np.array(options.axis), spacing, turning)
    add_orientation_result(analysis, histogram, spacing, turning)


def _correlation(u: FloatArray) -> FloatArray:
    """<u(0) u(t)> of vectors (n, 3) whose mean is zero, at lags up to a quarter of the run."""
    n = len(u)
    spectrum = np.fft.rfft(u, n=2 * n, axis=0)
    sums = np.fft.irfft((np.abs(spectrum) ** 2).sum(axis=1), n=2 * n)[: max(2, n // 4)]
    return np.asarray(sums / np.arange(n, n - len(sums), -1))


def _add_internal_coordinates(analysis: Analysis, system: System, options: Options) -> None:
    run, molecules = system.run, system.molecules
    spacing = sampling_of(run, ["positions"], options.skip).spacing
    internal = InternalCoordinates(molecules)
    for snapshot in used_snapshots(run, ["positions"], options.skip, lambda n: None):
        internal.add(molecules.whole(snapshot.positions, snapshot.cell))
    add_internal_coordinates(analysis, internal, spacing)
