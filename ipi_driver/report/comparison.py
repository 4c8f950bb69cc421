"""Whether runs agree: the table, the part of the page, one sentence, the files."""

from __future__ import annotations

import csv
import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from ipi_driver.analysis.compare import Comparison, compare_runs, keys_to_compare
from ipi_driver.analysis.result import Analysis
from ipi_driver.observables.comparison import SIGNIFICANCE
from ipi_driver.report.page import Section, table_html
from ipi_driver.report.plain_files import plain
from ipi_driver.report.tables import formatted

COMPARED = ("gas", "liquid", "ice")
"""Kinds of runs that are compared; relaxations are compared cell by cell, and replays with their own run."""

_CONDITIONS = ("ensemble", "temperature")
"""Settings in which runs must agree: at another temperature a liquid is another one."""

NOTE = (
    "p: how often runs of the same system would differ as much, over all runs and the whole curve at once (the blocks "
    "of the runs are dealt anew); below 0.05 they differ. Beside it stands the smallest difference of one run from the "
    "others that would have been found in four of five cases: a verdict does not cover smaller ones. The slope of "
    "the conserved quantity is lost in its random walk for long; what its fluctuations imply follows from the "
    "fluctuation theorem and needs shorter runs."
)


def comparisons_of(analyses: Sequence[Analysis]) -> dict[str, list[Comparison]]:
    """Verdicts on runs of one kind, ensemble and temperature, of which there are several.

    The keys say what runs: ``liquid``, or ``liquid, nvt, 300.0 K`` where there are those of several conditions. At
    constant energy kinetic temperatures are those of the start, and one molecule does not forget its start at all: of
    these only the drifts are compared.
    """
    found = {}
    for kind in COMPARED:
        same = [a for a in analyses if a.kind == kind and "ice_relaxed" not in a.curves]
        conditions = [tuple(a.settings.get(key, "-") for key in _CONDITIONS) for a in same]
        several = len(set(conditions)) > 1
        for condition in dict.fromkeys(conditions):
            runs = {a.label: a for a, own in zip(same, conditions, strict=True) if own == condition}
            rows = _compare(kind, condition[0] == "nve", runs) if len(runs) > 1 else []
            if rows:
                found[", ".join((kind, *condition)) if several else kind] = rows
    return found


def _compare(kind: str, constant_energy: bool, runs: Mapping[str, Analysis]) -> list[Comparison]:
    if not constant_energy:
        return compare_runs(runs)
    if kind == "gas":
        return compare_runs(runs, (), (), ())
    return compare_runs(runs, [k for k in keys_to_compare(runs)[0] if not k.startswith("temperature_")])


def comparison_table(found: Sequence[Comparison]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: every quantity in every run, the verdict, and what would have been found."""
    runs = list(dict.fromkeys(name for row in found for name in row.values))
    header = ["quantity", *runs, "unit", "verdict", "would have been found"]
    return header, [
        [
            row.label,
            *(formatted(*row.values[n]) if n in row.values else "" for n in runs),
            row.unit,
            row.verdict,
            row.detectable,
        ]
        for row in found
    ]


def comparison_section(title: str, found: Sequence[Comparison]) -> Section:
    """The table as a part of the page, units beside the quantities."""
    header, rows = comparison_table(found)
    at = header.index("unit")
    cells = [[*row[:at], *row[at + 1 :]] for row in rows]
    body = table_html([*header[:at], *header[at + 1 :]], cells, [row[at] for row in rows])
    return Section(title, body + f"<p>{html.escape(NOTE)}</p>")


def agreement(who: str, found: Sequence[Comparison], addition: str = "") -> str:
    """One sentence: in how many quantities runs agree, in which they differ, and what would have been seen.

    Parameters
    ----------
    who
        The runs, as the subject of the sentence.
    found
        Rows; those without a p do not count.
    addition
        Said where the runs agree in all.
    """
    tested = [row for row in found if math.isfinite(row.p)]
    if not tested:
        return ""
    different = [row for row in tested if row.p < SIGNIFICANCE]
    if different:
        names = ", ".join(f"{row.label} (p = {row.p:.2g})" for row in different)
        text = f"{who} agree in {len(tested) - len(different)} of {len(tested)} quantities compared; they differ in "
        text += names
        text += f", where {SIGNIFICANCE * len(tested):.1f} such verdicts are expected by chance"
    else:
        text = f"{who} agree in all {len(tested)} quantities compared{addition}"
    peak = next((row for row in found if row.label.startswith("g ") and "whole" in row.label), None)
    if peak is not None and peak.detectable:
        name = peak.label.removeprefix("g ").partition(" ")[0]
        text += f"; in g({name}) a difference of {peak.detectable} would have been found"
    return text + "."


def _file_name(runs: str) -> str:
    name = re.sub(r"[^\w.]+", "-", runs)
    return f"comparison-{name}.csv"


def remove_comparisons(folder: Path) -> None:
    """Remove the files of an earlier report."""
    with suppress(OSError, ValueError):
        for runs in json.loads((folder / "comparison.json").read_text(encoding="utf-8")):
            (folder / _file_name(runs)).unlink(missing_ok=True)
        (folder / "comparison.json").unlink()


def write_comparisons(found: Mapping[str, Sequence[Comparison]], folder: Path) -> None:
    """``comparison-RUNS.csv`` and ``comparison.json``; nothing where no runs were compared."""
    for runs, rows in found.items():
        with (folder / _file_name(runs)).open("w", newline="", encoding="utf-8") as stream:
            header, cells = comparison_table(rows)
            csv.writer(stream).writerows([header, *cells])
    if found:
        content = {runs: [plain(asdict(row)) for row in rows] for runs, rows in found.items()}
        text = json.dumps(content, indent=1, ensure_ascii=False)
        (folder / "comparison.json").write_text(text + "\n", encoding="utf-8")
