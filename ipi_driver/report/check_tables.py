"""Tables of `ipi-driver check`: on the terminal, as CSV and as JSON. Nothing is computed here but units."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from ipi_driver import __version__
from ipi_driver.report.check_sentences import (
    further_texts,
    heating_of,
    heating_text,
    number,
    reference_text,
    stride_text,
)
from ipi_driver.report.plain_files import plain, write_csv
from ipi_driver.rotations.quadrature import quadrature
from ipi_driver.rotations.transmission import PARITIES, transmission
from ipi_driver.symmetry.check import CheckResult, CheckSettings
from ipi_driver.symmetry.consistency import Consistency
from ipi_driver.symmetry.degrees import Decomposition
from ipi_driver.symmetry.drift import Drift
from ipi_driver.symmetry.errors import AverageError
from ipi_driver.symmetry.recommend import Recommendation
from ipi_driver.symmetry.walk import RotationWalk
from ipi_driver.units import MILLI

if TYPE_CHECKING:  # it needs e3nn
    from ipi_driver.symmetry.explain import Explanation

_KEYS = {"n_rotations": "n_frames", "rotation_deviation": "frame_deviation"}
"""Names of attributes to the keys and columns that files have had from the start."""
_SHOWN_AVERAGES = ("i", "D2", "T", "Th", "2i", "I")


def print_check(result: CheckResult, console: Console) -> None:
    """Everything for people: one table of errors and one of degrees per data set, then the verdicts."""
    for data_set, decomposition in result.decompositions.items():
        rows = [row for row in result.errors if row.data_set == data_set]
        console.print(_error_table(data_set, rows, result))
        console.print(f"{reference_text(result, data_set)} {heating_text(result, data_set)}\n")
        console.print(_degree_table(data_set, decomposition))
        for text in further_texts(result, data_set):
            console.print(text + "\n")
    if result.stride is not None:
        console.print(_stride_table(result))
    console.print(f"[bold]{result.recommendation.text}[/bold]")
    if result.has_trajectory:
        console.print(f"[bold]{stride_text(result)}[/bold]")


def _public(row: AverageError | Consistency | Recommendation) -> dict[str, Any]:
    """The attributes under the keys of the files."""
    return {_KEYS.get(key, key): value for key, value in asdict(row).items()}


def _settings(settings: CheckSettings) -> dict[str, Any]:
    """The settings, averages by their names."""
    names = {"averages": [grid.name for grid in settings.averages], "reference": settings.reference.name}
    return {key: names.get(key, value) for key, value in vars(settings).items()}


def _error_table(data_set: str, rows: Sequence[AverageError], result: CheckResult) -> Table:
    count = "1 structure" if rows[0].n_structures == 1 else f"{rows[0].n_structures} structures"
    if rows[0].n_orientations > 1:
        count += f" in {rows[0].n_orientations} orientations"
    table = Table(
        title=f"{result.model} on {data_set}: difference from {result.settings.reference.name}, {count}",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    isolated = any(row.torque is not None for row in rows)
    stress = any(row.stress_mae is not None for row in rows)
    heads = ["average", "evals", "time\n\nms", "energy\nMAE\nmeV", "energy\nmax\nmeV"]
    heads += ["per atom\nMAE\nmeV", "force\nMAE\nmeV/Å", "force\nmax\nmeV/Å"]
    heads += ["torque\n\nmeV"] * isolated + ["stress\nMAE\nMPa"] * stress
    for head in heads:
        table.add_column(head, justify="left" if head == "average" else "right", no_wrap=True)
    for row in sorted(rows, key=lambda row: row.n_rotations):
        name = f"{row.average} ref" if row.is_reference else row.average
        cells = [name, str(row.n_rotations), number(row.seconds * MILLI)]
        errors = [row.energy_mae, row.energy_max, row.energy_mae_per_atom, row.force_mae, row.force_max]
        cells += [""] * 5 if row.is_reference else [number(e * MILLI) for e in errors]
        if isolated:
            cells.append(number(None if row.torque is None else row.torque * MILLI))
        if stress:
            hidden = row.stress_mae is None or row.is_reference
            cells.append("" if hidden else number((row.stress_mae or 0.0) * MILLI))
        style = "bold green" if row.average == result.recommendation.average else None
        table.add_row(*cells, style="dim" if row.is_reference else style)
    return table


def _degree_table(data_set: str, d: Decomposition) -> Table:
    table = Table(
        title=f"{data_set}: what the raw error is made of, and what passes an average", box=box.SIMPLE_HEAD
    )
    heads = ["l", "parity", "energy\nmeV", "force\nmeV/Å", *(f"{name}\n%" for name in _SHOWN_AVERAGES)]
    for head in heads:
        table.add_column(head, justify="right")
    passed = {name: transmission(quadrature(name), d.max_degree) for name in _SHOWN_AVERAGES}
    for degree in range(d.max_degree + 1):
        for column, parity in enumerate(PARITIES):
            if degree == 0 and parity == 1:
                continue  # the average itself
            # of the amplitude, as the errors beside it: `passed` is of the power
            shares = [f"{100 * math.sqrt(passed[name][degree, column]):.0f}" for name in _SHOWN_AVERAGES]
            energy, force = d.energy[degree, column] * MILLI, d.forces[degree, column] * MILLI
            table.add_row(
                str(degree), "even" if parity == 1 else "odd", number(energy), number(force), *shares
            )
    table.add_row(
        f">{d.max_degree}", "", number(d.energy_rest * MILLI), number(d.forces_rest * MILLI), style="dim"
    )
    return table


def _stride_table(result: CheckResult) -> Table:
    table = Table(
        title="Multiple time stepping: correction that an outer step does not resolve", box=box.SIMPLE_HEAD
    )
    stride = result.stride
    heads = ["stride", "outer step\nfs", "unresolved\nmeV/Å", "of all\n%"]
    if stride is not None and stride.heating is not None:
        heads.append("heating\nmeV/atom/ns")
    for head in heads:
        table.add_column(head, justify="right")
    if stride is None:
        return table
    for k, (count, left) in enumerate(zip(stride.strides, stride.unresolved, strict=True)):
        share = 100.0 * left / stride.total if stride.total > 0 else 0.0
        style = "bold green" if count == stride.recommended else None
        cells = [str(count), f"{count * stride.time_step:g}", number(left * MILLI), f"{share:.1f}"]
        if stride.heating is not None:
            cells.append(heating_of(stride, k))
        table.add_row(*cells, style=style)
    return table


def write_check(result: CheckResult, folder: Path) -> list[Path]:
    """Write ``errors.csv``, ``degrees.csv``, ``angles.csv``, ``stride.csv``, ``check.json``; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [
        write_csv(folder / "errors.csv", [_public(row) for row in result.errors]),
        write_csv(folder / "degrees.csv", _degree_rows(result)),
        write_csv(folder / "angles.csv", _angle_rows(result)),
    ]
    if result.stride is not None:
        written.append(write_csv(folder / "stride.csv", _stride_rows(result)))
    else:  # those of an earlier check
        for name in ("stride.csv", "stride.png"):
            (folder / name).unlink(missing_ok=True)
    path = folder / "check.json"
    path.write_text(json.dumps(plain(as_dictionary(result)), indent=1) + "\n", encoding="utf-8")
    return [*written, path]


