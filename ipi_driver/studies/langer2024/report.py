"""From the runs of a reproduction to one folder: tables, figures, the symmetry check, one page."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ipi_driver.analysis.compare import compare_runs
from ipi_driver.analysis.dispatch import analyze_folders
from ipi_driver.analysis.result import Analysis, Options
from ipi_driver.errors import UserError
from ipi_driver.potentials import load_potential
from ipi_driver.report.comparison import comparison_section
from ipi_driver.report.page import Section, table_html
from ipi_driver.report.writer import write_report
from ipi_driver.rotations import quadratures
from ipi_driver.studies.langer2024.conclusion import conclude
from ipi_driver.studies.langer2024.plan import Part
from ipi_driver.studies.langer2024.published import figure_remarks, published_rows, remarks
from ipi_driver.studies.langer2024.published_curves import (
    compare_with_published,
    published_curves,
    published_maps,
)
from ipi_driver.studies.langer2024.runner import Runs
from ipi_driver.studies.langer2024.stability import Stability, longest_bond
from ipi_driver.studies.langer2024.symmetry import card_errors, symmetry_errors, symmetry_section
from ipi_driver.studies.langer2024.tables import (
    Reproduction,
    curve_table,
    print_tables,
    published_table,
    stability_table,
    write_tables,
)

__all__ = ["print_tables", "write_reproduction"]

Start = Callable[[str, int], Callable[[int], None]]
_ORDER = (
    "gas-nve-raw",
    "gas-nve-2i",
    "gas-nve-spectrum",
    "gas-nvt-raw",
    "gas-nvt-2i",
    "gas-nvt-random",
    "liquid-raw",
    "liquid-2i",
    "liquid-random",
    "ice-raw",
    "ice-2i",
)
_TORQUE_AVERAGES = ("none", "i", "D2", "T", "Th", "O", "Oh", "I", "Ih", "2", "2i", "3", "3i")
_SCALARS = (
    "g_OO_height", "g_OO_coordination", "diffusion", "relaxation", "temperature_O", "temperature_H",
)  # fmt: skip
_CURVES = ("g_OO", "g_OH", "g_HH", "cuu_longitudinal", "cuu_transverse", "msd", "dipole_single")
"""Of the liquid: what is compared, those of the publication among them."""
_BANDWIDTH = 0.1
"""Of the published kernel estimates: Å for pair correlations, 1 and rad for maps of orientations."""
_LIQUID_SKIP = 0.5
"""ps left out at the start of the liquid, which begins from an equilibrated box of another model; shortened with
the run by ``--fraction``."""


def write_reproduction(
    runs: Runs,
    parts: Sequence[Part],
    command: str,
    with_viewer: bool,
    start: Start,
    others: Sequence[Path] = (),
) -> Reproduction:
    """Analyze complete runs and write ``OUTPUT/report``.

    Parameters
    ----------
    parts
        Complete runs.
    command
        The command that repeats the report.
    start
        Opens a bar of progress, as for `analyze_folders`.
    others
        Run folders of the same liquid that are shown beside those of the plan.

    Raises
    ------
    UserError
        If one of ``others`` is no such run.
    """
    folder = runs.output / "report"
    analyses = _analyze(runs, parts, start)
    beside = _analyze_others(runs, analyses, others, start)
    analyses |= beside
    check: dict[str, float] = {}
    try:
        check = symmetry_errors(runs, parts, folder / "check", start)
    except UserError as error:  # the runs are reported all the same
        runs.notes.append(f"symmetry errors left out: {error}")
    runs.notes += longer_than_planned(runs, parts)
    stability = _stability(runs, parts, analyses, start)
    rows = published_rows(analyses, check, card_errors(runs.settings.model))
    ordered = {name: analyses[name] for name in (*_ORDER, *beside) if name in analyses}
    liquids = {name: a for name, a in ordered.items() if a.kind == "liquid"}
    comparisons = compare_runs(liquids, _SCALARS, _CURVES)
    curves = compare_with_published(ordered)
    result = Reproduction(rows, comparisons, stability, folder / "report.html", curves)
    scale = runs.settings.scale
    sections = [
        *_sections(result, [*remarks(scale, runs.settings.fraction), *_notes(runs)]),
        *symmetry_section(folder / "check"),
    ]
    kinds = ("gas", "liquid", "ice")
    write_report(
        list(ordered.values()),
        folder, command, with_viewer, title="Reproduction of the gas, liquid and ice tests",
        sections=sections, remarks=figure_remarks(scale, runs.settings.stride),
        conclusion=conclude(ordered, rows, comparisons, Path(runs.settings.model).name),
        curves={kind: published_curves(kind) for kind in kinds},
        maps={kind: published_maps(kind) for kind in kinds},
    )  # fmt: skip
    write_tables(result, runs.settings, _notes(runs), folder)
    return result


def longer_than_planned(runs: Runs, parts: Sequence[Part]) -> list[str]:
    """What was run by hand beyond the plan: it is analyzed as well, and the report notes it."""
    found = []
    for part in parts:
        if part.is_set:
            folder = runs.folder(part)
            cells = sorted(path.name for path in folder.iterdir() if path.is_dir())
            more = [name for name in cells if name not in runs.cells(part)]
            if more:
                found.append(f"{part.name}: {', '.join(more)} relaxed beyond {', '.join(runs.cells(part))}")
        elif (done := runs.progress(part)[0]) > (part.steps or done):
            found.append(f"{part.name}: continued to {done} steps, beyond the {part.steps} of the plan")
    return found


def _stability(
    runs: Runs, parts: Sequence[Part], analyses: Mapping[str, Analysis], start: Start
) -> list[Stability]:
    """Longest bond and drift of every run with time."""
    found = []
    for part in sorted((p for p in parts if not p.is_set), key=lambda p: _ORDER.index(p.name)):
        tick = start(f"{part.name}: bonds", 1)
        try:
            bonds = longest_bond(runs.folder(part))
        except UserError as error:
            runs.notes.append(f"{part.name}: stability left out: {error}")
            continue
        scalars = analyses[part.name].scalars if part.name in analyses else {}
        drift = scalars.get("drift")
        found.append(bonds if drift is None else replace(bonds, drift=drift.value, drift_error=drift.error))
        tick(1)
    return found


def _without_place(analysis: Analysis, place: str) -> None:
    """Name the folders of a run from the output folder on: a report is read on other machines."""
    analysis.source = analysis.source.replace(place, "")
    analysis.settings = {key: text.replace(place, "") for key, text in analysis.settings.items()}
    analysis.notes = [text.replace(place, "") for text in analysis.notes]


def _options(runs: Runs, system: str) -> Options:
    longest = 2.0 if runs.settings.scale == "small" else 10.0
    options = Options(longest_lag=longest, bandwidth=_BANDWIDTH, map_bandwidth=_BANDWIDTH)
    return replace(options, skip=_LIQUID_SKIP * runs.settings.fraction) if system == "liquid" else options


def _analyze(runs: Runs, parts: Sequence[Part], start: Start) -> dict[str, Analysis]:
    found: dict[str, Analysis] = {}
    for part in parts:
        if part.is_set:
            continue
        chosen = _options(runs, part.system)
        if part.name == "gas-nve-raw":  # the torque against the average needs the model, once
            chosen = replace(
                chosen, model=load_potential(runs.settings.model), averages=quadratures(_TORQUE_AVERAGES)
            )
        if part.name == "gas-nvt-2i":  # the orientational free energy by perturbation
            chosen = replace(chosen, model=load_potential(runs.settings.model), averages=())
        try:
            (found[part.name],) = analyze_folders([runs.folder(part)], chosen, start)
        except UserError as error:  # too short with a small --fraction: the others are reported
            runs.notes.append(f"{part.name} left out: {error}")
    sets = sorted((part for part in parts if part.is_set), key=lambda part: part.name != "ice-raw")
    if sets:
        try:
            results = analyze_folders([runs.folder(part) for part in sets], _options(runs, "ice"), start)
            found |= {part.name: analysis for part, analysis in zip(sets, results, strict=True)}
        except UserError as error:
            runs.notes.append(f"{' and '.join(part.name for part in sets)} left out: {error}")
    for analysis in found.values():
        _without_place(analysis, f"{runs.output.parent}{os.sep}")
    return found


def _analyze_others(
    runs: Runs, known: Mapping[str, Analysis], folders: Sequence[Path], start: Start
) -> dict[str, Analysis]:
    """Runs of the user beside those of the plan, by the names of their folders."""
    liquids = [analysis for analysis in known.values() if analysis.kind == "liquid"]
    if folders and not liquids:
        raise UserError(f"--with {folders[0]}: no run of the liquid is complete that it could stand beside")
    found: dict[str, Analysis] = {}
    for folder in folders:
        path = folder.resolve()
        if path.name in (*_ORDER, *found):
            raise UserError(f"--with {folder}: there is a run {path.name} already; rename the folder")
        analyses = analyze_folders([path], _options(runs, "liquid"), start)
        if len(analyses) > 1 or analyses[0].kind != "liquid" or analyses[0].system != liquids[0].system:
            got = ", ".join(sorted({f"{a.kind} of {a.system}" for a in analyses}))
            raise UserError(f"--with {folder}: expected one run of liquid {liquids[0].system}, got {got}")
        (found[path.name],) = analyses
        _without_place(analyses[0], f"{path.parent}{os.sep}")
        what = ", ".join(f"{key} {analyses[0].settings[key]}" for key in ("model", "average", "time step"))
        runs.notes.append(f"{path.name}: a run beside those of the plan ({what})")
    return found


def _notes(runs: Runs) -> list[str]:
    return [text.replace(f"{runs.output.parent}{os.sep}", "") for text in runs.notes]


def _sections(result: Reproduction, conclusions: Sequence[str]) -> list[Section]:
    header, rows = published_table(result.rows)
    body = "<ul>" + "".join(f"<li>{html.escape(text)}</li>" for text in conclusions) + "</ul>"
    body += table_html(
        [header[0], *header[1:3], *header[4:]], [[*row[:3], *row[4:]] for row in rows], _column(rows, 3)
    )
    parts = [Section("Published values and this model", body)]
    if result.curves:
        parts.append(Section("Published curves and this model", table_html(*curve_table(result.curves))))
    if result.comparisons:
        title = "The liquid with raw, averaged and random forces"
        parts.append(comparison_section(title, result.comparisons))
    if result.stability:
        parts.append(Section("Stability", table_html(*stability_table(result.stability))))
    return parts


def _column(rows: Sequence[Sequence[str]], at: int) -> list[str]:
    return [row[at] for row in rows]
