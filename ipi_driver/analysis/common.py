"""What every analysis starts from: the first snapshot, its molecules, the label; the drift; the spectra."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import ArrayLike, NDArray

from ipi_driver.analysis.recognition import recognize
from ipi_driver.analysis.result import Analysis, Curve, Options, Scalar
from ipi_driver.errors import UserError
from ipi_driver.ipi_files import Run, Snapshot
from ipi_driver.ipi_files.endpoints import averages
from ipi_driver.ipi_files.properties import row_spacing
from ipi_driver.ipi_files.structures import evenly
from ipi_driver.observables.dissipation import dissipation, heating_spectrum
from ipi_driver.observables.molecules import Molecules, find_molecules
from ipi_driver.observables.statistics import Estimate
from ipi_driver.observables.thermodynamics import drift
from ipi_driver.structure import FloatArray, Structure
from ipi_driver.units import FS_PER_PS, MILLI, SPEED_OF_LIGHT

_JUST_BELOW = 1.0 - 1e-6
"""i-PI's own constants put a step of 0.5 fs 1e-8 below: the snapshot at exactly ``skip`` is used."""

Progress = Callable[[int], None]
"""Called with the number of snapshots done since the last call."""


@dataclass(frozen=True, eq=False)
class System:
    """First snapshot of a run and the molecules in it."""

    run: Run
    structure: Structure
    molecules: Molecules
    kind: str


def open_system(run: Run, options: Options) -> System:
    """Read the first snapshot, find the molecules, recognize the kind.

    Raises
    ------
    UserError
        If there is no position trajectory or no such molecule.
    """
    snapshots = run.snapshots(["positions"])
    first = next(snapshots)
    if (
        run.settings.motion == "replay"
    ):  # what i-PI starts from need not be a snapshot: it may be a mean over the file
        first = next(snapshots, first)
    snapshots.close()
    cell = first.cell
    structure = Structure(run.numbers, first.positions, cell, np.full(3, bool(cell.any())))
    molecules = find_molecules(structure, options.molecule)
    n_others = structure.n_atoms - molecules.indices.size
    if n_others:
        run.note(
            f"{n_others} atoms do not belong to the {molecules.n_molecules} {molecules.formula} analyzed"
        )
    return System(run, structure, molecules, recognize(structure, molecules))


def vector_text(molecules: Molecules, vector: str | None) -> str:
    """The orientation vector in words."""
    if vector is not None:
        first, last = (end.strip() for end in vector.split("->"))
        return f"from the mean of the {first} to that of the {last} of {molecules.formula}"
    symbols = [chemical_symbols[z] for z in molecules.numbers]
    rest = " and ".join(dict.fromkeys(symbols[1:]))
    return f"from {symbols[0]} (the first of the heaviest atoms) to the mean of the other atoms ({rest})"


def new_analysis(system: System, kind: str, vector: str | None = None) -> Analysis:
    """An empty analysis that names the run and its settings; ``vector``: as in `Options`."""
    run, settings = system.run, system.run.settings
    average = averages_of(run)
    described = {
        "folder": str(run.path),
        "motion": settings.motion,
        "ensemble": settings.ensemble or "-",
        "thermostat": settings.thermostat or "-",
        "temperature": "-" if settings.temperature is None else f"{settings.temperature:.1f} K",
        "time step": "-" if settings.timestep is None else f"{settings.timestep:.3f} fs",
        "force fields": ", ".join(f"{name} {weights}".strip() for name, weights in settings.forces) or "-",
        "model": str(run.driver.get("model", "-")),
        "average": average or "-",
    }
    if system.molecules.n_sites > 1:
        described["orientation vector"] = vector_text(system.molecules, vector)
    label = label_of(run.name, average)
    size = f"{system.molecules.n_molecules} {system.molecules.formula}"
    return Analysis(label, kind, str(run.path), size, described, structure=_whole(system))


def _whole(system: System) -> Structure:
    """The first snapshot with the molecules analyzed in one piece, to be looked at."""
    positions = system.structure.positions.copy()
    whole = system.molecules.whole(positions, system.structure.cell)
    positions[system.molecules.indices.ravel()] = whole.reshape(-1, 3)
    return replace(system.structure, positions=positions)


def label_of(name: str, label: str) -> str:
    """Name of the folder, with the label of its averages where it does not hold that already."""
    return name if not label or label in name.split("-") else f"{name} ({label})"


def averages_of(run: Run) -> str:
    """The averages named in driver.yaml, in the order of its endpoints; empty without one."""
    if isinstance(run.driver.get("endpoints"), list):
        return " + ".join(averages(run.driver))
    return str(run.driver.get("average", ""))


def _is_used(run: Run, step: ArrayLike, skip: float) -> NDArray[np.bool_]:
    """Whether steps lie beyond the first ``skip`` ps."""
    return np.asarray(np.asarray(step) * run.timestep >= skip * FS_PER_PS * _JUST_BELOW)


def used_snapshots(run: Run, quantities: list[str], skip: float, progress: Progress) -> Iterator[Snapshot]:
    """Snapshots after the first ``skip`` ps, at equal spacing, counted by ``progress``."""
    step_range: list[int] = []
    for snapshot in run.snapshots(quantities):
        progress(1)
        if not _is_used(run, snapshot.step, skip):
            continue
        step_range = [*step_range[-2:], snapshot.step]
        if len(step_range) == 3 and step_range[2] - step_range[1] != step_range[1] - step_range[0]:
            raise UserError(
                f"{run.path}: snapshots at steps {', '.join(map(str, step_range))} are not equally spaced: "
                "analyze the parts with different strides on their own"
            )
        yield snapshot


