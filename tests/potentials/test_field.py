"""Fixed charges in a uniform field: the contract, the recommendation of a check, bad options."""

from __future__ import annotations

from pathlib import Path

import ase.build
import numpy as np
import pytest

import ipi_driver
from ipi_driver.errors import UserError
from ipi_driver.potentials import load_potential, parse_potential
from ipi_driver.potentials.field import FieldPotential
from ipi_driver.potentials.testing import check_potential
from ipi_driver.structure import Structure

FIELD = "field?electric=0.02,-0.1,0.05&charges=O:-0.82,H:0.41"
WATER = Structure(np.array([8, 1, 1]), np.array([[0.0, 0.0, 0.0], [0.97, 0.0, 0.1], [-0.2, 0.9, 0.0]]))


def test_it_keeps_the_contract() -> None:
    # the batch of that check holds a molecule without its last atom, which is charged
    check_potential(load_potential(FIELD), WATER, skip=("batch",), tolerance=1e-12, derivative_tolerance=1e-9)


def test_several_molecules_in_one_call() -> None:
    potential = load_potential(FIELD)
    assert isinstance(potential, FieldPotential)
    two = Structure(np.tile(WATER.numbers, 2), np.concatenate([WATER.positions, WATER.positions + 3.0]))
    found = potential.evaluate([WATER, two], np.eye(3)[None])
    assert found.energies[1, 0] == pytest.approx(2.0 * found.energies[0, 0], rel=1e-12)
    assert found.energies[0, 0] == pytest.approx(-potential.dipole(WATER) @ [0.02, -0.1, 0.05])
    assert found.forces[0][0, 1] == pytest.approx(0.41 * np.array([0.02, -0.1, 0.05]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("field", "`electric` is missing"),
        ("field?electric=0,0,1", "`charges` is missing"),
        ("field?electric=0,1&charges=O:-1,H:0.5", "three finite numbers"),
        ("field?electric=0,0,x&charges=O:-1,H:0.5", "three numbers in V/Å"),
        ("field?electric=0,0,1&charges=O:-1,Q:0.5", "like O:-0.82,H:0.41, got 'Q:0.5'"),
        ("field?electric=0,0,1&charges=O:-1,O:-2,H:0.5", "gives O twice"),
        ("field?electric=0,0,1&charges=O:much", "must be a number in e, got 'much'"),
        ("field?electric=0,0,1&charge=O:1", "unknown option 'charge'"),
    ],
)
def test_bad_options(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_potential(text)


def test_charged_or_periodic_structures_are_refused() -> None:
    hydroxide = Structure(WATER.numbers[:2], WATER.positions[:2])
    periodic = Structure(WATER.numbers, WATER.positions, 9.0 * np.eye(3), np.ones(3, dtype=bool))
    for structure, message in ((hydroxide, "add up to zero"), (periodic, "isolated structure")):
        with pytest.raises(UserError, match=message):
            load_potential(FIELD).predict(structure)


def test_check_keeps_a_field_and_averages_an_error() -> None:
    water = ase.build.molecule("H2O")
    kept = ipi_driver.check(
        f"sum:(anisotropic?l=4&amplitude=0.002)+({FIELD})", water, averages=["T", "O"], max_degree=4
    ).recommendation
    assert kept.average == "none"
    assert kept.directions == ("1o",)
    assert kept.kept == pytest.approx(
        np.sqrt((0.41**2 * 2 + 0.82**2) / 9) * np.linalg.norm([0.02, -0.1, 0.05]), rel=1e-6
    )
    assert 1e-4 < kept.force_mae < 0.1 * kept.kept
    assert "l = 1, odd: a vector" in kept.text
    assert "remove physics, not error" in kept.text
    error = ipi_driver.check("anisotropic?l=1&amplitude=0.05", water, averages=["T"], max_degree=4)
    assert error.recommendation.average == "T"


def test_a_folder_of_the_same_name_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "field").mkdir()
    assert isinstance(load_potential(FIELD), FieldPotential)
    (tmp_path / "field" / "model.yaml").touch()
    assert parse_potential("field?theta_scale=1").kind == "network"
