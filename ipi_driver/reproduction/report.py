"""From the runs of a reproduction to one folder: tables, figures, the symmetry check, one page."""

from __future__ import annotations

import csv
import html
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ipi_driver.diagnostics.check import DEFAULT_AVERAGES, CheckSettings, run_check
from ipi_driver.diagnostics.data import DataSet, read_data_set
from ipi_driver.errors import UserError
from ipi_driver.observables.analyses.dispatch import analyse_folders
from ipi_driver.observables.analyses.result import Analysis, Options
from ipi_driver.potentials import load_potential
from ipi_driver.report.check_figures import write_figures
from ipi_driver.report.check_tables import write_check
from ipi_driver.report.page import figure_html, table_html
from ipi_driver.report.tables import formatted
from ipi_driver.report.writer import write_report
from ipi_driver.reproduction.compare import (
    Comparison,
    Row,
    compare_runs,
    figure_remarks,
    published_rows,
    remarks,
)
from ipi_driver.reproduction.plan import Part
from ipi_driver.reproduction.runner import Runs
from ipi_driver.reproduction.stability import Stability, longest_bond

Start = Callable[[str, int], Callable[[int], None]]
_ORDER = (
    "gas-nve-raw",
    "gas-nve-2i",
    "gas-nvt-raw",
    "gas-nvt-2i",
    "liquid-raw",
    "liquid-2i",
    "liquid-random",
    "ice-raw",
    "ice-2i",
)
_TORQUE_AVERAGES = ("none", "i", "D2", "T", "Th", "O", "Oh", "I", "Ih", "2", "2i", "3", "3i")
_SNAPSHOTS = {"gas": 200, "liquid": 3, "ice": 2}
"""Structures of the check; those of the condensed phases cost most."""
_LIQUID_SKIP = 0.5
"""ps left out at the start of the liquid, which begins from an equilibrated box of another model."""
_CHECK_CAPTIONS = {
    "convergence": "Force error of every average against its evaluations.",
    "degrees": "Symmetry error of the raw model by angular degree and parity.",
    "angles": "Symmetry error against the angle between two frames.",
}


@dataclass(frozen=True)
class Reproduction:
    """What the report says."""

    rows: list[Row]
    comparisons: list[Comparison]
    stability: list[Stability]
    page: Path


def write_reproduction(
    runs: Runs, parts: Sequence[Part], command: str, with_viewer: bool, start: Start
) -> Reproduction:
    """Analyse complete runs and write ``OUTPUT/report``.

    Parameters
    ----------
    parts
        Complete runs.
    command
        The command that repeats the report.
    start
        Opens a bar of progress, as for `analyse_folders`.
    """
    folder = runs.output / "report"
    analyses = _analyse(runs, parts, start)
    check = _check(runs, parts, folder / "check", start)
    stability = []
    for part in sorted((p for p in parts if not p.is_set), key=lambda p: _ORDER.index(p.name)):
        tick = start(f"{part.name}: bonds", 1)
        stability.append(longest_bond(runs.folder(part)))
        tick(1)
    rows = published_rows(analyses, check)
    order = [name for name in _ORDER if name.startswith("liquid") and name in analyses]
    comparisons = compare_runs({name: analyses[name] for name in order})
    result = Reproduction(rows, comparisons, stability, folder / "report.html")
    scale = runs.settings.scale
    sections = [*_sections(result, [*remarks(scale), *runs.notes]), _check_section(folder / "check")]
    write_report(
        [analyses[name] for name in _ORDER if name in analyses],
        folder, command, with_viewer, title="Reproduction of the gas, liquid and ice tests",
        sections=sections, remarks=figure_remarks(scale),
    )  # fmt: skip
    _write_tables(result, runs, folder)
    return result


def _analyse(runs: Runs, parts: Sequence[Part], start: Start) -> dict[str, Analysis]:
    small = runs.settings.scale == "small"
    options = Options(longest_lag=2.0 if small else 10.0)
    # the torque against the average needs the model, once
    torque = replace(options, model=runs.settings.model, averages=_TORQUE_AVERAGES)
    liquid = replace(options, skip=_LIQUID_SKIP)
    found: dict[str, Analysis] = {}
    for part in parts:
        if part.is_set:
            continue
        chosen = torque if part.name == "gas-nve-raw" else liquid if part.system == "liquid" else options
        try:
            (found[part.name],) = analyse_folders([runs.folder(part)], chosen, start)
        except UserError as error:  # too short with a small --fraction: the others are reported
            runs.notes.append(f"{part.name} left out: {error}")
    sets = sorted((part for part in parts if part.is_set), key=lambda part: part.name != "ice-raw")
    if sets:
        results = analyse_folders([runs.folder(part) for part in sets], options, start)
        found |= {part.name: analysis for part, analysis in zip(sets, results, strict=True)}
    return found


def _check(runs: Runs, parts: Sequence[Part], folder: Path, start: Start) -> dict[str, float]:
    """Symmetry errors in meV and meV/Å by data set, average and quantity; not repeated if the folder has them."""
    path = folder / "check.json"
    data_sets = _data_sets(runs, parts)
    names = [data.name for data in data_sets]
    if not data_sets:
        return {}
    if not (path.is_file() and list(json.loads(path.read_text())["consistency"]) == names):
        model = runs.settings.model
        settings = CheckSettings(averages=DEFAULT_AVERAGES, seed=runs.settings.seed)
        precise = load_potential(model, "cpu", "float64")
        result = run_check(load_potential(model), data_sets, settings, None, precise, start)
        write_check(result, folder)
        write_figures(result, folder)
    errors = json.loads(path.read_text())["errors"]
    return {
        f"{row['data_set']}:{row['average']}:{key}": 1e3 * row[key]
        for row in errors
        for key in ("energy_mae", "force_mae")
    }


