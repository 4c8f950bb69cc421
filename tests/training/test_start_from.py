"""A training that starts from a model: another energy zero of its data, and folders that hold a model already."""

from __future__ import annotations

from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
import training_place
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from ipi_driver.cli import main
from ipi_driver.errors import UserError
from ipi_driver.networks.baseline import Baseline
from ipi_driver.networks.kinds import build_network, network_config
from ipi_driver.networks.storage import save_model
from ipi_driver.potentials import load_potential
from ipi_driver.structure import Structure
from ipi_driver.training.config import TrainConfig, load_config
from ipi_driver.training.lock import LOCK
from ipi_driver.training.setup import _check_conditions, _warn_of_unused, build_trainer
from ipi_driver.training.trainer import Trainer

ARCHITECTURE = training_place.ARCHITECTURE | {"n_gnn_layers": 1}
SHIFTS = {"H": -30.0, "O": -110.0}


def molecules(names: tuple[str, ...], shifts: dict[str, float] | None = None) -> list[ase.Atoms]:
    """Distorted molecules labelled by effective medium theory, with an energy for each atom added."""
    rng = np.random.default_rng(0)
    frames = []
    for k in range(24):
        atoms = molecule(names[k % len(names)])
        atoms.positions += rng.normal(scale=0.06, size=(len(atoms), 3))
        atoms.calc = EMT()
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        energy += sum((shifts or {}).get(symbol, 0.0) for symbol in atoms.symbols)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        frames.append(atoms)
    return frames


def write_config(folder: Path, data: list[ase.Atoms], **changes: object) -> Path:
    """A configuration for these data, with enough epochs to learn."""
    longer = {"epochs": 30, "evaluate_every": 5, "learning_rate": 3e-3, "ema": 0.9}
    settings = {"architecture": ARCHITECTURE, "baseline": {"n_gaussians": 8}} | longer | changes
    path = training_place.write_config(folder, **settings)
    ase.io.write(folder / "data.extxyz", data)
    return path


def force_maes(folder: Path) -> np.ndarray:
    log = np.genfromtxt(folder / "log.csv", delimiter=",", names=True)
    return np.atleast_1d(log["val_force_mae"])


@pytest.mark.parametrize("names", [("H2O", "H2O2"), ("H2O",)], ids=["told apart", "one composition"])
def test_another_energy_zero_is_taken_up(
    tmp_path: Path, names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    plain, shifted = molecules(names), molecules(names, SHIFTS)
    assert main(["train", str(write_config(tmp_path, plain)), "--quiet"]) == 0
    before = force_maes(tmp_path / "model").min()
    assert "shifted" not in capsys.readouterr().out
    changes = {"start_from": "model", "output": "second", "architecture": {}, "learning_rate": 3e-3}
    path = write_config(tmp_path, shifted, epochs=2, evaluate_every=1, **changes)
    assert main(["train", str(path), "--quiet"]) == 0
    assert force_maes(tmp_path / "second").max() < 1.3 * before
    model = load_potential(tmp_path / "second")
    for atoms in shifted[:4]:
        assert model.predict(Structure.from_atoms(atoms)).energy == pytest.approx(
            atoms.get_potential_energy(), abs=0.5
        )
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "shifted" in line]
    if len(names) > 1:
        found = dict(zip(*[iter(line.partition(": ")[2].replace(",", "").split()[:4])] * 2, strict=True))
        assert {symbol: float(value) for symbol, value in found.items()} == pytest.approx(SHIFTS, abs=0.5)
    else:
        trainer = build_trainer(load_config(write_config(tmp_path, shifted, **changes | {"output": "third"})))
        total = 2 * trainer.energy_shifts["H"] + trainer.energy_shifts["O"]
        assert total == pytest.approx(2 * SHIFTS["H"] + SHIFTS["O"], abs=0.5)

    # what was shifted once is not shifted again
    path = write_config(tmp_path, shifted, epochs=3, evaluate_every=1, **changes)
    energies = load_potential(tmp_path / "second").baseline.atomic_energies
    assert main(["train", str(path), "--quiet", "--resume"]) == 0
    assert "shifted" not in capsys.readouterr().out
    np.testing.assert_array_equal(load_potential(tmp_path / "second").baseline.atomic_energies, energies)
    assert force_maes(tmp_path / "second")[-1] < 1.2 * before


def test_the_same_data_and_elements_that_are_not_in_them(tmp_path: Path) -> None:
    data = molecules(("H2O", "H2O2"))
    assert main(["train", str(write_config(tmp_path, data, species=["H", "C", "O"])), "--quiet"]) == 0
    energies = load_potential(tmp_path / "model").baseline.atomic_energies
    path = write_config(tmp_path, data, start_from="model", output="second", architecture={})
    trainer = build_trainer(load_config(path))
    assert set(trainer.energy_shifts) == {"H", "O"}
    assert np.abs(trainer.baseline.atomic_energies - energies).max() < 0.5
    assert trainer.baseline.atomic_energies[1] == energies[1]


