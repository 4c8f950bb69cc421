"""``ipi-driver analyze`` on run folders with known answers."""

import csv
import json
import re
import shutil
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import synthetic
from ase.build import molecule

from ipi_driver.analysis.dispatch import analyze_folders
from ipi_driver.analysis.result import Analysis, Options, Scalar
from ipi_driver.cli import main
from ipi_driver.errors import UserError
from ipi_driver.ipi_files import Run
from ipi_driver.observables.dynamics import finite_size_correction
from ipi_driver.report.run_summary import plot_run
from ipi_driver.report.tables import formatted, in_one_row
from ipi_driver.units import MILLIPASCAL_SECOND


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    synthetic.liquid(folder / "raw", 0)
    synthetic.liquid(folder / "averaged", 1)
    synthetic.gas(folder / "gas", 2)
    return folder


@pytest.fixture(scope="module")
def analyses(runs: Path) -> list[Analysis]:
    return analyze_folders(
        [runs / "raw", runs / "averaged", runs / "gas"], Options(longest_lag=2.0, pair_snapshots=200)
    )


def near(scalar, expected: float, sigmas: float = 4.5) -> bool:
    assert scalar.error > 0
    return abs(scalar.value - expected) < sigmas * scalar.error


def test_kinds_are_recognized(analyses):
    assert [a.kind for a in analyses] == ["liquid", "liquid", "gas"]
    assert [a.system for a in analyses] == ["32 H2O", "32 H2O", "1 H2O"]
    assert [a.label for a in analyses] == ["raw", "averaged", "gas"]
    assert all(a.notes == [] for a in analyses[:2])


def test_liquid_numbers(analyses):
    factor = np.exp(-(0.25**2))  # to first order; the rest is far below the errors here
    for analysis in analyses[:2]:
        scalars = analysis.scalars
        # a random walk of the oxygens relative to the center of mass of 32 molecules: D (1 - 1/32)
        assert near(scalars["diffusion"], 0.3 * 31 / 32)
        correction = 2.837297 * 8.617333262e-5 * 300 / (6 * np.pi * 0.854 * MILLIPASCAL_SECOND * 14.0) * 1e3
        assert scalars["diffusion_corrected"].value - scalars["diffusion"].value == pytest.approx(
            correction, rel=1e-5
        )
        assert finite_size_correction(300.0, 14.0, 0.854) == pytest.approx(correction)
        assert near(scalars["relaxation"], -0.1 / np.log(factor), 5.0)
        assert near(scalars["temperature_O"], 300.0)
        assert near(scalars["temperature_H"], 300.0)
        assert scalars["drift"].value == pytest.approx(5.0, rel=1e-4)
        assert scalars["roughness_chi2"].value < 1.6
        assert scalars["diffusion"].block_length >= 3 * scalars["diffusion"].correlation_time
        msd = analysis.curves["msd"]
        assert msd.x[1] == pytest.approx(0.1)
        assert np.abs((msd.y - 6 * 0.3 * 31 / 32 * msd.x)[1:] / msd.error[1:]).max() < 5
    assert analyses[0].curves["g_OO"].y[-20:].mean() == pytest.approx(1.0, abs=0.1)


def test_gas_numbers(analyses):
    scalars = analyses[2].scalars
    # torques of 10 meV along z, and what is left across
    assert scalars["torque"].value >= 10.0
    assert near(scalars["torque_vector"], 10.0, 6.0)
    assert scalars["roughness"].value == pytest.approx(scalars["roughness_noise"].value, rel=0.3)
    assert scalars["roughness_chi2"].value == pytest.approx(1.0, abs=0.4)
    assert near(scalars["temperature_O"], 300.0)
    assert "precession" not in scalars  # a thermostat turns the molecule too
    assert "spectrum_potential" in analyses[2].curves


