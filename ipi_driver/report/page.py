"""One self-contained HTML page: figures, tables with uncertainties, settings, versions, structures."""

from __future__ import annotations

import base64
import html
import math
import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from ipi_driver import __version__
from ipi_driver.analysis.result import Analysis
from ipi_driver.report.tables import formatted, in_one_row

TITLES = {"gas": "Gas: one molecule", "liquid": "Liquid", "ice": "Ice"}

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; } h3 { margin-bottom: .3rem; }
/* a table of many runs scrolls by itself, not the page */
table { display: block; max-width: 100%; overflow-x: auto; }
table { border-collapse: collapse; margin: .8rem 0; font-size: .9rem; }
th, td { padding: .2rem .8rem .2rem 0; text-align: left; border-bottom: 1px solid #e5e5e5; vertical-align: top; }
td:first-child { min-width: 12rem; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 1rem 0 2rem; } figure img { max-width: 100%; } figcaption { font-size: .85rem; color: #555; }
.note { color: #8a4b00; } .small { font-size: .8rem; color: #666; }
"""


def write_page(
    analyses: Sequence[Analysis],
    figures: Sequence[tuple[str, str, str, Path]],
    viewer: str,
    command: str,
    path: Path,
    title: str = "",
    sections: Sequence[str] = (),
) -> Path:
    """Write the report.

    Parameters
    ----------
    analyses
        Runs, in the order of the user.
    figures
        (kind, title, caption, PNG file) each.
    viewer
        HTML of the structure viewer, or "".
    command
        The command that repeats the report.
    path
        Of the page.
    title
        Of the page; empty: how many runs it is of.
    sections
        HTML that stands before the runs.
    """
    title = title or f"Analysis of {len(analyses)} run{'s' * (len(analyses) > 1)}"
    parts = [
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>ipi-driver: "
        f"{html.escape(title)}</title>",
        f"<style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>",
        "<p>Values ± standard errors from block averages. A block is at least five correlation times long, three where "
        "the correlation is that of a slow mode which all points of a curve share (both are given). Curves and maps of "
        "a run that has no room for four such blocks are given from blocks of at least two correlation times, with the "
        "error corrected for what is left between them. Bands in figures are standard errors.</p>",
        *sections,
    ]
    for kind in dict.fromkeys(analysis.kind for analysis in analyses):
        same = [analysis for analysis in analyses if analysis.kind == kind]
        parts.append(f"<h2>{TITLES[kind]} ({html.escape(same[0].system)})</h2>")
        parts.append(_scalars(same))
        parts += [figure_html(title, text, png) for of, title, text, png in figures if of == kind]
        parts.append(_notes(same))
    parts.append("<h2>Settings</h2>" + _settings(analyses))
    if viewer:
        parts.append("<h2>Structures</h2>" + viewer)
    parts.append(
        "<h2>Versions</h2>" + _versions() + f"<p>Repeat with <code>{html.escape(command)}</code></p>"
    )
    parts.append("</body></html>\n")
    path.write_text("\n".join(parts), encoding="utf-8")
    return path


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
            text = formatted(scalar.value, scalar.error)
            details = f"<br><span class='small'>{html.escape(addition)}</span>" if addition else ""
            if scalar.n_blocks and math.isfinite(scalar.correlation_time):
                details += (
                    f"<br><span class='small'>τ {scalar.correlation_time:.3g} ps, "
                    f"{scalar.n_blocks} × {scalar.block_length:.3g} ps</span>"
                )
            cells.append(f"<td class='number'>{text}{details}</td>")
        rows.append(f"<tr><td>{html.escape(label)}</td>{''.join(cells)}<td>{html.escape(unit)}</td></tr>")
    head = "".join(f"<th>{html.escape(analysis.label)}</th>" for analysis in analyses)
    return f"<table><tr><th>quantity</th>{head}<th>unit</th></tr>{''.join(rows)}</table>"


def table_html(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain text."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def figure_html(title: str, caption: str, png: Path) -> str:
    """A PNG, in the page itself, under its title and above its caption."""
    data = base64.b64encode(png.read_bytes()).decode()
    return (
        f"<h3>{html.escape(title)}</h3><figure><img alt='{html.escape(title, quote=True)}' "
        f"src='data:image/png;base64,{data}'><figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _notes(analyses: Sequence[Analysis]) -> str:
    lines = [f"<li>{html.escape(a.label)}: {html.escape(note)}</li>" for a in analyses for note in a.notes]
    return f"<div class='note'><h3>Notes</h3><ul>{''.join(lines)}</ul></div>" if lines else ""


def _settings(analyses: Sequence[Analysis]) -> str:
    keys = dict.fromkeys(key for analysis in analyses for key in analysis.settings)
    head = "".join(f"<th>{html.escape(analysis.label)}</th>" for analysis in analyses)
    rows = "".join(
        f"<tr><td>{html.escape(key)}</td>"
        + "".join(f"<td>{html.escape(analysis.settings.get(key, '–'))}</td>" for analysis in analyses)
        + "</tr>"
        for key in keys
    )
    return f"<table><tr><th></th>{head}</tr>{rows}</table>"


def _versions() -> str:
    names = ("ipi", "numpy", "scipy", "ase", "matplotlib", "torch")
    versions = [("ipi-driver", __version__), ("Python", platform.python_version())]
    for name in names:
        try:
            versions.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"<p>{html.escape(', '.join(f'{name} {version}' for name, version in versions))}. Written {now}.</p>"
    )