def as_dictionary(result: CheckResult) -> dict[str, Any]:
    """Everything, in eV, Å, fs, GPa."""
    return {
        "version": __version__,
        "units": {
            "energy": "eV",
            "force": "eV/Å",
            "torque": "eV",
            "stress": "GPa",
            "time": "s",
            "angle": "rad",
            "heating": "of an error eV/fs² per atom (times the time step: its rate), of a stride eV/fs per atom",
            "heating_error": "standard error, eV/fs per atom",
            "drift": "rate and error eV/ps per atom, fluctuation eV per atom",
        },
        "model": result.model,
        "settings": _settings(result.settings),
        "errors": [_public(row) for row in result.errors],
        "degrees": _degree_rows(result),
        "angles": _angle_rows(result),
        "consistency": {name: _public(found) for name, found in result.consistency.items()},
        "rotation_walks": {name: _walk(found) for name, found in result.walks.items()},
        "drift": {name: _drift(found) for name, found in result.drifts.items()},
        "inner_forces": {name: asdict(found) for name, found in result.inner.items()},
        "reference_errors": result.reference_errors,
        "orientation": {name: asdict(found) for name, found in result.orientation.items()},
        "explanations": {name: _explanation(found) for name, found in result.explanations.items()},
        "recommendation": {**_public(result.recommendation), "text": result.recommendation.text},
        "stride": None
        if result.stride is None
        else {
            "recommended": result.stride.recommended,
            "time_step_fs": result.stride.time_step,
            "text": stride_text(result),
            "table": _stride_rows(result),
        },
    }