def test_precession_at_constant_energy(tmp_path):
    synthetic.precessing(tmp_path / "turning", rate=2.0)
    synthetic.precessing(tmp_path / "still", rate=0.0)
    turning, still = analyze_folders([tmp_path / "turning", tmp_path / "still"], Options())
    assert turning.scalars["precession"].value == pytest.approx(2.0, rel=0.02)
    frequency = turning.scalars["L_frequency"]
    assert frequency.value == pytest.approx(2.0, abs=frequency.error)
    angle = turning.curves["L_angle"]
    # an axis 1 rad from z comes back after a turn, and is 2 rad away after half of one
    assert angle.y[np.abs(angle.x - np.pi).argmin()] < 3.0
    assert angle.y[np.abs(angle.x - np.pi / 2).argmin()] == pytest.approx(np.degrees(2.0), abs=5.0)
    assert still.scalars["precession"].value < 1e-3
    assert still.scalars["L_change"].value < 1e-4
    assert "L_frequency" not in still.scalars
    assert "roughness" not in still.scalars
    assert any(
        note.startswith("torque left out") and "has no forces trajectory" in note for note in still.notes
    )


def test_spectrum_of_what_the_average_removes(tmp_path):
    folder = synthetic.gas(tmp_path / "mts", 5, n_snapshots=800)
    steps = np.arange(800) * 10
    raw = np.random.default_rng(0).normal(size=800) * 0.01
    removed = 0.003 * np.cos(2 * np.pi * 1000.0 * 2.99792458e-5 * steps * 0.5)
    names = ("step", "potential{electronvolt}", *(f"pot_component_raw({k}){{electronvolt}}" for k in (0, 1)))
    text = "".join(f"# column {k} --> {name} : help\n" for k, name in enumerate(names, start=1))
    for step, first, second in zip(steps, raw, removed, strict=True):
        text += f"{step:.8e} {first:.8e} {first:.8e} {first - second:.8e}\n"
    (folder / "simulation.out").write_text(text)
    (analysis,) = analyze_folders([folder], Options())
    curve = analysis.curves["spectrum_non_equivariant"]
    assert curve.x[curve.y.argmax()] == pytest.approx(1000.0, abs=curve.x[1] - curve.x[0])
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(0.003**2 / 2, rel=0.05)
    assert any("drift left out" in note and "no column `conserved`" in note for note in analysis.notes)


def test_skip_leaves_out_the_start(runs):
    (late,) = analyze_folders([runs / "gas"], Options(skip=7.5))
    times = late.curves["conserved"].x
    assert times[0] == pytest.approx(7.5)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("src", "href", "srcset", "data") and value]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, runs = tmp_path_factory.mktemp("report"), tmp_path_factory.mktemp("short")
    synthetic.liquid(runs / "raw", 0, n_snapshots=250)
    synthetic.liquid(runs / "averaged", 1, n_snapshots=250)
    synthetic.gas(runs / "gas", 2, n_snapshots=600)
    arguments = ["analyze", str(runs / "raw"), str(runs / "averaged"), str(runs / "gas")]
    model = ["--model", "anisotropic?l=2&amplitude=0.02", "--averages", "none", "D2", "T"]
    options = ["--output", str(folder), "--longest-lag", "1", "--pair-frames", "60", *model]
    assert main([*arguments, *options]) == 0
    return folder


def positions_of(folder: Path) -> list[np.ndarray]:
    return [snapshot.positions for snapshot in Run(folder).snapshots(["positions"])]


