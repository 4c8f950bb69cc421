"""The page of a report: contents, conclusion, units, notes; the figures that it is made of."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ipi_driver.analysis.result import Analysis, Curve, Map, Scalar
from ipi_driver.report.figures import draw_curves, draw_maps, pretty
from ipi_driver.report.layouts import LAYOUTS, layouts_of
from ipi_driver.report.page import anchor_of
from ipi_driver.report.tables import shown_value
from ipi_driver.report.writer import write_report

RNG = np.random.default_rng(0)


def liquid(name: str, shift: float = 0.0) -> Analysis:
    made = Analysis(name, "liquid", name, "64 H2O", {"model": "m", "average": name})
    made.scalars["diffusion"] = Scalar(
        "diffusion coefficient D of O (fit 1 to 2 ps)", 0.2 + shift, 0.02, "Å²/ps", 0.4, 5.0, 6
    )
    made.scalars["drift"] = Scalar("drift of the conserved quantity", -515.0, 4893.0, "meV/molecule/ns")
    x = np.linspace(0.1, 6.0, 60)
    for key in ("g_OO", "g_OH"):
        made.curves[key] = Curve(x, 1.0 + np.sin(x) / x + shift, np.full(60, 0.01), "r / Å", key)
    made.curves["msd"] = Curve(x, x, 0.1 * x, "t / ps", "MSD of O / Å²")
    made.note("the same remark")
    return made


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    return write_report([liquid("raw"), liquid("2i", 0.01)], folder, "again", with_viewer=False).read_text()


def test_every_entry_of_the_contents_leads_somewhere(page: str) -> None:
    links = re.findall(r'<a href="#([^"]+)">', page)
    assert len(links) >= 3
    assert set(links) <= set(re.findall(r'id="([^"]+)"', page))
    assert len(set(re.findall(r'<h2 id="([^"]+)"', page))) == page.count("<h2")


def test_the_conclusion_with_numbers_comes_first(page: str) -> None:
    first = page[page.index("<body>") : page.index("<h2")]
    assert "The diffusion coefficient is: 0.200 ± 0.020 (raw), 0.210 ± 0.020 (2i) Å²/ps." in first
    assert first.count("<img") == 1
    assert "Pair correlation functions" in first


def test_units_stand_beside_the_quantities_and_remarks_once(page: str) -> None:
    assert "fit 1 to 2 ps) <span class='unit'>Å²/ps</span>" in page
    assert "<th>unit</th>" not in page
    assert page.count("the same remark") == 1
    assert "raw, 2i: the same remark" in page
    assert "τ 0.4 ps, 6 blocks" in page
    assert 'name="viewport"' in page
    assert "@media print" in page


def test_a_drift_that_is_lost_is_not_resolved() -> None:
    lost = liquid("raw").scalars["drift"]
    assert shown_value("drift", lost) == "not resolved (< 10000)"  # |-515| + 2 × 4893, two digits
    assert shown_value("diffusion", lost) == "-515 ± 4893"
    assert shown_value("drift", Scalar("", 167.0, 28.0, "")) == "167 ± 28"


def test_differences_and_references_are_drawn() -> None:
    runs = [liquid("raw"), liquid("2i", 0.01), liquid("random")]
    layout = next(layout for layout in layouts_of(runs) if layout.name == "pair-correlations")
    reference = Curve(np.linspace(2, 9, 50), np.ones(50), np.full(50, 0.03), "", "")
    figure = draw_curves(layout, runs, {"g_OO": [("published", reference)]})
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 4  # two pairs, and below each the differences
    upper, below = shown[0], shown[2]
    assert [line.get_label() for line in upper.lines][:4] == ["raw", "2i", "random", "published"]
    assert upper.lines[3].get_xdata()[-1] <= 6.0
    np.testing.assert_allclose(below.lines[0].get_ydata(), 0.01, atol=1e-12)
    np.testing.assert_allclose(below.lines[1].get_ydata(), 0.0, atol=1e-12)


def test_time_series_end_with_the_shortest() -> None:
    runs = []
    for name, end in (("raw", 100.0), ("2i", 10.0)):
        made = Analysis(name, "gas", name, "1 H2O", {})
        t = np.linspace(0.0, end, 101)
        made.curves["L"] = Curve(t, t, np.full(101, np.nan), "time / ps", "|L| / ħ")
        runs.append(made)
    (layout,) = [layout for layout in layouts_of(runs) if layout.name == "angular-momentum"]
    (axes,) = draw_curves(layout, runs).axes
    assert max(line.get_xdata()[-1] for line in axes.lines) == pytest.approx(10.0)
    assert axes.get_ylim()[1] < 12.0


def test_maps_say_their_noise() -> None:
    cos_theta, phi = np.linspace(-0.9, 0.9, 4), np.linspace(-3, 3, 6)
    made = liquid("raw")
    values = np.where(np.arange(24).reshape(4, 6) < 6, 1.0, 0.1)
    made.maps["orientation"] = Map(cos_theta, phi, values, np.full((4, 6), 0.2), "cos θ", "φ / rad", "F / kT")
    figure = draw_maps("orientation", [made], [("published", made.maps["orientation"])])
    assert figure is not None
    panel = figure.axes[0]
    assert panel.get_title() == "raw\nrms 0.51, noise 0.2"
    assert len(panel.lines[0].get_xdata()) == 18  # cells within two standard errors
    assert draw_maps("orientation", [liquid("2i")]) is None


def test_labels_have_indices_and_exponents() -> None:
    assert pretty("wavenumber / cm-1") == "wavenumber / cm⁻¹"
    assert pretty("c_uu longitudinal") == "$c_{uu}$ longitudinal"
    assert pretty("Lx / ħ") == "$L_x$ / ħ"
    assert pretty("conserved quantity / meV per molecule") == "conserved quantity\n/ meV per molecule"
    assert anchor_of("Liquid (64 H2O)") == "liquid-64-h2o"
    assert {layout.name for layout in LAYOUTS["liquid"]} >= {
        "pair-correlations",
        "dipole-correlations",
        "msd",
    }


def test_the_same_figures_in_png_and_pdf(tmp_path: Path) -> None:
    write_report([liquid("raw")], tmp_path, "again", with_viewer=False)
    pngs = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert pngs == {path.stem for path in (tmp_path / "figures").glob("*.pdf")}
    assert "liquid-pair-correlations" in pngs
