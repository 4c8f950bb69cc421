"""What every command does with bad input and with files that the system refuses: one line and a status."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import ase
import ase.io
import pytest

from ipi_driver.cli import build_parser, main

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


def test_results_as_json_and_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--json`` prints one JSON document and nothing else to standard output, ``--quiet`` prints nothing."""
    monkeypatch.chdir(tmp_path)
    ase.io.write("a.xyz", ase.Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
    commands = {
        "new": ["new", "gas-nve"],
        "pes-path": ["pes-path"],
        "check": ["check", MODEL, "a.xyz", "--average", "i", "--reference", "Th", "--max-degree", "2"],
    }
    for name, words in commands.items():
        found = {}
        for option in ("--json", "--quiet"):
            folder = f"{name}{option}"
            place = {"new": [folder], "check": ["--output", folder]}.get(name, [])
            if (name, option) == ("pes-path", "--quiet"):
                continue  # it prints nothing but its result
            assert main([*words, *place, option]) == 0
            found[option] = capsys.readouterr().out
        result = json.loads(found["--json"])
        assert found.get("--quiet", "") == ""
        if name == "check":
            assert result["folder"] == "check--json"
            other = json.loads(Path("check--quiet", "check.json").read_text())
            assert [row["force_mae"] for row in result["errors"]] == [
                row["force_mae"] for row in other["errors"]
            ]
        else:
            assert Path(result.get("pes_path", "new--json")).exists()
    assert main(["check", MODEL, "nowhere.xyz", "--quiet"]) == 2
    assert "nowhere.xyz" in capsys.readouterr().err


def test_every_command_that_prints_a_result_prints_json() -> None:
    _, commands = build_parser(everything=True)
    without = {
        name
        for name, parser in commands.items()
        if not any("--json" in a.option_strings for a in parser._actions)
    }
    assert without == {"serve", "completion"}  # a service, and a script for the shell


def test_completion_of_a_shell(tmp_path: Path) -> None:
    """bash completes commands, options, choices and file names with the script."""
    pytest.importorskip("shtab")
    words = [sys.executable, "-m", "ipi_driver", "completion", "bash"]
    script = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    (tmp_path / "ipi-driver.bash").write_text(script)
    (tmp_path / "water.xyz").touch()

    def complete(*typed: str) -> set[str]:
        before = typed[-2] if len(typed) > 1 else "ipi-driver"
        line = f"""
source ipi-driver.bash
COMP_WORDS=(ipi-driver {" ".join(repr(w) for w in typed)}) COMP_CWORD={len(typed)}
$(complete -p ipi-driver | sed 's/.*-F \\([^ ]*\\).*/\\1/') ipi-driver {typed[-1]!r} {before!r}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True)
        return {word.strip() for word in done.stdout.split()}

    assert complete("stat") == {"status"}
    assert {"--restarts", "--resume"} <= complete("run", "gas-nve", "--res")
    assert complete("serve", "m", "--dtype", "") == {"float32", "float64", "tf32"}
    assert "water.xyz" in complete("run", "gas-nve", "--structure", "wat")


def test_closed_output_does_not_change_the_status(tmp_path: Path) -> None:
    """`>&-`: Python then has no sys.stdout at all."""
    words = f"'{sys.executable}' -m ipi_driver new gas-nve run >&- 2>&-"
    assert subprocess.run(["bash", "-c", words], cwd=tmp_path).returncode == 0
    assert (tmp_path / "run" / "input.xml").is_file()