def write_positions(folder: Path, snapshots: list[np.ndarray], steps: Sequence[int]) -> None:
    symbols = ["O", "H", "H"] * (len(snapshots[0]) // 3)
    parts = [
        synthetic.snapshot(values, step, "positions{angstrom}", synthetic.LENGTH, symbols)
        for values, step in zip(snapshots, steps, strict=True)
    ]
    (folder / "simulation.pos_0.xyz").write_text("".join(parts))


def test_what_is_left_out_may_have_another_stride(runs, analyses, tmp_path):
    """20 snapshots a tenth as far apart before those of the run."""
    shutil.copytree(runs / "raw", tmp_path / "run")
    snapshots = positions_of(tmp_path / "run")
    steps = [*range(0, 200, 10), *range(200, 200 + 200 * len(snapshots), 200)]
    write_positions(tmp_path / "run", [snapshots[0]] * 20 + snapshots, steps)
    options = Options(longest_lag=2.0, pair_snapshots=200, skip=0.1)
    (found,) = analyze_folders([tmp_path / "run"], options)
    expected = analyses[0]
    for name in ("msd", "dipole_single", "g_OO"):
        assert found.curves[name].x == pytest.approx(expected.curves[name].x)
        assert found.curves[name].y == pytest.approx(expected.curves[name].y)
    for name in ("diffusion", "relaxation"):
        assert found.scalars[name].value == pytest.approx(expected.scalars[name].value)
    with pytest.raises(UserError, match="no snapshot of positions after the first 1000 ps"):
        analyze_folders([tmp_path / "run"], Options(skip=1000.0))


def test_positions_may_be_wrapped_into_the_cell(runs, analyses, tmp_path):
    """Diffusion relative to the center of mass, which does not jump where an atom crosses the boundary."""
    shutil.copytree(runs / "raw", tmp_path / "run")
    snapshots = positions_of(tmp_path / "run")
    wrapped = [values % synthetic.LENGTH for values in snapshots]
    assert np.abs(wrapped[-1] - snapshots[-1]).max() > 10.0
    write_positions(tmp_path / "run", wrapped, range(0, 200 * len(snapshots), 200))
    (found,) = analyze_folders([tmp_path / "run"], Options(longest_lag=2.0, pair_snapshots=200))
    for name in ("msd", "dipole_single"):
        # printed with six digits
        assert found.curves[name].y == pytest.approx(analyses[0].curves[name].y, abs=2e-3, nan_ok=True)


def test_a_cell_that_breathes(runs, analyses, tmp_path):
    """At constant pressure the cell is at times smaller than the first one."""
    shutil.copytree(runs / "raw", tmp_path / "run")
    path = tmp_path / "run" / "simulation.pos_0.xyz"
    snapshots = path.read_text().split(" CELL")
    length = f"{synthetic.LENGTH:10.5f}"
    assert length in snapshots[50]
    snapshots[50] = snapshots[50].replace(length, f"{13.0:10.5f}", 3)
    path.write_text(" CELL".join(snapshots))
    (found,) = analyze_folders([tmp_path / "run"], Options(longest_lag=2.0, pair_snapshots=1000))
    assert found.curves["g_OO"].x[-1] < 6.5 < analyses[0].curves["g_OO"].x[-1]
    assert found.curves["cuu_longitudinal"].x[-1] < 6.5
    assert any("half the smallest height of the cell" in note for note in found.notes)
    assert "diffusion" in found.scalars


def test_columns_of_a_second_property_file_with_another_stride(runs, analyses, tmp_path):
    shutil.copytree(runs / "raw", tmp_path / "run")
    first, xml = (tmp_path / "run" / name for name in ("simulation.out", "input.xml"))
    rows = np.loadtxt(first)
    header = "# column 1 --> step : help\n# column {} --> {}{{electronvolt}} : help\n"
    np.savetxt(first, rows[:, [0, 3]], header=header.format(2, "potential"), comments="")
    second = tmp_path / "run" / "simulation.energy"
    np.savetxt(second, rows[::2, [0, 2]], header=header.format(2, "conserved"), comments="")
    more = "<properties filename='energy' stride='400'> [ step, conserved{electronvolt} ] </properties>"
    xml.write_text(xml.read_text().replace("<trajectory filename='pos'", f"{more}<trajectory filename='pos'"))
    (found,) = analyze_folders([tmp_path / "run"], Options(longest_lag=2.0))
    drift = found.scalars["drift"]
    assert drift.value == pytest.approx(analyses[0].scalars["drift"].value, rel=1e-2)
    second.unlink()
    (without,) = analyze_folders([tmp_path / "run"], Options(longest_lag=2.0))
    assert "drift" not in without.scalars
    assert any(
        "no column `conserved` beside a column `step` in simulation.out" in note for note in without.notes
    )


def test_velocities_of_beads_are_no_temperature(runs, tmp_path):
    """They are distributed as at n_beads times the temperature; those of the centroids as at the temperature."""
    shutil.copytree(runs / "raw", tmp_path / "run")
    path = tmp_path / "run" / "input.xml"
    path.write_text(path.read_text().replace("nbeads='1'", "nbeads='8'"))
    (beads,) = analyze_folders([tmp_path / "run"], Options(longest_lag=2.0))
    assert "temperature_O" not in beads.scalars
    assert "diffusion" in beads.scalars
    assert any("add <trajectory filename='v_centroid'" in note for note in beads.notes)
    path.write_text(path.read_text().replace("> velocities <", "> v_centroid{atomic_unit} <"))
    velocities = tmp_path / "run" / "simulation.vel_0.xyz"
    velocities.write_text(velocities.read_text().replace("velocities{", "v_centroid{"))
    (centroids,) = analyze_folders([tmp_path / "run"], Options(longest_lag=2.0))
    assert near(centroids.scalars["temperature_O"], 300.0)


def test_the_torque_of_beads_is_that_of_one(tmp_path):
    """The mean of r x F is not that of the centroids, whose angular momentum nothing conserves."""
    folder = synthetic.gas(tmp_path / "run", 7, n_snapshots=400)
    path = folder / "input.xml"
    text = path.read_text().replace("nbeads='1'", "nbeads='8'")
    for name, quantity in (("frc", "f_centroid"), ("pos", "x_centroid")):
        shutil.copyfile(folder / f"simulation.{name}_0.xyz", folder / f"simulation.{name}_mean.xyz")
        stride = "<trajectory filename='" + name + "' stride='10'>"
        text = text.replace(
            stride, f"<trajectory filename='{name}_mean' stride='10'> {quantity} </trajectory>" + stride
        )
    path.write_text(text)
    centroids = folder / "simulation.frc_mean.xyz"
    turned = re.sub(r"(?m)^( +[OH] )(.{13})(.{13})", r"\1\3\2", centroids.read_text())
    centroids.write_text(turned)
    (found,) = analyze_folders([folder], Options())
    assert found.scalars["torque_vector"].value == pytest.approx(10.0, rel=1e-3)
    assert "the torque is that of one bead" in found.notes
    path.write_text(text.replace("'nvt'", "'nve'"))
    (found,) = analyze_folders([folder], Options())
    assert "precession" not in found.scalars
    assert any("no symmetry conserves that of the centroids" in note for note in found.notes)


def test_the_drift_of_a_mixture_is_that_of_all_its_molecules(runs, analyses, tmp_path):
    """One molecule that was taken apart: 31 molecules of water beside three atoms make 34."""
    folder = Path(shutil.copytree(runs / "raw", tmp_path / "run"))
    path = folder / "simulation.pos_0.xyz"
    lines = path.read_text().splitlines()
    lines = [f"{'He':>8}{line[8:]}" if k % 98 in (2, 3, 4) else line for k, line in enumerate(lines)]
    path.write_text("\n".join(lines) + "\n")
    (mixture,) = analyze_folders([folder], Options(longest_lag=2.0))
    assert mixture.system == "31 H2O"
    assert mixture.scalars["drift"].value == pytest.approx(
        analyses[0].scalars["drift"].value * 32 / 34, rel=1e-6
    )


def test_labels_tell_the_runs_apart(runs, tmp_path):
    """As many parents as it takes; the same run twice has a number."""
    for name in "AB":
        shutil.copytree(runs / "gas", tmp_path / name / "runs" / "gas-nvt")
    folders = [tmp_path / name / "runs" / "gas-nvt" for name in "AB"]
    labels = [analysis.label for analysis in analyze_folders([*folders, runs / "gas"], Options())]
    assert labels == ["A/runs/gas-nvt", "B/runs/gas-nvt", "gas"]
    labels = [analysis.label for analysis in analyze_folders([folders[0], folders[0]], Options())]
    assert [label.rpartition("/")[2] for label in labels] == ["gas-nvt #1", "gas-nvt #2"]


def test_names_that_matplotlib_would_read_otherwise(runs, tmp_path):
    """A leading underscore hides a legend entry, dollars are mathematics, brackets are markup on the terminal."""
    folders = [Path(shutil.copytree(runs / "gas", tmp_path / name)) for name in ("_raw", "a$\\frac$[bold]")]
    assert main(["analyze", *map(str, folders), "-o", str(tmp_path / "out"), "--no-viewer"]) == 0
    plot_run(folders[1])


def test_windows_of_fits_stand_beside_their_values():
    """They follow the length of a run, so that those of one row may differ."""
    fits = [Scalar(f"D of O (fit 1 to {stop} ps)", 0.2, 0.01, "Å²/ps") for stop in (10, 4)]
    assert in_one_row([fits[0], None, fits[0]]) == ("D of O (fit 1 to 10 ps)", ["", "", ""])
    assert in_one_row([fits[0], None, fits[1]]) == ("D of O", ["fit 1 to 10 ps", "", "fit 1 to 4 ps"])


def test_cells_have_one_number_in_all_sets(tmp_path):
    """Also where one of them failed in a set."""
    raw = ice_set(tmp_path / "none", 0.0, {"a": (-80.0, -81.0), "c": (-80.2, -81.1)})
    averaged = ice_set(tmp_path / "2i", 0.02, {"a": (-80.0, -81.0), "b": (-80.1, -81.0), "c": (-80.2, -81.3)})
    first, second = analyze_folders([raw, averaged], Options())
    assert first.curves["ice_relaxed"].x.tolist() == [1.0, 3.0]
    assert first.settings["cells"] == "1: a, 3: c"
    assert second.curves["ice_relaxed"].x.tolist() == [1.0, 2.0, 3.0]
    assert second.curves["ice_rmsd"].x.tolist() == [1.0, 3.0]
    assert any("relative to the mean of its own" in note for note in second.notes)


def test_page_needs_no_network(output):
    page = (output / "report.html").read_text()
    links = _Links()
    links.feed(page)
    assert len(links.found) >= 8
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in links.found)
    assert not re.search(r"@import|url\(|fetch\(", page)
    for text in (
        "Pair correlation functions",
        "diffusion coefficient",
        "32 H2O",
        "Orientational free energy",
        "±",
    ):
        assert text in page


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_tables_hold_every_number(output):
    rows = table(output / "scalars.csv")
    assert {row["run"] for row in rows} == {"raw", "averaged", "gas"}
    content = {entry["label"]: entry for entry in json.loads((output / "analysis.json").read_text())}
    for row in rows:
        assert float(row["value"]) == pytest.approx(
            content[row["run"]]["scalars"][row["key"]]["value"], rel=1e-8
        )
    curves = table(output / "curves" / "liquid-g_OO.csv")
    ours = np.array([float(row["g O–O"]) for row in curves if row["run"] == "averaged"])
    np.testing.assert_allclose(ours, content["averaged"]["curves"]["g_OO"]["y"])
    torque = content["gas"]["curves"]["torque_average"]
    assert torque["x"] == [1.0, 4.0, 12.0]
    assert torque["y"][0] > torque["y"][1] > 1e6 * torque["y"][2] > 0.0
    figures = {path.name for path in (output / "figures").iterdir()}
    for name in (
        "liquid-pair-correlations",
        "liquid-orientation",
        "liquid-msd",
        "gas-spectra",
        "gas-orientation",
    ):
        assert {f"{name}.png", f"{name}.pdf"} <= figures
    maps = {path.name for path in (output / "maps").iterdir()}
    assert maps == {
        f"{kind}-{name}.csv"
        for kind in ("liquid", "gas")
        for name in ("orientation", "orientation_perturbation")
    }


