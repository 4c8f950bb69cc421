"""Runs of several systems by i-PI itself: each on its own, and the ensembles of replica exchange."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ipi_driver
from ipi_driver.analysis.dispatch import analyze_folders, find_runs
from ipi_driver.analysis.result import Options
from ipi_driver.cli import main
from ipi_driver.errors import UserError
from ipi_driver.ipi_files import Run, TrajectoryFile, read_properties
from ipi_driver.ipi_files.exchange import EnsembleRun, read_swaps, runs_of
from ipi_driver.ipi_files.run_folder import RunFolder
from ipi_driver.runs.execute import Outcome

START = """3
# CELL(abcABC): 20.0 20.0 20.0 90.0 90.0 90.0 positions{angstrom} cell{angstrom}
O 0.0 0.0 0.0
H 0.96 0.0 0.0
H -0.24 0.93 0.0
"""
TEMPERATURES = {"cold": 250.0, "warm": 300.0, "hot": 350.0}
SYSTEM = """<system prefix='NAME'>
    <initialize nbeads='1'>
      <file mode='xyz'> start.xyz </file> <velocities mode='thermal' units='kelvin'> KELVIN </velocities>
    </initialize>
    <forces> <force forcefield='springs'></force> </forces>
    <motion mode='dynamics'>
      <dynamics mode='nvt'> <timestep units='femtosecond'> 0.5 </timestep>
        <thermostat mode='svr'> <tau units='femtosecond'> 10 </tau> </thermostat> </dynamics>
    </motion>
    <ensemble> <temperature units='kelvin'> KELVIN </temperature> </ensemble>
  </system>"""
INPUT = f"""<simulation verbosity='low'>
  <output prefix='water'>
    <properties stride='2' filename='out'>
      [ step, time{{femtosecond}}, conserved, temperature{{kelvin}}, ensemble_temperature{{kelvin}}, potential ]
    </properties>
    <trajectory filename='pos' stride='4'> positions{{angstrom}} </trajectory>
    <trajectory filename='vel' stride='4'> velocities{{m/s}} </trajectory>
  </output>
  <total_steps> 200 </total_steps>
  <prng><seed> 3 </seed></prng>
  <ffdirect name='springs' pbc='false'> <pes> harmonic </pes> <parameters> {{k1: 0.01}} </parameters> </ffdirect>
  <system_template>
    <labels> [ NAME, KELVIN ] </labels>
    {"".join(f"<instance> [ {name}, {kelvin} ] </instance>" for name, kelvin in TEMPERATURES.items())}
    <template> {SYSTEM} </template>
  </system_template>
  <smotion mode='remd'> <remd> <stride> 5 </stride> </remd> </smotion>
</simulation>
"""


def by_ipi(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "start.xyz").write_text(START)
    (folder / "input.xml").write_text(text)
    call(folder, "i-pi")
    return folder


def call(folder: Path, program: str) -> None:
    words = [Path(sys.executable).with_name(program), "input.xml"]
    subprocess.run(words, cwd=folder, check=True, capture_output=True, timeout=120)


@pytest.fixture(scope="module")
def exchanged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return by_ipi(tmp_path_factory.mktemp("exchange") / "run", INPUT)


def test_ensembles_are_those_that_ipi_sorts(exchanged: Path) -> None:
    """The reference is i-PI's own tool."""
    call(exchanged, "i-pi-remdsort")
    swaps = read_swaps(RunFolder(exchanged))
    assert len(swaps.steps) > 20
    runs = runs_of(exchanged)
    assert [run.system for run in runs] == list(TEMPERATURES)
    for run, (name, kelvin) in zip(runs, TEMPERATURES.items(), strict=True):
        assert isinstance(run, EnsembleRun)
        assert run.settings.temperature == kelvin
        table, sorted_ = run.properties, read_properties(exchanged / f"SRT_{name}_water.out")
        own = read_properties(exchanged / f"{name}_water.out")
        assert (table.steps == np.arange(0, 201, 2)).all()
        for column in ("step", "time", "temperature", "potential"):
            np.testing.assert_array_equal(table[column], sorted_[column])
        np.testing.assert_allclose(table["ensemble_temperature"], kelvin, rtol=1e-5)
        np.testing.assert_array_equal(table["conserved"], own["conserved"])
        assert np.ptp(own["ensemble_temperature"]) >= 50.0
        expected = list(TrajectoryFile(exchanged / f"SRT_{name}_water.pos_0.xyz"))
        found = list(run.snapshots(["positions", "velocities"]))
        assert len(found) == len(expected) == 51
        for one, other in zip(found, expected, strict=True):
            assert one.step == other.step
            np.testing.assert_array_equal(one.positions, other.values)


