"""The training loop: gradients against double differentiation, resuming, several processes, what it learns."""

from __future__ import annotations

import copy
import io
import os
import subprocess
import sys
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
import torch
import yaml
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console
from training_place import ARCHITECTURE, labelled_molecules, write_config

from ipi_driver.cli import main
from ipi_driver.errors import UserError
from ipi_driver.networks.baseline import Baseline
from ipi_driver.networks.pet import PetConfig, PetNetwork
from ipi_driver.potentials import load_potential
from ipi_driver.potentials.network import PetPotential
from ipi_driver.report.learning_curves import read_log
from ipi_driver.rotations.augmentation import augmentation_rotations
from ipi_driver.structure import Structure
from ipi_driver.training.batch import collate, make_sample
from ipi_driver.training.config import LossConfig, load_config
from ipi_driver.training.data import LabelledStructure
from ipi_driver.training.display import TrainingDisplay
from ipi_driver.training.losses import (
    LossFunction,
    StepResult,
    accumulate_gradients,
    joint_loss,
    label_loss,
    symmetry_loss,
)
from ipi_driver.training.setup import _check_distinct, build_trainer, read_unlabelled
from ipi_driver.training.splits import read_split
from ipi_driver.training.state_file import read_state, write_state


def _samples(n: int = 3) -> tuple[PetNetwork, list]:
    torch.manual_seed(1)
    network = PetNetwork(PetConfig(species=(1, 8), **ARCHITECTURE)).double()
    baseline = Baseline((1, 8), np.zeros(2), 3.0, np.zeros((3, 6)))
    rng = np.random.default_rng(0)
    samples = []
    for atoms in labelled_molecules(n):
        virial = rng.normal(size=(3, 3))
        item = LabelledStructure(
            Structure.from_atoms(atoms), atoms.get_potential_energy(), atoms.get_forces(), virial
        )
        samples.append(make_sample(item, (1, 8), 3.0, baseline))
    return network, samples


def _gradient(
    network: PetNetwork, samples: list, loss: LossFunction, displacement: float | None
) -> torch.Tensor:
    network.zero_grad(set_to_none=True)
    rotations = augmentation_rotations("o3", len(samples), np.random.default_rng(4))
    batch = collate(samples, rotations, torch.device("cpu"), torch.float64)
    accumulate_gradients(network, batch, loss, displacement)
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


@pytest.mark.parametrize("kind", ["labels", "symmetry", "joint"])
def test_first_order_gradient_converges_to_double_differentiation(kind: str) -> None:
    """The error falls in proportion to the displacement, down to rounding."""
    network, samples = _samples()
    config = LossConfig(virial=0.5, symmetry=1.0, symmetry_rotations=2)
    loss = label_loss(config)
    if kind == "symmetry":
        loss, samples = symmetry_loss(config), samples * 2
    if kind == "joint":
        loss, samples = joint_loss(config), samples * 2
    exact = _gradient(network, samples, loss, None)
    errors = [
        float((_gradient(network, samples, loss, h) - exact).norm() / exact.norm()) for h in (1e-3, 1e-4)
    ]
    assert errors[0] < 0.02
    assert errors[1] < 0.2 * errors[0]