def ice_set(folder: Path, shift: float, energies: dict[str, tuple[float, float]]) -> Path:
    """Relaxations of cells of 8 waters: the last geometry moved by ``shift`` Å per atom, as a whole by 0.2 Å too."""
    water = molecule("H2O")
    for number, (name, (first, last)) in enumerate(energies.items()):
        rng = np.random.default_rng(number)
        start = np.concatenate(
            [water.positions + 4.0 * np.array([i, j, k]) for i in (0, 1) for j in (0, 1) for k in (0, 1)]
        )
        push = rng.normal(size=start.shape)
        push -= push.mean(axis=0)
        push *= shift / np.sqrt((push**2).sum() / len(push))
        forces = np.full_like(start, 0.5)
        forces[0, 0] += shift
        values = np.array([[0.0, first], [0.0, last]])
        trajectory = {"pos": [start, start + push + [0.2, 0, 0]], "frc": [forces, forces * 0]}
        synthetic.write_run(folder / name, trajectory, 1, values, length=8.0, motion="minimize")
    return folder


def test_numbers_of_relaxations(tmp_path):
    raw = ice_set(tmp_path / "none", 0.0, {"a": (-80.0, -81.0), "b": (-80.2, -81.1)})
    averaged = ice_set(tmp_path / "2i", 0.02, {"a": (-80.0, -81.0), "b": (-80.2, -81.3)})
    first, second = analyze_folders([raw, averaged], Options())
    # cells of 8 molecules: 1 and 0.9 eV won, and 0.1 eV between the two
    assert first.scalars["ice_gain"].value == pytest.approx(-1e3 * 0.95 / 8, rel=1e-6)
    assert first.scalars["ice_relaxed_spread"].value == pytest.approx(6.25, rel=1e-6)
    assert first.scalars["ice_initial_spread"].value == pytest.approx(12.5, rel=1e-6)
    assert second.scalars["ice_forces_magnitude"].value == pytest.approx(500.0, rel=1e-6)
    assert second.curves["ice_rmsd"].y == pytest.approx([20.0, 20.0], rel=1e-4)
    xml = raw / "a" / "input.xml"
    asked = "<simulation><total_steps> {} </total_steps>"
    for steps, warned in ((2, False), (1, True)):  # the last row is that of step 1
        xml.write_text(
            re.sub(r"<simulation>(<total_steps>.*</total_steps>)?", asked.format(steps), xml.read_text())
        )
        (again,) = analyze_folders([raw], Options())
        assert any("may not have converged" in note for note in again.notes) == warned


