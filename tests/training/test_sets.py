"""Several data sets in one training: weights, energy offsets, forces alone, errors of each."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from training_place import labelled_molecules, write_config

from ipi_driver.cli import main
from ipi_driver.errors import UserError
from ipi_driver.networks.baseline import Baseline
from ipi_driver.structure import Structure
from ipi_driver.training.batch import collate, make_sample
from ipi_driver.training.config import LossConfig, load_config
from ipi_driver.training.data import LabelledStructure
from ipi_driver.training.losses import label_loss
from ipi_driver.training.setup import build_trainer

OFFSET = 1.5
"""eV/atom, of the second set."""


def files(folder: Path) -> None:
    """Three sets of the same kind: as computed, with energies shifted, without energies."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(("first", "shifted", "forces")):
        frames = labelled_molecules(12, seed=k)
        for atoms in frames:
            labels = dict(atoms.calc.results)
            if name == "shifted":
                labels["energy"] += OFFSET * len(atoms)
            if name == "forces":
                del labels["energy"]
            atoms.calc = SinglePointCalculator(atoms, **labels)
        ase.io.write(folder / f"{name}.extxyz", frames)


def config(folder: Path, offset: object = "fit", **changes: object) -> Path:
    files(folder)
    sets = [
        {"files": ["first.extxyz"]},
        {"files": ["shifted.extxyz"], "offset": offset, "weight": 0.5},
        {"files": ["forces.extxyz"], "forces_only": True, "name": "unlabelled-energies"},
    ]
    data = {"sets": sets, "validation": 9, "test": 3}
    return write_config(folder, data=data, **changes)


def test_offset_is_found(tmp_path: Path) -> None:
    """From the baseline at first, and by the training: energies of both sets are as good as those of one."""
    changes = {"learning_rate": 0.003, "optimizer": "adamw", "loss": {"energy": 10.0}}
    trainer = build_trainer(load_config(config(tmp_path, epochs=12, **changes)))
    assert trainer.offsets.values[0] == trainer.offsets.values[2] == 0.0
    assert trainer.offsets.values[1] == pytest.approx(OFFSET, abs=0.1)
    trainer.offsets.values[1] = OFFSET + 0.1  # what a bad start leaves is made up for
    trainer.run(quiet=True)
    assert trainer.offsets.values[1] == pytest.approx(OFFSET, abs=0.05)
    with (tmp_path / "model" / "log.csv").open() as stream:
        last = list(csv.DictReader(stream))[-1]
    assert float(last["val_energy_mae"]) < 300.0  # meV; the shift is 4500
    parts = [float(last[f"val_force_mae.{name}"]) for name in ("first", "shifted", "unlabelled-energies")]
    assert min(parts) <= float(last["val_force_mae"]) <= max(parts)


def test_shift_is_learnt_as_energies_without_offset(tmp_path: Path) -> None:
    """The same data without the option leave errors of the size of the shift."""
    trainer = build_trainer(load_config(config(tmp_path, offset=0, epochs=2)))
    trainer.run(quiet=True)
    errors = trainer.evaluate(trainer.validation_samples, trainer.average.weights)
    assert errors.energy_mae_per_atom > 0.3 * OFFSET


@pytest.mark.parametrize("first", [{"offset": "fit"}, {"forces_only": True}])
def test_validation_files_have_the_energy_zero_of_all_sets(tmp_path: Path, first: dict[str, object]) -> None:
    """Whichever set is the first: no offset is taken off their energies, and they count."""
    files(tmp_path)
    sets = [{"files": ["shifted.extxyz"]} | first, {"files": ["first.extxyz"]}]
    data = {"sets": sets, "validation_files": ["others.extxyz"], "test": 3}
    path = write_config(tmp_path, data=data)
    ase.io.write(tmp_path / "others.extxyz", labelled_molecules(5, seed=7))
    trainer = build_trainer(load_config(path))
    assert {sample.group for sample in trainer.validation_samples} == {1}
    trainer.network.zero_output()  # the baseline alone, which is good to some 0.1 eV
    errors = trainer.evaluate(trainer.validation_samples, trainer.network.state_dict())
    assert errors.energy_mae_per_atom < 0.3 * OFFSET