def _walk(found: RotationWalk) -> dict[str, Any]:
    """Mean and largest over steps and structures, eV per atom and eV/Å, and means over structures by step."""
    return {
        "energy_mean": found.energies.mean(),
        "energy_max": found.energies.max(),
        "force_mean": found.forces.mean(),
        "force_max": found.forces.max(),
        "n_structures": len(found.energies),
        "steps": [
            {"angle_degrees": angle, "energy": energy, "force": force}
            for angle, energy, force in zip(
                found.angles, found.energies.mean(axis=0), found.forces.mean(axis=0), strict=True
            )
        ],
    }


def _drift(found: Drift) -> dict[str, Any]:
    """The numbers of a run at constant energy, without its course."""
    return {
        "rate": found.rate,
        "error": found.error,
        "fluctuation": found.fluctuation,
        "resolved": found.resolved,
        "broken": found.broken,
        "acceptable": found.acceptable,
        "temperature": found.temperature,
        "time_step_fs": found.time_step,
        "time_fs": found.times[-1],
    }


def _explanation(found: Explanation) -> dict[str, Any]:
    """What a relaxed network found, with its verdict."""
    content = asdict(found) | {"is_field": found.is_field, "text": found.text}
    content["weights"] = {name: values.tolist() for name, values in found.weights.items()}
    return {**content, "axis": found.axis.tolist(), "history": list(found.history)}


def _degree_rows(result: CheckResult) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, d in result.decompositions.items():
        for degree in range(d.max_degree + 1):
            for column, parity in enumerate(("even", "odd")):
                amplitudes = {"energy": d.energy[degree, column], "force": d.forces[degree, column]}
                rows.append({"data_set": name, "l": degree, "parity": parity, **amplitudes})
        rest = {"energy": d.energy_rest, "force": d.forces_rest}
        rows.append({"data_set": name, "l": f">{d.max_degree}", "parity": "", **rest})
    return rows


def _angle_rows(result: CheckResult) -> list[dict[str, Any]]:
    return [
        {"data_set": name, "angle": angle, "energy": energy, "force": force}
        for name, d in result.decompositions.items()
        for angle, energy, force in zip(d.angles, d.energy_by_angle, d.forces_by_angle, strict=True)
    ]


def _stride_rows(result: CheckResult) -> list[dict[str, Any]]:
    stride = result.stride
    if stride is None:
        return []
    rows: list[dict[str, Any]] = []
    for k, (count, unresolved) in enumerate(zip(stride.strides, stride.unresolved, strict=True)):
        row = {"stride": int(count), "outer_step_fs": count * stride.time_step, "unresolved": unresolved}
        heating = (np.nan, np.nan) if stride.heating is None else (x[k] for x in stride.heating)
        for name, value in zip(("heating", "heating_error"), heating, strict=True):
            row[name] = float(value) if np.isfinite(value) else None
        rows.append(row)
    return rows