def test_relaxations_are_compared_cell_by_cell(tmp_path):
    raw = ice_set(tmp_path / "none", 0.0, {"a": (-80.0, -81.0), "b": (-80.2, -81.1)})
    averaged = ice_set(tmp_path / "2i", 0.02, {"a": (-80.0, -81.0), "b": (-80.2, -81.3)})
    first, second = analyze_folders([raw, averaged], Options())
    assert (first.kind, first.system, first.label, second.label) == (
        "ice",
        "2 cells of 8 H2O",
        "none",
        "2i",
    )
    np.testing.assert_allclose(first.curves["ice_relaxed"].y, [6.25, -6.25], rtol=1e-6)
    np.testing.assert_allclose(second.curves["ice_relaxed"].y, [18.75, -18.75], rtol=1e-6)
    assert second.scalars["ice_relaxed_rmse"].value == pytest.approx(12.5, rel=1e-6)
    assert second.scalars["ice_initial_rmse"].value == pytest.approx(0.0, abs=1e-6)
    assert second.scalars["ice_rmsd"].value == pytest.approx(20.0, rel=1e-3)
    assert second.scalars["ice_forces_maximum"].value == pytest.approx(20.0, rel=1e-3)
    assert second.scalars["ice_forces_rmse"].value == pytest.approx(20.0 / np.sqrt(72), rel=1e-3)
    # the published norms, by hand: two cells that differ by 12.5 meV, 48 atoms of which each moved by 0.02 Å in
    # the root mean square, and one atom of each cell that feels 0.02 eV/Å more
    assert second.scalars["ice_relaxed_norm"].value == pytest.approx(12.5 * np.sqrt(2), rel=1e-6)
    assert second.scalars["ice_rmsd_norm"].value == pytest.approx(20.0 * np.sqrt(3), rel=1e-3)
    assert second.scalars["ice_forces_norm"].value == pytest.approx(20.0 * np.sqrt(3 * 2 / 48), rel=1e-3)
    assert "ice_rmsd" not in first.scalars
    assert main(["analyze", str(raw), str(averaged), "-o", str(tmp_path / "out"), "--no-viewer"]) == 0
    assert (tmp_path / "out" / "figures" / "ice-energies.png").is_file()
    shutil.rmtree(averaged / "b")  # a set that is not complete yet
    _, part = analyze_folders([raw, averaged], Options())
    assert part.scalars["ice_rmsd"].value == pytest.approx(20.0, rel=1e-3)
    # of one cell alone the relative energy is zero: what is compared is the energy
    lower = ice_set(tmp_path / "lower", 0.0, {"a": (-80.0, -81.4)})
    _, one = analyze_folders([raw, lower], Options())
    assert "ice_relaxed_rmse" not in one.scalars
    assert one.scalars["ice_relaxed_difference"].value == pytest.approx(-50.0, rel=1e-6)
    assert one.scalars["ice_initial_difference"].value == pytest.approx(0.0, abs=1e-6)
    strided = lower / "a" / "simulation.out"
    strided.write_text(re.sub(r"(?m)^ +1\.0+e\+00", "  5.00000000e+00", strided.read_text()))
    (one,) = analyze_folders([lower], Options())
    assert one.scalars["ice_steps"].value == 5.0
    assert any("relaxed geometry is that of step 1, the energy that of step 5" in note for note in one.notes)
    other = ice_set(tmp_path / "other", 0.0, {"c": (-80.0, -81.0), "d": (-80.2, -81.1)})
    with pytest.raises(UserError, match="no cell in common"):
        analyze_folders([raw, other], Options())


