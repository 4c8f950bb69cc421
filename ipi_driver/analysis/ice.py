"""Relaxations of crystals: one run, or a folder of runs (one per cell), and the comparison of such sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ipi_driver.analysis.common import (
    Progress,
    averages_of,
    label_of,
    new_analysis,
    open_system,
)
from ipi_driver.analysis.result import Analysis, Curve, Options, Scalar
from ipi_driver.errors import UserError
from ipi_driver.ipi_files import Run
from ipi_driver.observables.crystals import (
    force_difference,
    pooled_norm,
    relative_energies,
    rmsd,
    rmse,
    root_sum_square,
)
from ipi_driver.structure import FloatArray, Structure
from ipi_driver.units import MILLI

_NAN = float("nan")


@dataclass(frozen=True, eq=False)
class RelaxedCell:
    """One relaxation.

    Attributes
    ----------
    name
        Of the cell: equal names are compared.
    n_molecules
        In the cell, of all kinds.
    initial_energy, relaxed_energy
        eV per cell.
    initial_forces
        (n_atoms, 3) in eV/Å, or None where the run wrote none.
    relaxed
        Last geometry.
    n_steps
        Steps of the optimizer.
    """

    name: str
    n_molecules: int
    initial_energy: float
    relaxed_energy: float
    initial_forces: FloatArray | None
    relaxed: Structure
    n_steps: int


@dataclass(frozen=True, eq=False)
class RelaxedSet:
    """The relaxations of one model and average, and the analysis that the report shows."""

    analysis: Analysis
    cells: tuple[RelaxedCell, ...]


def analyze_relaxations(
    folder: Path, runs: Sequence[Run], options: Options, progress: Progress = lambda n: None
) -> RelaxedSet:
    """Energies of every cell relative to their mean, before and after the relaxation.

    Parameters
    ----------
    folder
        What the user named: a run, or a folder of runs.
    runs
        One per cell.

    Raises
    ------
    UserError
        If a run has no energies or positions.
    """
    system = open_system(runs[0], options)
    analysis = new_analysis(system, "ice")
    analysis.source = analysis.settings["folder"] = str(folder)
    analysis.label = label_of(folder.resolve().name, averages_of(runs[0]))
    if options.skip:
        analysis.note("relaxations have no time: `skip` leaves out nothing of them")
    cells = []
    for run in runs:
        cells.append(_read_cell(run, options, progress))
        for text in run.notes:
            analysis.note(f"{run.name}: {text}" if len(runs) > 1 else text)
    counts = [cell.n_molecules for cell in cells]
    smallest, largest = min(counts), max(counts)
    sizes = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
    number = f"{len(cells)} cells of " if len(cells) > 1 else ""
    analysis.system = f"{number}{sizes} {system.molecules.formula}"
    numbers = np.arange(1.0, len(cells) + 1)
    nothing = np.full(len(cells), _NAN)
    for key, label, energies in (
        ("ice_initial", "initial", [cell.initial_energy for cell in cells]),
        ("ice_relaxed", "relaxed", [cell.relaxed_energy for cell in cells]),
    ):
        relative = MILLI * relative_energies(energies, counts)
        y_label = f"{label}: ΔE / meV per molecule"
        analysis.curves[key] = Curve(numbers, relative, nothing, "cell", y_label)
        spread = float(relative.std()) if len(cells) > 1 else _NAN
        label = f"{label} relative energies, standard deviation over cells"
        analysis.scalars[f"{key}_spread"] = Scalar(label, spread, _NAN, "meV/molecule")
    gain = [MILLI * (cell.relaxed_energy - cell.initial_energy) / cell.n_molecules for cell in cells]
    analysis.scalars["ice_gain"] = Scalar(
        "energy of relaxation, mean", float(np.mean(gain)), _NAN, "meV/molecule"
    )
    steps = float(np.mean([cell.n_steps for cell in cells]))
    analysis.scalars["ice_steps"] = Scalar("steps of the optimizer, mean", steps, _NAN, "")
    return RelaxedSet(analysis, tuple(cells))


def number_cells(sets: Sequence[RelaxedSet]) -> None:
    """Give cells of one name the same number in every set, whichever cells a set lacks."""
    names = sorted({cell.name for relaxed in sets for cell in relaxed.cells})
    for relaxed in sets:
        numbers = np.array([names.index(cell.name) + 1.0 for cell in relaxed.cells])
        curves = relaxed.analysis.curves
        for key in ("ice_initial", "ice_relaxed"):
            curves[key] = replace(curves[key], x=numbers)
        numbered = (f"{number:.0f}: {cell.name}" for number, cell in zip(numbers, relaxed.cells, strict=True))
        relaxed.analysis.settings["cells"] = ", ".join(numbered)


def compare_relaxations(reference: RelaxedSet, other: RelaxedSet) -> None:
    """Add to ``other`` how far it is from ``reference``: energies, initial forces, relaxed geometries.

    Raises
    ------
    UserError
        If the two sets have no cell in common.
    """
    names = {cell.name: cell for cell in reference.cells}
    pairs = [(names[cell.name], cell) for cell in other.cells if cell.name in names]
    if not pairs and len(reference.cells) == len(other.cells) == 1:
        pairs = [(reference.cells[0], other.cells[0])]
    if not pairs:
        raise UserError(
            f"{reference.analysis.label} and {other.analysis.label} have no cell in common: expected equal names"
        )
    analysis, against = other.analysis, f"against {reference.analysis.label}"
    counts = [first.n_molecules for first, _ in pairs]
    for key, attribute in (("initial", "initial_energy"), ("relaxed", "relaxed_energy")):
        if len(pairs) == 1:  # relative to its own mean one energy is zero
            first, second = (getattr(cell, attribute) for cell in pairs[0])
            label = f"{key} energy, difference {against}"
            analysis.scalars[f"ice_{key}_difference"] = Scalar(
                label, MILLI * (second - first) / counts[0], _NAN, "meV/molecule"
            )
            continue
        ours, theirs = (
            MILLI * relative_energies([getattr(pair[side], attribute) for pair in pairs], counts)
            for side in (0, 1)
        )
        label = f"{key} relative energies, RMSE over cells {against}"
        analysis.scalars[f"ice_{key}_rmse"] = Scalar(label, rmse(ours, theirs), _NAN, "meV/molecule")
        label = f"{key} relative energies, √Σ over cells {against}"
        norm = root_sum_square(ours, theirs)
        analysis.scalars[f"ice_{key}_norm"] = Scalar(label, norm, _NAN, "meV/molecule")
    distances = np.array([MILLI * rmsd(first.relaxed, second.relaxed) for first, second in pairs])
    number_of = dict(zip((cell.name for cell in other.cells), analysis.curves["ice_relaxed"].x, strict=True))
    numbers = np.array([number_of[second.name] for _, second in pairs])
    if len(pairs) < max(len(reference.cells), len(other.cells)):
        analysis.note(
            "the sets hold different cells, and the energies of each are relative to the mean of its own"
        )
    nothing = np.full(len(pairs), _NAN)
    analysis.curves["ice_rmsd"] = Curve(numbers, distances, nothing, "cell", "RMSD / 1e-3 Å per atom")
    spread = float(distances.std(ddof=1) / np.sqrt(len(pairs))) if len(pairs) > 1 else _NAN
    label = f"RMSD of relaxed geometries {against}, mean over cells"
    analysis.scalars["ice_rmsd"] = Scalar(label, float(distances.mean()), spread, "1e-3 Å/atom")
    n_atoms = np.array([first.relaxed.n_atoms for first, _ in pairs])
    label = f"relaxed geometries, √(3Σ|Δx|²/Σ atoms) {against}"
    norm = pooled_norm(distances**2 * n_atoms, n_atoms)
    analysis.scalars["ice_rmsd_norm"] = Scalar(label, norm, _NAN, "1e-3 Å")
    forces = [
        force_difference(first.initial_forces, second.initial_forces)
        for first, second in pairs
        if first.initial_forces is not None and second.initial_forces is not None
    ]
    if forces:
        for key, label, values in (
            ("magnitude", "initial forces, rms component", [force.magnitude for force in forces]),
            ("rmse", f"initial forces, RMSE per component {against}", [force.rmse for force in forces]),
            (
                "maximum",
                f"initial forces, largest difference on an atom {against}",
                [f.maximum for f in forces],
            ),
        ):
            value = MILLI * float(np.max(values) if key == "maximum" else np.mean(values))
            analysis.scalars[f"ice_forces_{key}"] = Scalar(label, value, _NAN, "meV/Å")
        if len(forces) == len(pairs):
            label = f"initial forces, √(3Σ|ΔF|²/Σ atoms) {against}"
            norm = MILLI * pooled_norm(
                [3.0 * n * f.rmse**2 for n, f in zip(n_atoms, forces, strict=True)], n_atoms
            )
            analysis.scalars["ice_forces_norm"] = Scalar(label, norm, _NAN, "meV/Å")


def _read_cell(run: Run, options: Options, progress: Progress) -> RelaxedCell:
    system = open_system(run, options)
    last, last_step = system.structure, 0
    for snapshot in run.snapshots(["positions"]):
        last = Structure(run.numbers, snapshot.positions, snapshot.cell, system.structure.pbc)
        last_step = snapshot.step
        progress(1)
    table = run.properties_with("potential")
    potential, energy_steps = table["potential"], table.steps
    if last_step != energy_steps[-1]:
        run.note(
            f"the relaxed geometry is that of step {last_step}, the energy that of step {energy_steps[-1]}"
        )
    forces = None
    if run.has("forces"):
        stream = run.snapshots(["forces"])
        forces = next(stream).forces
        stream.close()
    steps = run.settings.total_steps
    if steps is not None and max(last_step, energy_steps[-1]) >= steps:
        run.note(f"stopped after {steps} steps: the relaxation may not have converged, raise <total_steps>")
    if len(potential) < 2:
        run.note("one energy only: the relaxation has not moved")
    return RelaxedCell(
        run.name,
        system.molecules.n_all,
        float(potential[0]),
        float(potential[-1]),
        forces,
        last,
        int(energy_steps[-1] - energy_steps[0]),
    )
