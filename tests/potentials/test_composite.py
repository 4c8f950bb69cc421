"""Sums and committees of potentials."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ipi_driver.errors import UserError
from ipi_driver.potentials import Potential, load_potential, load_precise, parse_potential
from ipi_driver.potentials.composite import CommitteePotential
from ipi_driver.potentials.registry import check_potential_exists, located_potential, with_options
from ipi_driver.potentials.testing import check_potential
from ipi_driver.rotations import quadrature
from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.structure import FloatArray, RotatedResults, Structure

NUMBERS = np.array([8, 1, 1, 8])
POSITIONS = np.array([[0.0, 0.0, 0.0], [0.97, 0.02, 0.1], [-0.24, 0.93, 0.05], [2.1, 1.6, 1.2]])
CELL = np.array([[3.6, 0.0, 0.0], [0.4, 3.8, 0.0], [0.1, -0.3, 3.5]])
CRYSTAL = Structure(NUMBERS, POSITIONS, CELL, np.ones(3, dtype=bool))
A, B, C = "anisotropic?l=2&amplitude=0.1", "anisotropic?l=3e&seed=4", "anisotropic?l=1,2&amplitude=0.05"
LENNARD_JONES = "ase:ase.calculators.lj.LennardJones?sigma=1.2&epsilon=0.02&rc=3.3&smooth=true"


@pytest.mark.parametrize("text", [f"sum:{A}+({LENNARD_JONES})", f"committee:{A},{B},({C})"])
def test_the_contract(text: str) -> None:
    check_potential(load_potential(text), CRYSTAL)


def test_a_sum() -> None:
    found = load_potential(f"sum:{A}+{LENNARD_JONES}").predict(CRYSTAL)
    first, second = (load_potential(text).predict(CRYSTAL) for text in (A, LENNARD_JONES))
    assert found.energy == pytest.approx(first.energy + second.energy)
    assert found.forces == pytest.approx(first.forces + second.forces)
    assert found.virial == pytest.approx(first.virial + second.virial)


def test_a_sum_keeps_the_extras_of_all_parts() -> None:
    first, second = f"committee:{A},{B}", f"committee:{B},({C})"
    found = load_potential(f"sum:({first})+({second})").predict(CRYSTAL)
    one, other = (load_potential(text).predict(CRYSTAL) for text in (first, second))
    assert found.extras["energy_ensemble"] == pytest.approx(one.extras["energy_ensemble"])
    assert found.extras["energy_ensemble_2"] == pytest.approx(other.extras["energy_ensemble"])


def test_a_committee_averaged_member_by_member() -> None:
    average = RotationalAverage(load_potential(f"committee:{A},{B},({C})"), "D2")
    found = average.predict(CRYSTAL)
    members = [RotationalAverage(load_potential(text), "D2").predict(CRYSTAL) for text in (A, B, C)]
    energies = np.array([member.energy for member in members])
    assert found.energy == pytest.approx(energies.mean())
    assert found.forces == pytest.approx(np.mean([member.forces for member in members], axis=0))
    assert found.extras["energy_ensemble"] == pytest.approx(energies)
    spread = [
        np.std([load_potential(text).predict(CRYSTAL.rotated(r)).energy for text in (A, B, C)], ddof=1)
        for r in quadrature("D2").rotations
    ]
    assert found.extras["energy_uncertainty"] == pytest.approx(np.mean(spread))


class Dipole(Potential):
    """No energy, and a dipole along x."""

    def __init__(self, size: float) -> None:
        self.size = size

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        n = len(rotations)
        return RotatedResults(
            np.zeros((len(structures), n)),
            tuple(np.zeros((n, structure.n_atoms, 3)) for structure in structures),
            None,
            {"dipole": tuple(self.size * rotations[:, 0] for _ in structures)},
        )


def test_a_committee_has_the_mean_of_what_its_members_add() -> None:
    found = CommitteePotential([Dipole(1.0), Dipole(2.0)]).evaluate([CRYSTAL], quadrature("D2").rotations)
    assert found.extras["dipole"][0] == pytest.approx(1.5 * quadrature("D2").rotations[:, 0])
    assert found.extras["energy_ensemble"][0].shape == (4, 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("committee:a.pt,b.pt?variant=x", "committee:a.pt?extras=dipole,b.pt?variant=x&extras=dipole"),
        ("sum:(anisotropic?l=1,2)+a.pt", "sum:anisotropic?l=1,2+a.pt?extras=dipole"),
        ("sum:a.pt+pet-water-s2", "sum:a.pt?extras=dipole+pet-water-s2"),
        ("sum:(committee:a.pt,b.pt)+anisotropic", "sum:committee:a.pt?extras=dipole,b.pt?extras=dipole+anisotropic"),
    ],
)  # fmt: skip
def test_options_go_to_the_parts_that_have_them(text: str, expected: str) -> None:
    assert str(with_options(parse_potential(text), {"extras": "dipole"})) == expected


def test_an_option_that_no_part_has_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"'extras' belongs to no part; .*: committee:\(MODEL\?extras=dipole\),"
    ):
        with_options(parse_potential("committee:anisotropic,pet-water-s2"), {"extras": "dipole"})


def test_what_is_known_of_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    potential = load_potential(f"sum:pet-water-s+{A}")
    assert potential.species == (1, 8)
    assert potential.cutoff == 4.0
    precise = load_precise(f"sum:pet-water-s+{A}", potential)
    assert precise.parts[0].dtype.itemsize == 8  # type: ignore[attr-defined]
    (tmp_path / "a.pt").touch()
    spec = located_potential("sum:a.pt?variant=x+anisotropic", tmp_path)
    assert str(spec) == f"sum:{tmp_path / 'a.pt'}?variant=x+anisotropic"
    with pytest.raises(UserError, match=r"no such model file: b\.pt"):
        check_potential_exists(parse_potential("committee:anisotropic,b.pt"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sum:anisotropic", "at least two potentials separated by '\\+', got 1"),
        ("committee:anisotropic,", "expected potentials separated by ','"),
        ("sum:(anisotropic+anisotropic", "expected potentials separated"),
    ],
)
def test_bad_texts(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_potential(text)
