"""`ipi_driver.train`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from training_place import write_config

from ipi_driver.api.training import train
from ipi_driver.errors import UserError


def test_settings_may_be_numbers_of_numpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a scan; paths are relative to the current folder, which may be one that nobody can write to."""
    config = yaml.safe_load(write_config(tmp_path).read_text())
    config |= {"learning_rate": np.logspace(-3, -2, 3)[1], "epochs": np.int64(1), "output": tmp_path / "out"}
    config["architecture"] = config["architecture"] | {"d_model": np.arange(9)[8]}
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    assert train(config).folder == tmp_path / "out"
    assert set(tmp_path.iterdir()) - before == {tmp_path / "out"}
    assert yaml.safe_load((tmp_path / "out" / "training.yaml").read_text())["learning_rate"] == 10**-2.5


def test_a_wrong_key_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^configuration of the training: learnig_rate: Extra inputs"):
        train({"data": {"files": ["data.extxyz"]}, "output": "out", "learnig_rate": 1.0})
