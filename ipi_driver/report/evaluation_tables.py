"""Tables of ``ipi-driver evaluate``: on the terminal in meV, as CSV and JSON in eV. Nothing is computed but units."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from ipi_driver import __version__
from ipi_driver.report.plain_files import plain, write_csv
from ipi_driver.structure import FloatArray
from ipi_driver.training.evaluation import Evaluation, Metrics, label_noise
from ipi_driver.training.similarity import THRESHOLD
from ipi_driver.units import MILLI


@dataclass(frozen=True)
class Source:
    """Where the structures come from.

    Attributes
    ----------
    files
        Names of the data files, all different.
    part
        Part of the split that was evaluated, or None for all structures.
    indices
        (n_structures,) of the evaluated structures in the files.
    n_train
        Training structures of the split, or None.
    counts
        Structures in each file.
    nearest
        (n_structures,) distance in Å of each evaluated structure to its nearest relative among the training
        structures, infinity where there is none; None where the split is not known, or the training structures are
        evaluated.
    threshold
        Å, below which structures are relatives.
    """

    files: tuple[str, ...]
    part: str | None
    indices: tuple[int, ...]
    n_train: int | None
    counts: tuple[int, ...] = ()
    nearest: FloatArray | None = None
    threshold: float = THRESHOLD

    def sets(self) -> dict[str, list[int]]:
        """By file, the places of its structures among those evaluated."""
        ends = np.cumsum(self.counts)
        which = np.searchsorted(ends, self.indices, side="right")
        return {
            file: places
            for number, file in enumerate(self.files)
            if (places := np.flatnonzero(which == number).tolist())
        }


def distinct_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """Names of files; those of the same name are told apart by their folders, else by their numbers."""
    names = [path.name for path in paths]
    for k, path in enumerate(paths):
        if [p.name for p in paths].count(path.name) > 1:
            names[k] = f"{path.resolve().parent.name}/{path.name}"
    return tuple(f"{name} ({k + 1})" if names.count(name) > 1 else name for k, name in enumerate(names))


_COLUMNS = 4  # averages side by side


def error_tables(result: Evaluation, source: Source) -> list[Table]:
    """One column per average (at most four in a table), one row per quantity."""
    groups = [result.metrics[k : k + _COLUMNS] for k in range(0, len(result.metrics), _COLUMNS)]
    tables = [_table(result, source, group) for group in groups]
    sets = parts(result, source)
    return [*tables, _sets_table(sets)] if len(sets) > 1 else tables


def parts(result: Evaluation, source: Source) -> dict[str, Evaluation]:
    """Files by themselves where there are several, and structures with and without relatives in the training."""
    found: dict[str, Evaluation] = {}
    sets = source.sets() if len(source.counts) > 1 else {}
    if len(sets) > 1:
        found = {file: result.part(places) for file, places in sets.items()}
    if source.nearest is not None:
        near = source.nearest < source.threshold
        for name, chosen in (("with", near), ("without", ~near)):
            if near.any() and chosen.any():
                found[f"{name} a relative in the training"] = result.part(np.flatnonzero(chosen).tolist())
    return found


def _sets_table(sets: Mapping[str, Evaluation]) -> Table:
    """A row for each part of the structures; of the first average."""
    average = next(iter(sets.values())).metrics[0].average
    table = Table(title=f"parts by themselves, average {average}; mean absolute / root mean square errors")
    table.add_column("")
    for name in ("structures", "force (meV/Å)", "energy (meV/atom)", "energy − own offset (meV/atom)"):
        table.add_column(name, justify="right")
    for name, part in sets.items():
        (metrics, *_) = part.metrics
        table.add_row(
            name,
            str(len(part.data)),
            _cell(metrics, ("force_mae", "force_rmse")),
            _cell(metrics, ("energy_mae_per_atom", "energy_rmse_per_atom")),
            _cell(metrics, ("shifted_energy_mae_per_atom", "shifted_energy_rmse_per_atom")),
        )
    return table


def relatives_warning(source: Source) -> str | None:
    """A warning where evaluated structures have relatives among the training structures."""
    if source.nearest is None or not (near := source.nearest < source.threshold).any():
        return None
    return (
        f"{near.sum()} of {len(near)} structures lie within {source.threshold:g} Å (rms over atoms) of a training "
        "structure: errors on them flatter the model. A split that keeps relatives together: `split: similarity`."
    )


_NOISE = 1e-3
"""eV/Å: noise of labels that is worth a word."""


def noise_note(result: Evaluation) -> str | None:
    """A note where the force labels do not sum to zero."""
    noise = label_noise(result.data)
    if noise < _NOISE:
        return None
    return (
        "The force labels do not sum to zero. Unless something outside acts on the structures, as a field does, this "
        f"is noise: of single atoms {MILLI * noise:.2g} meV/Å a component, which leaves a mean absolute error of "
        f"{MILLI * noise * math.sqrt(2 / math.pi):.2g} meV/Å to any model."
    )


def _table(result: Evaluation, source: Source, group: Sequence[Metrics]) -> Table:
    count = len(result.data)
    part = f", {source.part} part" if source.part else ""
    title = f"{result.model}: {count} structure{'s' * (count != 1)}{part}; mean absolute / root mean square errors"
    caption = f"symmetry: mean absolute difference from {result.reference}" if result.reference else None
    table = Table(title=title, caption=caption)
    table.add_column("", no_wrap=True)
    for metrics in group:
        cost = f"{metrics.n_rotations} rotation{'s' * (metrics.n_rotations != 1)}"
        table.add_column(f"{metrics.average}\n{cost}", justify="right", no_wrap=True)
    for section in _sections(result):
        rows = [(label, [_cell(metrics, names) for metrics in group]) for label, names in section]
        shown = [row for row in rows if any(row[1])]
        for k, (label, cells) in enumerate(shown):
            table.add_row(label, *cells, end_section=k == len(shown) - 1)
    return table


def _sections(result: Evaluation) -> list[list[tuple[str, tuple[str, ...]]]]:
    """Rows in groups: label, and the names of the numbers in a cell."""
    units = [("structure", ""), ("atom", "_per_atom")]
    if result.formula_unit is not None:
        units.append((result.formula_unit, "_per_unit"))
    energies: list[tuple[str, tuple[str, ...]]] = []
    shifted: list[tuple[str, tuple[str, ...]]] = [("energy offset (meV/atom)", ("energy_offset_per_atom",))]
    for unit, end in units:
        energies.append((f"energy (meV/{unit})", (f"energy_mae{end}", f"energy_rmse{end}")))
        names = (f"shifted_energy_mae{end}", f"shifted_energy_rmse{end}")
        shifted.append((f"energy − offset (meV/{unit})", names))
    elements = result.metrics[0].force_mae_by_element
    return [
        energies,
        shifted,
        [
            ("force (meV/Å)", ("force_mae", "force_rmse")),
            *((f"force of {symbol} (meV/Å)", (f"force_mae_by_element.{symbol}",)) for symbol in elements),
            ("largest force error (meV/Å)", ("force_max",)),
        ],
        [("virial (meV/atom)", ("virial_mae_per_atom", "virial_rmse_per_atom"))],
        [
            ("symmetry, energy (meV/structure)", ("symmetry_energy_mae",)),
            ("symmetry, force (meV/Å)", ("symmetry_force_mae",)),
        ],
    ]


def _cell(metrics: Metrics, names: tuple[str, ...]) -> str:
    values = []
    for name in names:
        attribute, _, element = name.partition(".")
        value = getattr(metrics, attribute)
        values.append(value[element] if element else value)
    known = all(value is not None and math.isfinite(value) for value in values)
    return " / ".join(_number(value) for value in values) if known else ""


def _number(value: float) -> str:
    milli = MILLI * value
    if abs(milli) >= 1000.0:
        return f"{milli:.0f}"
    return f"{milli:.3f}" if 0.01 <= abs(milli) < 1.0 else f"{milli:.3g}"


def write_evaluation(result: Evaluation, source: Source, folder: Path) -> list[Path]:
    """Write ``evaluation.json``, ``errors.csv`` (a row per average) and ``structures.csv`` (a row per structure)."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "evaluation.json"
    path.write_text(
        json.dumps(as_dictionary(result, source), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    rows = []
    for metrics in result.metrics:
        row = _as_row(metrics)
        by_element = row.pop("force_mae_by_element")
        rows.append(row | {f"force_mae_{symbol}": value for symbol, value in by_element.items()})
    return [
        path,
        write_csv(folder / "errors.csv", rows),
        write_csv(folder / "structures.csv", _structure_rows(result, source)),
    ]


def as_dictionary(result: Evaluation, source: Source) -> dict[str, Any]:
    """Everything but the single structures, in eV and Å."""
    return {
        "version": __version__,
        "units": {"energy": "eV", "force": "eV/Å", "virial": "eV"},
        "model": result.model,
        "files": list(source.files),
        "part": source.part,
        "n_structures": len(result.data),
        "n_train": source.n_train,
        "formula_unit": result.formula_unit,
        "reference": result.reference,
        "label_noise": label_noise(result.data),
        "averages": [_as_row(metrics) for metrics in result.metrics],
        "with_relatives": None
        if source.nearest is None
        else int(np.count_nonzero(source.nearest < source.threshold)),
        "parts": {
            name: {
                "n_structures": len(part.data),
                "averages": [_as_row(metrics) for metrics in part.metrics],
            }
            for name, part in parts(result, source).items()
        },
    }


def _as_row(metrics: Metrics) -> dict[str, Any]:
    """In files the rotations keep the name that they had from the start."""
    rows = asdict(metrics).items()
    return {"n_frames" if key == "n_rotations" else key: plain(value) for key, value in rows}


def _structure_rows(result: Evaluation, source: Source) -> list[dict[str, Any]]:
    rows = []
    for k, (index, item) in enumerate(zip(source.indices, result.data, strict=True)):
        energy = plain(item.energy)
        row: dict[str, Any] = {"index": index, "n_atoms": item.structure.n_atoms, "energy": energy}
        if source.nearest is not None:
            row["nearest_training_structure"] = float(source.nearest[k])
        for metrics, predictions in zip(result.metrics, result.predictions, strict=True):
            row[f"energy_{metrics.average}"] = predictions[k].energy
            row[f"force_mae_{metrics.average}"] = float(np.abs(predictions[k].forces - item.forces).mean())
        rows.append(row)
    return rows
