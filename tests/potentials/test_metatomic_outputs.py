"""Variants of the energy, direct forces, further outputs of metatomic models."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ipi_driver.errors import UserError
from ipi_driver.ipi_files.conversion import extras_json
from ipi_driver.potentials import load_potential
from ipi_driver.potentials.testing import check_potential
from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.structure import Structure
from ipi_driver.units import HARTREE

pytest.importorskip("metatomic.torch")

POSITIONS = np.array([[0.0, 0.0, 0.0], [0.97, 0.02, 0.1], [-0.24, 0.93, 0.05]])
WATER = Structure(np.array([8, 1, 1]), POSITIONS)
CRYSTAL = Structure(np.array([8, 1, 1]), POSITIONS, 3 * np.eye(3), np.ones(3, dtype=bool))
RELATIVE = POSITIONS - POSITIONS.mean(axis=0)
ROTATIONS = Rotation.random(2, random_state=3).as_matrix() * np.array([1.0, -1.0])[:, None, None]


def export(
    path: Path, force: str = "non_conservative_force", energies: tuple[str, ...] = ("soft", "hard")
) -> Path:
    from metatomic.torch import ModelOutput
    from metatomic_outputs import save

    outputs = {f"energy/{name}": ModelOutput(unit="kJ/mol" if name == "kj" else "eV") for name in energies}
    outputs |= {
        force: ModelOutput(unit="eV/A", sample_kind="atom"),
        "non_conservative_stress": ModelOutput(unit="eV/A^3"),
        "energy_ensemble": ModelOutput(unit="eV"),
        "energy_uncertainty": ModelOutput(unit="eV", sample_kind="atom"),
        "mtt::dipole": ModelOutput(unit="", sample_kind="system"),
        "mtt::spherical": ModelOutput(unit="", sample_kind="system"),
    }
    return save(path, outputs, force)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("outputs") / "many.pt")


pytestmark = pytest.mark.filterwarnings("ignore:.*a model that talks", "ignore:.*deprecated")


def test_variants(model: Path, tmp_path: Path) -> None:
    soft, hard = (load_potential(f"{model}?variant={name}").predict(WATER) for name in ("soft", "hard"))
    assert soft.energy == pytest.approx(0.5 * (RELATIVE[:, 2] ** 2).sum())
    assert hard.energy == pytest.approx(2 * soft.energy)
    with pytest.raises(UserError, match="several energies; choose one of soft, hard: \\?variant=soft"):
        load_potential(model)
    with pytest.raises(UserError, match="no variant 'pbe' of the energy, it has: soft, hard"):
        load_potential(f"{model}?variant=pbe")
    only = load_potential(export(tmp_path / "only.pt", energies=("soft",)))
    assert only.predict(WATER).energy == pytest.approx(soft.energy)
    check_potential(load_potential(f"{model}?variant=hard"), WATER)


@pytest.mark.parametrize("force", ["non_conservative_force", "non_conservative_forces"])
def test_direct_forces(force: str, tmp_path: Path) -> None:
    path = export(tmp_path / "direct.pt", force)
    potential = load_potential(f"{path}?variant=soft&non_conservative=forces")
    found = potential.evaluate([WATER, CRYSTAL], ROTATIONS)
    for k, rotation in enumerate(ROTATIONS):
        expected = np.zeros((3, 3))
        expected[:, 2] = -(RELATIVE @ rotation.T)[:, 2]  # the constant is a net force, which is removed
        for forces in found.forces:
            assert forces[k] == pytest.approx(expected @ rotation, abs=1e-12)
    assert found.virials is None  # one of them is periodic
    assert potential.evaluate([WATER], ROTATIONS).virials is not None
    check_potential(potential, WATER, skip=("forces", "virial"))


def test_direct_stress(model: Path) -> None:
    potential = load_potential(f"{model}?variant=soft&non_conservative=on")
    found = potential.evaluate([CRYSTAL], ROTATIONS)
    assert found.virials is not None
    for k, rotation in enumerate(ROTATIONS):
        expected = -27.0 * rotation.T @ np.diag([1.0, 2.0, 3.0]) @ rotation
        assert found.virials[0, k] == pytest.approx(expected, abs=1e-10)
    average = RotationalAverage(potential, "T").predict(CRYSTAL)
    assert average.virial == pytest.approx(-27.0 * 2.0 * np.eye(3), abs=1e-10)


def test_bad_options(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`non_conservative` must be off, forces or on, got 'maybe'"):
        load_potential(f"{model}?variant=soft&non_conservative=maybe")
    with pytest.raises(UserError, match="no output 'mtt::quadrupole', it has: energy/soft"):
        load_potential(f"{model}?variant=soft&extras=mtt::quadrupole")
    from metatomic_pairs import export_pairs

    with pytest.raises(UserError, match="no output `non_conservative_force`, it has: energy"):
        load_potential(f"{export_pairs(tmp_path / 'pairs.pt')}?non_conservative=forces")


def test_extras(model: Path) -> None:
    names = "energy_ensemble,energy_uncertainty,mtt::dipole"
    potential = load_potential(f"{model}?variant=soft&extras={names}")
    found = potential.evaluate([WATER, CRYSTAL], ROTATIONS)
    dipole = (np.arange(1, 4)[:, None] * RELATIVE).sum(axis=0)
    for k, rotation in enumerate(ROTATIONS):
        z = (RELATIVE @ rotation.T)[:, 2]
        energy = 0.5 * (z**2).sum()
        for s in range(2):
            assert found.extras["energy_ensemble"][s][k] == pytest.approx(energy + np.arange(3))
            assert found.extras["energy_uncertainty"][s][k] == pytest.approx(z**2)
            assert found.extras["dipole"][s][k] == pytest.approx(dipole)
    average = RotationalAverage(potential, "Th")
    result = average.predict(WATER)
    # a grid that contains degree 2: a third of the isotropic quadratic form
    assert result.extras["energy_ensemble"] == pytest.approx((RELATIVE**2).sum() / 6 + np.arange(3))
    assert result.extras["dipole"] == pytest.approx(dipole)
    known = average.predict(WATER, raw=result.raw)
    assert known.extras["energy_ensemble"] == pytest.approx(result.extras["energy_ensemble"])
    inside = json.loads(extras_json(result))
    assert inside["committee_pot"] == pytest.approx(result.extras["energy_ensemble"] / HARTREE)
    assert inside["dipole"] == pytest.approx(dipole / 0.529177210903)
    assert inside["energy_uncertainty"] == pytest.approx((RELATIVE**2).sum(axis=1) / 3)


@pytest.mark.filterwarnings("default")
def test_an_energy_as_an_extra_is_in_electronvolt(tmp_path: Path) -> None:
    """The energy itself as an extra put its own unit into the energy, forces and virial."""
    from metatomic.torch import ModelOutput
    from metatomic_outputs import save

    units = {"energy/soft": "eV", "energy/hard": "kJ/mol"}
    path = save(tmp_path / "kj.pt", {name: ModelOutput(unit=unit) for name, unit in units.items()})
    found = load_potential(f"{path}?variant=soft&extras=energy/hard,energy/hard").predict(WATER)
    assert found.extras["energy/hard"] == pytest.approx(2.0 * found.energy / 96.4853321, rel=1e-6)
    with pytest.raises(UserError, match="extras: 'energy/hard' is an energy, force or stress that the model"):
        load_potential(f"{path}?variant=hard&extras=energy/hard")


def test_what_a_model_raises_is_one_line(model: Path) -> None:
    """TorchScript has a page for it."""
    slab = Structure(WATER.numbers, POSITIONS, 3 * np.eye(3), np.array([True, True, False]))
    with pytest.raises(
        UserError, match=r"^the model many failed on .*H2O, periodic\): .*slabs are not known$"
    ):
        load_potential(f"{model}?variant=soft").predict(slab)


def test_what_a_model_warns_of_is_shown_once(model: Path) -> None:
    potential = load_potential(f"{model}?variant=soft")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for average in ("T", "none", "Th"):
            RotationalAverage(potential, average).predict(WATER)
    assert [str(w.message) for w in caught] == ["many: a model that talks"]


def test_a_checkpoint_by_another_name(tmp_path: Path) -> None:
    import torch

    torch.save({"architecture_name": "pet", "model_data": {}}, tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"checkpoint of a training; export it first: mtt export .*model\.pt"):
        load_potential(tmp_path / "model.pt")


def test_spherical_outputs_are_turned_back(model: Path) -> None:
    """The dipole in the order y, z, x, with two properties, after its square: the same under every rotation."""
    dipole = np.arange(1.0, 4.0) @ RELATIVE
    expected = [dipole @ dipole, *np.outer(dipole[[1, 2, 0]], [1.0, 2.0]).ravel()]
    potential = load_potential(f"{model}?variant=soft&extras=mtt::spherical")
    found = potential.evaluate([WATER, WATER], ROTATIONS).extras["spherical"]
    for values in found:
        assert values == pytest.approx(np.tile(expected, (2, 1)), abs=1e-9)
    averaged = RotationalAverage(potential, "Th").predict(WATER).extras["spherical"]
    assert averaged == pytest.approx(np.array(expected), abs=1e-9)


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("", 1.0), ("e*A", 1.0), ("e*angstrom", 1.0), ("e*bohr", 0.529177), ("Debye", 0.208194), ("C*m", None)],
)
def test_a_dipole_in_a_unit_that_is_not_known_is_refused(unit: str, factor: float | None) -> None:
    """It would go to i-PI as if it were in e Å."""
    from metatomic.torch import ModelOutput

    from ipi_driver.potentials.metatomic_outputs import ExtraOutput

    output = ModelOutput(unit=unit, sample_kind="system")
    if factor is None:
        with pytest.raises(UserError, match="unit 'C\\*m' of 'mtt::dipole' is not known"):
            ExtraOutput("mtt::dipole", output)
    else:
        assert ExtraOutput("mtt::dipole", output).factor == pytest.approx(factor, rel=1e-5)
