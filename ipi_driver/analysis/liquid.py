"""Observables of many molecules, in a periodic cell or as a cluster."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
from ase.data import chemical_symbols

from ipi_driver.analysis.common import (
    Progress,
    System,
    add_dissipation,
    add_drift,
    new_analysis,
    optional,
    sampling_of,
    used_snapshots,
)
from ipi_driver.analysis.gas import add_temperature
from ipi_driver.analysis.orientation import (
    add_orientation_result,
    add_perturbed_orientation_in_liquid,
    reorientation_time,
)
from ipi_driver.analysis.pair_curves import add_dipole_correlations, add_pairs
from ipi_driver.analysis.result import Analysis, Curve, Options, Scalar
from ipi_driver.analysis.slab import add_profiles
from ipi_driver.analysis.vibrations import add_internal_coordinates, add_vibrations
from ipi_driver.errors import UserError
from ipi_driver.observables.dynamics import (
    MeanSquareDisplacement,
    OrientationCorrelation,
    diffusion_coefficient,
    finite_size_correction,
    relaxation_time,
)
from ipi_driver.observables.intramolecular import InternalCoordinates
from ipi_driver.observables.molecules import largest_radius, minimum_image, vanishing
from ipi_driver.observables.orientation import OrientationHistogram
from ipi_driver.observables.pairs import DipoleCorrelation, PairDistances
from ipi_driver.observables.profiles import FEWEST_OF_A_SLAB, SlabProfiles, find_slab
from ipi_driver.observables.statistics import Estimate
from ipi_driver.structure import FloatArray, IntArray
from ipi_driver.units import FS_PER_PS

WATER_VISCOSITY = 0.854
"""mPa s, of water at 300 K."""

_LAGS = 200
"""Most lags of a time correlation: snapshots in between are not used for it."""


_CLUSTER = (
    "an isolated cluster: what a homogeneous liquid has (pair and dipole correlations, diffusion) is left out"
)


_WITHOUT_IMAGES = (
    "no images along some cell vectors, and no slab of a liquid: the mean density that pair correlations are relative "
    "to is that of a box with 100 Å of vacuum, so that their heights say nothing by themselves; numbers of neighbors do"
)


class _Pass:
    """Everything that one pass over the positions of a liquid feeds."""

    def __init__(self, system: System, options: Options, spacing: float, n_snapshots: int) -> None:
        self.system, self.spacing = system, spacing
        run, molecules = system.run, system.molecules
        self.weights = molecules.weights(options.vector) if molecules.n_sites > 1 else np.zeros(1)
        self.oriented = bool(self.weights.any())
        if self.oriented and not molecules.have_orientation(system.structure, self.weights):
            self.oriented = False
            run.note(f"no orientations: {vanishing(molecules)}")
        self.fractions = run.masses / run.masses.sum()
        self.histogram = OrientationHistogram(bandwidth=options.map_bandwidth)
        self.internal = InternalCoordinates(molecules)
        self.profiles = _profiles_of(system)
        self.periodic = system.structure.periodic
        largest = largest_radius(system.structure.cell) if self.periodic else 0.0
        if self.periodic and options.r_max is not None and options.r_max > largest * (1.0 + 1e-9):
            raise UserError(
                f"{run.path}: --r-max must not exceed half the smallest height of the cell, {largest:.3f} Å, got "
                f"{options.r_max:g}"
            )
        # a little inside the first cell, so that one that breathes does not cost many shells
        self.r_max = options.r_max or 0.98 * largest or 1.0
        self.pair_stride = max(1, -(-n_snapshots // options.pair_snapshots))
        pairs = _pairs_of(run.numbers)
        self.pairs = PairDistances(run.numbers, pairs, self.r_max, bandwidth=options.bandwidth)
        self.dipoles = DipoleCorrelation(self.r_max, bandwidth=options.bandwidth)
        # at most a quarter of the run, so that there are origins for blocks
        longest = min(options.longest_lag * FS_PER_PS, n_snapshots * spacing / 4.0)
        self.lag_stride = max(1, int(np.ceil(longest / spacing / _LAGS)))
        n_lags = max(1, int(longest / (spacing * self.lag_stride)))
        self.msd, self.correlation = MeanSquareDisplacement(n_lags), OrientationCorrelation(n_lags)
        self.lags = np.asarray(np.arange(n_lags + 1) * (spacing * self.lag_stride), dtype=np.float64)
        self.n_seen = 0
        self._last: FloatArray | None = None
        self._center = np.zeros(3)

    def _center_of_mass(self, positions: FloatArray, cell: FloatArray) -> FloatArray:
        """How far the center of mass has moved, (3,) Å, of coordinates that may be wrapped into the cell."""
        if self._last is not None:
            self._center = self._center + self.fractions @ minimum_image(positions - self._last, cell)
        self._last = positions
        return self._center

    def add(self, positions: FloatArray, cell: FloatArray) -> None:
        molecules = self.system.molecules
        centers = positions[molecules.indices[:, 0]]
        with_pairs = self.n_seen % self.pair_stride == 0
        if self.oriented:
            orientations = molecules.orientations(positions, cell, self.weights)
            self.histogram.add(orientations)
            if with_pairs and self.periodic:
                self.dipoles.add(centers, orientations, cell)
        if with_pairs and self.periodic:
            self.pairs.add(positions, cell)
        if with_pairs:
            self.internal.add(molecules.whole(positions, cell))
            if self.profiles is not None:
                self.profiles.add(
                    positions[molecules.indices.ravel()], cell, orientations if self.oriented else None
                )
        if self.n_seen % self.lag_stride == 0:
            self.msd.add(centers, cell, self._center_of_mass(positions, cell))
            if self.oriented:
                self.correlation.add(orientations)
        self.n_seen += 1


def analyze_liquid(system: System, options: Options, progress: Progress = lambda n: None) -> Analysis:
    """All observables of a run of many molecules that its files allow.

    Raises
    ------
    UserError
        If the run has fewer than two snapshots of positions.
    """
    analysis = new_analysis(system, system.kind, options.vector)
    run = system.run
    periodic = system.structure.periodic
    if not periodic:
        analysis.note(_CLUSTER)
    spacing, n_skipped = sampling_of(run, ["positions"], options.skip)
    n_snapshots = max(1, run.n_snapshots() - n_skipped)
    streamed = _Pass(system, options, spacing, n_snapshots)
    if options.axis is not None:
        analysis.note("`axis` is that of a field on one molecule, and not used here")
    if options.model is not None and not (periodic and streamed.oriented):
        analysis.note("`model` is used for the orientations of a periodic liquid alone, and not here")
    if periodic and run.open_directions.any() and streamed.profiles is None:
        analysis.note(_WITHOUT_IMAGES)
    for snapshot in used_snapshots(run, ["positions"], options.skip, progress):
        streamed.add(snapshot.positions, snapshot.cell)
    if streamed.oriented:
        with optional(analysis, "orientational free energy"):
            turning = reorientation_time(streamed.correlation.mean(), spacing * streamed.lag_stride)
            add_orientation_result(analysis, streamed.histogram, spacing, turning)
        if options.model is not None and periodic:
            with optional(analysis, "orientational free energy by perturbation"):
                add_perturbed_orientation_in_liquid(analysis, system, options, options.model)
    stride = spacing * streamed.pair_stride
    if periodic:
        with optional(analysis, "pair correlations"):
            add_pairs(analysis, streamed.pairs, system.structure, stride)
    if streamed.oriented and periodic:
        with optional(analysis, "dipole correlations"):
            add_dipole_correlations(analysis, streamed.dipoles, stride)
    if streamed.profiles is not None:
        with optional(analysis, "profiles across the slab"):
            add_profiles(analysis, streamed.profiles, stride, run.open_directions)
    with optional(analysis, "bonds and angles"):
        add_internal_coordinates(analysis, streamed.internal, stride)
    if run.continuous:
        _add_dynamics(analysis, streamed, options)
    with optional(analysis, "kinetic temperature"):
        add_temperature(analysis, system, options, progress)
    with optional(analysis, "drift"):
        add_drift(analysis, system, options)
    with optional(analysis, "drift from the fluctuations of the conserved quantity"):
        add_dissipation(analysis, system, options)
    for text in run.notes:
        analysis.note(text)
    return analysis


def _add_dynamics(analysis: Analysis, streamed: _Pass, options: Options) -> None:
    """What follows one trajectory in time."""
    if streamed.periodic:
        with optional(analysis, "mean-square displacement"):
            _add_diffusion(analysis, streamed, options)
    if streamed.oriented:
        with optional(analysis, "dipole autocorrelation"):
            _add_relaxation(analysis, streamed, options)
        with optional(analysis, "dipole autocorrelation of the cell"):
            _add_collective(analysis, streamed)
    add_vibrations(analysis, streamed.system, options)


def _profiles_of(system: System) -> SlabProfiles | None:
    """What to measure across the surfaces where the liquid is a slab."""
    atoms = system.molecules.indices
    cell = system.structure.cell
    slab = find_slab(system.structure.positions[atoms.ravel()], cell)
    if slab is None or len(atoms) < FEWEST_OF_A_SLAB:
        return None
    return SlabProfiles(slab, system.run.masses[atoms.ravel()], np.arange(len(atoms)) * atoms.shape[1], cell)


def _pairs_of(numbers: IntArray) -> list[tuple[str, str]]:
    """Pairs of elements, the heavier first: O-O, O-H, H-H."""
    elements = sorted({int(z) for z in numbers}, reverse=True)
    return list(combinations_with_replacement([chemical_symbols[z] for z in elements], 2))


def _add_diffusion(analysis: Analysis, streamed: _Pass, options: Options) -> None:
    step = streamed.spacing * streamed.lag_stride
    symbol = chemical_symbols[streamed.system.molecules.numbers[0]]
    msd = streamed.msd.result(step)
    times = _picoseconds(analysis, streamed, msd, "mean-square displacement")
    analysis.curves["msd"] = Curve.of(times, msd, "t / ps", f"MSD of {symbol} / Å²")
    if _cut_short(times, streamed, options):
        analysis.note(
            f"no diffusion coefficient: the lags end at {times[-1]:.2g} ps, before the motion is diffusive"
        )
        return
    start, stop = _fit_window(times, options)
    estimate = diffusion_coefficient(msd, step, start, stop)
    analysis.scalars["diffusion"] = Scalar.of(
        f"diffusion coefficient D of {symbol} ({_window_label(start, stop)})", estimate, "Å²/ps"
    )
    if streamed.profiles is not None:
        return  # the correction is that of a bulk liquid
    temperature = streamed.system.run.settings.temperature
    cell = streamed.system.structure.cell
    lengths = np.linalg.norm(cell, axis=1)
    if (
        temperature is None
        or np.ptp(lengths) > 1e-3 * lengths.mean()
        or (cell - np.diag(np.diag(cell))).any()
    ):
        analysis.note("no finite-size correction of D: it needs a temperature in the input and a cubic cell")
        return
    viscosity = options.viscosity
    if viscosity is None and streamed.system.molecules.formula == "H2O":
        viscosity = WATER_VISCOSITY
    if viscosity is None:
        analysis.note(
            "no finite-size correction of D: it needs the shear viscosity of the liquid, give it with --viscosity"
        )
        return
    correction = finite_size_correction(temperature, float(lengths[0]), viscosity)
    corrected = Estimate(
        estimate.value + correction,
        estimate.error,
        estimate.correlation_time,
        estimate.block_length,
        estimate.n_blocks,
        estimate.blocks + correction,
    )
    label = f"D + Yeh–Hummer correction ({correction:.4f} Å²/ps at {viscosity:g} mPa s)"
    analysis.scalars["diffusion_corrected"] = Scalar.of(label, corrected, "Å²/ps")


def _add_relaxation(analysis: Analysis, streamed: _Pass, options: Options) -> None:
    step = streamed.spacing * streamed.lag_stride
    single = streamed.correlation.single(step)
    times = _picoseconds(analysis, streamed, single, "dipole autocorrelation")
    analysis.curves["dipole_single"] = Curve.of(times, single, "t / ps", "⟨u(0)·u(t)⟩ of a molecule")
    if _cut_short(times, streamed, options):
        analysis.note(
            f"no dipole relaxation time: the lags end at {times[-1]:.2g} ps, in the fast librations"
        )
        return
    start, stop = _fit_window(times, options)
    estimate = relaxation_time(single, step, start, stop)
    label = f"dipole relaxation time of a molecule ({_window_label(start, stop)})"
    analysis.scalars["relaxation"] = Scalar.of(label, estimate, "ps")


def _add_collective(analysis: Analysis, streamed: _Pass) -> None:
    collective = streamed.correlation.collective(streamed.spacing * streamed.lag_stride)
    times = _picoseconds(analysis, streamed, collective, "dipole autocorrelation of the cell")
    analysis.curves["dipole_total"] = Curve.of(times, collective, "t / ps", "⟨M(0)·M(t)⟩ of the cell")


def _picoseconds(analysis: Analysis, streamed: _Pass, estimate: Estimate, what: str) -> FloatArray:
    """Lags of an estimate, which may end before the longest."""
    times = np.asarray(streamed.lags[: len(estimate.value)] / FS_PER_PS, dtype=np.float64)
    if len(times) < len(streamed.lags):
        longest = streamed.lags[-1] / FS_PER_PS
        analysis.note(
            f"{what} up to {times[-1]:.3g} ps of {longest:.3g}: the run is too short for block averages of longer lags"
        )
    return times


def _cut_short(times: FloatArray, streamed: _Pass, options: Options) -> bool:
    """Whether fewer lags are left than asked for, and all of them before the start of the fits."""
    return len(times) < len(streamed.lags) and bool(times[-1] < options.fit_start)


def _window_label(start: float, stop: float) -> str:
    return f"fit {start / FS_PER_PS:.2g} to {stop / FS_PER_PS:.2g} ps"


def _fit_window(times: FloatArray, options: Options) -> tuple[float, float]:
    """Start and end of the fits in fs for lags in ps; the start is at most a third of the longest lag."""
    stop = float(times[-1]) * FS_PER_PS
    return min(options.fit_start * FS_PER_PS, stop / 3.0), stop
