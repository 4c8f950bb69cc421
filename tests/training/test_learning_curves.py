"""Figures of a training: drawn from logs of any length, refused with one line where there is nothing to draw."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from ipi_driver.errors import UserError
from ipi_driver.report.learning_curves import (
    COLUMNS,
    NEWER_COLUMNS,
    plot_training_log,
    read_log,
)


def write_log(path: Path, n: int) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        for k in range(n):
            row = dict.fromkeys(COLUMNS, 100.0 / (k + 1))
            row |= {"epoch": k, "step": 50 * k, "hours": 0.1 * k}
            if k == 1:
                row["train_energy_mae"] = "nan"
            writer.writerow(row)
    return path


def test_columns(tmp_path: Path) -> None:
    data = read_log(write_log(tmp_path / "log.csv", 4))
    assert tuple(data) == (*COLUMNS, *NEWER_COLUMNS)
    # as in the logs of older versions, which do not have them
    assert all(np.isnan(data[name]).all() for name in NEWER_COLUMNS)
    np.testing.assert_allclose(data["val_force_mae"], 100.0 / np.arange(1, 5))
    assert np.isnan(data["train_energy_mae"][1])


@pytest.mark.parametrize("n", [1, 2, 200])
def test_figure_of_any_length(tmp_path: Path, n: int) -> None:
    path = plot_training_log(write_log(tmp_path / "log.csv", n), tmp_path / "new" / "curve.png", "a model")
    image = imread(path)
    assert image.shape[1] > 1000
    assert (image[..., :3].min(axis=2) < 0.9).mean() > 0.005  # something is drawn


def test_symmetry_error_has_an_axis_of_its_own(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.csv", 5)
    plain = imread(plot_training_log(log, tmp_path / "plain.png"))
    lines = log.read_text().splitlines()
    rows = [f"{line},6.5,{3.0 / (k + 1)},{2.0 / (k + 1)}" for k, line in enumerate(lines[1:])]
    log.write_text("\n".join([",".join([lines[0], *NEWER_COLUMNS]), *rows]) + "\n")
    assert read_log(log)["val_symmetry_mae"][2] == pytest.approx(1.0)
    drawn = imread(plot_training_log(log, tmp_path / "symmetry.png"))
    assert plain.shape != drawn.shape or np.abs(plain - drawn).max() > 0.1


def test_columns_are_those_of_the_trainer() -> None:
    from dataclasses import fields

    from ipi_driver.training.log_file import LogRow

    assert tuple(field.name for field in fields(LogRow)) == (*COLUMNS, *NEWER_COLUMNS)


def test_bad_logs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no training log"):
        read_log(tmp_path / "absent.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="no column 'epoch'"):
        read_log(tmp_path / "other.csv")
    with pytest.raises(UserError, match="no rows yet"):
        read_log(write_log(tmp_path / "log.csv", 0))
