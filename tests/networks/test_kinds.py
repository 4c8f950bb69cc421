"""Kinds of networks: one of another package trains, is evaluated, checked and served; what is refused, in one line."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import behler
import numpy as np
import pytest
import yaml
from client_place import COLUMNS, Workplace, ffsocket, wait, water
from training_place import labelled_molecules, write_config

from ipi_driver.cli import main
from ipi_driver.errors import UserError
from ipi_driver.networks import kinds
from ipi_driver.networks.kinds import build_network, network_config, network_kinds, register_network
from ipi_driver.potentials import load_potential
from ipi_driver.structure import Structure

ARCHITECTURE = {"kind": "behler", "cutoff": 3.0, "hidden": 16}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with an installed package whose entry point names the network."""
    folder = tmp_path / "site"
    installed = folder / "my_networks-1.0.dist-info"
    installed.mkdir(parents=True)
    shutil.copy(behler.__file__, folder / "my_behler.py")
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: my-networks\nVersion: 1.0\n")
    points = f"[{kinds.GROUP}]\nbehler = my_behler:BehlerNetwork\nbroken = no_such_module:Network\n"
    (installed / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(folder)
    importlib.invalidate_caches()
    return folder


E3NN = {"kind": "e3nn", "cutoff": 3.0, "l_max": 1, "channels": 8, "product_channels": 4, "d_radial": 8}


@pytest.mark.timeout(900)  # every command once: much for a machine that does other things
@pytest.mark.parametrize("architecture", [ARCHITECTURE, E3NN], ids=["behler", "e3nn"])
def test_the_whole_chain(
    package: Path, tmp_path: Path, architecture: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    """A network trains, is evaluated, checked and served to i-PI; nothing in `ipi_driver` names the first one."""
    assert set(network_kinds()) >= {"pet", "e3nn", "behler"}
    changes = {"architecture": architecture, "epochs": 40, "evaluate_every": 20, "learning_rate": 1e-2}
    path = write_config(tmp_path, **changes, baseline={"pair": False}, ema=0.9)
    assert main(["train", str(path), "--quiet"]) == 0
    model = tmp_path / "model"
    assert yaml.safe_load((model / "model.yaml").read_text())["kind"] == architecture["kind"]
    log = np.genfromtxt(model / "log.csv", delimiter=",", names=True)
    assert (
        log["val_force_mae"].min() < 0.8 * np.abs([a.get_forces() for a in labelled_molecules()]).mean() * 1e3
    )
    (tmp_path / "train.yaml").write_text(path.read_text().replace("epochs: 40", "epochs: 41"))
    assert main(["train", str(path), "--quiet", "--resume"]) == 0

    assert (
        main(["evaluate", str(model), str(tmp_path / "data.extxyz"), "--output", str(tmp_path / "out")]) == 0
    )
    capsys.readouterr()
    place = Workplace(package)
    try:
        place.input([ffsocket("pot")], water(), steps=2, columns=COLUMNS)
        structures = package / "init.extxyz"
        check = [
            "check",
            str(model),
            str(structures),
            "--output",
            str(tmp_path / "check"),
            "--dtype",
            "float64",
        ]
        assert main([*check, "--average", "none", "i", "O", "--max-degree", "1"]) == 0
        found = json.loads((tmp_path / "check" / "check.json").read_text())
        assert max(row["force_max"] for row in found["errors"]) < 1e-12
        assert found["recommendation"]["average"] == "none"
        ipi = place.ipi()
        client = place.client(model, "--unix", "pot", "--structure", "init.extxyz", "--dtype", "float64")
        assert (wait(ipi, 240), wait(client, 240)) == (0, 0), place.log()
        expected = load_potential(model, dtype="float64").predict(Structure.from_atoms(water()))
        rows = place.output()
        assert rows.shape[0] == 3
        # i-PI reads the structure with its own constants
        assert rows[0, 0] == pytest.approx(expected.energy, rel=1e-6)
        np.testing.assert_allclose(rows[0, 1:4], expected.forces[1], atol=1e-5)
    finally:
        place.close()


def test_what_is_refused(package: Path) -> None:
    with pytest.raises(UserError, match="no network kind 'schnet'; there are pet"):
        network_config({"kind": "schnet"}, (1, 8))
    with pytest.raises(UserError, match=r"'broken' \(no_such_module:Network\) cannot be imported"):
        network_config({"kind": "broken"}, (1, 8))
    with pytest.raises(
        UserError, match=r"d_model: not a key of kind: behler \(got 8\); it is a key of kind: pet"
    ):
        network_config(ARCHITECTURE | {"d_model": 8}, (1, 8))
    with pytest.raises(UserError, match="hidden: Input should be greater than 0"):
        network_config(ARCHITECTURE | {"hidden": 0}, (1, 8))
    with pytest.raises(UserError, match="`species` must be distinct atomic numbers"):
        network_config(ARCHITECTURE, (1, 1))


def test_registration_in_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "_registered", {})
    assert register_network(behler.BehlerNetwork) is behler.BehlerNetwork
    assert register_network(behler.BehlerNetwork) is behler.BehlerNetwork
    network = build_network(network_config(ARCHITECTURE, (8, 1)))
    assert isinstance(network, behler.BehlerNetwork)

    class Other(behler.BehlerNetwork):
        pass

    with pytest.raises(UserError, match="'behler' exists already"):
        register_network(Other)


def test_another_kind_to_start_from(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path, architecture={"kind": "behler"}, start_from="pet-water-s")
    assert main(["train", str(path), "--quiet"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "is of kind pet, `architecture` asks for kind behler" in line


def test_keys_of_every_kind_are_printed(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A kind that cannot be imported does not hide the others."""
    assert main(["train", "--keys"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("#   hidden: 24") for line in lines)
