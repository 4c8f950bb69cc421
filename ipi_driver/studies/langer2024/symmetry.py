"""Symmetry errors of the model on snapshots of the reproduction's own runs."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ipi_driver.ipi_files import Run
from ipi_driver.ipi_files.structures import DataSet, evenly
from ipi_driver.potentials import load_potential, load_precise
from ipi_driver.report.check_figures import write_figures
from ipi_driver.report.check_tables import write_check
from ipi_driver.report.page import PageFigure, Section, table_html
from ipi_driver.shipped import shipped_folder
from ipi_driver.structure import Structure
from ipi_driver.studies.langer2024.plan import Part
from ipi_driver.studies.langer2024.runner import Runs
from ipi_driver.symmetry.check import CheckSettings, run_check
from ipi_driver.units import MILLI

Start = Callable[[str, int], Callable[[int], None]]
_SNAPSHOTS = {"gas": 200, "liquid": 3, "ice": 2}
"""Structures of the check; those of the condensed phases cost most."""
_CHECK_CAPTIONS = {
    "convergence": "Force error of every average against its evaluations.",
    "degrees": "Symmetry error of the raw model by angular degree and parity.",
    "angles": "Symmetry error against the angle between two rotations.",
}


def symmetry_errors(runs: Runs, parts: Sequence[Part], folder: Path, start: Start) -> dict[str, float]:
    """Symmetry errors in meV and meV/Å by data set, average and quantity; not repeated if the folder has them."""
    path = folder / "check.json"
    found = data_sets(runs, parts)
    names = [data.name for data in found]
    if not found:
        return {}
    if not (path.is_file() and list(json.loads(path.read_text())["consistency"]) == names):
        model = runs.settings.model
        settings = CheckSettings(seed=runs.settings.seed)
        potential = load_potential(model)
        result = run_check(potential, found, settings, None, load_precise(model, potential), start)
        write_figures(result, folder)
        write_check(result, folder)  # last: its existence marks a complete check
    errors = json.loads(path.read_text())["errors"]
    return {
        f"{row['data_set']}:{row['average']}:{key}": MILLI * row[key]
        for row in errors
        for key in ("energy_mae", "energy_mae_centred", "force_mae")
        if row.get(key) is not None
    }


def card_errors(model: str) -> dict[str, float]:
    """Errors of a model on its test set in meV and meV/Å, from the evaluation in its folder; empty without one.

    Those of energies are per structure, the mean difference taken out, as published.
    """
    folder = Path(model) if Path(model).exists() else shipped_folder("models") / model
    path = folder / "evaluation.json"
    if not path.is_file():
        return {}
    content = json.loads(path.read_text())
    raw: dict[str, Any] = next(
        (row for row in content.get("averages", []) if row.get("average") == "none"), {}
    )
    names = {
        "shifted_energy_mae": "energy_mae",
        "shifted_energy_rmse": "energy_rmse",
        "force_mae": "force_mae",
        "force_rmse": "force_rmse",
        "symmetry_energy_mae": "symmetry_energy_mae",
        "symmetry_force_mae": "symmetry_force_mae",
    }
    return {name: MILLI * raw[key] for key, name in names.items() if isinstance(raw.get(key), float)}


def data_sets(runs: Runs, parts: Sequence[Part]) -> list[DataSet]:
    """Snapshots of the raw runs, and the cells of ice as they are made."""
    found = []
    names = {part.name: part for part in parts}
    for name, run, pbc in (("gas", "gas-nve-raw", False), ("liquid", "liquid-raw", True)):
        if run in names:
            structures = _snapshots(runs.folder(names[run]), _SNAPSHOTS[name], pbc)
            found.append(DataSet(name, structures))
    if "ice-raw" in names:
        part = names["ice-raw"]
        cells = [runs.folder(part) / name for name in runs.cells(part)[: _SNAPSHOTS["ice"]]]
        found.append(DataSet("ice", tuple(_snapshots(cell, 1, True)[0] for cell in cells)))
    return found


def _snapshots(folder: Path, most: int, periodic: bool) -> tuple[Structure, ...]:
    """At most ``most`` snapshots at equal distances over a run, which is streamed."""
    run = Run(folder)
    chosen = set(evenly(run.n_snapshots(), most).tolist())
    return tuple(
        Structure(run.numbers, f.positions, f.cell if periodic else np.zeros((3, 3)), np.full(3, periodic))
        for k, f in enumerate(run.snapshots(["positions"]))
        if k in chosen
    )


def symmetry_section(folder: Path) -> list[Section]:
    """The symmetry errors in a folder as a part of the page; none where there are none."""
    path = folder / "check.json"
    if not path.is_file():
        return []
    content = json.loads(path.read_text())
    header = [
        "data set, average", "evaluations", "energy / meV per structure", "less its mean", "force / meV/Å",
        "largest force / meV/Å",
    ]  # fmt: skip
    rows = [
        [
            f"{row['data_set']}, {row['average']}", str(row["n_frames"]), _short(row["energy_mae"]),
            _short(row.get("energy_mae_centred")), _short(row["force_mae"]), _short(row["force_max"]),
        ]
        for row in content["errors"]
    ]  # fmt: skip
    figures = [
        PageFigure(f"Symmetry error: {name}", caption, folder / f"{name}.png")
        for name, caption in _CHECK_CAPTIONS.items()
        if (folder / f"{name}.png").is_file()
    ]
    body = table_html(header, rows) + f"<p>{html.escape(content['recommendation']['text'])}</p>"
    return [Section(f"Symmetry error against {content['settings']['reference']}", body, tuple(figures))]


def _short(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{MILLI * value:.3g}"
