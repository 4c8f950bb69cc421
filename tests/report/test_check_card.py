"""The one-page card of a check: its numbers are those of the files, it needs no other file, and its verdicts hold."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import ase.io
import pytest
from ase.build import molecule

from ipi_driver.cli import main

MODEL = "anisotropic?l=1,2&amplitude=0.05"


class Cells(HTMLParser):
    """The cells of all tables."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self._inside = True
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "td"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("card")
    ase.io.write(path / "gas.extxyz", molecule("H2O"))
    words = ["check", MODEL, str(path / "gas.extxyz"), "--average", "T", "--max-degree", "2"]
    assert main([*words, "--output", str(path / "out"), "--drift", "120", "--card"]) == 0
    return path


def test_the_card_shows_what_the_files_hold(folder: Path) -> None:
    content = json.loads((folder / "out" / "check.json").read_text())
    page = (folder / "out" / "card.html").read_text()
    cells = Cells()
    cells.feed(page)
    rows = {row[0]: row[1:] for row in cells.rows}
    raw = next(row for row in content["errors"] if row["average"] == "none")
    value, mark = rows["symmetry error of the forces, raw"]
    assert float(value.split()[0]) == pytest.approx(1e3 * raw["force_mae"], rel=6e-3)
    assert mark == "✗"
    assert rows["with T"][1] == "✓"
    assert rows["forces − derivative of the energy"][1] == "✓"
    assert content["recommendation"]["text"] in page
    drift = content["drift"]["gas"]
    assert drift["time_fs"] == pytest.approx(60.0)
    assert not drift["broken"]
    assert (rows["drift at constant energy"][1] == "✓") == drift["acceptable"]
    shown = re.match(r"([-\d.e()]+)", rows["drift at constant energy"][0].replace("−", "-"))
    assert shown is not None
    walk = content["rotation_walks"]["gas"]
    assert float(rows["ML-PEG rotations, forces"][0].split()[0]) == pytest.approx(
        1e3 * walk["force_mean"], rel=6e-3
    )


def test_the_card_needs_no_other_file_and_fits_a_phone(folder: Path) -> None:
    page = (folder / "out" / "card.html").read_text()
    (image,) = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert base64.b64decode(image).startswith(b"\x89PNG")
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert '<meta name="viewport" content="width=device-width' in page
    assert (folder / "out" / "drift.png").stat().st_size > 5000


def test_a_card_elsewhere_and_a_check_without_drift(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", MODEL, str(folder / "gas.extxyz"), "--average", "T", "--max-degree", "1"]
    card = folder / "cards" / "model.html"
    assert main([*words, "--output", str(folder / "out"), "--card", str(card)]) == 0
    assert "drift at constant energy" not in card.read_text()
    assert not (folder / "out" / "drift.png").exists()  # that of the check before
    assert json.loads((folder / "out" / "check.json").read_text())["drift"] == {}
    assert str(card) in capsys.readouterr().out.replace("\n", "")