def test_labels_turn_with_the_structure() -> None:
    """A rotated sample's loss equals the loss of the rotated structure with rotated labels."""
    network, samples = _samples(1)
    atoms = labelled_molecules(1)[0]
    rotation = augmentation_rotations("o3", 1, np.random.default_rng(2))
    turned = LabelledStructure(
        Structure.from_atoms(atoms).rotated(rotation[0]),
        atoms.get_potential_energy(),
        atoms.get_forces() @ rotation[0].T,
        rotation[0] @ samples[0].virial @ rotation[0].T,
    )
    baseline = Baseline((1, 8), np.zeros(2), 3.0, None)
    loss = label_loss(LossConfig(virial=1.0))
    values = []
    for sample, r in ((samples[0], rotation), (make_sample(turned, (1, 8), 3.0, baseline), np.eye(3)[None])):
        plain = make_sample(turned, (1, 8), 3.0, baseline) if sample is not samples[0] else None
        batch = collate([plain or sample], r, torch.device("cpu"), torch.float64)
        if sample is samples[0]:  # made with the repulsive pair terms; compare without
            item = LabelledStructure(
                Structure.from_atoms(atoms),
                atoms.get_potential_energy(),
                atoms.get_forces(),
                samples[0].virial,
            )
            batch = collate([make_sample(item, (1, 8), 3.0, baseline)], r, torch.device("cpu"), torch.float64)
        values.append(accumulate_gradients(network, batch, loss, None)[0])
    assert values[0] == pytest.approx(values[1], rel=1e-9)


def test_training_learns_and_writes_a_model(tmp_path: Path) -> None:
    path = write_config(
        tmp_path,
        epochs=150,
        evaluate_every=50,
        learning_rate=5e-3,
        batch_size=2,
        ema=0.98,
        baseline={"pair": False},  # leaves the whole force to the network
    )
    assert main(["train", str(path), "--quiet"]) == 0
    rows = np.genfromtxt(tmp_path / "model" / "log.csv", delimiter=",", names=True)
    logged = rows["val_force_mae"]
    potential = load_potential(tmp_path / "model", dtype="float64")
    split = yaml.safe_load((tmp_path / "model" / "split.yaml").read_text())
    frames = ase.io.read(tmp_path / "data.extxyz", ":")
    validation = [frames[i] for i in split["validation"]]
    forces = [potential.predict(Structure.from_atoms(a)).forces - a.get_forces() for a in validation]
    measured = 1e3 * float(np.abs(forces).mean())
    assert measured == pytest.approx(logged.min(), rel=1e-2)  # float32 against float64
    potential.network.zero_output()
    forces = [potential.predict(Structure.from_atoms(a)).forces - a.get_forces() for a in validation]
    assert measured < 0.5 * 1e3 * float(np.abs(forces).mean())
    assert not set(split["train"]) & set(split["validation"]) | set(split["train"]) & set(split["test"])
    for name in ("model.yaml", "weights.safetensors", "training.yaml", "learning-curve.png"):
        assert (tmp_path / "model" / name).stat().st_size > 0
    modes = {(tmp_path / "model" / name).stat().st_mode for name in ("model.yaml", "weights.safetensors")}
    assert len(modes) == 1  # others can read the weights, too


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_resume_continues_exactly(tmp_path: Path, optimizer: str) -> None:
    whole = write_config(tmp_path / "whole", optimizer=optimizer, loss={"symmetry": 0.1})
    assert main(["train", str(whole), "--quiet"]) == 0
    part = write_config(tmp_path / "part", optimizer=optimizer, loss={"symmetry": 0.1})
    config = load_config(part)
    trainer = build_trainer(config)
    evaluate = trainer.end_of_interval

    class Stop(Exception):
        pass

    def stop_after_first(*args: object) -> None:
        evaluate(*args)  # type: ignore[arg-type]
        raise Stop

    trainer.end_of_interval = stop_after_first  # type: ignore[method-assign]
    with pytest.raises(Stop):
        trainer.run(quiet=True)
    assert main(["train", str(part), "--quiet", "--resume"]) == 0
    a = read_state(tmp_path / "whole" / "model" / "checkpoint.safetensors")
    b = read_state(tmp_path / "part" / "model" / "checkpoint.safetensors")
    assert a["counters"][:2] == b["counters"][:2]
    for key, value in a["network"].items():
        assert torch.equal(value, b["network"][key]), key


