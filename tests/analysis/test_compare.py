"""Which runs are compared, and where the verdicts stand; `tests/studies/test_comparison.py` tests the statistics."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from ipi_driver.analysis.result import Analysis, Curve, Scalar
from ipi_driver.api.analyzing import Analyses
from ipi_driver.report.comparison import agreement, comparisons_of, write_comparisons
from ipi_driver.report.writer import write_report


def run(
    label: str, kind: str = "liquid", ensemble: str = "nvt", kelvin: int = 300, **values: float
) -> Analysis:
    settings = {"ensemble": ensemble, "temperature": f"{kelvin:.1f} K", "average": "none"}
    made = Analysis(label, kind, label, "64 H2O", settings)
    made.scalars = {
        key: Scalar(key, value, 0.1, "", block_length=1.0, n_blocks=20) for key, value in values.items()
    }
    return made


def test_runs_at_one_temperature_are_compared() -> None:
    runs = [run("a", relaxation=4.0), run("b", relaxation=4.1), run("hot", kelvin=350, relaxation=2.0)]
    runs += [run("hot 2", kelvin=350, relaxation=3.0), run("alone", ensemble="npt", relaxation=9.0)]
    found = comparisons_of(runs)
    assert list(found) == ["liquid, nvt, 300.0 K", "liquid, nvt, 350.0 K"]
    (cold,), (hot,) = found.values()
    assert (list(cold.values), list(hot.values)) == (["a", "b"], ["hot", "hot 2"])
    assert cold.verdict.startswith("agree")
    assert hot.verdict.startswith("differ")
    assert list(comparisons_of(runs[:2])) == ["liquid"]
    assert comparisons_of(runs[:1]) == comparisons_of([run("a", "ice", x=1.0), run("b", "ice", x=2.0)]) == {}


def test_dynamics_of_ice_are_compared_as_those_of_a_liquid() -> None:
    runs = [run(name, "ice", temperature_O=kelvin) for name, kelvin in (("a", 250.0), ("b", 260.0))]
    ((row,),) = comparisons_of(runs).values()
    assert row.verdict.startswith("differ")
    for relaxed in runs:  # those have tables of their own
        relaxed.curves["ice_relaxed"] = Curve(np.zeros(2), np.zeros(2), np.zeros(2), "cell", "E")
    assert comparisons_of(runs) == {}


def test_at_constant_energy_only_what_the_start_does_not_decide() -> None:
    values = {"temperature_O": 300.0, "relaxation": 4.0, "drift": 1.0}
    for kind, expected in (("gas", ["drift"]), ("liquid", ["relaxation", "drift"])):
        runs = [run(name, kind, "nve", **values) for name in "ab"]
        (rows,) = comparisons_of(runs).values()
        assert [row.label for row in rows] == expected


def test_verdicts_are_printed_and_written(tmp_path: Path) -> None:
    runs = [run("a", relaxation=4.0, diffusion=0.2), run("b", relaxation=5.0, diffusion=0.2)]
    found = comparisons_of(runs)
    sentence = agreement("The runs", found["liquid"])
    assert sentence.startswith(
        "The runs agree in 1 of 2 quantities compared; they differ in relaxation (p = "
    )
    page = write_report(runs, tmp_path, "command", with_viewer=False, comparisons=found).read_text()
    assert "Do the runs agree? (liquid)" in page
    assert "they differ in relaxation" in page
    stored = json.loads((tmp_path / "comparison.json").read_text())["liquid"]
    assert {row["label"]: row["p"] < 0.05 for row in stored} == {"relaxation": True, "diffusion": False}
    header, *rows = csv.reader((tmp_path / "comparison-liquid.csv").read_text().splitlines())
    assert header == ["quantity", "a", "b", "unit", "verdict", "would have been found"]
    assert [row[0] for row in rows] == ["relaxation", "diffusion"]
    assert "relaxation: differ (p" in repr(Analyses(tuple(runs)))
    write_comparisons({"liquid, nvt, 300.0 K": found["liquid"]}, tmp_path)
    assert (tmp_path / "comparison-liquid-nvt-300.0-K.csv").is_file()
    assert agreement("x", []) == ""


def test_one_run_has_nothing_to_agree_with(tmp_path: Path) -> None:
    alone = [run("a", relaxation=4.0)]
    write_report(alone, tmp_path, "command", with_viewer=False, comparisons=comparisons_of(alone))
    assert not list(tmp_path.glob("comparison*"))