@pytest.mark.parametrize("labels", ["offset", "forces_only"])
def test_an_element_of_sets_with_an_offset_alone(tmp_path: Path, labels: str) -> None:
    """Its atomic energy would be arbitrary; where energies are not used, it does not matter."""
    files(tmp_path)
    ammonia = molecule("NH3")
    ammonia.calc = SinglePointCalculator(ammonia, energy=-1.0, forces=np.full((4, 3), 0.1))
    ase.io.write(tmp_path / "ammonia.extxyz", [ammonia] * 12)
    sets = [{"files": ["first.extxyz"]}, {"files": ["ammonia.extxyz"], "offset": "fit"}]
    if labels == "forces_only":
        sets[1] |= {"forces_only": True}
    path = write_config(tmp_path, data={"sets": sets, "validation": 3, "test": 3})
    if labels == "forces_only":
        assert build_trainer(load_config(path)).network.config.species == (1, 7, 8)
        return
    with pytest.raises(UserError, match=r"set ammonia with `offset: fit`, holds N; expected elements that"):
        build_trainer(load_config(path))


def test_resumed_training_keeps_the_offsets(tmp_path: Path) -> None:
    path = config(tmp_path, epochs=2)
    trainer = build_trainer(load_config(path))
    trainer.run(quiet=True)
    resumed = build_trainer(load_config(config(tmp_path, epochs=4)), resume=True)
    np.testing.assert_array_equal(resumed.offsets.values, trainer.offsets.values)


def test_weights_and_energies_in_the_loss() -> None:
    """The loss of a batch is the weighted mean of those of its structures; an energy of weight 0 does not count."""
    rng = np.random.default_rng(0)
    samples = []
    for k in range(2):
        structure = Structure.from_atoms(labelled_molecules(1, seed=k)[0])
        item = LabelledStructure(structure, -9.0, rng.normal(size=(3, 3)), group=k)
        samples.append(make_sample(item, (1, 8), 3.0, Baseline((1, 8), np.zeros(2), 3.0)))
    gradients = rng.normal(size=(sum(len(s.edges.centers) for s in samples), 3))

    def loss(weights: tuple[float, float], energy_weights: tuple[float, float] = (1.0, 1.0)) -> float:
        weighed = [
            replace(s, weight=w, energy_weight=e)
            for s, w, e in zip(samples, weights, energy_weights, strict=True)
        ]
        batch = collate(weighed, np.tile(np.eye(3), (2, 1, 1)), torch.device("cpu"), torch.float64)
        energies = torch.tensor([-10.0, -8.5])
        return float(label_loss(LossConfig(energy=10.0))(energies.double(), torch.tensor(gradients), batch))

    first, second = loss((1.0, 0.0)), loss((0.0, 1.0))
    assert loss((1.0, 1.0)) == pytest.approx(first + second)
    assert loss((0.3, 2.0)) == pytest.approx(0.3 * first + 2.0 * second)
    without = loss((1.0, 1.0), (0.0, 1.0))
    # 10 per eV/atom, beyond the quadratic part: |-10 + 9| / 3 atoms of one of two structures
    assert first + second - without == pytest.approx(10.0 * (1.0 / 3.0) / 2, abs=0.01)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"validation": 4}, "give `files` or `sets`, one of them"),
        ({"files": ["data.extxyz"], "sets": [{"files": ["data.extxyz"]}]}, "give `files` or `sets`"),
        ({"sets": [{"files": ["data.extxyz"], "offset": "fit"}]}, "must have `offset: 0` and energies"),
        ({"sets": [{"files": ["data.extxyz"], "forces_only": True}]}, "must have `offset: 0` and energies"),
        ({"sets": [{"files": ["data.extxyz"]}] * 2}, "need different names"),
        ({"sets": [{"files": ["data.extxyz"], "offset": 3}]}, "sets.0.offset"),
        ({"sets": [{"files": []}]}, "sets.0.files"),
    ],
)
def test_bad_sets_give_one_line(
    tmp_path: Path, data: dict[str, object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path, data=data)
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        load_config(path)
    assert main(["train", str(path)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