REPLAY = """<simulation><output prefix='simulation'>
<properties filename='out'> [ step, pot_component_raw(0){electronvolt}, pot_component_raw(1){electronvolt} ]
</properties> <trajectory filename='pos'> positions{angstrom} </trajectory> <trajectory filename='raw'>
forces_component_raw(0){ev/ang} </trajectory> <trajectory filename='ave'> forces_component_raw(1){ev/ang}
</trajectory> </output><system><motion mode='replay'/></system></simulation>
"""


def test_replay_gives_the_errors_of_the_raw_model(tmp_path):
    rng = np.random.default_rng(0)
    n = 60
    error, forces = rng.normal(size=n) * 0.005, rng.normal(size=(n, 3, 3))
    symbols = ["O", "H", "H"]
    text = {"pos": "", "raw": "", "ave": ""}
    rows = "# column 1 --> step : x\n# column 2 --> pot_component_raw{electronvolt}(0) : x\n"
    rows += "# column 3 --> pot_component_raw(1){electronvolt} : x\n"
    for k in range(n):
        start = 10.0 if k == 0 else 0.0  # step 0 is not a snapshot: neither its error nor its geometry count
        rows += f"{k} {-10 + error[k] + start:.8e} {-10:.8e}\n"
        shown = {
            "pos": (synthetic.WATER * (1 + start), "positions{angstrom}"),
            "raw": (forces[k] + error[k] + start, "forces_component_raw{ev/ang}"),
            "ave": (forces[k], "forces_component_raw{ev/ang}"),
        }
        for name, (values, quantity) in shown.items():
            text[name] += synthetic.snapshot(values, k, quantity, 30.0, symbols)
    (tmp_path / "input.xml").write_text(REPLAY)
    (tmp_path / "simulation.out").write_text(rows)
    (tmp_path / "simulation.pos_0.xyz").write_text(text["pos"])
    for name in ("raw", "ave"):
        (tmp_path / f"simulation.{name}.xyz").write_text(text[name])
    (analysis,) = analyze_folders([tmp_path], Options())
    expected = 1e3 * np.abs(error[1:]).mean()
    assert analysis.scalars["replay_energy"].value == pytest.approx(expected, rel=1e-4)
    assert analysis.scalars["replay_forces"].value == pytest.approx(expected, rel=1e-3)
    assert analysis.scalars["replay_forces_maximum"].value == pytest.approx(
        1e3 * np.abs(error[1:]).max(), rel=1e-3
    )
    assert near(analysis.scalars["replay_energy"], 5.0 * np.sqrt(2 / np.pi))


