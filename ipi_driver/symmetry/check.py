"""The whole check of a model: errors, degrees, consistency, recommendation, stride."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.ipi_files.structures import DataSet
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.chunks import Progress, no_progress
from ipi_driver.rotations.pool import RotationPool
from ipi_driver.rotations.quadrature import Quadrature, quadrature, quadratures
from ipi_driver.symmetry.consistency import Consistency, check_consistency
from ipi_driver.symmetry.degrees import (
    Decomposition,
    decompose,
    decomposition_grid,
    mean_decomposition,
    residual_force,
    shared_force,
)
from ipi_driver.symmetry.errors import AverageError, symmetry_errors, time_averages
from ipi_driver.symmetry.orientation import PerturbedFreeEnergy, is_molecule, orientational_free_energy
from ipi_driver.symmetry.outer_step import StrideTable, correction_series, require_snapshots, stride_table
from ipi_driver.symmetry.recommend import Recommendation, keep_directions, recommend
from ipi_driver.symmetry.walk import N_ORIENTATIONS, RotationWalk, rotation_walk
from ipi_driver.units import MILLI

if TYPE_CHECKING:  # it needs e3nn
    from ipi_driver.symmetry.explain import Explanation

DEFAULT_AVERAGES = ("none", "i", "D2", "D2h", "T", "Th", "O", "Oh", "I", "Ih", "2", "2i", "3", "3i")

Stage = Callable[[str, int], Progress]
"""Opens a stage of the work: its description and number of rotations give the function that reports progress."""

_DEGREES = (6, 5, 4, 3)
_DEGREE_SECONDS = 30.0
_DEGREE_STRUCTURES = 3
_ORIENTATIONS = (8, 16, 6)


@dataclass(frozen=True)
class CheckSettings:
    """Settings of a check.

    Attributes
    ----------
    averages, reference
        The averages to compare, and the one that they are compared with.
    tolerance
        eV/Å.
    max_degree
        Of the decomposition; None: as high as `_DEGREE_SECONDS` per structure allow, at least 2.
    seed, rotation_batch
        As in `RotationalAverage`.
    time_step
        Inner step of multiple time stepping, fs.
    temperature
        Of the orientational free energy of isolated molecules, K.
    explain
        Whether a relaxed network is fitted to the residual forces, see `ipi_driver.symmetry.explain`.
    """

    averages: tuple[Quadrature, ...] = field(default_factory=lambda: quadratures(DEFAULT_AVERAGES))
    reference: Quadrature = field(default_factory=lambda: quadrature("Ih"))
    tolerance: float = 1e-3
    max_degree: int | None = None
    seed: int = 0
    rotation_batch: int | None = None
    time_step: float = 0.5
    temperature: float = 300.0
    explain: bool = False


@dataclass(frozen=True)
class CheckResult:
    """Results of a check.

    Attributes
    ----------
    model
        Name of the potential.
    settings
        As given.
    errors
        Rows of the table.
    decompositions, consistency
        By data set.
    reference_errors
        By data set, estimate from above of the reference's own root-mean-square force error, eV/Å.
    recommendation
        The cheapest sufficient average.
    stride
        For the trajectory, if there is one and averaging is of use.
    has_trajectory
        Whether there is one.
    orientation
        Orientational free energy by perturbation, of data sets of one isolated molecule.
    explanations
        What a relaxed network finds in the residual forces, by data set, where it was asked for.
    walks
        The raw result along the walk of ML-PEG's rotational benchmark, by data set.
    """

    model: str
    settings: CheckSettings
    errors: tuple[AverageError, ...]
    decompositions: dict[str, Decomposition]
    consistency: dict[str, Consistency]
    reference_errors: dict[str, float]
    recommendation: Recommendation
    stride: StrideTable | None
    has_trajectory: bool = False
    orientation: dict[str, PerturbedFreeEnergy] = field(default_factory=dict)
    explanations: dict[str, Explanation] = field(default_factory=dict)
    walks: dict[str, RotationWalk] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"CheckResult({self.model}: {self.recommendation.text})"


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
        progress = stage(f"{name}: {len(grids)} averages", pool.n_evaluations * len(data.structures))
        rows = symmetry_errors(
            potential,
            {name: data.structures},
            grids,
            settings.reference,
            settings.seed,
            settings.rotation_batch,
            progress,
            {name: data.masses},
        )
        errors += [replace(row, seconds=timings[name][row.average]) for row in rows]
    decompositions = {
        name: _decompose(potential, data, settings, _per_rotation(timings[name], grids), stage)
        for name, data in sets.items()
    }
    consistency = {}
    for name, data in sets.items():
        stage(f"{name}: finite differences", 0)
        consistency[name] = check_consistency(precise or potential, data.structures[0])
    reference = settings.reference
    shared = {
        (name, grid.name): shared_force(found, grid, reference)
        for name, found in decompositions.items()
        for grid in grids
        if grid.random is None and not grid.own_frames
    }
    if potential.directions:
        recommendation = keep_directions(potential.directions, decompositions.values(), settings.tolerance)
    else:
        recommendation = recommend(errors, settings.tolerance, shared)
    stride = None
    if trajectory is not None and recommendation.average != "none":
        average = next(grid for grid in grids if grid.name == recommendation.average)
        stride = _stride(potential, trajectory, average, settings, stage)
    return CheckResult(
        model=potential.name,
        settings=settings,
        errors=tuple(errors),
        decompositions=decompositions,
        consistency=consistency,
        reference_errors={name: residual_force(found, reference) for name, found in decompositions.items()},
        recommendation=recommendation,
        stride=stride,
        has_trajectory=trajectory is not None,
        orientation={
            name: found
            for name, data in sets.items()
            if (found := _orientation(potential, data, settings, _per_rotation(timings[name], grids), stage))
            is not None
        },
        explanations=_explanations(potential, sets, settings, stage) if settings.explain else {},
        walks={name: _walk(potential, data, settings, stage) for name, data in sets.items()},
    )


def _checked(settings: CheckSettings) -> list[Quadrature]:
    """All averages, the raw result first; wrong ones raise before any work is done."""
    if settings.tolerance <= 0:
        raise UserError(f"--tolerance must be positive, got {MILLI * settings.tolerance:g} meV/Å")
    if settings.max_degree is not None and not 1 <= settings.max_degree <= 10:
        raise UserError(f"--max-degree must be 1 to 10, got {settings.max_degree}")
    reference = settings.reference
    if reference.random is not None or reference.name == "none":
        raise UserError(f"--reference must be a fixed grid such as Ih or 4i, got {reference.name}")
    grids = {grid.name: grid for grid in (quadrature("none"), *settings.averages, reference)}
    return list(grids.values())


def _named(data_sets: Sequence[DataSet]) -> dict[str, DataSet]:
    """Data sets by name, made different where two files are called the same."""
    named: dict[str, DataSet] = {}
    for data in data_sets:
        name = data.name
        if name in named:
            name = f"{data.name} ({sum(key.startswith(data.name) for key in named) + 1})"
        named[name] = data
    if not named:
        raise UserError("no structures to check")
    return named


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
) -> StrideTable:
    data, spacing = trajectory
    progress = stage(f"{data.name}: correction", len(average) * len(data.structures))
    corrections, raws = correction_series(
        potential, data.structures, average, settings.rotation_batch, progress
    )
    masses = None if data.masses is None else data.masses[0]
    return stride_table(
        corrections, raws, spacing, settings.time_step, settings.tolerance, data.structures, masses
    )
