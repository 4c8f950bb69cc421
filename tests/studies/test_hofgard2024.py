"""Learned symmetry breaking: what symmetry protects is zero, what it allows has the published ratio."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from ipi_driver.cli import main
from ipi_driver.studies.hofgard2024.deformation import learn_deformation
from ipi_driver.studies.hofgard2024.particle import ELECTRIC, MAGNETIC, learn_fields
from ipi_driver.symmetry.breaking import largest_point_group, norm


def broken(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values for name, values in weights.items() if name != "0e"}


def test_a_cube_that_stays_one_breaks_nothing() -> None:
    for layer in learn_deformation("cube", steps=20).layers:
        assert norm(broken(layer)) < 1e-12
        assert largest_point_group(layer).name == "O(3)"


def test_a_prism_leaves_one_component() -> None:
    """Its two coefficients are those of 2z² - x² - y² in e3nn's convention, whose axis is y."""
    for layer in learn_deformation("prism", steps=40).layers:
        a, b = layer["2e"][2], layer["2e"][4]
        assert abs(a) > 1e-5
        assert b / a == pytest.approx(-np.sqrt(3.0), rel=1e-9)
        rest = broken(layer) | {"2e": np.delete(layer["2e"], [2, 4])}
        assert norm(rest) < 1e-9 * abs(a)
        group = largest_point_group(layer)
        assert (group.name, abs(group.axis[2])) == ("D∞h", pytest.approx(1.0))


def test_any_deformation_leaves_no_symmetry() -> None:
    first, second = learn_deformation("random", steps=40).layers
    assert all(np.abs(values).min() > 0 for values in (broken(first) | broken(second)).values())
    assert largest_point_group(first).name == "C1"


def test_the_fields_on_a_particle() -> None:
    equivariant, relaxed = learn_fields(False, steps=60), learn_fields(True, steps=150)
    assert equivariant.error > 0.3
    assert relaxed.error < 1e-3
    for found, field in ((relaxed.electric, ELECTRIC), (relaxed.magnetic, MAGNETIC)):
        np.testing.assert_allclose(found, field / np.linalg.norm(field), atol=0.02)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert main(["reproduce", "hofgard2024", "--fraction", "0.004", "--output", str(output)]) == 0
    assert "Hofgard et al. (2024)" in capsys.readouterr().out
    with (output / "table.csv").open() as stream:
        rows = {row["quantity"]: row["here"] for row in csv.DictReader(stream)}
    assert rows["cube to prism: their ratio, layer 1"] == "-1.7321"
    for name in ("README.md", "weights.json", "signals.png"):
        assert (output / name).stat().st_size > 0
    assert main(["reproduce", "hofgard2024", "gas"]) == 2
    assert "is a study of its own: leave gas out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--dry-run"], "dry-run"),
        (["--seed", "2"], "seed"),
        (["--with", "runs/x"], "with"),
        (["--stride", "8"], "nmts"),
    ],
)
def test_options_of_the_other_study_are_refused(
    options: list[str], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", "hofgard2024", "-o", str(tmp_path / "out"), *options]) == 2
    assert f"hofgard2024 has no --{name}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