def _data_sets(runs: Runs, parts: Sequence[Part]) -> list[DataSet]:
    """Snapshots of the raw runs, and the cells of ice as they are made."""
    found = []
    names = {part.name: part for part in parts}
    for name, run, pbc in (("gas", "gas-nve-raw", False), ("liquid", "liquid-raw", True)):
        if run in names:
            (path,) = runs.folder(names[run]).glob("simulation.pos_0.xyz")
            found.append(replace(read_data_set(path, pbc).sample(_SNAPSHOTS[name]), name=name, steps=None))
    if "ice-raw" in names:
        part = names["ice-raw"]
        cells = [runs.folder(part) / name / "init.xyz" for name in runs.cells(part)[: _SNAPSHOTS["ice"]]]
        structures = tuple(read_data_set(path, True).structures[0] for path in cells)
        found.append(DataSet("ice", structures))
    return found


def _sections(result: Reproduction, said: Sequence[str]) -> list[str]:
    parts = ["<h2>Published values and this model</h2>"]
    parts.append("<ul>" + "".join(f"<li>{html.escape(text)}</li>" for text in said) + "</ul>")
    parts.append(table_html(*_published_table(result.rows)))
    if result.comparisons:
        parts.append("<h2>The liquid with raw, averaged and random forces</h2>")
        parts.append(table_html(*_comparison_table(result.comparisons)))
    if result.stability:
        parts.append("<h2>Stability</h2>" + table_html(*_stability_table(result.stability)))
    return parts


def _published_table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    header = ["quantity", "published", "this model", "unit", "agreement", "what differs"]
    return header, [
        [r.label, r.published, formatted(r.value, r.error), r.unit, r.agreement, r.remark] for r in rows
    ]


def _comparison_table(found: Sequence[Comparison]) -> tuple[list[str], list[list[str]]]:
    runs = list(dict.fromkeys(name for row in found for name in row.values))
    header = ["quantity", *runs, "unit", "verdict"]
    return header, [
        [
            row.label,
            *(formatted(*row.values[n]) if n in row.values else "" for n in runs),
            row.unit,
            row.verdict,
        ]
        for row in found
    ]


def _stability_table(found: Sequence[Stability]) -> tuple[list[str], list[list[str]]]:
    header = ["run", "length / ps", "frames", "longest O–H / Å", "at / ps", "molecules"]
    return header, [
        [
            s.run, f"{s.picoseconds:.4g}", str(s.frames), f"{s.longest_bond:.3f}", f"{s.at:.4g}",
            "whole" if s.whole else "BROKEN",
        ]
        for s in found
    ]  # fmt: skip


def _check_section(folder: Path) -> str:
    path = folder / "check.json"
    if not path.is_file():
        return ""
    content = json.loads(path.read_text())
    header = [
        "data set",
        "average",
        "evaluations",
        "energy / meV per structure",
        "force / meV/Å",
        "largest force / meV/Å",
    ]
    rows = [
        [
            row["data_set"], row["average"], str(row["n_frames"]), _short(row["energy_mae"]), _short(row["force_mae"]),
            _short(row["force_max"]),
        ]
        for row in content["errors"]
    ]  # fmt: skip
    parts = [
        f"<h2>Symmetry error against {html.escape(content['settings']['reference'])}</h2>",
        table_html(header, rows),
        f"<p>{html.escape(content['recommendation']['text'])}</p>",
    ]
    for name, caption in _CHECK_CAPTIONS.items():
        png = folder / f"{name}.png"
        if png.is_file():
            parts.append(figure_html("Symmetry error: " + name, caption, png))
    return "".join(parts)


def _short(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{1e3 * value:.3g}"


def _write_tables(result: Reproduction, runs: Runs, folder: Path) -> None:
    header, rows = _published_table(result.rows)
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    content: dict[str, Any] = {
        "settings": asdict(runs.settings),
        "published": [_plain(asdict(row)) for row in result.rows],
        "comparisons": [_plain(asdict(row)) for row in result.comparisons],
        "stability": [_plain(asdict(row) | {"whole": row.whole}) for row in result.stability],
        "notes": runs.notes,
    }
    (folder / "table.json").write_text(
        json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    lines = ["# Published values and this model\n", *_markdown(header, rows)]
    if result.comparisons:
        lines += [
            "\n# The liquid with raw, averaged and random forces\n",
            *_markdown(*_comparison_table(result.comparisons)),
        ]
    if result.stability:
        lines += ["\n# Stability\n", *_markdown(*_stability_table(result.stability))]
    (folder / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in [header, ["---"] * len(header), *rows]]
    return [f"| {' | '.join(row)} |" for row in cells]


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    """NaN becomes null, tuples lists."""

    def value(x: Any) -> Any:
        if isinstance(x, dict):
            return {k: value(v) for k, v in x.items()}
        if isinstance(x, (tuple, list)):
            return [value(v) for v in x]
        return None if isinstance(x, (float, np.floating)) and not math.isfinite(x) else x

    return {k: value(v) for k, v in content.items()}


def print_tables(result: Reproduction) -> None:
    """The tables on the terminal."""
    console = Console()
    if not console.is_terminal:  # a log file has no width of its own
        console = Console(width=160)
    for title, (header, rows) in (
        ("published values and this model", _published_table(result.rows)),
        ("liquid: raw, averaged, random", _comparison_table(result.comparisons)),
        ("stability", _stability_table(result.stability)),
    ):
        if not rows:
            continue
        table = Table(title=title)
        for name in header:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table)
