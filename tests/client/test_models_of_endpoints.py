"""Endpoints with options and models of their own, and extras that i-PI prints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from client_place import ffsocket, wait, water

from ipi_driver.client.settings import make_settings, read_yaml
from ipi_driver.potentials import load_potential
from ipi_driver.structure import Structure
from ipi_driver.units import HARTREE

pytest.importorskip("metatomic.torch")


def export(path: Path) -> Path:
    """The model of `metatomic_outputs`: springs along z, direct forces, an ensemble."""
    from metatomic.torch import ModelOutput
    from metatomic_outputs import save

    outputs = {
        "energy/soft": ModelOutput(unit="eV"),
        "energy_ensemble": ModelOutput(unit="eV"),
        "non_conservative_force": ModelOutput(unit="eV/A", sample_kind="atom"),
    }
    return save(path, outputs)


def test_direct_forces_inside_and_averaged_ones_outside(place):
    export(place.folder / "model.pt")
    settings = {
        "model": "model.pt",
        "endpoints": [
            {"unix": "direct", "options": {"non_conservative": "forces"}},
            {"unix": "averaged", "average": "Th"},
            {"unix": "other", "model": "anisotropic?l=2"},
        ],
        "input": "input.xml",
    }
    (place.folder / "driver.yaml").write_text(yaml.safe_dump(settings))
    forces = (
        "<force forcefield='direct'><mts_weights>[-1, 1]</mts_weights></force>"
        "<force forcefield='averaged'><mts_weights>[1, 0]</mts_weights></force>"
        "<force forcefield='other'><mts_weights>[0.1, 0]</mts_weights></force>"
    )
    place.input(
        [ffsocket("direct"), ffsocket("averaged"), ffsocket("other")], water(), steps=2, forces=forces,
        columns="pot_component{electronvolt}(index=0), pot_component{electronvolt}(index=1), "
        "pot_component{electronvolt}(index=2)",
        motion="<timestep units='femtosecond'>1</timestep><nmts>[1, 4]</nmts>",
    )  # fmt: skip
    ipi, client = place.ipi(), place.client()
    assert (wait(ipi, 150), wait(client)) == (0, 0), place.log()
    start = Structure.from_atoms(water())
    relative = start.positions - start.positions.mean(axis=0)
    expected = [0.5 * (relative[:, 2] ** 2).sum(), (relative**2).sum() / 6]
    expected.append(load_potential("anisotropic?l=2").predict(start).energy)
    assert place.output()[0] == pytest.approx(expected, abs=1e-6)
    # the springs along z alone turn no atom along x; the averaged ones pull along all axes
    log = place.log()
    assert "direct: average none" in log
    assert "averaged: average Th (24 rotations)" in log


def test_extras_that_ipi_prints(place):
    export(place.folder / "model.pt")
    outputs = (
        "<trajectory filename='committee' extra_type='committee_pot'> extras_component_raw(0) </trajectory>"
    )
    place.input([ffsocket("averaged")], water(), steps=1, outputs=outputs)
    ipi = place.ipi()
    client = place.client(
        "model.pt", "--input", "input.xml", "--unix", "averaged=Th", "--extras", "energy_ensemble"
    )
    assert (wait(ipi, 150), wait(client)) == (0, 0), place.log()
    (path,) = place.folder.glob("sim.committee*")
    first = np.atleast_2d(np.loadtxt(path))[0]
    start = Structure.from_atoms(water())
    relative = start.positions - start.positions.mean(axis=0)
    assert first * HARTREE == pytest.approx((relative**2).sum() / 6 + np.arange(3), abs=1e-6)


def test_settings_of_an_endpoint(tmp_path: Path) -> None:
    (tmp_path / "other.pt").touch()
    text = """
model: model.pt?variant=soft
extras: [energy_ensemble]
endpoints:
  - {unix: a, options: {non_conservative: on, x: 1}}
  - {unix: b, model: other.pt}
"""
    (tmp_path / "driver.yaml").write_text(text)
    settings = make_settings(read_yaml(tmp_path / "driver.yaml"), "driver.yaml")
    first, second = (settings.model_of(endpoint) for endpoint in settings.endpoints)
    assert first.options == {
        "variant": "soft", "extras": "energy_ensemble", "non_conservative": "true", "x": "1"
    }  # fmt: skip
    assert (second.name, second.options) == (str(tmp_path / "other.pt"), {"extras": "energy_ensemble"})