def spread_out(run: Run, skip: float, most: int) -> list[Snapshot]:
    """At most ``most`` snapshots of positions, evenly over all of the run after the first ``skip`` ps.

    Raises
    ------
    UserError
        If there are fewer than two.
    """
    n_skipped = sampling_of(run, ["positions"], skip).n_skipped
    chosen = set((n_skipped + evenly(max(1, run.n_snapshots() - n_skipped), most)).tolist())
    return [snapshot for k, snapshot in enumerate(run.snapshots(["positions"])) if k in chosen]


class Sampling(NamedTuple):
    """Time between common snapshots in fs beyond the time left out, and how many snapshots lie before."""

    spacing: float
    n_skipped: int


def sampling_of(run: Run, quantities: list[str], skip: float) -> Sampling:
    """How `used_snapshots` are spaced: what is left out may have another stride.

    Raises
    ------
    UserError
        If fewer than two are used.
    """
    steps: list[int] = []
    n_skipped = 0
    snapshots = run.snapshots(quantities)
    for snapshot in snapshots:
        if _is_used(run, snapshot.step, skip):
            steps.append(snapshot.step)
        else:
            n_skipped += 1
        if len(steps) == 2:
            break
    snapshots.close()
    if len(steps) < 2:
        after = f" after the first {skip:g} ps" if n_skipped else ""
        got = "one snapshot" if steps else "no snapshot"
        raise UserError(
            f"{run.path}: too short for a block average: {got} of {', '.join(quantities)}{after}; run longer"
        )
    return Sampling((steps[1] - steps[0]) * run.timestep, n_skipped)


@contextmanager
def optional(analysis: Analysis, what: str) -> Iterator[None]:
    """Leave out a quantity that cannot be had, with a note."""
    try:
        yield
    except UserError as error:
        analysis.note(f"{what} left out: {error}")


def add_modulus(
    analysis: Analysis, key: str, label: str, vector: Estimate, unit: str, scale: float = 1.0
) -> None:
    """Modulus of a mean vector, and the one that noise alone gives: of a vector that is zero it is not zero."""
    modulus = vector.derived(lambda mean: np.linalg.norm(mean))
    analysis.scalars[key] = Scalar.of(label, modulus, unit, scale)
    noise = scale * float(np.sqrt((vector.error**2).sum()))
    analysis.scalars[f"{key}_noise"] = Scalar(
        "... that noise alone gives (rms)", noise, float("nan"), unit, n_blocks=vector.n_blocks
    )


def used_columns(run: Run, options: Options, *names: str) -> tuple[FloatArray, ...]:
    """Times in fs and columns of the properties, of the rows beyond the time left out.

    Raises
    ------
    UserError
        If they are not equally spaced, but for rows that are lost here and there, or not finite.
    """
    table = run.properties_with(*names)
    used = _is_used(run, table["step"], options.skip)
    try:
        row_spacing(table["step"][used])
    except UserError as error:
        raise UserError(f"{table.source}: {error}") from None
    return table["step"][used] * run.timestep, *(table.finite(name, used) for name in names)


def temperature_of(run: Run, options: Options) -> float:
    """Temperature of a run in K: of its ensemble, else the mean of its column ``temperature``.

    Raises
    ------
    UserError
        If it has neither, or the column has no row beyond the time left out.
    """
    if run.settings.temperature is not None:
        return run.settings.temperature
    (_, temperatures) = used_columns(run, options, "temperature")
    if not len(temperatures):
        raise UserError(f"{run.path}: no temperature after the first {options.skip:g} ps; run longer")
    return float(temperatures.mean())


def add_drift(analysis: Analysis, system: System, options: Options) -> None:
    """Drift of the conserved quantity, and its time series."""
    times, conserved = used_columns(system.run, options, "conserved")
    n = system.molecules.n_all
    estimate = drift(conserved, times, n)
    analysis.scalars["drift"] = Scalar.of(
        "drift of the conserved quantity", estimate, "meV/molecule/ns", MILLI
    )
    per_molecule = MILLI * (conserved - conserved[0]) / n
    thin = max(1, len(times) // 2000)
    analysis.curves["conserved"] = Curve(
        times[::thin] / FS_PER_PS,
        per_molecule[::thin],
        np.full(len(per_molecule[::thin]), np.nan),
        "time / ps",
        "conserved quantity / meV per molecule",
    )


def add_dissipation(analysis: Analysis, system: System, options: Options) -> None:
    """Drift that the fluctuations of the conserved quantity imply, and their spectrum.

    Raises
    ------
    UserError
        If the run is too short, or its temperature unknown.
    """
    times, conserved = used_columns(system.run, options, "conserved")
    temperature = temperature_of(system.run, options)
    spectrum = heating_spectrum(conserved, times, system.molecules.n_all, temperature)
    frequencies, density, error = spectrum.bands()
    analysis.curves["heating_spectrum"] = Curve(
        frequencies / SPEED_OF_LIGHT,
        MILLI * density,
        MILLI * error,
        "wavenumber / cm⁻¹",
        "spectrum of the heating\n/ meV per molecule and ns",
    )
    label = "drift that its fluctuations imply"
    analysis.scalars["dissipation"] = Scalar.of(label, dissipation(spectrum), "meV/molecule/ns", MILLI)
