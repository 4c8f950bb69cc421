"""Rows of ``log.csv``."""

from __future__ import annotations

import csv
from pathlib import Path

from ipi_driver.training.log_file import append_row, cut_rows


def test_names_of_sets_may_hold_commas(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    rows = [{"step": k, "val_force_mae.bulk, 300 K": 0.5 * k, 'val_force_mae."gas"': 2.0} for k in (1, 2, 3)]
    for row in rows:
        append_row(path, row)
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [{key: float(value) for key, value in row.items()} for row in found] == rows


def test_rows_after_the_checkpoint_and_half_rows_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    cut_rows(path, 8)
    assert not path.exists()
    for step in (4, 8, 12):
        append_row(path, {"epoch": step // 4, "step": step, "train_loss": 0.25})
    whole = path.read_bytes()
    cut_rows(path, 12)
    assert path.read_bytes() == whole
    path.write_bytes(whole[:-3])
    cut_rows(path, 12)
    assert path.read_bytes() == b"epoch,step,train_loss\r\n1,4,0.25\r\n2,8,0.25\r\n"
    cut_rows(path, 4)
    append_row(path, {"epoch": 2, "step": 8, "train_loss": 0.5})
    assert path.read_bytes().splitlines()[1:] == [b"1,4,0.25", b"2,8,0.5"]