def test_resume_refuses_another_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_config(tmp_path)
    assert main(["train", str(path), "--quiet"]) == 0
    write_config(tmp_path, weight_decay=0.1)
    assert main(["train", str(path), "--quiet", "--resume"]) == 2
    assert "`weight_decay` was 0.01, is now 0.1" in capsys.readouterr().err
    split = (tmp_path / "model" / "split.yaml").read_text()
    data = {"files": ["data.extxyz"], "validation": 4, "test": 4}
    write_config(tmp_path, data=data | {"split_seed": 5})
    assert main(["train", str(path), "--quiet", "--resume"]) == 2
    assert "`data.split_seed` was 0, is now 5" in capsys.readouterr().err
    write_config(tmp_path, data=data | {"files": ["others.extxyz"]})
    ase.io.write(tmp_path / "others.extxyz", labelled_molecules(seed=1))
    assert main(["train", str(path), "--quiet", "--resume"]) == 2
    assert "another configuration: `training and validation structures` was" in capsys.readouterr().err
    # what was held out is still held out
    assert (tmp_path / "model" / "split.yaml").read_text() == split
    assert main(["train", str(path), "--quiet"]) == 2
    assert "continue it with --resume" in capsys.readouterr().err


def test_lone_atoms_are_trained_on(tmp_path: Path) -> None:
    """No edge, so no force whose gradient a finite difference could give."""
    path = write_config(tmp_path, batch_size=1, epochs=2)
    lone = ase.Atoms("H")
    lone.calc = SinglePointCalculator(lone, energy=-13.6, forces=np.zeros((1, 3)))
    ase.io.write(tmp_path / "data.extxyz", [*labelled_molecules(8), *[lone] * 12])
    assert main(["train", str(path), "--quiet"]) == 0
    predicted = load_potential(tmp_path / "model").predict(Structure.from_atoms(lone))
    assert predicted.energy == pytest.approx(-13.6, abs=0.5)


def test_unknown_elements_are_named_before_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ammonia = molecule("NH3")
    ammonia.calc = SinglePointCalculator(ammonia, energy=-1.0, forces=np.full((4, 3), 0.1))
    data = {"files": ["data.extxyz"], "validation_files": ["others.extxyz"], "test": 4}
    path = write_config(tmp_path, data=data)
    ase.io.write(tmp_path / "others.extxyz", [*labelled_molecules(2, seed=1), ammonia])
    assert main(["train", str(path), "--quiet"]) == 2
    assert "validation structure 2 holds N, the model has H, O" in capsys.readouterr().err
    data = {"files": ["data.extxyz"], "unlabelled_files": ["others.extxyz"]}
    path = write_config(tmp_path, data=data, loss={"symmetry": 0.1})
    assert main(["train", str(path), "--quiet"]) == 2
    assert "unlabelled structure 2 holds N, the model has H, O" in capsys.readouterr().err
    path = write_config(tmp_path, data=data, loss={"symmetry": 0.1}, species=["H", "N", "O"], epochs=2)
    assert main(["train", str(path), "--quiet"]) == 0


def test_start_from_a_model_of_more_elements(tmp_path: Path) -> None:
    """The embeddings are those of the model, in its order, not in that of the elements of the data."""
    first = write_config(tmp_path, epochs=2, species=["H", "C", "O"])
    assert main(["train", str(first), "--quiet"]) == 0
    second = write_config(tmp_path, start_from="model", output="second", architecture={})
    trainer = build_trainer(load_config(second))
    (atoms,) = labelled_molecules(1)
    assert trainer.network.config.species == (1, 6, 8)
    expected = load_potential(tmp_path / "model").predict(Structure.from_atoms(atoms)).energy
    expected += 2 * trainer.energy_shifts["H"] + trainer.energy_shifts["O"]
    item = LabelledStructure(Structure.from_atoms(atoms), expected, np.zeros((3, 3)))
    sample = make_sample(item, trainer.network.config.species, 3.0, trainer.baseline)
    assert trainer.evaluate([sample], trainer.network.state_dict())[2] == pytest.approx(0.0, abs=1e-5)
    assert {int(z) for s in trainer.train_samples for z in s.species} == {0, 2}


