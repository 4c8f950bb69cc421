"""One self-contained HTML page: conclusion, figures, tables with uncertainties, settings, versions, structures."""

from __future__ import annotations

import base64
import html
import math
import platform
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata, resources
from pathlib import Path

from jinja2 import Environment

from ipi_driver import __version__
from ipi_driver.analysis.result import Analysis
from ipi_driver.report.tables import in_one_row, shown_value

TITLES = {"gas": "Gas: one molecule", "liquid": "Liquid", "ice": "Ice"}

ERRORS_SAID = (
    "Values ± standard errors σ from block averages. Under a number: τ, its correlation time, and how many blocks "
    "its error is from. An interval that holds the true value in 95 % of cases is wider than 2 σ where the blocks are "
    "few: 3.2 σ of 4 blocks, 2.6 of 6, 2.3 of 10 (Student's t); verdicts use it. Of numbers at most six blocks are "
    "taken. Of curves and maps a block is at least five correlation times long, three of a slow mode that all points "
    "share, or two where a run has no room for more; the error is corrected for what correlation is left. Bands in "
    "figures are standard errors. The error of an ensemble is from the spread of its runs, which count as blocks."
)
_WIDE_PIXELS = 900
"""Figures wider than this take the whole width of the page."""


@dataclass(frozen=True)
class PageFigure:
    """A PNG under its title and above its caption, held by the page itself."""

    title: str
    caption: str
    png: Path

    @property
    def data(self) -> str:
        """The image as a data URL."""
        return "data:image/png;base64," + base64.b64encode(self.png.read_bytes()).decode()

    @property
    def anchor(self) -> str:
        """Name for links."""
        return anchor_of(self.png.stem)

    @property
    def wide(self) -> bool:
        """Whether the figure has several panels side by side."""
        (width,) = struct.unpack(">I", self.png.read_bytes()[16:20])
        return bool(width > _WIDE_PIXELS)


@dataclass(frozen=True)
class Section:
    """A part of the page with an entry in its contents.

    Attributes
    ----------
    title
        Heading.
    html
        Body, escaped already.
    figures
        Below it.
    remark
        Said once, for all figures.
    notes
        What a reader should know.
    """

    title: str
    html: str = ""
    figures: tuple[PageFigure, ...] = ()
    remark: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def anchor(self) -> str:
        """Name for links."""
        return anchor_of(self.title)


def anchor_of(text: str) -> str:
    """Text as a name in a link: small letters, digits and hyphens."""
    return "-".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def write_page(
    path: Path,
    title: str,
    conclusion: Sequence[str],
    lead: PageFigure | None,
    parts: Sequence[Section],
    command: str,
) -> Path:
    """Write the report.

    Parameters
    ----------
    path
        Of the page.
    conclusion
        Sentences of the first screen.
    lead
        The figure beside them.
    parts
        Of the page, in order.
    command
        The command that repeats the report.
    """
    template = resources.files("ipi_driver.report").joinpath("templates/report.html.j2").read_text("utf-8")
    page = Environment(autoescape=True).from_string(template)
    text = page.render(
        title=title,
        conclusion=list(conclusion),
        lead=lead,
        parts=list(parts),
        command=command,
        versions=_versions(),
    )
    path.write_text(text + "\n", encoding="utf-8")
    return path


def section_of(
    kind: str, analyses: Sequence[Analysis], figures: Sequence[PageFigure], remark: str = ""
) -> Section:
    """The runs of one kind: table of numbers, figures, notes."""
    title = f"{TITLES[kind]} ({analyses[0].system})"
    return Section(title, _scalars(analyses), tuple(figures), remark, _notes(analyses))


def errors_section() -> Section:
    """How to read the numbers."""
    return Section("How to read the errors", f"<p>{html.escape(ERRORS_SAID)}</p>")


def settings_section(analyses: Sequence[Analysis]) -> Section:
    """Settings of all runs: one line per run, the common ones once."""
    keys = list(dict.fromkeys(key for analysis in analyses for key in analysis.settings))
    common = {
        key: values.pop()
        for key in keys
        if len(values := {analysis.settings.get(key, "–") for analysis in analyses}) == 1
        and len(analyses) > 1
    }
    lines = "".join(f"<li>{html.escape(key)}: {html.escape(value)}</li>" for key, value in common.items())
    own = [key for key in keys if key not in common]
    rows = [[a.label, *(a.settings.get(key, "–") for key in own)] for a in analyses]
    shared = f"<p>All runs:</p><ul>{lines}</ul>" if common else ""
    return Section("Settings", shared + table_html(["run", *own], rows))


def table_html(
    header: Sequence[str], rows: Sequence[Sequence[str]], units: Sequence[str] | None = None
) -> str:
    """A table of plain text, which scrolls by itself under its first column; units stand beside the first cell."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    lines = []
    for row, unit in zip(rows, units or [""] * len(rows), strict=True):
        cells = [f"<td>{html.escape(cell)}</td>" for cell in row]
        cells[0] = f"<td>{html.escape(row[0])}{_unit(unit)}</td>"
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<div class='table'><table><tr>{head}</tr>{''.join(lines)}</table></div>"


def _unit(unit: str) -> str:
    return f" <span class='unit'>{html.escape(unit)}</span>" if unit else ""


def _scalars(analyses: Sequence[Analysis]) -> str:
    keys = dict.fromkeys(key for analysis in analyses for key in analysis.scalars)
    rows = []
    for key in keys:
        known = [analysis.scalars.get(key) for analysis in analyses]
        unit = next(scalar.unit for scalar in known if scalar is not None)
        label, own = in_one_row(known)
        cells = []
        for scalar, addition in zip(known, own, strict=True):
            if scalar is None:
                cells.append("<td class='number'>–</td>")
                continue
            text = html.escape(shown_value(key, scalar))
            details = [html.escape(addition)] if addition else []
            if scalar.n_blocks and math.isfinite(scalar.error):
                time = (
                    f"τ {scalar.correlation_time:.2g} ps, " if math.isfinite(scalar.correlation_time) else ""
                )
                details.append(f"{time}{scalar.n_blocks} blocks")
            below = "".join(f"<br><span class='small'>{line}</span>" for line in details)
            cells.append(f"<td class='number'>{text}{below}</td>")
        rows.append(f"<tr><td>{html.escape(label)}{_unit(unit)}</td>{''.join(cells)}</tr>")
    head = "".join(f"<th>{html.escape(analysis.label)}</th>" for analysis in analyses)
    return f"<div class='table'><table><tr><th>quantity / unit</th>{head}</tr>{''.join(rows)}</table></div>"


def _notes(analyses: Sequence[Analysis]) -> tuple[str, ...]:
    """Every note once, with the runs that it holds for."""
    runs: dict[str, list[str]] = {}
    for analysis in analyses:
        for note in analysis.notes:
            runs.setdefault(note, []).append(analysis.label)
    return tuple(f"{', '.join(labels)}: {note}" for note, labels in runs.items())


def _versions() -> str:
    names = ("ipi", "numpy", "scipy", "ase", "matplotlib", "torch")
    versions = [("ipi-driver", __version__), ("Python", platform.python_version())]
    for name in names:
        try:
            versions.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return f"{', '.join(f'{name} {version}' for name, version in versions)}. Written {now}."
