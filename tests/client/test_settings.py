"""driver.yaml, the command line, and which of them wins."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from client_place import ANISOTROPIC, CLIENT, ffsocket, wait, water

from ipi_driver.cli import serve
from ipi_driver.client.settings import EndpointSettings, make_settings, modules_here, read_yaml
from ipi_driver.errors import UserError


def parse(*words: str) -> dict:
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    return serve.collect_settings(parser.parse_args(words))[0]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "driver.yaml").write_text(
        "model: some-model\nendpoints:\n  - unix: raw\n  - unix: averaged\n    average: 2\n"
        "structure: data/init.xyz\nseed: 3\n"
    )
    return tmp_path


def test_yaml_beside(folder):
    settings = make_settings(parse())
    assert settings.model == "some-model"
    assert [(e.unix, e.average) for e in settings.endpoints] == [("raw", "none"), ("averaged", "2")]
    assert settings.structure == folder / "data" / "init.xyz"
    assert settings.deadline == 600.0


def test_command_line_wins(folder):
    settings = make_settings(parse("other", "--unix", "one=Th", "--seed", "5", "--config", "driver.yaml"))
    assert (settings.model, settings.seed) == ("other", 5)
    assert [(e.unix, e.average) for e in settings.endpoints] == [("one", "Th")]
    assert settings.structure == folder / "data" / "init.xyz"
    assert make_settings(parse("--seed", "0")).seed == 0
    assert "structure" not in parse("--input", "input.xml")


def test_complete_command_line_ignores_the_file(folder, caplog):
    """Not silently: its charge, spin, precision, ... would be expected to hold."""
    assert "seed" not in parse("other", "--unix", "one")
    assert "driver.yaml in this folder is not read" in caplog.text
    assert "--config driver.yaml" in caplog.text
    caplog.clear()
    parse("other", "--unix", "one", "--config", "driver.yaml")
    parse("other")
    (folder / "driver.yaml").unlink()
    parse("other", "--unix", "one")
    assert not caplog.text


def test_paths_are_relative_to_the_file(folder, monkeypatch):
    (folder / "some-model").mkdir()
    monkeypatch.chdir("/")
    values = read_yaml(folder / "driver.yaml")
    assert values["model"] == str(folder / "some-model")
    assert values["structure"] == folder / "data" / "init.xyz"


def test_kinds_of_endpoints():
    values = parse("m", "--unix", "a", "--inet", "node01:31415=2i", "--shm", "b=i", "--inet", "::1:5")
    endpoints = make_settings(values).endpoints
    assert [e.label for e in endpoints] == ["unix a", "inet node01:31415", "shm b", "inet ::1:5"]
    assert [e.average for e in endpoints] == ["none", "2i", "i", "none"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"sockets_prefx": "a"}, "did you mean `sockets_prefix`"),
        ({"endpoints": [{"unix": "a", "avrage": "2i"}]}, "did you mean `average`"),
        ({"endpoints": [{"unix": "a", "inet": "b:1"}]}, "exactly one"),
        ({"endpoints": [{"average": "2i"}]}, "exactly one"),
        ({"endpoints": [{"inet": "node01"}]}, "HOST:PORT"),
        ({"endpoints": []}, "no endpoint given"),
        ({"endpoints": [{"unix": "a"}, {"unix": "a", "average": "2i"}]}, "given 2 times"),
        ({"dtype": "float16"}, "`dtype`.*float32.*got 'float16'"),
        ({"rotation_batch": 0}, "`rotation_batch`.*greater than 0.*got 0"),
        ({"model": None}, "`model`"),
    ],
)
def test_wrong_values(change, expected):
    with pytest.raises(UserError, match=expected) as caught:
        make_settings({"model": "m", "endpoints": [{"unix": "a"}], **change}, "driver.yaml")
    assert "\n" not in str(caught.value)


def test_socket_path_limit():
    """107 bytes are allowed, in bytes and not in characters."""
    assert EndpointSettings(unix="a" * 97).unix_path("/tmp/ipi_") == "/tmp/ipi_" + "a" * 97
    for name in ("a" * 99, "å" * 50):
        with pytest.raises(UserError, match="-S"):
            EndpointSettings(unix=name).unix_path("/tmp/ipi_")
    assert EndpointSettings(inet="a" * 200 + ":1").unix_path("/tmp/ipi_") is None


@pytest.mark.parametrize("text", ["model: [a", "- a\n", ""])
def test_files_that_are_not_settings(tmp_path, text):
    (tmp_path / "driver.yaml").write_text(text)
    with pytest.raises(UserError, match=r"driver\.yaml"):
        read_yaml(tmp_path / "driver.yaml")


def test_ipi_and_serve_in_one_folder(place):
    """`i-pi input.xml` and `ipi-driver serve` without arguments."""
    place.input([ffsocket("raw")], water())
    (place.folder / "driver.yaml").write_text(
        f"model: {ANISOTROPIC}\ninput: input.xml\nsockets_prefix: {place.prefix}\nendpoints:\n  - unix: raw\n"
    )
    ipi, client = place.ipi(), place.start([*CLIENT, "serve"], "client")
    assert (wait(ipi), wait(client)) == (0, 0), place.log()
    assert len(place.output()) == 2


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("ase:wall.Wall?a=1", True),
        ("sum:pet-water-s+ase:wall.Wall", True),
        ("sum:(anisotropic?l=1,2)+(ase:wall.Wall)", True),
        ("committee:ase:wall.Wall,pet-water-s", True),
        ("ase:json.Wall", False),
        ("ase:other.Wall", False),
        ("sum:phase:wall+pet-water-s", False),
    ],
)
def test_modules_of_the_current_folder_also_in_sums(model: str, found: bool, tmp_path: Path) -> None:
    (tmp_path / "wall.py").touch()
    (tmp_path / "json.py").touch()
    assert modules_here(model, tmp_path) == (tmp_path.resolve() if found else None)


def test_a_model_that_no_endpoint_would_take_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    endpoints = "endpoints:\n- {unix: a, model: pet-water-s}\n- {unix: b, model: pet-water-s2}\n"
    (tmp_path / "driver.yaml").write_text(f"model: pet-water-m\n{endpoints}structure: init.xyz\n")
    with pytest.raises(UserError, match="pet-water-sym would serve nothing: each endpoint in"):
        parse("pet-water-sym")
    (tmp_path / "driver.yaml").write_text(f"model: pet-water-m\n{endpoints}- unix: c\nstructure: init.xyz\n")
    assert parse("pet-water-sym")["model"] == "pet-water-sym"
