"""Runs whose inputs are not the shipped ones: two property files, no temperature, wires, extras of other clients."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import synthetic
from scipy.spatial.transform import Rotation

import ipi_driver
from ipi_driver.analysis.dispatch import analyze_folders
from ipi_driver.analysis.result import Analysis, Options
from ipi_driver.analysis.run_statistics import run_statistics
from ipi_driver.errors import UserError
from ipi_driver.ipi_files.properties import read_properties
from ipi_driver.potentials.anisotropic import AnisotropicPotential
from ipi_driver.report.run_summary import plot_run

PROPERTIES = re.compile(r"<properties.*?</properties>", re.DOTALL)


def analyze(folder: Path, **options: object) -> Analysis:
    (analysis,) = analyze_folders([folder], Options(**options))
    return analysis


def said(analysis: Analysis, *words: str) -> bool:
    return any(all(word in note for word in words) for note in analysis.notes)


def turning(folder: Path, n: int = 40, **kwargs: object) -> Path:
    """One water turned at random in every snapshot."""
    turns = Rotation.random(n, rng=np.random.default_rng(0)).as_matrix()
    positions = list(np.einsum("txy,ky->tkx", turns, synthetic.WATER))
    return synthetic.write_run(folder, {"pos": positions}, 10, np.zeros((n, 2)), length=30.0, **kwargs)


def with_second_file(folder: Path, names: str, table: np.ndarray) -> Path:
    """Step and conserved quantity in one file, ``names`` in another one of another stride."""
    xml = folder / "input.xml"
    files = (("out", "step, conserved{electronvolt}"), ("more", f"step, {names}"))
    written = "".join(f"<properties filename='{file}'> [ {text} ] </properties>" for file, text in files)
    xml.write_text(PROPERTIES.sub(written, xml.read_text()))
    old = read_properties(folder / "simulation.out")
    for file, text, rows in (
        ("out", files[0][1], np.stack([old["step"], old["conserved"]], axis=1)),
        ("more", files[1][1], table),
    ):
        header = "".join(f"# column {k} --> {name}\n" for k, name in enumerate(text.split(", "), start=1))
        body = "".join(" ".join(f"{number:.10e}" for number in row) + "\n" for row in rows)
        (folder / f"simulation.{file}").write_text(header + body)
    return folder


def test_temperature_and_energies_in_a_second_property_file(tmp_path: Path) -> None:
    """Of another stride than the first: they were left out of the summary, and relaxations could not be analyzed."""
    kelvin = 300.0 + 10.0 * np.random.default_rng(0).normal(size=200)
    folder = turning(tmp_path / "run", 100)
    with_second_file(folder, "temperature{kelvin}", np.stack([5.0 * np.arange(200), kelvin], axis=1))
    found = run_statistics(folder)
    assert found["temperature"]["value"] == pytest.approx(kelvin.mean(), rel=1e-5)
    assert "drift" in found
    assert plot_run(folder).is_file()

    relaxed = turning(tmp_path / "relaxed", 3, motion="minimize")
    energies = np.array([[0.0, -80.0], [20.0, -81.0]])
    with_second_file(relaxed, "potential{electronvolt}", energies)
    assert run_statistics(relaxed)["relaxation_energy"] == pytest.approx(-1e3)
    assert analyze(relaxed).scalars["ice_gain"].value == pytest.approx(-1e3)
    assert plot_run(relaxed).is_file()


def test_a_map_by_perturbation_is_at_the_temperature_of_the_run(tmp_path: Path) -> None:
    """An input without one has it from the column; it was taken for 300 K."""
    given = turning(tmp_path / "given")
    xml = (given / "input.xml").read_text()
    (given / "input.xml").write_text(xml.replace("> 300 </temperature>", "> 100 </temperature>"))
    measured = turning(tmp_path / "measured")
    (measured / "input.xml").write_text(re.sub("<temperature .*</temperature>", "", xml))
    options = {"model": AnisotropicPotential(), "averages": ()}
    analysis = analyze(measured, **options)
    assert said(analysis, "by perturbation left out", "no column `temperature`")
    assert "orientation_rms" not in analysis.scalars
    rows = np.stack([10.0 * np.arange(40), np.full(40, 100.0)], axis=1)
    with_second_file(measured, "temperature{kelvin}", rows)
    found, expected = (analyze(f, **options).scalars["orientation_rms"] for f in (measured, given))
    assert found.value == pytest.approx(expected.value, rel=1e-4)


def test_a_wire_has_no_density(tmp_path: Path) -> None:
    folder = synthetic.liquid(tmp_path / "wire", 0, n_snapshots=60)
    (folder / "driver.yaml").write_text("model: m\nendpoints: [{unix: a}]\nstructure: start.extxyz\n")
    text = '3\nLattice="14 0 0 0 14 0 0 0 14" Properties=species:S:1:pos:R:3 pbc="{}"\n'
    atoms = "".join(f"{s} 0.0 0.0 {k}.0\n" for k, s in enumerate("OHH"))
    for pbc, open_ in (("T F F", True), ("T T T", False)):
        (folder / "start.extxyz").write_text(text.format(pbc) + atoms)
        assert said(analyze(folder), "no images along some cell vectors", "heights say nothing") == open_


def test_extras_of_another_client(tmp_path: Path) -> None:
    folder = turning(tmp_path / "run")
    xml = folder / "input.xml"
    more = "<trajectory filename='spread' extra_type='raw'> extras </trajectory> </output>"
    xml.write_text(xml.read_text().replace("</output>", more))
    entry = "#EXTRAS(raw)# Step: {} Bead: 0\n{}\n"
    (folder / "simulation.spread_0").write_text(
        "".join(entry.format(10 * k, '{"dipole": [0.0, 0.1, 0.2]}') for k in range(40))
    )
    assert "mean_force_spread" not in run_statistics(folder)
    (folder / "simulation.spread_0").write_text(
        "".join(entry.format(10 * k, '{"forces_spread": 0.02}') for k in range(40))
    )
    assert run_statistics(folder)["mean_force_spread"] == pytest.approx(20.0)


def test_a_conserved_quantity_that_is_not_finite_has_no_drift(tmp_path: Path) -> None:
    """Its fluctuations implied a drift of 0.0 ± 0.0."""
    folder = synthetic.liquid(tmp_path / "run", 0, n_snapshots=120)
    rows = (folder / "simulation.out").read_text().splitlines(keepends=True)
    rows[60:] = [" ".join([*row.split()[:2], "nan", "nan"]) + "\n" for row in rows[60:]]
    (folder / "simulation.out").write_text("".join(rows))
    analysis = analyze(folder, longest_lag=1.0)
    assert not {"drift", "dissipation"} & analysis.scalars.keys()
    assert said(analysis, "drift left out", "`conserved` is not finite at step 11200")
    found = run_statistics(folder)
    assert "drift" not in found
    assert any("drift: " in note and "not finite at step 11200" in note for note in found["notes"])


def test_an_axis_or_a_model_that_is_not_used_is_named(tmp_path: Path) -> None:
    axis = (0.0, 0.0, 1.0)
    constant_energy = turning(tmp_path / "nve", ensemble="nve")
    assert said(analyze(constant_energy, axis=axis), "`axis` is for runs at constant temperature")
    positions = 4.0 * np.array(np.unravel_index(np.arange(8), (2, 2, 2))).T
    argon = synthetic.write_run(
        tmp_path / "argon", {"pos": [positions] * 60}, 10, np.zeros((60, 2)), length=8.0, symbols=["Ar"] * 8
    )
    analysis = analyze(argon, axis=axis, model=AnisotropicPotential())
    assert said(analysis, "`axis` is that of a field on one molecule")
    assert said(analysis, "`model` is used for the orientations of a periodic liquid alone")


def test_what_has_no_time_skips_nothing_and_says_so(tmp_path: Path) -> None:
    folder = turning(tmp_path / "relaxed", 3, motion="minimize")
    assert said(analyze(folder, skip=0.001), "relaxations have no time")
    assert not said(analyze(folder), "no time")


@pytest.mark.parametrize(
    ("option", "value"),
    [("skip", float("nan")), ("longest_lag", float("nan")), ("r_max", float("inf")), ("fit_start", -1.0),
     ("viscosity", 0.0), ("pair_snapshots", 0), ("torque_snapshots", 0), ("bandwidth", float("nan"))],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(tmp_path: Path, option: str, value: float) -> None:
    with pytest.raises(UserError, match=f"`{option}` .--{option.replace('_', '-')}. must "):
        ipi_driver.analyze(tmp_path, **{option: value})


def test_a_single_average_or_system_may_be_given_by_itself(tmp_path: Path) -> None:
    folder = turning(tmp_path / "run")
    analysis = ipi_driver.analyze(folder, model="anisotropic", averages="T")[0]
    assert {key for key in analysis.scalars if key.startswith("torque_")} == {"torque_T"}
    with pytest.raises(UserError, match="no system 'r1'"):
        ipi_driver.analyze(folder, systems="r1")


def test_a_kernel_that_is_too_narrow_for_a_map_is_refused(tmp_path: Path) -> None:
    """It would need more memory than there is."""
    folder = turning(tmp_path / "run")
    assert said(analyze(folder, map_bandwidth=1e-6), "must be 0 (cells), or 0.02 or more, got 1e-06")
    with pytest.raises(UserError, match="must be a direction, got 0 0 0"):
        Options(axis=(0.0, 0.0, 0.0))
