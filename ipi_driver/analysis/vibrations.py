"""What vibrates: bonds and angles, vibrational density of states, spectra of energies and whether they are aliased."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from ipi_driver.analysis.common import System, sampling_of, used_columns, used_snapshots
from ipi_driver.analysis.result import Analysis, Curve, Options, Scalar
from ipi_driver.errors import UserError
from ipi_driver.ipi_files import Run
from ipi_driver.observables.intramolecular import InternalCoordinates
from ipi_driver.observables.spectra import highest_wavenumber, nyquist, power_spectrum, regular_part
from ipi_driver.structure import FloatArray
from ipi_driver.units import MILLI

_MOST_NUMBERS = 20_000_000
"""Velocity components kept for the density of states: of larger runs every n-th molecule is taken."""


def add_internal_coordinates(analysis: Analysis, internal: InternalCoordinates, spacing: float) -> None:
    """Distributions of bonds and angles, and their means.

    Raises
    ------
    UserError
        If the trajectory is too short for a block average, or the bonds are longer than the distributions reach.
    """
    for kind, unit, found in (("bond", "Å", internal.bonds), ("angle", "°", internal.angles)):
        for name, distribution in found.items():
            density, mean = distribution.result(spacing)
            key = f"{kind}_{name.replace('–', '')}"
            seen = np.flatnonzero(density.value > 0.0)
            if not len(seen):
                raise UserError(f"all {kind}s {name} are longer than {distribution.edges[-1]:g} {unit}")
            part = slice(max(0, int(seen[0]) - 2), int(seen[-1]) + 3)
            curve = Curve.of(distribution.centers, density, f"{name} / {unit}", f"p({name}) / {unit}⁻¹")
            blocks = None if curve.blocks is None else curve.blocks[:, part]
            analysis.curves[key] = Curve(
                curve.x[part], curve.y[part], curve.error[part], curve.x_label, curve.y_label,
                curve.correlation_time, curve.block_length, blocks, curve.correction,
            )  # fmt: skip
            analysis.scalars[key] = Scalar.of(f"{kind} {name}, mean", mean, unit)


def add_vibrations(analysis: Analysis, system: System, options: Options) -> None:
    """Vibrational density of states from the velocities, where they are written often enough to resolve it.

    ``D(nu) = sum_i m_i S_i(nu)`` with S the power spectral density of the velocities, normalized to 1: the part of the
    kinetic energy per wavenumber.
    """
    run = system.run
    with suppress(UserError):  # no velocities, or too few of them
        spacing = sampling_of(run, ["velocities"], options.skip).spacing
        if nyquist(spacing) < highest_wavenumber(run.numbers):
            return
        atoms = system.molecules.indices
        n_numbers = run.n_snapshots("velocities") * atoms.size * 3
        chosen = atoms[:: max(1, -(-n_numbers // _MOST_NUMBERS))].ravel()
        roots = np.sqrt(run.masses[chosen])[:, None]
        stream = used_snapshots(run, ["velocities"], options.skip, lambda n: None)
        series = np.array([snapshot.velocities[chosen] * roots for snapshot in stream])
        spectrum = power_spectrum(series, spacing)
        total = float(np.trapezoid(spectrum.density, spectrum.wavenumbers))
        if total > 0.0:
            analysis.curves["vdos"] = Curve(
                spectrum.wavenumbers,
                MILLI * spectrum.density / total,
                MILLI * spectrum.error / total,
                "wavenumber / cm⁻¹",
                "density of states / 10⁻³ cm",
            )


def add_spectra(analysis: Analysis, run: Run, options: Options) -> None:
    """Spectra of the potential energy and of what is not equivariant in it, from the property files.

    Where a run evaluates the raw and the averaged potential, written as ``pot_component_raw(0)`` and
    ``pot_component_raw(1)``, their difference is what the average removes.

    Raises
    ------
    UserError
        If there is no column of the potential energy, or too few rows.
    """
    times, potential = used_columns(run, options, "potential")
    add_spectrum(analysis, "spectrum_potential", potential, times)
    with suppress(UserError):  # written by runs with two force components alone
        times, raw, averaged = used_columns(run, options, "pot_component_raw(0)", "pot_component_raw(1)")
        add_spectrum(analysis, "spectrum_non_equivariant", raw - averaged, times)
    part, spacing = regular_part(times)
    if len(times[part]) < len(times):
        analysis.note(
            "rows are lost between others: the spectra are those of the longest part without a gap, "
            f"{len(times[part])} of {len(times)} rows"
        )
    _warn_of_aliasing(analysis, run, spacing)


def add_spectrum(analysis: Analysis, key: str, series: FloatArray, times: FloatArray) -> None:
    """Power spectral density of the longest part of a series at equal times."""
    part, spacing = regular_part(times)
    spectrum = power_spectrum(series[part], spacing)
    analysis.curves[key] = Curve(
        spectrum.wavenumbers[1:], spectrum.density[1:], spectrum.error[1:], "wavenumber / cm⁻¹", "S / eV² cm"
    )


def _warn_of_aliasing(analysis: Analysis, run: Run, spacing: float) -> None:
    """Add a note that a spectrum ends below the vibrations: an energy moves at their frequency and at twice that."""
    end, highest = nyquist(spacing), 2.0 * highest_wavenumber(run.numbers)
    if end < highest:
        analysis.note(
            f"the spectra are aliased: rows every {spacing:.3g} fs resolve up to {end:.0f} cm⁻¹, energies move at "
            f"up to {highest:.0f} cm⁻¹ (twice the stretch vibrations), and what lies between is folded to lower "
            f"wavenumbers; write the properties at least every {spacing * end / highest:.2g} fs, as the input "
            "gas-nve-spectrum does"
        )