def test_unlabelled_structures_in_their_own_units(tmp_path: Path) -> None:
    """i-PI's trajectories say their units and cell, the native form of labelled data is in bohr."""
    ipi = tmp_path / "pos.xyz"
    header = "# CELL(abcABC): 30.0 30.0 30.0 90.0 90.0 90.0 Step: 0 Bead: 0 positions{atomic_unit} cell{atomic_unit}"
    ipi.write_text(f"3\n{header}\nO 0 0 0\nH 1.81 0 0\nH -0.45 1.75 0\n")
    native = tmp_path / "native.xyz"
    comment = 'Lattice="30 0 0 0 30 0 0 0 30" Properties=species:S:1:pos:R:3:force:R:3 TotEnergy=-17.2'
    native.write_text(f"3\n{comment}\nO 0 0 0 0 0 0\nH 1.81 0 0 0 0 0\nH -0.45 1.75 0 0 0 0\n")
    for structure in read_unlabelled([ipi, native]):
        assert structure.pbc.all()
        assert structure.cell == pytest.approx(30 * 0.529177210903 * np.eye(3))
        assert structure.positions[1, 0] == pytest.approx(1.81 * 0.529177210903)
    with pytest.raises(UserError, match="bohr and hartree: set units: atomic"):
        read_unlabelled([native], "ev-angstrom")


