"""What every command does with bad input and with files that the system refuses: one line and a status."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ipi_driver.cli import main

MODEL = "anisotropic?l=4&amplitude=0.1"


def own_input(folder: Path, settings: bytes) -> str:
    assert main(["new", "gas-nve", str(folder)]) == 0
    (folder / "driver.yaml").write_bytes(settings)
    return str(folder)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(list(words)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1, error
    return error


def test_files_where_folders_should_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.touch()
    run = ("run", "gas-nve", "--model", MODEL, "--output")
    assert str(file) in refused(capsys, *run, str(file / "run"))
    assert str(file) in refused(capsys, "new", "gas-nve", str(file / "mine"))
    structure = tmp_path / "mine" / "init.xyz"
    own_input(tmp_path / "mine", b"model: a\n")
    # before the work, whose results would be lost
    for command in (("check", MODEL, str(structure)), ("evaluate", MODEL, "no.xyz"), ("analyze", "no-run")):
        for output in (file, file / "below"):
            said = refused(capsys, *command, "--output", str(output))
            assert f"--output must be a folder, got {output}" in said


def test_settings_that_are_no_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    latin = own_input(tmp_path / "latin", "model: größer\n".encode("latin-1"))
    assert "driver.yaml is not valid YAML" in refused(capsys, "run", latin)
    named = own_input(tmp_path / "named", f"model: {MODEL}\nendpoints: [gas-nve-model]\n".encode())
    assert "`endpoints` must be a list of mappings" in refused(capsys, "run", named, "--average", "2i")
    xml = tmp_path / "named" / "input.xml"
    xml.write_bytes(
        xml.read_bytes().replace(b"<simulation", "<!-- größer -->\n<simulation".encode("latin-1"), 1)
    )
    assert "UTF-8" in refused(capsys, "run", str(tmp_path / "named"))


def test_a_reader_that_has_seen_enough() -> None:
    command = f"{sys.executable} -m ipi_driver train --keys | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert int(done.stdout) == 128 + signal.SIGPIPE
