"""The sentences on the first screen of a reproduction state what the numbers are, also where these are extreme."""

import numpy as np
import pytest

from ipi_driver.analysis.compare import Comparison, compare_runs
from ipi_driver.analysis.result import Analysis, Curve, Scalar
from ipi_driver.studies.langer2024.conclusion import conclude
from ipi_driver.studies.langer2024.published_curves import CURVES, _compare


def run(kind: str, average: str = "none", **scalars: Scalar) -> Analysis:
    return Analysis("run", kind, "", "", {"average": average}, scalars=scalars)


@pytest.mark.parametrize(
    ("raw", "averaged", "expected"),
    [
        (5.0, 0.25, "lowers it 20 times"),
        (5.0, 3.0, "lowers it 1.7 times"),
        (5.0, 0.0, "lowers it to nothing"),
        (5.0, 10.0, "does not lower it: 10.00 ± 0.10 meV are left"),
        (5.0, 5.0, "does not lower it: 5.00 ± 0.10 meV are left"),
        (0.0, 0.0, "does not lower it: 0.00 ± 0.10 meV are left"),
    ],
)
def test_what_an_average_does_to_the_torque(raw: float, averaged: float, expected: str) -> None:
    torques = {"torque_none": Scalar("", raw, 0.1, "meV"), "torque_2i": Scalar("", averaged, 0.1, "meV")}
    (text,) = conclude({"gas-nve-raw": run("gas", **torques)}, [], [], "m")
    assert f"36 rotations of 2i {expected} (published: 20 times)" in text


def test_only_the_liquids_that_were_run_are_named() -> None:
    agree = [Comparison("T", "K", {}, "agree", p=0.5)]
    two = {"liquid-raw": run("liquid"), "liquid-2i": run("liquid", "2i")}
    (text,) = conclude(two, [], agree, "m")
    assert text.startswith("Liquids with raw and averaged forces agree in all 1 ")
    (text,) = conclude(two | {"liquid-random": run("liquid", "random")}, [], agree, "m")
    assert text.startswith("Liquids with raw, averaged and random forces agree")
    (text,) = conclude({"liquid-raw": run("liquid"), "mine": run("liquid")}, [], agree, "m")
    assert text.startswith("Liquids with raw forces and mine agree")


def test_a_conserved_quantity_that_falls_does_not_rise() -> None:
    liquids = {
        "liquid-raw": run("liquid", drift=Scalar("", -3.0, 0.1, "")),
        "liquid-2i": run("liquid", "2i", dissipation=Scalar("", 12.0, 1.0, "")),
        "liquid-random": run("liquid", "random", drift=Scalar("", 1.0, 5.0, "")),
    }
    (text,) = conclude(liquids, [], [], "m")
    assert "rises" not in text
    assert "raw -3.00 ± 0.10 by its slope (published 2)" in text
    assert "2i with multiple time stepping 12.0 ± 1.0 (published slope 12.5)" in text
    assert "random rotations not resolved (< 11) by its slope" in text


def test_drifts_without_errors_have_no_order() -> None:
    still = Scalar("drift", 0.0, 0.0, "meV", n_blocks=10)
    (row,) = compare_runs({"a": run("liquid", drift=still), "b": run("liquid", "random", drift=still)})
    assert (row.verdict, row.detectable) == ("a and b not resolved", "")


def test_a_curve_of_few_blocks_that_is_far_from_the_published_one_differs() -> None:
    x = np.linspace(2.5, 6.0, 50)
    blocks = 5.0 + 0.01 * np.random.default_rng(0).normal(size=(4, 50))
    error = np.full(50, 0.005)
    far = Curve(x, blocks.mean(axis=0), error, "r / Å", "g", blocks=blocks)
    row = _compare(CURVES[0], far)
    assert row is not None
    assert row.verdict.startswith("differs (p < 0.001")
    constant = Curve(x, np.ones(50), error, "r / Å", "g", blocks=np.ones((4, 50)))
    row = _compare(CURVES[0], constant)
    assert row is not None
    assert row.verdict == "not resolved: no point has an error"
