"""Inputs that people already have: their own socket names, addresses of other machines, no driver.yaml."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ipi_driver.cli import main
from ipi_driver.shipped import shipped_folder

MODEL = "anisotropic?l=2&amplitude=0.05"


def own_input(folder: Path, inet: bool = False) -> Path:
    """An input with multiple time stepping whose sockets have names of their own."""
    text = (shipped_folder("inputs") / "gas-nvt" / "input.xml").read_text()
    text = text.replace("<address>gas-nvt-raw</address>", "<address>driver</address>")
    text = text.replace("<address>gas-nvt-averaged</address>", "<address>driver-aug</address>")
    if inet:
        text = text.replace("<ffsocket name='raw' mode='unix'", "<ffsocket name='raw' mode='inet'")
        text = text.replace("<address>driver</address>", "<address>10.1.2.3</address> <port>31415</port>")
    (folder / "input-mts.xml").write_text(text)
    (folder / "init.xyz").write_text((shipped_folder("inputs") / "gas-nvt" / "init.xyz").read_text())
    return folder / "input-mts.xml"


def test_averages_of_single_sockets(tmp_path: Path) -> None:
    words = [str(own_input(tmp_path)), "--model", MODEL, "--endpoint", "driver-aug=T", "--steps", "4"]
    assert main(["run", *words, "--output", str(tmp_path / "run")]) == 0
    endpoints = json.loads((tmp_path / "run" / "summary.json").read_text())["endpoints"]
    assert endpoints["unix driver"]["average"] == "none"
    assert endpoints["unix driver-aug"]["average"] == "T"


def test_an_address_of_another_machine_is_replaced_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        str(own_input(tmp_path, inet=True)),
        "--model",
        MODEL,
        "--endpoint",
        "driver-aug=T",
        "--steps",
        "2",
    ]
    assert main(["run", *words, "--output", str(tmp_path / "run")]) == 0
    assert "10.1.2.3: not an address of this machine" in capsys.readouterr().err
    text = (tmp_path / "run" / "input.xml").read_text()
    assert "10.1.2.3" not in text
    assert "localhost" in text


@pytest.mark.parametrize(
    ("word", "message"),
    [("driver-aug", "ADDRESS=AVERAGE"), ("other=T", "it opens: driver, driver-aug"), ("driver=2j", "2j")],
)
def test_wrong_endpoints(tmp_path: Path, word: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        str(own_input(tmp_path)),
        "--model",
        MODEL,
        "--endpoint",
        word,
        "--output",
        str(tmp_path / "run"),
    ]
    assert main(["run", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