def test_two_processes_make_the_same_step_as_one(tmp_path: Path) -> None:
    """Two processes with batches of 2 average to the gradient of one with batches of 4, without augmentation."""
    one = write_config(tmp_path / "one", augmentation="none", epochs=1, evaluate_every=1, dtype="float64")
    two = write_config(
        tmp_path / "two", augmentation="none", epochs=1, evaluate_every=1, batch_size=2, dtype="float64"
    )
    assert main(["train", str(one), "--quiet"]) == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    result = subprocess.run(
        [*command, "-m", "ipi_driver", "train", str(two), "--quiet"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    a = read_state(tmp_path / "one" / "model" / "checkpoint.safetensors")
    b = read_state(tmp_path / "two" / "model" / "checkpoint.safetensors")
    for key, value in a["network"].items():
        torch.testing.assert_close(value, b["network"][key], atol=1e-4, rtol=1e-3)


def test_symmetry_penalty_lowers_the_symmetry_error(tmp_path: Path) -> None:
    unlabelled = tmp_path / "unlabelled.extxyz"
    ase.io.write(unlabelled, labelled_molecules(6, seed=5))
    spread = {}
    for name, loss in (("plain", {}), ("penalty", {"symmetry": 30.0, "unlabelled_every": 1})):
        data = {"files": ["data.extxyz"], "validation": 4, "test": 4}
        if loss:
            data["unlabelled_files"] = [str(unlabelled)]
        path = write_config(
            tmp_path / name, epochs=40, evaluate_every=40, learning_rate=3e-3, loss=loss, data=data
        )
        assert main(["train", str(path), "--quiet"]) == 0
        potential = load_potential(tmp_path / name / "model", dtype="float64")
        rotations = augmentation_rotations("o3", 16, np.random.default_rng(8))
        fresh = [Structure.from_atoms(a) for a in labelled_molecules(4, seed=9)]
        spread[name] = np.mean([f.std(axis=0).mean() for f in potential.evaluate(fresh, rotations).forces])
    assert spread["penalty"] < 0.3 * spread["plain"]


def test_saved_weights_have_the_best_sum_of_force_and_symmetry_error(tmp_path: Path) -> None:
    """With a penalty the lowest force error alone would save the weights from before the penalty acted."""
    unlabelled = labelled_molecules(3, seed=5)
    ase.io.write(tmp_path / "unlabelled.extxyz", unlabelled)
    data = {"files": ["data.extxyz"], "validation": 4, "test": 4, "unlabelled_files": ["unlabelled.extxyz"]}
    path = write_config(
        tmp_path, epochs=6, evaluate_every=1, loss={"symmetry": 50.0}, learning_rate=3e-3, data=data
    )
    assert main(["train", str(path), "--quiet"]) == 0
    rows = np.genfromtxt(tmp_path / "model" / "log.csv", delimiter=",", names=True)
    worst = np.maximum(rows["val_symmetry_mae"], rows["unlabelled_symmetry_mae"])
    score = rows["val_force_mae"] + 50.0 * worst
    kept = yaml.safe_load((tmp_path / "model" / "model.yaml").read_text())["provenance"]["training"]
    assert kept["epoch"] == rows["epoch"][score.argmin()]
    assert rows["best_val_force_mae"][-1] == pytest.approx(rows["val_force_mae"][score.argmin()], rel=1e-4)
    # and the logged symmetry error is that of the saved model in those frames
    potential = load_potential(tmp_path / "model", dtype="float64")
    split = yaml.safe_load((tmp_path / "model" / "split.yaml").read_text())
    frames = ase.io.read(tmp_path / "data.extxyz", ":")
    rotations = augmentation_rotations("o3", 4, np.random.default_rng(load_config(path).seed))
    forces = potential.evaluate(
        [Structure.from_atoms(frames[i]) for i in split["validation"]], rotations
    ).forces
    deviation = np.mean([np.abs(f - f.mean(axis=0)).mean() for f in forces])
    assert 1e3 * deviation == pytest.approx(rows["val_symmetry_mae"][score.argmin()], rel=1e-3)
    # no bound but this: on a busy machine the two times of the ratio are of different slices
    assert np.all(rows["forward_evaluations_per_step"] > 0.0)


def test_older_checkpoint_and_log_are_continued(tmp_path: Path) -> None:
    """Made before these options and the columns of the symmetry error existed."""
    path = write_config(tmp_path, epochs=4, evaluate_every=2)
    assert main(["train", str(path), "--quiet"]) == 0
    model = tmp_path / "model"
    state = read_state(model / "checkpoint.safetensors")
    newer = "loss.symmetry_smoothing loss.unlabelled loss.rotation_gradient warmup data.sets data.split"
    for key in (*newer.split(), "data.similarity_threshold", "tf32"):
        del state["config"][key]
    state["clock"] = state["clock"][:2]
    write_state(model / "checkpoint.safetensors", state)
    lines = [line.rsplit(",", 3)[0] for line in (model / "log.csv").read_text().splitlines()]
    (model / "log.csv").write_text("\n".join(lines) + "\n")
    write_config(tmp_path, epochs=6, evaluate_every=2)
    assert main(["train", str(path), "--quiet", "--resume"]) == 0
    assert set(read_log(model / "log.csv")["epoch"]) == {2, 4, 6}
    assert (model / "log.csv").read_text().splitlines()[-1].count(",") == lines[0].count(",")
    # an option that was not there had the effect of its default, and no other one
    write_state(model / "checkpoint.safetensors", state)
    write_config(tmp_path, epochs=8, evaluate_every=2, warmup=0.1)
    with pytest.raises(UserError, match=r"`warmup` was None, is now 0\.1"):
        build_trainer(load_config(path), resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"loss": {"virial": 1.0}},
            "training structure 0 has no virial, which `loss.virial` needs of every one",
        ),
        (
            {"data": {"files": ["data.extxyz"], "unlabelled_files": ["data.extxyz"]}},
            "serve the symmetry penalties alone: set loss.symmetry",
        ),
        ({"device": "gpu"}, "`device` 'gpu' cannot be used"),
        ({"learnig_rate": 1.0}, "learnig_rate"),
        ({"ema": 1.5}, "ema"),
        ({"architecture": {"d_model": 9, "n_heads": 2}}, "d_model"),
        ({"species": ["H", "Xq"]}, "'Xq' is not a chemical symbol"),
        ({"device": "cuda:77"}, "no CUDA device"),
    ],
)
def test_bad_configurations(
    tmp_path: Path, change: dict, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "device" in change and torch.cuda.is_available():
        pytest.skip("a CUDA device is here")
    path = write_config(tmp_path, **change)
    assert main(["train", str(path), "--quiet"]) == 2
    captured = capsys.readouterr().err
    assert message in captured
    assert len(captured.strip().splitlines()) == 1


def test_validation_structures_in_a_file_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"files": ["data.extxyz"], "validation_files": ["others.extxyz"], "train": 12, "test": 4}
    path = write_config(tmp_path, data=data, epochs=1, evaluate_every=1)
    ase.io.write(tmp_path / "others.extxyz", labelled_molecules(5, seed=1))
    assert main(["train", str(path), "--quiet"]) == 0
    split = read_split(tmp_path / "model" / "split.yaml")
    assert [len(split.train), len(split.validation), len(split.test)] == [12, 0, 4]
    frames = ase.io.read(tmp_path / "data.extxyz", ":")
    trained = [frames[int(i)] for i in split.train]

    ase.io.write(tmp_path / "others.extxyz", [*labelled_molecules(3, seed=1), trained[5]])
    capsys.readouterr()
    assert main(["train", str(path), "--quiet", "--output", str(tmp_path / "second")]) == 2
    assert "structure 3 of `validation_files` is also training structure 5" in capsys.readouterr().err