def refused(capsys, *arguments: str) -> str:
    assert main(["analyze", *arguments]) == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("error: ")
    assert "\n" not in message
    return message


def test_bad_input_is_one_clear_line(runs, tmp_path, capsys):
    out = ("--output", str(tmp_path / "out"))
    small = synthetic.liquid(tmp_path / "small", 3, n_snapshots=40)
    for name in ("pos", "vel"):
        path = small / f"simulation.{name}_0.xyz"
        lines = path.read_text().splitlines()
        kept = [lines[k] for start in range(0, len(lines), 98) for k in range(start, start + 95)]
        path.write_text("\n".join("93" if line == "96" else line for line in kept) + "\n")
    assert "different systems" in refused(capsys, str(runs / "raw"), str(small), *out)
    assert "no CO2 molecule found" in refused(capsys, str(runs / "raw"), "--molecule", "CO2", *out)
    assert "ends where it begins" in refused(capsys, str(runs / "raw"), "--vector", "H->H", *out)
    assert "has no N" in refused(capsys, str(runs / "raw"), "--vector", "O->N", *out)
    (tmp_path / "empty").mkdir()
    assert "not a run folder" in refused(capsys, str(tmp_path / "empty"), *out)
    assert "no run folder" in refused(capsys, str(tmp_path / "missing"), *out)
    assert "`longest_lag` (--longest-lag) must be positive, got -1" in refused(
        capsys, str(runs / "raw"), "--longest-lag=-1", *out
    )
    (tmp_path / "file").write_text("")
    assert "must be a folder" in refused(capsys, str(runs / "raw"), "--output", str(tmp_path / "file"))
    assert "half the smallest height" in refused(capsys, str(runs / "raw"), "--r-max", "9", *out)
    without = Path(shutil.copytree(runs / "gas", tmp_path / "without"))
    (without / "simulation.pos_0.xyz").unlink()
    assert "has no positions trajectory" in refused(capsys, str(without), *out)


