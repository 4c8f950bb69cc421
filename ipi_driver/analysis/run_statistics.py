"""Numbers that show whether a run went as it should: temperature, drift, spread of the averaged forces; of a
minimization, which has no time, the energy and the largest force instead.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.ipi_files.exchange import OF_EXCHANGE, runs_of
from ipi_driver.ipi_files.extras import iterate_extras
from ipi_driver.ipi_files.outputs import Run
from ipi_driver.ipi_files.properties import PropertyTable, row_spacing
from ipi_driver.ipi_files.run_folder import RunFolder
from ipi_driver.observables.molecules import find_molecules
from ipi_driver.observables.statistics import Estimate, block_average
from ipi_driver.observables.thermodynamics import drift
from ipi_driver.structure import FloatArray, Structure
from ipi_driver.units import FS_PER_PS, MILLI

# A molecule is whole while every hydrogen is this close to its oxygen, Å.
BROKEN_BOND = 1.4


def force_std(run: Run) -> tuple[FloatArray, FloatArray]:
    """Steps (n,) and root-mean-square spread of the forces over the rotations (n,), eV/Å; empty where not written."""
    for path in run.extras():
        if "spread" not in path.name:
            continue
        entries = [(step, content) for step, content in iterate_extras(path) if not isinstance(content, str)]
        # what another client sends with its forces need not hold it
        values = [c.get("forces_spread", ()) if isinstance(c, dict) else c for _, c in entries]
        numbers = [float(np.ravel(v)[0]) for v in values if np.size(v)]
        if len(numbers) == len(entries):
            return np.array([step for step, _ in entries]), np.array(numbers)
    return np.zeros(0), np.zeros(0)


def monitored_std(run: Run) -> tuple[FloatArray, FloatArray]:
    """Steps (n,) and standard deviations of the forces (n,) that the monitor of a raw run has found, eV/Å."""
    for path in run.extras():
        if "monitor" in path.name:
            found = [(step, np.ravel(content)) for step, content in iterate_extras(path) if np.size(content)]
            numbers = [(step, float(c[0])) for step, c in found if c.dtype.kind == "f"]
            return np.array([s for s, _ in numbers], dtype=float), np.array([n for _, n in numbers])
    return np.zeros(0), np.zeros(0)


def largest_forces(run: Run) -> tuple[FloatArray, FloatArray]:
    """Steps (n,) and largest force component (n,) of each snapshot, eV/Å; empty where the run wrote no forces."""
    if not run.has("forces"):
        return np.zeros(0), np.zeros(0)
    found = [(snapshot.step, float(np.abs(snapshot.forces).max())) for snapshot in run.snapshots(["forces"])]
    return np.array([step for step, _ in found], dtype=float), np.array([largest for _, largest in found])


def n_molecules(run: Run) -> int:
    """Molecules of all kinds in the first snapshot (at least 1)."""
    snapshot = next(iter(run.snapshots(["positions"])))
    periodic = np.full(3, bool(snapshot.cell.any()))
    return find_molecules(Structure(run.numbers, snapshot.positions, snapshot.cell, periodic)).n_all


def table_with(run: Run, name: str) -> PropertyTable | None:
    """The rows that hold a column, in whichever property file it is; None where the run did not write it."""
    try:
        return run.properties_with(name)
    except UserError:
        return None


def _pair(estimate: Estimate) -> dict[str, float]:
    return {"value": float(estimate.value), "error": float(estimate.error)}


def client_counts(folder: Path, notes: list[str]) -> dict[str, Any]:
    """``endpoints`` and ``model_seconds`` that the client counted, summed over the parts of a resumed run.

    A part that cannot be read, as after a full disk, is left out and named in ``notes``.
    """
    endpoints: dict[str, dict[str, Any]] = {}
    seconds, n_parts = 0.0, 0
    for path in sorted(folder.glob("stats*.json")):
        part = _client_part(path)
        if part is None:
            notes.append(f"{path.name} cannot be read: what the client did in that part is not counted")
            continue
        n_parts, seconds = n_parts + 1, seconds + part.get("model_seconds", 0.0)
        for label, counts in part.get("endpoints", {}).items():
            total = endpoints.setdefault(label, {})
            for key, number in counts.items():
                total[key] = number if isinstance(number, str) else total.get(key, 0) + number
    return {"endpoints": endpoints, "model_seconds": seconds} if n_parts else {}


def _client_part(path: Path) -> dict[str, Any] | None:
    """What the client counted in one part; None where that is no complete file of the client."""
    try:
        part = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    endpoints = part.get("endpoints", {}) if isinstance(part, dict) else None
    good = isinstance(endpoints, dict) and all(isinstance(counts, dict) for counts in endpoints.values())
    return part if good else None


def run_statistics(folder: Path) -> dict[str, Any]:
    """Summary of a run folder; what a short run cannot give is left out and named in ``notes``.

    Returns
    -------
    dict
        ``temperature`` (K), ``drift`` (meV per molecule and ns), each with ``value`` and ``error``, of dynamics;
        what `energies_and_forces` gives of a minimization; ``mean_force_spread`` (meV/Å); ``endpoints`` and
        ``model_seconds`` as counted by the client. Of several systems ``systems`` holds these of each by its prefix
        (of replica exchange: of the ensemble that begins in it), and ``swaps`` counts the steps with a swap.
    """
    systems = systems_of(folder)
    if len(systems) > 1:
        return _of_systems(folder, systems)
    run = Run(folder)
    summary = _of_system(run)
    summary |= client_counts(folder, summary["notes"])
    summary["notes"] += run.notes
    return summary


def systems_of(folder: Path) -> list[str]:
    """Prefixes of the systems of a run, each once."""
    return list(dict.fromkeys(RunFolder(folder).input.systems))


def _of_systems(folder: Path, systems: Sequence[str]) -> dict[str, Any]:
    """``systems``: the numbers of each; ``swaps``: steps in which replica exchange has made a swap."""
    found = {}
    notes: list[str] = []
    for run in runs_of(folder, systems):
        name = str(run.system)
        found[name] = _of_system(run)
        notes += [f"{name}: {note}" for note in found[name].pop("notes")]
        notes += [f"{name}: {note}" for note in run.notes if note != OF_EXCHANGE]
    summary: dict[str, Any] = {"steps": min(part["steps"] for part in found.values()), "notes": notes}
    times = [part["simulated_ps"] for part in found.values() if "simulated_ps" in part]
    if times:
        summary["simulated_ps"] = min(times)
    summary["systems"] = found
    files = RunFolder(folder).swap_files()
    if files:
        summary["swaps"] = sum(len(path.read_text().splitlines()) for path in files)
    return summary | client_counts(folder, notes)


def _of_system(run: Run) -> dict[str, Any]:
    """What the outputs of one system tell."""
    summary: dict[str, Any] = {"steps": int(run.properties.steps[-1]), "notes": []}
    summary |= (
        energies_and_forces(run, summary["notes"]) if not has_time(run) else _dynamics(run, summary["notes"])
    )
    _, spread = force_std(run)
    if len(spread):
        summary["mean_force_spread"] = MILLI * float(spread.mean())
    _, monitored = monitored_std(run)
    if len(monitored):
        summary["monitor"] = {
            "mean": MILLI * float(monitored.mean()),
            "largest": MILLI * float(monitored.max()),
        }
    return summary


def has_time(run: Run) -> bool:
    """Whether the steps of a run are those of a time; an optimizer, vibrations, a string of beads have none."""
    return run.settings.timestep is not None and not is_minimization(run)


def is_minimization(run: Run) -> bool:
    """Whether the steps of a run are those of an optimizer."""
    return run.settings.motion == "minimize"


def _dynamics(run: Run, notes: list[str]) -> dict[str, Any]:
    steps = run.properties["step"]
    summary: dict[str, Any] = {"simulated_ps": float(steps[-1]) * run.timestep / FS_PER_PS}
    try:
        row_spacing(steps)
    except UserError as error:
        notes.append(f"temperature and drift left out: {error}")
        return summary
    if (table := table_with(run, "temperature")) is not None:
        try:
            spacing = row_spacing(table["step"]) * run.timestep
            summary["temperature"] = _pair(block_average(table.finite("temperature"), spacing))
        except UserError as error:
            notes.append(f"temperature: {error}")
    if (table := table_with(run, "conserved")) is not None and run.has("positions"):
        try:
            row_spacing(table["step"])
            times = table["step"] * run.timestep
            estimate = drift(table.finite("conserved"), times, n_molecules(run))
            summary["drift"] = {k: MILLI * v for k, v in _pair(estimate).items()}
        except UserError as error:
            notes.append(f"drift: {error}")
    return summary


def energies_and_forces(run: Run, notes: list[str]) -> dict[str, Any]:
    """``n_molecules``; ``energy_per_molecule`` (eV) and ``relaxation_energy`` (meV per molecule) at the last
    step; ``largest_force`` (meV/Å): the largest component in the last snapshot.
    """
    summary: dict[str, Any] = {}
    if run.has("positions"):
        try:
            summary["n_molecules"] = n_molecules(run)
        except UserError as error:
            notes.append(f"molecules: {error}")
    if (table := table_with(run, "potential")) is not None and "n_molecules" in summary:
        energies = table["potential"] / summary["n_molecules"]
        summary["energy_per_molecule"] = float(energies[-1])
        summary["relaxation_energy"] = MILLI * float(energies[-1] - energies[0])
    _, forces = largest_forces(run)
    if len(forces):
        summary["largest_force"] = MILLI * float(forces[-1])
    return summary
