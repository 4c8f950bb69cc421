"""Symmetry error on the snapshots of a trajectory, replayed through a raw and one or several averaged potentials.

Energies ``E`` and forces ``F`` of the force components of the run: MAE over snapshots of ``|E_0 - E_k|``, and over
atoms and components of ``|F_0 - F_k|``. A mean difference common to all snapshots is part of the error.
"""

from __future__ import annotations

import numpy as np

from ipi_driver.analysis.common import Progress, System, new_analysis, optional
from ipi_driver.analysis.result import Analysis, Curve, Options, Scalar
from ipi_driver.errors import UserError
from ipi_driver.observables.statistics import block_average
from ipi_driver.units import MILLI


def analyze_replay(system: System, options: Options, progress: Progress = lambda n: None) -> Analysis:
    """Errors of the first force component against each other.

    Raises
    ------
    UserError
        If the run wrote neither energies nor forces of two components.
    """
    analysis = new_analysis(system, system.kind)
    names = [name for name, _ in system.run.settings.forces] or ["first", "second"]
    analysis.settings["replayed"] = f"{names[0]} against {', '.join(names[1:])}"
    if options.skip:
        analysis.note("a replay has no time: `skip` leaves out nothing of it")
    for number, name in enumerate(names[1:], start=1):
        against = f" against {name}" if len(names) > 2 else ""
        with optional(analysis, f"energy errors{against}"):
            _add_energies(analysis, system, number, against)
        with optional(analysis, f"force errors{against}"):
            _add_forces(analysis, system, number, against, progress if number == 1 else lambda n: None)
    for text in system.run.notes:
        analysis.note(text)
    if not analysis.scalars:
        raise UserError(
            f"{system.run.path}: a replay needs pot_component_raw(0), (1) in <properties> or trajectories of "
            "forces_component_raw(0), (1); see inputs/replay"
        )
    return analysis


def _components(number: int) -> tuple[str, str]:
    """Of the first force and of another one."""
    return "component_raw(0)", f"component_raw({number})"


def _key(name: str, number: int) -> str:
    """``energy`` of the second force component, ``energy_2`` of the third."""
    return name if number == 1 else f"{name}_{number}"


def _add_energies(analysis: Analysis, system: System, number: int, against: str) -> None:
    table = system.run.properties_with(*(f"pot_{component}" for component in _components(number)))
    first, second = (table[f"pot_{component}"] for component in _components(number))
    snapshots = table["step"] > 0  # step 0 is where i-PI starts from, not a snapshot
    difference = MILLI * (first - second)[snapshots]
    _add_error(analysis, _key("energy", number), f"energy, MAE{against}", np.abs(difference), "meV/structure")
    steps = np.arange(1.0, len(difference) + 1)
    nothing = np.full(len(difference), np.nan)
    analysis.curves[f"replay_{_key('energy', number)}"] = Curve(
        steps, difference, nothing, "frame", "raw - averaged energy / meV"
    )


def _add_forces(analysis: Analysis, system: System, number: int, against: str, progress: Progress) -> None:
    mean, largest = [], 0.0
    names = [f"forces_{component}" for component in _components(number)]
    for snapshot in system.run.snapshots(names):
        progress(1)
        if snapshot.step == 0:
            continue
        difference = MILLI * np.abs(snapshot.values[names[0]] - snapshot.values[names[1]])
        mean.append(difference.mean())
        largest = max(largest, float(difference.max()))
    _add_error(analysis, _key("forces", number), f"forces, MAE{against}", np.array(mean), "meV/Å")
    analysis.scalars[f"replay_{_key('forces_maximum', number)}"] = Scalar(
        f"forces, largest error{against}", largest, float("nan"), "meV/Å"
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
