"""The uniform field in forces: of charges in a field, whatever else the forces hold; the command."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.build import molecule
from equivariant_place import network_of
from scipy.spatial.transform import Rotation

from ipi_driver.cli import main
from ipi_driver.errors import UserError
from ipi_driver.networks.baseline import Baseline
from ipi_driver.networks.storage import save_model
from ipi_driver.potentials import load_potential
from ipi_driver.structure import Structure
from ipi_driver.symmetry.learned_field import learned_field

CHARGES = {8: -0.82, 1: 0.41}
WATER = Structure.from_atoms(molecule("H2O"))


def test_a_field_beside_other_forces() -> None:
    def potential(sign: int):
        field = ",".join(str(sign * x) for x in (0.05, -0.1, 0.1))
        return load_potential(f"sum:anisotropic?l=2+(field?electric={field}&charges=O:-0.82,H:0.41)")

    structures = [WATER.rotated(r) for r in Rotation.random(3, random_state=0).as_matrix()]
    found = learned_field(potential(1), potential(-1), structures, CHARGES)
    np.testing.assert_allclose(found.electric, [0.05, -0.1, 0.1], atol=1e-12)
    assert found.size == pytest.approx(0.15)
    assert found.explained == pytest.approx(1.0)
    # half the charges, twice the field: forces alone do not tell them apart
    halved = learned_field(potential(1), potential(-1), structures, {8: -0.41, 1: 0.205})
    assert halved.size == pytest.approx(0.3)
    for charges, message in (({8: 1.0}, "got none for H"), ({8: 0.0, 1: 0.0}, "not all zero")):
        with pytest.raises(UserError, match=message):
            learned_field(potential(1), potential(-1), structures, charges)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = network_of(relaxed={"l_max": 1})
    for weights in network.relaxed_weights:
        weights.theta.data[weights.starts[1] : weights.starts[2]] = torch.tensor([0.0, 0.03, 0.04])
    save_model(tmp_path / "field", network, Baseline((1, 8), np.zeros(2), 3.5), double=True)
    ase.io.write(tmp_path / "water.extxyz", [molecule("H2O")])
    words = ["symmetry-breaking", str(tmp_path / "field"), "--field", str(tmp_path / "water.extxyz")]
    assert main([*words, "--charges", "O:-0.8,H:0.4", "--output", str(tmp_path / "out")]) == 0
    assert "uniform field (" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "breaking.json").read_text())["field"]
    assert np.linalg.norm(found["electric"]) > 1e-6
    for more, message in (([], "belong together"), (["--charges", "O"], "like O:-0.82,H:0.41")):
        assert main([*words, *more]) == 2
        assert message in capsys.readouterr().err