@pytest.mark.parametrize("kept", ["model.yaml", "weights.safetensors", "log.csv"])
def test_a_model_is_not_overwritten(tmp_path: Path, kept: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where no checkpoint lies beside it, as one that was imported or copied."""
    path = write_config(tmp_path, molecules(("H2O",)), epochs=1)
    file = tmp_path / "model" / kept
    file.parent.mkdir()
    file.write_text("what was there")
    assert main(["train", str(path), "--quiet"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"holds a model already ({kept}); choose another output" in line
    assert file.read_text() == "what was there"
    assert {item.name for item in file.parent.iterdir()} == {kept, LOCK}


def test_a_relaxed_model_is_not_trained_on_turned_copies(tmp_path: Path) -> None:
    """Neither by the training that starts from it, nor by the pre-training before that."""
    pytest.importorskip("e3nn")
    keys = {"kind": "e3nn", "l_max": 1, "channels": 4, "n_layers": 1, "cutoff": 3.0, "relaxed": {"l_max": 1}}
    relaxed = build_network(network_config(keys, (1, 8)))
    save_model(tmp_path / "relaxed", relaxed, Baseline((1, 8), np.zeros(2), 3.0))
    changes = {"start_from": "relaxed", "architecture": {}, "epochs": 1}
    data = molecules(("H2O",))
    with pytest.raises(
        UserError, match=r"`start_from` .*relaxed has relaxed weights.*set `augmentation: none`"
    ):
        build_trainer(load_config(write_config(tmp_path, data, **changes)))
    pretraining = {"files": ["data.extxyz"], "epochs": 1, "sigma": 0.02}
    changes |= {"augmentation": "none", "pretrain": pretraining, "output": "second"}
    seen: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        run = Trainer.run

        def spy(self: Trainer, quiet: bool = False) -> float:
            seen.append(self.config.augmentation)
            return run(self, quiet)

        patch.setattr(Trainer, "run", spy)
        build_trainer(load_config(write_config(tmp_path, data, **changes)))
    assert seen == ["none"]


def test_charge_and_spin_are_no_input_of_a_network(caplog: pytest.LogCaptureFixture) -> None:
    neutral = Structure.from_atoms(molecule("H2O"))
    ion, radical = neutral.conditioned(charge=-1.0), neutral.conditioned(spin=2)
    plain = network_config(ARCHITECTURE, (1, 8))
    _check_conditions([neutral, neutral], [ion], plain)
    assert not caplog.messages
    _check_conditions([neutral, ion, radical], [], plain)
    assert ["charge -1, 0, on which" in caplog.messages[0], "spin 1, 2, on which" in caplog.messages[1]] == [
        True
    ] * 2
    keys = {"kind": "metatrain-pet", "system_bias": True, "charge": -1, "spin": 1}
    imported = network_config(keys, (1, 8))
    _check_conditions([ion, neutral], [], imported)
    with pytest.raises(
        UserError, match=r"imported for charge -1, but the data hold structures with charge 1: leave"
    ):
        _check_conditions([ion], [neutral.conditioned(charge=1.0)], imported)


def test_settings_without_effect_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    plain = {"data": {"files": ["data.extxyz"]}, "output": "out"}
    stress = {"data": {"files": ["data.extxyz"], "stress_key": "stress"}}
    _warn_of_unused(TrainConfig.model_validate(plain | {"start_from": "model"}))
    _warn_of_unused(
        TrainConfig.model_validate(plain | stress | {"loss": {"virial": 0.1}, "baseline": {"pair": False}})
    )
    assert not caplog.messages
    _warn_of_unused(
        TrainConfig.model_validate(plain | stress | {"start_from": "model", "baseline": {"pair": False}})
    )
    assert "`data.stress_key` is read and not trained on" in caplog.messages[0]
    assert "`baseline` is not used" in caplog.messages[1]


def test_the_model_to_start_from_lies_beside_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As all paths of the file, wherever the command is given; shipped models have their names."""
    (tmp_path / "here" / "my-model").mkdir(parents=True)
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = write_config(tmp_path / "there", molecules(("H2O",)), start_from="my-model", architecture={})
    assert load_config(path).start_from == tmp_path / "there" / "my-model"
    assert main(["train", str(path)]) == 2
    assert f"no model '{tmp_path / 'there' / 'my-model'}'" in capsys.readouterr().err
    shipped = write_config(tmp_path / "there", molecules(("H2O",)), start_from="pet-water-s", architecture={})
    assert load_config(shipped).start_from == Path("pet-water-s")
