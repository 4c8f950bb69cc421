"""The whole check of a model: errors, degrees, consistency, recommendation, stride."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.ipi_files.structures import DataSet
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.chunks import Progress, no_progress
from ipi_driver.rotations.pool import RotationPool
from ipi_driver.rotations.quadrature import Quadrature, quadrature
from ipi_driver.rotations.random import random_frame
from ipi_driver.symmetry.check_result import DEFAULT_AVERAGES, CheckResult, CheckSettings
from ipi_driver.symmetry.consistency import check_consistency
from ipi_driver.symmetry.degrees import (
    Decomposition,
    decompose,
    decomposition_grid,
    mean_decomposition,
    residual_force,
    shared_force,
)
from ipi_driver.symmetry.drift import FEWEST_STEPS, Drift, nve_drift
from ipi_driver.symmetry.errors import symmetry_errors, time_averages
from ipi_driver.symmetry.inner_forces import InnerForces, compare_inner
from ipi_driver.symmetry.orientation import PerturbedFreeEnergy, is_molecule, orientational_free_energy
from ipi_driver.symmetry.outer_step import StrideTable, correction_series, require_snapshots, stride_table
from ipi_driver.symmetry.recommend import keep_directions, recommend
from ipi_driver.symmetry.walk import N_ORIENTATIONS, RotationWalk, rotation_walk
from ipi_driver.units import MILLI

if TYPE_CHECKING:  # it needs e3nn
    from ipi_driver.symmetry.explain import Explanation

__all__ = ["DEFAULT_AVERAGES", "CheckResult", "CheckSettings", "Stage", "run_check", "silent"]

Stage = Callable[[str, int], Progress]
"""Opens a stage of the work: its description and number of rotations give the function that reports progress."""

_DEGREES = (6, 5, 4, 3)
_DEGREE_SECONDS = 30.0
_DEGREE_STRUCTURES = 3
_ORIENTATIONS = (8, 16, 6)
_ENOUGH_ORIENTATIONS = 8
"""Of a set of isolated structures: the mean error over them is then within a fifth or so."""


def silent(description: str, total: int) -> Progress:
    """A `Stage` that shows nothing."""
    return no_progress


def run_check(
    potential: Potential,
    data_sets: Sequence[DataSet],
    settings: CheckSettings,
    trajectory: tuple[DataSet, float] | None = None,
    precise: Potential | None = None,
    stage: Stage = silent,
    inner: Potential | None = None,
) -> CheckResult:
    """Check a potential on data sets.

    Parameters
    ----------
    potential
        In the precision in which it will be used.
    data_sets
        Structures.
    settings
        What to do.
    trajectory
        Snapshots at equal times and the time between them in fs, for the stride.
    precise
        The potential in double precision for the finite differences; None: ``potential``.
    stage
        For progress bars.
    inner
        The potential of the inner step of multiple time stepping, raw; None: ``potential`` itself, or, where its
        forces are no derivatives and its model has some (`Potential.with_derivatives`), ``potential`` inside of these.

    Raises
    ------
    UserError
        If the reference is random, the tolerance is not positive, or the trajectory too short.
    """
    grids = _checked(settings)
    sets = _named(data_sets)
    if trajectory is not None:
        data, spacing = trajectory
        require_snapshots(len(data.structures), spacing, settings.time_step)
    pool = RotationPool(grids, settings.seed)
    timings = {}
    for name, data in sets.items():
        stage(f"{name}: timing", 0)
        timings[name] = time_averages(potential, data.structures[0], grids, settings.rotation_batch)
    errors = []
    for name, data in sets.items():
        each = pool.n_evaluations * _per_rotation(timings[name], grids)
        n_orientations = _n_orientations(data, settings, each)
        turned = _turned(data, n_orientations, settings.seed)
        progress = stage(f"{name}: {len(grids)} averages", pool.n_evaluations * len(turned.structures))
        rows = symmetry_errors(
            potential,
            {name: turned.structures},
            grids,
            settings.reference,
            settings.seed,
            settings.rotation_batch,
            progress,
            {name: turned.masses},
        )
        n = len(data.structures)
        errors += [
            replace(row, seconds=timings[name][row.average], n_structures=n, n_orientations=n_orientations)
            for row in rows
        ]
    decompositions = {
        name: _decompose(potential, data, settings, _per_rotation(timings[name], grids), stage)
        for name, data in sets.items()
    }
    consistency = {}
    for name, data in sets.items():
        stage(f"{name}: finite differences", 0)
        consistency[name] = check_consistency(precise or potential, data.structures[0])
    reference = settings.reference
    left = {name: residual_force(found, reference) for name, found in decompositions.items()}
    shared = {
        (name, grid.name): shared_force(found, grid, reference)
        for name, found in decompositions.items()
        for grid in grids
        if grid.is_fixed
    }
    explanations = _explanations(potential, sets, settings, stage) if settings.explain else {}
    fields = tuple(dict.fromkeys(found.leading for found in explanations.values() if found.is_field))
    if directions := potential.directions or fields:
        recommendation = keep_directions(
            directions, decompositions.values(), settings.tolerance, not potential.directions
        )
    else:
        recommendation = recommend(errors, settings.tolerance, shared, max(left.values(), default=0.0))
    outer = potential
    if inner is None and (conservative := potential.with_derivatives()) is not None:
        outer, inner = conservative, potential
    stride = None
    if trajectory is not None and (recommendation.average != "none" or inner is not None):
        average = next(grid for grid in grids if grid.name == recommendation.average)
        stride = _stride(outer, trajectory, average, settings, stage, inner)
    return CheckResult(
        model=potential.name,
        settings=settings,
        errors=tuple(errors),
        decompositions=decompositions,
        consistency=consistency,
        reference_errors=left,
        recommendation=recommendation,
        stride=stride,
        has_trajectory=trajectory is not None,
        orientation={
            name: found
            for name, data in sets.items()
            if (found := _orientation(potential, data, settings, _per_rotation(timings[name], grids), stage))
            is not None
        },
        explanations=explanations,
        walks={name: _walk(potential, data, settings, stage) for name, data in sets.items()},
        drifts={name: _drift(potential, data, settings, stage) for name, data in sets.items()}
        if settings.drift_steps
        else {},
        inner={}
        if inner is None
        else {name: _compare_inner(outer, inner, name, data, stage) for name, data in sets.items()},
    )


def _checked(settings: CheckSettings) -> list[Quadrature]:
    """All averages, the raw result first; wrong ones raise before any work is done."""
    if not settings.tolerance > 0:
        raise UserError(f"--tolerance must be positive, got {MILLI * settings.tolerance:g} meV/Å")
    if settings.max_degree is not None and not 1 <= settings.max_degree <= 10:
        raise UserError(f"--max-degree must be 1 to 10, got {settings.max_degree}")
    if settings.orientations is not None and settings.orientations < 1:
        raise UserError(f"--orientations must be at least 1, got {settings.orientations}")
    if settings.drift_steps and settings.drift_steps < FEWEST_STEPS:
        raise UserError(f"--drift must be at least {FEWEST_STEPS} steps, got {settings.drift_steps}")
    if not settings.time_step > 0:
        raise UserError(f"--time-step must be positive, got {settings.time_step:g} fs")
    if not settings.temperature > 0:
        raise UserError(f"--temperature must be positive, got {settings.temperature:g} K")
    reference = settings.reference
    if not reference.is_fixed or reference.name == "none":
        raise UserError(f"--reference must be a fixed grid such as Ih or 4i, got {reference.name}")
    grids = {grid.name: grid for grid in (quadrature("none"), *settings.averages, reference)}
    return list(grids.values())


def _named(data_sets: Sequence[DataSet]) -> dict[str, DataSet]:
    """Data sets by name, made different where two files are called the same."""
    named: dict[str, DataSet] = {}
    for data in data_sets:
        name = data.name
        if not all(structure.n_atoms for structure in data.structures):
            raise UserError(f"{name} holds a structure without atoms; take it out")
        if name in named:
            name = f"{data.name} ({sum(key.startswith(data.name) for key in named) + 1})"
        named[name] = data
    if not named:
        raise UserError("no structures to check")
    return named


def _n_orientations(data: DataSet, settings: CheckSettings, seconds: float) -> int:
    """In how many orientations to evaluate each structure, which takes so many seconds in one."""
    if any(structure.pbc.any() for structure in data.structures):
        return 1
    if settings.orientations is not None:
        return settings.orientations
    n = len(data.structures)
    return max(1, min(-(-_ENOUGH_ORIENTATIONS // n), int(_DEGREE_SECONDS / max(n * seconds, 1e-9))))


def _turned(data: DataSet, n_orientations: int, seed: int) -> DataSet:
    """The structures as they are, then all of them turned at random, as often as it takes."""
    structures = list(data.structures)
    for k in range(1, n_orientations):
        structures += [s.rotated(random_frame(seed + k, s, "so3")) for s in data.structures]
    masses = None if data.masses is None else data.masses * n_orientations
    return DataSet(data.name, tuple(structures), None, masses)


def _per_rotation(seconds: dict[str, float], grids: Sequence[Quadrature]) -> float:
    largest = max(grids, key=len)
    return seconds[largest.name] / len(largest)


def _decompose(
    potential: Potential, data: DataSet, settings: CheckSettings, per_rotation: float, stage: Stage
) -> Decomposition:
    degree = settings.max_degree
    if degree is None:
        affordable = [d for d in _DEGREES if per_rotation * len(decomposition_grid(d)) <= _DEGREE_SECONDS]
        degree = affordable[0] if affordable else 2
    chosen = data.sample(_DEGREE_STRUCTURES).structures
    total = len(decomposition_grid(degree)) * len(chosen)
    progress = stage(f"{data.name}: degrees up to {degree}", total)
    return mean_decomposition(
        [decompose(potential, s, degree, settings.rotation_batch, progress) for s in chosen]
    )


def _walk(potential: Potential, data: DataSet, settings: CheckSettings, stage: Stage) -> RotationWalk:
    chosen = data.sample(_DEGREE_STRUCTURES).structures
    progress = stage(f"{data.name}: {N_ORIENTATIONS} orientations", N_ORIENTATIONS * len(chosen))
    return rotation_walk(potential, chosen, settings.rotation_batch, progress)


def _drift(potential: Potential, data: DataSet, settings: CheckSettings, stage: Stage) -> Drift:
    steps = settings.drift_steps
    progress = stage(f"{data.name}: {steps} steps at constant energy", steps)
    masses = None if data.masses is None else data.masses[0]
    structure, step, seed = data.structures[0], settings.time_step, settings.seed
    return nve_drift(potential, structure, steps, step, settings.temperature, seed, masses, progress)


def _compare_inner(outer: Potential, inner: Potential, name: str, data: DataSet, stage: Stage) -> InnerForces:
    progress = stage(f"{name}: inner forces", 2 * len(data.structures))
    return compare_inner(outer, inner, data.structures, progress)


def _orientation(
    potential: Potential, data: DataSet, settings: CheckSettings, per_rotation: float, stage: Stage
) -> PerturbedFreeEnergy | None:
    """Free energy from as many snapshots of an isolated molecule as the time allows; None of other structures."""
    n_rotations = int(np.prod(_ORIENTATIONS))
    most = int(_DEGREE_SECONDS / max(per_rotation * n_rotations, 1e-9))
    chosen = data.sample(max(2, min(most, len(data.structures)))).structures
    if most < 2 or len(chosen) < 2 or not all(is_molecule(structure) for structure in chosen):
        return None
    progress = stage(f"{data.name}: orientational free energy", n_rotations * len(chosen))
    return orientational_free_energy(
        potential, chosen, settings.temperature, None, _ORIENTATIONS, settings.rotation_batch, progress
    )


def _explanations(
    potential: Potential, sets: dict[str, DataSet], settings: CheckSettings, stage: Stage
) -> dict[str, Explanation]:
    try:
        from ipi_driver.symmetry.explain import explain
    except ImportError as error:
        raise UserError(f'--explain needs e3nn: pip install "ipi-driver[e3nn]" ({error})') from None
    found = {}
    for name, data in sets.items():
        progress = stage(f"{name}: a relaxed network on the residual forces", 0)
        found[name] = explain(
            potential,
            data.structures,
            seed=settings.seed,
            rotation_batch=settings.rotation_batch,
            progress=progress,
        )
    return found


def _stride(
    potential: Potential,
    trajectory: tuple[DataSet, float],
    average: Quadrature,
    settings: CheckSettings,
    stage: Stage,
    inner: Potential | None,
) -> StrideTable:
    data, spacing = trajectory
    progress = stage(f"{data.name}: correction", len(average) * len(data.structures))
    corrections, raws = correction_series(
        potential, data.structures, average, settings.rotation_batch, progress, inner
    )
    masses = None if data.masses is None else data.masses[0]
    return stride_table(
        corrections, raws, spacing, settings.time_step, settings.tolerance, data.structures, masses
    )
