"""The tables of a reproduction: as rows of text, as files, on the terminal."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ipi_driver.analysis.compare import Comparison
from ipi_driver.report.comparison import comparison_table
from ipi_driver.report.plain_files import plain
from ipi_driver.report.tables import formatted
from ipi_driver.studies.langer2024.plan import Settings
from ipi_driver.studies.langer2024.published import Row
from ipi_driver.studies.langer2024.published_curves import CurveComparison
from ipi_driver.studies.langer2024.stability import Stability


@dataclass(frozen=True)
class Reproduction:
    """The content of the report."""

    rows: list[Row]
    comparisons: list[Comparison]
    stability: list[Stability]
    page: Path
    curves: list[CurveComparison] = field(default_factory=list)


def published_table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """The table of published values: header and rows."""
    header = ["quantity", "published", "this model", "unit", "verdict", "what differs"]
    return header, [
        [r.label, r.published, formatted(r.value, r.error), r.unit, r.agreement, r.remark] for r in rows
    ]


def curve_table(found: Sequence[CurveComparison]) -> tuple[list[str], list[list[str]]]:
    """The whole curves beside the published ones: header and rows."""
    header = [
        "curve",
        "compared from",
        "rms difference",
        "largest difference (this model − published)",
        "verdict",
    ]
    return header, [[c.label, c.range, f"{c.rms:.2g}", c.largest, c.verdict] for c in found]


def stability_table(found: Sequence[Stability]) -> tuple[list[str], list[list[str]]]:
    """The longest bonds and drifts: header and rows."""
    header = [
        "run", "length / ps", "frames", "longest O–H / Å", "at / ps", "molecules", "drift / meV/molecule/ns",
    ]  # fmt: skip
    return header, [
        [
            s.run, f"{s.picoseconds:.4g}", str(s.snapshots), f"{s.longest_bond:.3f}", f"{s.at:.4g}",
            "whole" if s.whole else "BROKEN", formatted(s.drift, s.drift_error),
        ]
        for s in found
    ]  # fmt: skip


def write_tables(result: Reproduction, settings: Settings, notes: Sequence[str], folder: Path) -> None:
    """Write ``table.csv``, ``table.json`` and ``table.md``."""
    header, rows = published_table(result.rows)
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    content: dict[str, Any] = {
        "settings": asdict(settings),
        "published": [plain(asdict(row)) for row in result.rows],
        "curves": [plain(asdict(row)) for row in result.curves],
        "comparisons": [plain(asdict(row)) for row in result.comparisons],
        "stability": [plain(asdict(row) | {"whole": row.whole}) for row in result.stability],
        "notes": list(notes),
    }
    (folder / "table.json").write_text(
        json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    lines = ["# Published values and this model\n", *_markdown(header, rows)]
    if result.curves:
        lines += ["\n# Published curves and this model\n", *_markdown(*curve_table(result.curves))]
    if result.comparisons:
        lines += [
            "\n# The liquid with raw, averaged and random forces\n",
            *_markdown(*comparison_table(result.comparisons)),
        ]
    if result.stability:
        lines += ["\n# Stability\n", *_markdown(*stability_table(result.stability))]
    (folder / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in [header, ["---"] * len(header), *rows]]
    return [f"| {' | '.join(row)} |" for row in cells]


def print_tables(result: Reproduction) -> None:
    """The tables on the terminal."""
    console = Console()
    if not console.is_terminal:  # a log file has no width of its own
        console = Console(width=160)
    for title, (header, rows) in (
        ("published values and this model", published_table(result.rows)),
        ("published curves and this model", curve_table(result.curves)),
        ("liquid: raw, averaged, random", comparison_table(result.comparisons)),
        ("stability", stability_table(result.stability)),
    ):
        if not rows:
            continue
        table = Table(title=title)
        for name in header:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table)