def test_short_and_truncated_runs_say_so(runs, tmp_path):
    folder = synthetic.liquid(tmp_path / "short", 4, n_snapshots=12)
    path = folder / "simulation.pos_0.xyz"
    path.write_bytes(path.read_bytes()[:-100])
    (folder / "simulation.vel_0.xyz").unlink()
    (analysis,) = analyze_folders([folder], Options())
    notes = "\n".join(analysis.notes)
    assert "mean-square displacement left out: too short for a block average" in notes
    assert "kinetic temperature left out: " in notes
    assert "has no velocities trajectory" in notes
    assert "last snapshot incomplete, used up to step 2000" in notes


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1.23456, 0.0567, "1.235 ± 0.057"),
        (308.2, 15.3, "308 ± 15"),
        (1.429e-3, 2.4e-5, "(1.429 ± 0.024)e-3"),
        (2.9e-7, 6.4e-7, "(2.9 ± 6.4)e-7"),
        (2.0, float("nan"), "2"),
        (float("nan"), 1.0, "–"),
    ],
)
def test_formatted_numbers(value, error, text):
    assert formatted(value, error) == text


def test_no_long_time_quantity_from_short_lags(tmp_path: Path) -> None:
    """Of a run that resolves displacements up to 1.9 ps and orientations up to 2.4 ps, with fits from 2 ps on."""
    synthetic.liquid(tmp_path / "short", 1, n_snapshots=160)
    (analysis,) = analyze_folders(
        [tmp_path / "short"], Options(longest_lag=10.0, pair_snapshots=20, fit_start=2.0)
    )
    assert analysis.curves["msd"].x[-1] == pytest.approx(1.9)
    assert "diffusion" not in analysis.scalars
    assert "no diffusion coefficient: the lags end at 1.9 ps" in " ".join(analysis.notes)
    assert analysis.curves["dipole_single"].x[-1] == pytest.approx(2.4)
    assert "(fit 0.8 to 2.4 ps)" in analysis.scalars["relaxation"].label
