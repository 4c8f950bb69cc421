"""`serve`, `run` and the plug-in warn of an average on a model that depends on the orientation on purpose."""

from __future__ import annotations

import json
import logging

import ase.io
import pytest
from client_place import ffsocket, wait, water
from runs_place import Place

from ipi_driver.api.calculator import Calculator
from ipi_driver.client.in_process import InProcess

FIELD = "sum:anisotropic?l=2+(field?electric=0,0,0.1&charges=O:-0.8,H:0.4)"


def test_the_client_warns_once_for_the_averaged_endpoint_alone(place) -> None:
    place.input([ffsocket("raw"), ffsocket("averaged")], water(), steps=1)
    ipi = place.ipi()
    client = place.client(FIELD, "--input", "input.xml", "--unix", "raw", "--unix", "averaged=Th")
    assert (wait(ipi, 150), wait(client)) == (0, 0), place.log()
    (line,) = [text for text in place.log().splitlines() if "warning" in text]
    assert line.startswith("ipi-driver: warning: unix averaged: the average Th removes physics, not error")
    assert "l = 1, odd: a vector" in line


def test_the_plugin_of_ipi_warns(tmp_path, caplog) -> None:
    ase.io.write(tmp_path / "init.extxyz", water())
    with caplog.at_level(logging.WARNING):
        InProcess(model=FIELD, structure=tmp_path / "init.extxyz")
        assert not caplog.records
        InProcess(model=FIELD, structure=tmp_path / "init.extxyz", average="T")
    assert "the average T removes physics" in caplog.text


def test_the_calculator_of_ase_warns() -> None:
    Calculator(FIELD)
    with pytest.warns(UserWarning, match="the average Th removes physics, not error"):
        Calculator(FIELD, average="Th")


def test_the_launcher_shows_what_the_client_warns_of(tmp_path) -> None:
    made = Place(tmp_path)
    try:
        status, _, errors = made.run("gas-nvt", "--model", FIELD, "--steps", 2, "--average", "T")
    finally:
        made.close()
    assert status == 0, errors
    shown = [line for line in errors.splitlines() if "removes physics" in " ".join(errors.split())]
    assert shown
    events = (tmp_path / "runs" / "gas-nvt" / "events.jsonl").read_text().splitlines()
    (event,) = [json.loads(line) for line in events]
    assert event["kind"] == "client"
    assert "the average T removes physics, not error" in event["text"]
