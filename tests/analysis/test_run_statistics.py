"""The summary of a run of known temperature, drift and spread, each worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ipi_driver.analysis.run_statistics import run_statistics

INPUT = """<simulation><output prefix='simulation'>
  <properties stride='200' filename='out'> [ step, conserved{electronvolt}, temperature{kelvin} ] </properties>
  <trajectory stride='200' filename='pos'> positions{angstrom} </trajectory>
  <trajectory stride='200' filename='spread' extra_type='forces_spread'> extras_component_raw(1) </trajectory>
</output><system><initialize nbeads='1'/><motion mode='dynamics'>
  <dynamics mode='nvt'><timestep units='femtosecond'> 0.5 </timestep></dynamics>
</motion></system></simulation>
"""
HEADER = "# column 1 --> step : s\n# column 2 --> conserved{electronvolt} : c\n# column 3 --> temperature{kelvin} : t\n"
WATER = np.array([[0.0, 0.0, 0.0], [0.9572, 0.0, 0.0], [-0.23999, 0.92663, 0.0]])
DRIFT = 7.0
"""meV per molecule and ns."""


def write_run(folder: Path, steps: np.ndarray, kelvin: np.ndarray) -> Path:
    """Three water molecules and two neon atoms; a spread of 10 and 30 meV/Å in turn."""
    waters = [("OHH"[k], *(WATER[k] + [4.0 * m, 0.0, 0.0])) for m in range(3) for k in range(3)]
    atoms = [*waters, ("Ne", 0.0, 5.0, 5.0), ("Ne", 8.0, 5.0, 5.0)]
    positions = "".join(f"{symbol} {x} {y} {z}\n" for symbol, x, y, z in atoms)
    cell = "# CELL(abcABC): 14 14 14 90 90 90 Step: 0 Bead: 0 positions{angstrom} cell{angstrom}"
    folder.mkdir()
    (folder / "input.xml").write_text(INPUT)
    (folder / "simulation.pos_0.xyz").write_text(f"{len(atoms)}\n{cell}\n{positions}")
    nanoseconds = steps * 0.5e-6
    conserved = -1000.0 + 5 * 1e-3 * DRIFT * nanoseconds
    table = zip(steps, conserved, kelvin, strict=True)
    (folder / "simulation.out").write_text(
        HEADER + "".join(f"{step:d} {energy:.14e} {t:.8e}\n" for step, energy, t in table)
    )
    (folder / "simulation.spread_0").write_text(
        "".join(
            f"#EXTRAS(forces_spread)# Step: {step} Bead: 0\n{0.01 + 0.02 * (k % 2)}\n"
            for k, step in enumerate(steps)
        )
    )
    return folder


def temperatures(n: int) -> np.ndarray:
    return 300.0 + 10.0 * np.random.default_rng(0).normal(size=n)


def test_summary_of_a_run(tmp_path: Path) -> None:
    """All molecules count for the drift, those of the rarer kind as well; the client's parts are summed."""
    kelvin = temperatures(200)
    folder = write_run(tmp_path / "run", 200 * np.arange(200), kelvin)
    for name, seconds in (("stats.json", 2.0), ("stats-to-100.json", 3.0)):
        counts = {"average": "2i", "evaluations": 5, "model_seconds": seconds}
        (folder / name).write_text(json.dumps({"model_seconds": seconds, "endpoints": {"unix e": counts}}))
    found = run_statistics(folder)
    assert found["notes"] == []
    assert found["steps"] == 199 * 200
    assert found["simulated_ps"] == pytest.approx(199 * 0.1)
    assert found["temperature"]["value"] == pytest.approx(kelvin.mean(), rel=1e-5)  # i-PI's own constants
    assert found["temperature"]["error"] == pytest.approx(10.0 / np.sqrt(200), rel=0.35)
    assert found["drift"]["value"] == pytest.approx(DRIFT, rel=1e-5)
    assert found["drift"]["error"] < 1e-3 * DRIFT
    assert found["mean_force_spread"] == pytest.approx(20.0)
    assert found["model_seconds"] == 5.0
    assert found["endpoints"] == {"unix e": {"average": "2i", "evaluations": 10, "model_seconds": 5.0}}


@pytest.mark.parametrize("text", ["", '{"model_seconds": 2.0, "endp', "[]", '{"endpoints": [1]}'])
def test_a_part_of_the_client_that_cannot_be_read(text: str, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", 200 * np.arange(40), temperatures(40))
    (folder / "stats-to-100.json").write_text(text)
    found = run_statistics(folder)
    assert "model_seconds" not in found
    (folder / "stats.json").write_text('{"model_seconds": 2.0, "endpoints": {"unix e": {"evaluations": 5}}}')
    found = run_statistics(folder)
    assert (found["model_seconds"], found["endpoints"]) == (2.0, {"unix e": {"evaluations": 5}})
    assert [note.partition(":")[0] for note in found["notes"]] == ["stats-to-100.json cannot be read"]


def test_rows_of_a_stride_that_changes(tmp_path: Path) -> None:
    """Averages of them are left out with a note; a row that is lost changes nothing."""
    steps = np.concatenate([200 * np.arange(100), 20000 + 50 * np.arange(100)])
    found = run_statistics(write_run(tmp_path / "changed", steps, temperatures(200)))
    assert "temperature" not in found
    assert "drift" not in found
    assert found["simulated_ps"] == pytest.approx(0.5e-3 * steps[-1])
    (note,) = found["notes"]
    assert note.startswith(
        "temperature and drift left out: rows 200 steps apart in one part and 50 in another"
    )
    kept = np.delete(200 * np.arange(200), 60)
    found = run_statistics(write_run(tmp_path / "lost", kept, temperatures(199)))
    assert found["drift"]["value"] == pytest.approx(DRIFT, rel=1e-5)
    assert found["notes"] == []
