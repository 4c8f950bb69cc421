"""From analyses to a folder: tables, figures, the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ipi_driver.analysis.result import Analysis
from ipi_driver.report.figures import draw_curves, draw_maps, layouts_of, save
from ipi_driver.report.page import write_page
from ipi_driver.report.tables import write_tables
from ipi_driver.report.viewer import viewer_html

MAPS = {
    "orientation": (
        "Orientational free energy",
        "-ln of the density of molecular orientations in the laboratory frame relative to a uniform one. It is flat "
        "for an equivariant potential; grey: never visited.",
    )
}


def write_report(
    analyses: Sequence[Analysis],
    folder: Path,
    command: str,
    with_viewer: bool = True,
    title: str = "",
    sections: Sequence[str] = (),
    remarks: Mapping[str, str] | None = None,
) -> Path:
    """Write CSV, JSON, PNG, PDF and ``report.html`` to a folder; the path of the page.

    Parameters
    ----------
    command
        The command that repeats the report.
    title, sections
        Of the page, as in `write_page`.
    remarks
        By kind, said under every figure of that kind.
    """
    remarks = remarks or {}
    folder.mkdir(parents=True, exist_ok=True)
    write_tables(analyses, folder)
    figures: list[tuple[str, str, str, Path]] = []
    for kind in dict.fromkeys(analysis.kind for analysis in analyses):
        same = [analysis for analysis in analyses if analysis.kind == kind]
        for key, (name, caption) in MAPS.items():
            figure = draw_maps(key, same)
            if figure is not None:
                figures.append(
                    (
                        kind,
                        name,
                        f"{caption} {remarks.get(kind, '')}",
                        save(figure, folder / "figures", f"{kind}-{key}"),
                    )
                )
        for layout in layouts_of(same):
            png = save(draw_curves(layout, same), folder / "figures", f"{kind}-{layout.name}")
            figures.append((kind, layout.title, f"{layout.caption} {remarks.get(kind, '')}", png))
    viewer = viewer_html(analyses) if with_viewer else ""
    return write_page(analyses, figures, viewer, command, folder / "report.html", title, sections)
