"""The watch over the physics of a run: sound runs pass, wrong ones end with the reason and a checkpoint from before."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from runs_place import error_line

from ipi_driver.client.record import Recorded
from ipi_driver.client.settings import ServeSettings, WatchSettings
from ipi_driver.errors import UserError
from ipi_driver.ipi_files.properties import read_properties
from ipi_driver.ipi_files.run_folder import RunFolder
from ipi_driver.ipi_files.units import BOHR
from ipi_driver.runs.changes import Changes
from ipi_driver.runs.monitor import Progress
from ipi_driver.runs.prepare import find_source, prepare
from ipi_driver.runs.watch import Alarm, PhysicsWatch
from ipi_driver.shipped import shipped_folder

COLUMNS = frozenset({"temperature", "conserved"})


def watch(name: str, n_atoms: int, limits: WatchSettings | None = None) -> PhysicsWatch:
    folder = shipped_folder("inputs") / name
    return PhysicsWatch(folder, n_atoms, not name.startswith("liquid"), limits or WatchSettings())


def rows(temperatures: np.ndarray, conserved: np.ndarray | float = 0.0) -> list[Progress]:
    energies = np.broadcast_to(conserved, len(temperatures))
    return [
        Progress(step, float(t), float(e), units=("K", "eV", "eV"), columns=COLUMNS)
        for step, (t, e) in enumerate(zip(temperatures, energies, strict=True))
    ]


@pytest.mark.parametrize(("name", "n_atoms"), [("gas-nvt", 3), ("gas-nve", 2), ("liquid-nvt", 192)])
def test_thermal_fluctuations_are_sound(name: str, n_atoms: int) -> None:
    """Rows of the Maxwell-Boltzmann distribution, and a start at rest, or hot."""
    rng, n_degrees = np.random.default_rng(1), 3 * n_atoms - 3
    for start in (1e-3, 2000.0):
        temperatures = 300.0 * rng.chisquare(n_degrees, 20_000) / n_degrees
        temperatures[0] = start
        assert watch(name, n_atoms).look(rows(temperatures), None) is None


def test_atoms_at_rest_get_hot(tmp_path: Path) -> None:
    """Without a thermostat and velocities there is no temperature that theirs could be compared with."""
    text = (shipped_folder("inputs") / "gas-nve" / "input.xml").read_text()
    (tmp_path / "input.xml").write_text(re.sub(r"<temperature units.*?</temperature>", "", text))
    temperatures = np.array([0.0, 1.0, 50.0, *np.full(20, 300.0)])
    assert PhysicsWatch(tmp_path, 3, True, WatchSettings()).look(rows(temperatures), None) is None
    temperatures[-1] = np.nan
    alarm = PhysicsWatch(tmp_path, 3, True, WatchSettings()).look(rows(temperatures), None)
    assert alarm == Alarm("the temperature is nan at step 22", 21)
    temperatures[0] = 20.0
    assert PhysicsWatch(tmp_path, 3, True, WatchSettings()).look(rows(temperatures), None) is not None


def test_a_temperature_that_no_thermostat_gives() -> None:
    temperatures = np.full(40, 300.0)
    temperatures[30:] = 14754.0
    alarm = watch("gas-nvt", 3).look(rows(temperatures), None)
    assert alarm == Alarm("the temperature is 1.475e+04 K, 49.2 times the 300 K of the run at step 32", 29)
    temperatures[30:] = np.nan
    alarm = watch("gas-nvt", 3).look(rows(temperatures), None)
    assert alarm is not None
    assert alarm.reason == "the temperature is nan at step 30"
    temperatures[30:] = 14754.0
    for limits in (WatchSettings(temperature=60.0), WatchSettings.off()):
        assert watch("gas-nvt", 3, limits).look(rows(temperatures), None) is None


def test_a_conserved_quantity_that_runs_away() -> None:
    """By 0.2 eV per atom and ps; not one that random frames heat by 1 meV, nor a jump at the start."""
    n_atoms, n = 3, 1000  # of 5 fs
    times = 5e-3 * np.arange(n)
    noise = 0.02 * np.random.default_rng(0).normal(size=n)
    temperatures = np.full(n, 300.0)
    jump = np.where(times > 0.1, 30.0, 0.0)
    assert (
        watch("gas-nvt", n_atoms).look(rows(temperatures, 1e-3 * n_atoms * times + noise + jump), None)
        is None
    )
    turn = np.maximum(times - 1.0, 0.0)
    alarm = watch("gas-nvt", n_atoms).look(rows(temperatures, -0.2 * n_atoms * turn + noise), None)
    assert alarm is not None
    assert "the conserved quantity changes by -0.199 eV per atom and ps at step" in alarm.reason
    assert alarm.good_step * 5e-3 < 1.5
    limits = WatchSettings(conserved=None)
    assert watch("gas-nvt", n_atoms, limits).look(rows(temperatures, 9.0 * turn), None) is None


def test_atoms_that_fly_apart() -> None:
    water = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    far = water + np.array([[0.0, 0, 0], [60.0, 0, 0], [0, 0, 0]])
    seen = [Recorded(np.eye(3), x / BOHR, count) for count, x in enumerate((water, far), start=1)]
    gas = watch("gas-nve", 3)
    assert gas.look(rows(np.full(5, 300.0)), seen[0]) is None
    assert gas.look([], seen[1]) == Alarm("the atoms fly apart: one is 60.96 Å from all others", 4)
    liquid = watch("liquid-nvt", 3)  # whose atoms leave the cell on one side
    assert [liquid.look([], record) for record in seen] == [None, None]
    dissociated = watch("gas-nve", 3)
    assert [dissociated.look([], record) for record in reversed(seen)] == [None, None]


def test_settings_of_the_watch() -> None:
    base = {"model": "m", "endpoints": [{"unix": "a"}]}
    off = ServeSettings.model_validate({**base, "watch": False}).watch
    assert (off.temperature, off.conserved, off.distance) == (None, None, None)
    some = ServeSettings.model_validate({**base, "watch": {"distance": "off", "temperature": 20}}).watch
    assert (some.temperature, some.conserved, some.distance) == (20.0, 0.1, None)
    words = ServeSettings.model_validate({**base, "watch": "temperature=20, conserved=off"}).watch
    assert (words.temperature, words.conserved, words.distance) == (20.0, None, 50.0)
    with pytest.raises(UserError, match=r"unknown key `watch.heat`; known: temperature, conserved, distance"):
        prepare(find_source("gas-nve", Changes()), Path("nowhere"), Changes(watch={"heat": 3.0}))


def test_a_cool_row_between_hot_ones_is_not_sound() -> None:
    temperatures = np.full(40, 300.0)
    temperatures[20] = 3200.0
    temperatures[22:] = 14754.0
    alarm = watch("gas-nvt", 3).look(rows(temperatures), None)
    assert alarm is not None
    assert alarm.good_step == 19
    temperatures[21:] = 300.0  # a single hot row
    assert watch("gas-nvt", 3).look(rows(temperatures), None) is None


def test_an_exploded_run_is_not_finished(place) -> None:
    """Springs with a time step at which they gain energy: the last checkpoint from before is the one to go on from.

    i-PI numbers its checkpoints here and overwrites none, so that nothing depends on when the launcher looks.
    """

    def explosive(text: str) -> str:
        text = text.replace("0.5 </timestep>", "2.8 </timestep>").replace("stride='10'", "stride='1'")
        return text.replace("stride='1000'", "stride='2'").replace("overwrite='true'", "overwrite='false'")

    place.copy("gas-nve", explosive)
    status, _, errors = place.run(
        "my-gas-nve", "--model", "ase:slow_water.Water?delay=0.02", "--steps", 400, "--output", "run"
    )
    assert status == 2, errors
    folder = place.folder / "run"
    table = read_properties(folder / "simulation.out")
    temperatures = dict(zip(table.steps.tolist(), table["temperature"], strict=True))
    texts = [path.read_text() for path in folder.glob("*simulation.chk_*")]
    written = sorted(int(step) for step in re.findall(r"<step>\s*(\d+)", "".join(texts)))
    usable = sorted(RunFolder(folder).checkpoints())
    # row 6 has 3200 K and row 7 300 K; what was written from then on is there under other names
    hot = min(step for step, kelvin in temperatures.items() if kelvin > 1800.0)
    assert usable == [step for step in written if 0 < step < hot]
    assert usable
    assert written[-1] > hot
    assert "the run has gone wrong: the" in error_line(errors)
    assert f"the checkpoint of step {usable[-1]} is from before" in error_line(errors)
    assert not (folder / "summary.json").exists()
