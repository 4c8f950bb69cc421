"""A training that starts from an imported metatrain PET."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
import training_place

from ipi_driver.cli import main
from ipi_driver.networks.storage import load_model
from ipi_driver.potentials import Potential, load_potential
from ipi_driver.structure import Structure

IMPORTED = Path(__file__).parents[1] / "networks" / "metatrain_fixture" / "feedforward"


def test_training_starts_from_an_imported_model(tmp_path: Path) -> None:
    """The first errors are those of the model, the last are smaller; the architecture stays."""
    settings = {"start_from": str(IMPORTED), "architecture": {}, "epochs": 3, "evaluate_every": 1}
    path = training_place.write_config(tmp_path, **settings, learning_rate=3e-3, ema=0.9)
    assert main(["train", str(path), "--quiet"]) == 0
    log = np.genfromtxt(tmp_path / "model" / "log.csv", delimiter=",", names=True)
    start, trained = load_potential(IMPORTED), load_potential(tmp_path / "model")
    frames = ase.io.read(tmp_path / "data.extxyz", ":")

    def error(potential: Potential) -> float:
        found = [potential.predict(Structure.from_atoms(a)).forces - a.get_forces() for a in frames]
        return float(np.abs(found).mean())

    assert log["val_force_mae"][0] == pytest.approx(1e3 * error(start), rel=0.5)
    assert error(trained) < error(start)
    before, after = load_model(IMPORTED)[0], load_model(tmp_path / "model")[0]
    assert before.config == after.config