def test_each_ensemble_is_analyzed(
    exchanged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", str(exchanged), "-o", str(tmp_path / "all"), "--no-viewer", "--json"]) == 0
    capsys.readouterr()
    analyses = json.loads((tmp_path / "all" / "analysis.json").read_text())
    labels = [f"run:{name}" for name in TEMPERATURES]
    assert str(labels[0]) in json.dumps(analyses)
    found = analyze_folders([exchanged], Options())
    assert [analysis.label for analysis in found] == labels
    for analysis in found:
        assert "temperature_O" in analysis.scalars
        assert not {"vdos", "spectrum_potential"} & analysis.curves.keys()
        assert any("of different trajectories" in note for note in analysis.notes)
    (warm,) = analyze_folders([exchanged], Options(systems=("warm",)))
    assert warm.settings["temperature"] == "300.0 K"
    with pytest.raises(UserError, match="no system 'tepid'; it has cold, warm, hot"):
        find_runs(exchanged, ["tepid"])


def test_a_farm_of_replica_exchange_has_an_ensemble_for_each_temperature(
    exchanged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They were joined to one, whose temperature was that of the coldest."""
    farm = tmp_path / "farm"
    for seed in (1, 2):
        shutil.copytree(exchanged, farm / f"T-{seed}")
        (farm / f"T-{seed}" / "driver.yaml").write_text("model: m\n")
    (farm / "farm.yaml").write_text("members: [T-1, T-2]\n")
    found = ipi_driver.analyze(farm)
    assert [analysis.label for analysis in found] == [f"T:{name} (2 runs)" for name in TEMPERATURES]
    for joined, single in zip(found, analyze_folders([exchanged], Options()), strict=True):
        assert joined.settings["temperature"] == single.settings["temperature"]
        assert joined.scalars["temperature_O"].value == single.scalars["temperature_O"].value
    (warm,) = ipi_driver.analyze(farm, systems=("warm",))
    assert warm.scalars["temperature_O"].value == found[1].scalars["temperature_O"].value
    assert main(["analyze", str(farm), "-o", str(tmp_path / "all"), "--no-viewer"]) == 0
    assert "T:hot (2 runs)" in capsys.readouterr().out.replace("\n", " ")
    outcome = Outcome(200, 0, 200, 1.0, True)
    with pytest.raises(UserError, match="has 3 systems: name one"):
        ipi_driver.Run(exchanged, outcome, {}).analyze()


def test_systems_without_exchange_are_runs_of_their_own(tmp_path: Path) -> None:
    folder = by_ipi(tmp_path / "run", INPUT[: INPUT.index("<smotion")] + "</simulation>")
    runs = runs_of(folder)
    assert [type(run) for run in runs] == [Run] * 3
    for run, (name, kelvin) in zip(runs, TEMPERATURES.items(), strict=True):
        own = read_properties(folder / f"{name}_water.out")
        np.testing.assert_array_equal(run.properties["potential"], own["potential"])
        np.testing.assert_allclose(own["ensemble_temperature"], kelvin, rtol=1e-5)
        assert run.settings.temperature == kelvin
    assert all(
        "vdos" in a.curves or "spectrum_potential" in a.curves for a in analyze_folders([folder], Options())
    )


def test_systems_that_write_to_the_same_files(tmp_path: Path) -> None:
    (tmp_path / "input.xml").write_text(INPUT.replace("[ hot,", "[ warm,"))
    with pytest.raises(UserError, match=r"2 systems with the prefix 'warm'.*give each <system> a prefix"):
        runs_of(tmp_path)


def test_a_row_that_is_no_swap(tmp_path: Path) -> None:
    (tmp_path / "my-input.xml").write_text(INPUT)
    with pytest.raises(UserError, match=r"has no water\.remd_idx, which says when"):
        read_swaps(RunFolder(tmp_path))
    (tmp_path / "water.remd_idx").write_text("  3  0  2  1\n  4  0  0  1\n")
    with pytest.raises(UserError, match="expected a step and the ensemble of each of 3 systems"):
        read_swaps(RunFolder(tmp_path))
    (tmp_path / "water.remd_idx").write_text("  3  0  2  1\n  4  1 ")
    swaps = read_swaps(RunFolder(tmp_path))
    assert swaps.system_in(2, np.array([0, 3, 4])).tolist() == [2, 2, 1]
    (tmp_path / "water.remd_idx").write_text("  3  0  2  1\n  7  1  2  0\n  3  0  2  1\n  5  2  0  1\n")
    assert read_swaps(RunFolder(tmp_path)).steps.tolist() == [3, 5]
