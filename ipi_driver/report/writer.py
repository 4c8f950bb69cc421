"""From analyses to a folder: tables, figures, the page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from ipi_driver.analysis.compare import Comparison
from ipi_driver.analysis.result import Analysis, Curve, Map
from ipi_driver.report.comparison import (
    agreement,
    comparison_section,
    remove_comparisons,
    write_comparisons,
)
from ipi_driver.report.conclusion import conclusion_of
from ipi_driver.report.figures import draw_curves, draw_maps, save
from ipi_driver.report.layouts import NAMES, layouts_of
from ipi_driver.report.page import (
    PageFigure,
    Section,
    errors_section,
    section_of,
    settings_section,
    write_page,
)
from ipi_driver.report.tables import write_tables
from ipi_driver.report.viewer import viewer_html

MAPS = {
    "orientation": (
        "Orientational free energy",
        "-ln of the density of molecular orientations in the laboratory frame relative to a uniform one. It is flat "
        "for an equivariant potential; grey: never visited; dots: within two standard errors of zero, noise.",
    ),
    "orientation_perturbation": (
        "Orientational free energy by perturbation",
        "-ln of the mean Boltzmann factor of E(R x) less its average over rotations, over snapshots of a run with "
        "averaged forces: what the orientations would have with the raw potential.",
    ),
}
_LEADS = ("liquid-pair-correlations", "gas-angular-momentum", "ice-energies")
"""Figures that stand beside the conclusion, the first that there is."""


def write_report(
    analyses: Sequence[Analysis],
    folder: Path,
    command: str,
    with_viewer: bool = True,
    title: str = "",
    sections: Sequence[Section] = (),
    remarks: Mapping[str, str] | None = None,
    conclusion: Sequence[str] | None = None,
    curves: Mapping[str, Mapping[str, Sequence[tuple[str, Curve]]]] | None = None,
    maps: Mapping[str, Sequence[tuple[str, Map]]] | None = None,
    comparisons: Mapping[str, Sequence[Comparison]] | None = None,
) -> Path:
    """Write CSV, JSON, PNG, PDF and ``report.html`` to a folder; the path of the page.

    Parameters
    ----------
    command
        The command that repeats the report.
    title
        Of the page; empty: how many runs it is of.
    sections
        Parts of the page before the runs.
    remarks
        By kind, printed once under the figures of that kind.
    conclusion
        Sentences of the first screen; None makes them from the numbers.
    curves, maps
        From elsewhere, by kind (and key), drawn beside those of the runs.
    comparisons
        Verdicts, by what the runs are: a part of the page, a sentence, files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove_earlier(folder)
    write_tables(analyses, folder)
    compared = comparisons or {}
    write_comparisons(compared, folder)
    verdicts = [agreement(f"The runs ({runs})", rows) for runs, rows in compared.items()]
    sections = [
        *sections,
        *(comparison_section(f"Do the runs agree? ({runs})", rows) for runs, rows in compared.items()),
    ]
    parts, figures = [], {}
    for kind in dict.fromkeys(analysis.kind for analysis in analyses):
        same = [analysis for analysis in analyses if analysis.kind == kind]
        found = _figures(
            kind, same, folder / "figures", (curves or {}).get(kind, {}), (maps or {}).get(kind, ())
        )
        figures.update(found)
        parts.append(section_of(kind, same, list(found.values()), (remarks or {}).get(kind, "")))
    parts = [*sections, *parts, errors_section(), settings_section(analyses)]
    if with_viewer:
        parts.append(Section("Structures", viewer_html(analyses)))
    lead = next((figures[name] for name in _LEADS if name in figures), next(iter(figures.values()), None))
    title = title or f"Analysis of {len(analyses)} run{'s' * (len(analyses) > 1)}"
    sentences = [*filter(None, verdicts), *conclusion_of(analyses)] if conclusion is None else conclusion
    return write_page(folder / "report.html", title, sentences, lead, parts, command)


def _remove_earlier(folder: Path) -> None:
    """Remove what an earlier report has written: what this one lacks would look as if it belonged to it."""
    remove_comparisons(folder)
    try:
        earlier = json.loads((folder / "analysis.json").read_text())
        found = [
            (str(a["kind"]), place, key) for a in earlier for place in ("curves", "maps") for key in a[place]
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for kind, place, key in found:
        (folder / place / f"{kind}-{key}.csv").unlink(missing_ok=True)
    figures = [*NAMES, *(key.replace("_", "-") for key in MAPS)]
    for kind, name, ending in product({kind for kind, _, _ in found}, figures, ("png", "pdf")):
        (folder / "figures" / f"{kind}-{name}.{ending}").unlink(missing_ok=True)


def _figures(
    kind: str,
    analyses: Sequence[Analysis],
    folder: Path,
    curves: Mapping[str, Sequence[tuple[str, Curve]]],
    maps: Sequence[tuple[str, Map]],
) -> dict[str, PageFigure]:
    """Figures of one kind by the names of their files."""
    found = {}
    for layout in layouts_of(analyses):
        name = f"{kind}-{layout.name}"
        beside = {key: curves[key] for key in layout.panels if key in curves}
        png = save(draw_curves(layout, analyses, beside), folder, name)
        found[name] = PageFigure(layout.title, layout.caption, png)
    for key, (title, caption) in MAPS.items():
        figure = draw_maps(key, analyses, maps)
        if figure is not None:
            name = f"{kind}-{key.replace('_', '-')}"
            found[name] = PageFigure(title, caption, save(figure, folder, name))
    return found
