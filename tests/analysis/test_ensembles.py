"""Ensembles of runs: their mean and its error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student

from ipi_driver.analysis.compare import compare_numbers
from ipi_driver.analysis.dispatch import make_labels_unique
from ipi_driver.analysis.ensembles import join, mean_of_runs
from ipi_driver.analysis.result import Analysis, Curve, Map, Scalar
from ipi_driver.errors import UserError


def run(value: float, seed: int, system: str = "1 H2O") -> Analysis:
    analysis = Analysis(f"run-{seed}", "gas", f"farm/run-{seed}", system, {"seed": str(seed)})
    analysis.scalars["temperature"] = Scalar("temperature", value, 9.0, "K")
    x = np.linspace(0.0, 1.0, 5)
    analysis.curves["msd"] = Curve(x, value * x, np.full(5, 0.1), "t / ps", "msd / Å²")
    return analysis


@pytest.mark.parametrize("n", [2, 4, 20])
def test_intervals_by_students_t_cover(n: int) -> None:
    generator = np.random.default_rng(n)
    mean, error = mean_of_runs(generator.normal(300.0, 5.0, size=(n, 20_000)))
    covered = np.mean(np.abs(mean - 300.0) <= student.ppf(0.975, n - 1) * error)
    assert covered == pytest.approx(0.95, abs=0.006)  # 3.9 standard deviations of 20 000 trials


@pytest.mark.parametrize("n", [2, 4])
def test_like_ensembles_differ_in_one_of_twenty_comparisons(n: int) -> None:
    """Of two ensembles the test is Student's t of 2 (n - 1) degrees of freedom, where the spreads are alike."""
    generator = np.random.default_rng(10 + n)
    chances = []
    for _ in range(1500):
        groups = generator.normal(300.0, 5.0, size=(2, n))
        first, second = join(
            {
                name: [run(value, k) for k, value in enumerate(group)]
                for name, group in zip("ab", groups, strict=True)
            }
        )
        chances.append(compare_numbers([first.scalars["temperature"], second.scalars["temperature"]])[0])
    # weights from few runs make it a little too ready to tell a difference, the more so the fewer they are
    assert 0.03 < np.mean(np.array(chances) < 0.05) < {2: 0.16, 4: 0.10}[n]


def test_runs_of_one_average_are_joined() -> None:
    raw, averaged = join({"raw": [run(1.0, 1), run(3.0, 2)], "Th": [run(2.0, 1), run(2.0, 2)]})
    assert raw.label == "raw (2 runs)"
    assert (raw.scalars["temperature"].value, raw.scalars["temperature"].n_blocks) == (2.0, 2)
    # the standard deviation sqrt(2) over sqrt(2)
    assert raw.scalars["temperature"].error == pytest.approx(1.0)
    np.testing.assert_allclose(raw.curves["msd"].y, 2.0 * raw.curves["msd"].x)
    assert averaged.scalars["temperature"].error == 0.0


def test_curves_of_other_lengths_are_joined_as_far_as_all_reach() -> None:
    """As g(r) of runs at constant pressure; beyond its last point a curve is not known."""
    one, other = run(1.0, 1), run(1.0, 2)
    x = np.linspace(0.0, 0.8, 9)
    other.curves["msd"] = Curve(x, x, np.full(9, 0.1), "t / ps", "msd / Å²")
    for order in ([one, other], [other, one]):
        (joined,) = join({"raw": order})
        curve = joined.curves["msd"]
        assert curve.x[-1] <= 0.8
        np.testing.assert_allclose(curve.y, curve.x)


def test_blocks_of_an_ensemble_are_its_runs() -> None:
    """Where it is compared with another run, whose blocks are merged until they are as long."""
    runs = [run(1.0, 1), run(3.0, 2)]
    for one in runs:
        one.curves["msd"] = replace(one.curves["msd"], blocks=np.ones((4, 5)), block_length=2.5)
    (joined,) = join({"raw": runs})
    assert joined.curves["msd"].block_length == 10.0
    assert joined.curves["msd"].blocks is not None
    assert len(joined.curves["msd"].blocks) == 2


def test_what_some_runs_lack_is_said() -> None:
    """Also where the first is the one that lacks it."""
    short, long = run(1.0, 1), run(3.0, 2)
    long.scalars["diffusion"] = Scalar("diffusion coefficient D", 0.2, 0.1, "Å²/ps")
    long.curves["g_OO"] = Curve(np.ones(3), np.ones(3), np.ones(3), "r / Å", "g O–O")
    long.maps["orientation"] = Map(np.ones(1), np.ones(1), np.ones((1, 1)), np.ones((1, 1)), "", "", "")
    for order in ([short, long], [long, short]):
        (joined,) = join({"raw": order})
        assert set(joined.scalars) == {"temperature"}
        assert set(joined.curves) == {"msd"}
        for what in ("diffusion coefficient D: left out", "g O–O: left out", "maps of orientations"):
            assert any(what in note for note in joined.notes)


def test_ranges_of_fits_that_differ_are_said() -> None:
    """As of a member that is not finished."""
    runs = [run(1.0, 1), run(3.0, 2)]
    for one, stop in zip(runs, (10, 10), strict=True):
        one.scalars["diffusion"] = Scalar(f"D (fit 1 to {stop} ps)", 0.2, 0.1, "Å²/ps")
    assert not any("ranges differ" in note for note in join({"raw": runs})[0].notes)
    runs[1].scalars["diffusion"] = Scalar("D (fit 0.3 to 1 ps)", 0.4, 0.1, "Å²/ps")
    assert "D: the ranges differ from run to run" in join({"raw": runs})[0].notes[0]


def test_ensembles_of_several_farms_are_told_apart() -> None:
    joined = [one for farm in "ab" for one in join({"T": [run(1.0, 1), run(2.0, 2)]})]
    for farm, one in zip("ab", joined, strict=True):
        one.source = f"farm-{farm}/T-1"
    make_labels_unique(joined)
    assert [one.label for one in joined] == ["farm-a/T (2 runs)", "farm-b/T (2 runs)"]


def test_runs_of_different_systems_or_one_run_are_refused() -> None:
    with pytest.raises(UserError, match="differ"):
        join({"raw": [run(1.0, 1), run(1.0, 2, "2 H2O")]})
    with pytest.raises(UserError, match="at least two runs, got 1"):
        join({"raw": [run(1.0, 1)]})


def test_equal_seeds_are_noted() -> None:
    (joined,) = join({"raw": [run(1.0, 1), run(3.0, 1)]})
    assert "not independent" in joined.notes[0]