def test_test_files_hold_no_training_structure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = {"files": ["data.extxyz"], "validation": 4, "test_files": ["absent.extxyz"]}
    path = write_config(tmp_path, data=data)
    assert main(["train", str(path), "--quiet"]) == 2
    assert "absent.extxyz" in capsys.readouterr().err
    write_config(tmp_path, data=data | {"test_files": ["data.extxyz"]})
    assert main(["train", str(path), "--quiet"]) == 2
    assert "of `test_files` is also training structure" in capsys.readouterr().err
    write_config(tmp_path, data=data | {"test_files": ["others.extxyz"]})
    ase.io.write(tmp_path / "others.extxyz", labelled_molecules(5, seed=1))
    assert len(build_trainer(load_config(path)).train_samples) == 20


def test_primitive_cells_with_their_atom_at_the_origin_are_distinct() -> None:
    crystals = [bulk("Cu", a=a) for a in (3.5, 3.6)]
    data = [LabelledStructure(Structure.from_atoms(a), -1.0, np.zeros((1, 3))) for a in crystals]
    _check_distinct(data[:1], data[1:], "validation_files")
    with pytest.raises(UserError, match="structure 0 of `validation_files` is also training structure 1"):
        _check_distinct(data, data[1:], "validation_files")


def test_time_limits_must_be_positive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for hours in ("0", "-1"):
        assert main(["train", str(write_config(tmp_path)), "--max-hours", hours]) == 2
        assert "--max-hours: Input should be greater than 0 (got " in capsys.readouterr().err


