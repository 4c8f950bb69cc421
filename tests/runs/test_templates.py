"""The shipped inputs for constant pressure, quantum nuclei and replica exchange run in i-PI as they stand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ipi_driver.cli import main
from ipi_driver.ipi_files.properties import read_properties

MODEL = "anisotropic?l=2&amplitude=0.05"


def run(name: str, folder: Path) -> Path:
    # too few steps for the model, which is no water, to fly apart
    words = ["--model", MODEL, "--average", "D2", "--steps", "2", "--stride", "2", "--watch", "off"]
    assert main(["run", name, *words, "--output", str(folder / "run")]) == 0
    return folder / "run"


def test_constant_pressure(tmp_path: Path) -> None:
    folder = run("liquid-npt", tmp_path)
    table = read_properties(folder / "simulation.out")
    assert {"pressure_md", "volume", "density"} <= set(table.columns)
    assert np.ptp(table["volume"]) > 0.0
    assert table["density"][0] == pytest.approx(0.997, abs=0.02)  # g/cm³, the experiment's at 300 K


def test_quantum_nuclei_in_batches(tmp_path: Path) -> None:
    folder = run("liquid-pimd", tmp_path)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == 2
    # every inner step and every outer step evaluates all eight beads
    evaluations = {name.split()[1]: e["evaluations"] for name, e in summary["endpoints"].items()}
    assert all(count % 8 == 0 for count in evaluations.values())
    assert len(list(folder.glob("simulation.pos_*.xyz"))) == 8


def test_replica_exchange(tmp_path: Path) -> None:
    folder = run("liquid-remd", tmp_path)
    assert len(list(folder.glob("r[1-4]_simulation.out"))) == 4
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary["systems"]) == ["r1", "r2", "r3", "r4"]
    assert all(part["steps"] == 2 for part in summary["systems"].values())
    assert summary["swaps"] == len((folder / "simulation.remd_idx").read_text().splitlines())
    assert (folder / "summary.png").is_file()
    assert (folder / "simulation.remd_idx").is_file()
