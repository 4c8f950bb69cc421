"""Symmetry error on the snapshots of a trajectory, replayed through a raw and an averaged potential.

Energies ``E`` and forces ``F`` of the two force components of the run: MAE over snapshots of ``|E_0 - E_1|``,
and over atoms and components of ``|F_0 - F_1|``. A mean difference common to all snapshots is part of the error.
"""

from __future__ import annotations

import numpy as np

from ipi_driver.analysis.common import Progress, System, new_analysis, optional
from ipi_driver.analysis.result import Analysis, Curve, Options, Scalar
from ipi_driver.errors import UserError
from ipi_driver.observables.statistics import block_average
from ipi_driver.units import MILLI

COMPONENTS = ("component_raw(0)", "component_raw(1)")


def analyze_replay(system: System, options: Options, progress: Progress = lambda n: None) -> Analysis:
    """Errors of the first force component against the second.

    Raises
    ------
    UserError
        If the run wrote neither energies nor forces of two components.
    """
    analysis = new_analysis(system, system.kind)
    analysis.settings["replayed"] = "first force component against the second"
    with optional(analysis, "energy errors"):
        _add_energies(analysis, system)
    with optional(analysis, "force errors"):
        _add_forces(analysis, system, progress)
    for text in system.run.notes:
        analysis.note(text)
    if not analysis.scalars:
        raise UserError(
            f"{system.run.path}: a replay needs pot_component_raw(0), (1) in <properties> or trajectories of "
            "forces_component_raw(0), (1); see inputs/replay"
        )
    return analysis


def _add_energies(analysis: Analysis, system: System) -> None:
    table = system.run.properties
    first, second = (table[f"pot_{component}"] for component in COMPONENTS)
    snapshots = table["step"] > 0  # step 0 is where i-PI starts from, not a snapshot
    difference = MILLI * (first - second)[snapshots]
    _add_error(analysis, "energy", "energy, MAE", np.abs(difference), "meV/structure")
    steps = np.arange(1.0, len(difference) + 1)
    nothing = np.full(len(difference), np.nan)
    analysis.curves["replay_energy"] = Curve(
        steps, difference, nothing, "frame", "raw - averaged energy / meV"
    )


def _add_forces(analysis: Analysis, system: System, progress: Progress) -> None:
    mean, largest = [], 0.0
    names = [f"forces_{component}" for component in COMPONENTS]
    for snapshot in system.run.snapshots(names):
        progress(1)
        if snapshot.step == 0:
            continue
        difference = MILLI * np.abs(snapshot.values[names[0]] - snapshot.values[names[1]])
        mean.append(difference.mean())
        largest = max(largest, float(difference.max()))
    _add_error(analysis, "forces", "forces, MAE", np.array(mean), "meV/Å")
    analysis.scalars["replay_forces_maximum"] = Scalar(
        "forces, largest error", largest, float("nan"), "meV/Å"
    )


def _add_error(analysis: Analysis, key: str, label: str, series: np.ndarray, unit: str) -> None:
    """Mean over snapshots with a block error; the snapshots count as equally spaced."""
    if not len(series):
        raise UserError("the replay has not reached the first snapshot")
    try:
        estimate = block_average(series, 1.0)
        error, n_blocks = float(estimate.error), estimate.n_blocks
    except UserError as problem:
        analysis.note(f"{label}: no uncertainty, {problem}")
        error, n_blocks = float("nan"), 0
    analysis.scalars[f"replay_{key}"] = Scalar(label, float(series.mean()), error, unit, n_blocks=n_blocks)