def test_missing_configuration(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no training configuration"):
        load_config(tmp_path / "absent.yaml")


def test_start_from_a_smaller_network_keeps_its_energies(tmp_path: Path) -> None:
    first = write_config(tmp_path, epochs=2)
    assert main(["train", str(first), "--quiet"]) == 0
    deeper = {"n_gnn_layers": ARCHITECTURE["n_gnn_layers"] + 1}
    changes = {"start_from": "model", "output": "deeper", "epochs": 2}
    trainer = build_trainer(load_config(write_config(tmp_path, architecture=deeper, **changes)))
    structures = [Structure.from_atoms(a) for a in labelled_molecules(2)]
    before = load_potential(tmp_path / "model")
    after = PetPotential(copy.deepcopy(trainer.network), trainer.baseline)
    for structure in structures:
        a, b = before.predict(structure), after.predict(structure)
        shift = 2 * trainer.energy_shifts["H"] + trainer.energy_shifts["O"]
        assert a.energy + shift == pytest.approx(b.energy, abs=1e-6)
        np.testing.assert_allclose(a.forces, b.forces, atol=1e-6)
    assert len(list(trainer.network.parameters())) > len(list(before.network.parameters()))
    trainer.run(quiet=True)
    moved = load_potential(tmp_path / "deeper")
    assert np.abs(moved.predict(structures[0]).forces - before.predict(structures[0]).forces).max() > 1e-6
    # the weights are in the checkpoint: the folder that it started from may lie elsewhere by then
    (tmp_path / "model").rename(tmp_path / "elsewhere")
    for epochs, start in ((4, "elsewhere"), (5, None), (6, "pet-water-s")):
        changes |= {"start_from": start, "epochs": epochs}
        resumed = write_config(tmp_path, architecture=deeper, **changes)
        assert main(["train", str(resumed), "--quiet", "--resume"]) == 0
    assert load_potential(tmp_path / "deeper").baseline.pair_coefficients.shape == (3, 6)


@pytest.mark.parametrize("change", [{"d_model": 16}, {"cutoff": 2.5}])
def test_start_from_another_architecture_is_refused(
    tmp_path: Path, change: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(write_config(tmp_path, epochs=2)), "--quiet"]) == 0
    path = write_config(tmp_path, architecture=change, start_from="model", output="other")
    assert main(["train", str(path), "--quiet"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    key = next(iter(change))
    assert f"has {key} {ARCHITECTURE[key]}, `architecture` asks for {change[key]}" in line


def test_printed_keys_are_a_configuration_with_the_defaults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--keys"]) == 0
    printed = capsys.readouterr().out
    filled = printed.replace("\n  files: []", "\n  files: [data.extxyz]").replace("(required)", "model")
    path = tmp_path / "train.yaml"
    path.write_text(filled)
    config = load_config(path)
    plain = tmp_path / "plain.yaml"
    plain.write_text("data: {files: [data.extxyz]}\noutput: model\n")
    expected = load_config(plain)
    assert config.network_config((1, 8)) == expected.network_config((1, 8))
    assert config.model_copy(update={"architecture": {}}) == expected
    assert main(["train"]) == 2
    assert "which configuration?" in capsys.readouterr().err


def test_a_log_file_gets_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no terminal, data, evaluations and the end are lines; no "inf" before the first evaluation."""
    assert main(["train", str(write_config(tmp_path))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "data.extxyz: 24 structures, extended XYZ, eV and Å"
    shown = [line for line in lines if line.startswith("epoch")]
    log = (tmp_path / "model" / "log.csv").read_text().splitlines()[1:]
    assert len(shown) == len(log) == 2
    for line, row in zip(shown, log, strict=True):
        epoch, step, *rest = row.split(",")
        assert line.startswith(f"epoch {epoch}  step {step}  ")
        assert f"validation: F {float(rest[5]):.1f} meV/Å" in line
    assert "100.0 %" in shown[-1]
    assert not any("inf" in line for line in lines)
    assert main(["train", str(write_config(tmp_path / "quiet")), "--quiet"]) == 0
    assert "epoch" not in capsys.readouterr().out


def test_steps_between_evaluations_are_shown_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("ipi_driver.training.display._LINE_EVERY", -1.0)
    with TrainingDisplay(Console(file=stream, width=200)) as display:
        for k in (1, 2):
            display.step(0, k, 0.25 * k, StepResult(0.1, 0.05, 0.2), float("inf"))
    first, second = stream.getvalue().splitlines()
    assert first == "epoch 0  step 1  25.0 %  loss 0.1000  F 50.0 meV/Å  E 200 meV  best –"
    assert second.startswith("epoch 0  step 2  50.0 %")
    assert second.endswith("1 min left")
