"""A report in the folder of an earlier one holds nothing of that."""

from pathlib import Path

import numpy as np

from ipi_driver.analysis.compare import Comparison
from ipi_driver.analysis.result import Analysis, Curve
from ipi_driver.report.writer import write_report


def analysis(kind: str, key: str) -> Analysis:
    x = np.arange(5.0)
    curve = Curve(x, x, np.full(5, 0.1), "r / Å", "y")
    return Analysis("run", kind, "run", "64 H2O", {"average": "none"}, curves={key: curve})


def test_what_an_earlier_report_had_is_gone(tmp_path: Path) -> None:
    verdicts = {"liquid, nvt, 300.0 K": [Comparison("T", "K", {"a": (1.0, 0.1)}, "agree", p=0.5)]}
    write_report([analysis("liquid", "msd")], tmp_path, "first", with_viewer=False, comparisons=verdicts)
    assert (tmp_path / "comparison-liquid-nvt-300.0-K.csv").is_file()
    (tmp_path / "curves" / "mine.csv").write_text("of the user\n")
    (tmp_path / "figures" / "liquid-mine.png").write_text("of the user, too\n")
    assert (tmp_path / "curves" / "liquid-msd.csv").is_file()
    assert (tmp_path / "figures" / "liquid-msd.png").is_file()
    write_report([analysis("gas", "conserved")], tmp_path, "second", with_viewer=False)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert "figures/liquid-mine.png" in found
    found.remove("figures/liquid-mine.png")
    assert not {name for name in found if "liquid" in name or "comparison" in name}
    assert {"curves/gas-conserved.csv", "curves/mine.csv", "figures/gas-conserved.png"} <= found
