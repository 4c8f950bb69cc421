"""What the training loop does when: the end of the time and of the patience, penalties, epochs, scores, checkpoints."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
import yaml
from training_place import labelled_molecules, write_config

from ipi_driver.errors import UserError
from ipi_driver.potentials import load_potential
from ipi_driver.potentials.base import Potential
from ipi_driver.rotations.augmentation import augmentation_rotations
from ipi_driver.structure import Structure
from ipi_driver.training.checkpoint import load_checkpoint, save_checkpoint
from ipi_driver.training.config import load_config
from ipi_driver.training.schedule import MovingAverage, learning_rate_factor
from ipi_driver.training.setup import build_trainer
from ipi_driver.training.state_file import read_state
from ipi_driver.training.trainer import Trainer


def trainer_of(folder: Path, **changes: object) -> Trainer:
    """A trainer of 16 structures in batches of 4, whose network is the same each time."""
    return build_trainer(load_config(write_config(folder, **changes)))


def test_time_limits_the_training(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, max_hours=2.0, epochs=100)
    trainer.hours = 0.5
    assert trainer.progress() == 0.25
    trainer.step = 300  # of 400: further than the time
    assert trainer.progress() == 0.75
    trainer.step, trainer.hours = 0, 3.0
    trainer.run(quiet=True)
    assert trainer.step == 0


def test_what_the_last_epoch_did_in_time_is_evaluated_and_kept(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, max_hours=1e-9, epochs=100, evaluate_every=50)
    trainer.run(quiet=True)
    assert (trainer.step, trainer.epoch) == (1, 1)
    rows = np.genfromtxt(tmp_path / "model" / "log.csv", delimiter=",", names=True)
    assert rows["step"] == 1
    assert (tmp_path / "model" / "checkpoint.safetensors").is_file()


def test_patience_stops_the_training(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, patience=2, evaluate_every=1, epochs=5)
    trainer.best = 0.0  # nothing is better
    trainer.run(quiet=True)
    assert (trainer.epoch, trainer.stale) == (2, 2)
    trainer.best, trainer.stale = float("inf"), 1
    trainer.end_of_interval([trainer.train_step(np.arange(4))], 1.0)
    assert trainer.stale == 0


def weights_after(folder: Path, step: int, **changes: object) -> torch.Tensor:
    """All weights after one step, the training's ``step``-th."""
    trainer = trainer_of(folder, **changes)
    trainer.step = step
    trainer.train_step(np.arange(2))
    return torch.cat([p.detach().flatten() for p in trainer.network.parameters()])


@pytest.mark.parametrize("augmentation", ["o3", "so3"])
def test_penalty_acts_every_so_many_steps(tmp_path: Path, augmentation: str) -> None:
    changes = {"augmentation": augmentation, "dtype": "float64"}
    for step, acts in ((3, True), (4, False), (6, True)):
        plain = weights_after(tmp_path, step, **changes)
        loss = {"symmetry": 5.0, "symmetry_every": 3}
        assert torch.equal(plain, weights_after(tmp_path, step, loss=loss, **changes)) != acts


@pytest.mark.parametrize("penalty", ["symmetry", "rotation_gradient"])
def test_penalty_on_unlabelled_structures_acts_every_so_many_steps(tmp_path: Path, penalty: str) -> None:
    ase.io.write(tmp_path / "unlabelled.extxyz", labelled_molecules(3, seed=5))
    data = {"files": ["data.extxyz"], "validation": 4, "test": 4, "unlabelled_files": ["unlabelled.extxyz"]}
    loss = {penalty: 5.0, "symmetry_every": 1000, "unlabelled_every": 2}
    for step, acts in ((1, False), (2, True)):
        plain = weights_after(tmp_path, step, loss=loss, dtype="float64")
        found = weights_after(tmp_path, step, loss=loss, data=data, dtype="float64")
        assert torch.equal(plain, found) != acts


def test_gradient_is_clipped_to_its_largest_norm(tmp_path: Path) -> None:
    """AdamW's first moment after its first step is a tenth of the gradient."""
    gradients = []
    for largest in (1e9, 0.01):
        trainer = trainer_of(tmp_path, gradient_clip=largest, optimizer="adamw")
        trainer.train_step(np.arange(4))
        states = trainer.optimizers.parts[0].state.values()
        gradients.append(torch.cat([10.0 * state["exp_avg"].flatten() for state in states]))
    free, clipped = gradients
    assert free.norm() > 0.1
    assert float(clipped.norm()) == pytest.approx(0.01, rel=1e-3)
    torch.testing.assert_close(clipped, 0.01 * free / free.norm(), rtol=1e-3, atol=1e-7)


def test_epochs_are_permutations_shared_by_the_processes(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, batch_size=3)
    orders = []
    for epoch in range(2):
        parts = []
        for rank in range(2):
            other = Trainer(
                trainer.config,
                trainer.network,
                trainer.baseline,
                trainer.train_samples,
                trainer.validation_samples,
                rank=rank,
                world_size=2,
            )
            other.epoch = epoch
            parts.append(other.epoch_indices())
        assert [[len(batch) for batch in part] for part in parts] == [[3, 3, 3]] * 2
        orders.append(np.concatenate([np.concatenate(batches) for batches in zip(*parts, strict=True)]))
    for order in orders:
        assert sorted(order[:16]) == list(range(16))
        assert np.array_equal(order[16:], order[:2])  # 18 places for 16 structures
        assert not np.array_equal(order[:16], np.arange(16))
    assert not np.array_equal(*orders)


def spread_in_frames(potential: Potential, structures: list[Structure], rotations: np.ndarray) -> float:
    """Mean over structures of the mean absolute deviation of the forces from their mean, eV/Å."""
    forces = potential.evaluate(structures, rotations).forces
    return float(np.mean([np.abs(f - f.mean(axis=0)).mean() for f in forces]))


@pytest.mark.parametrize("stretch", [0.9, 1.1])
def test_score_and_log_are_the_errors_of_the_saved_model(tmp_path: Path, stretch: float) -> None:
    """The worse symmetry error counts, whether it is that of the validation or of the unlabelled structures."""
    unlabelled = labelled_molecules(3, seed=5)
    for atoms in unlabelled:
        atoms.positions *= stretch
    ase.io.write(tmp_path / "unlabelled.extxyz", unlabelled)
    data = {"files": ["data.extxyz"], "validation": 4, "test": 4, "unlabelled_files": ["unlabelled.extxyz"]}
    changes = {"loss": {"symmetry": 2.0, "energy": 10.0}, "optimizer": "adamw"}
    trainer = trainer_of(tmp_path, epochs=1, dtype="float64", data=data, **changes)
    trainer.run(quiet=True)
    potential = load_potential(tmp_path / "model", dtype="float64")
    frames = ase.io.read(tmp_path / "data.extxyz", ":")
    split = (tmp_path / "model" / "split.yaml").read_text()
    validation = [frames[k] for k in yaml.safe_load(split)["validation"]]
    results = [potential.predict(Structure.from_atoms(atoms)) for atoms in validation]
    forces = np.array([r.forces - a.get_forces() for r, a in zip(results, validation, strict=True)])
    energies = [r.energy - a.get_potential_energy() for r, a in zip(results, validation, strict=True)]
    row = np.genfromtxt(tmp_path / "model" / "log.csv", delimiter=",", names=True)
    assert row["val_force_mae"] == pytest.approx(1e3 * np.abs(forces).mean(), rel=1e-5)
    assert row["val_force_rmse"] == pytest.approx(1e3 * np.sqrt((forces**2).mean()), rel=1e-5)
    assert row["val_energy_mae"] == pytest.approx(1e3 * np.abs(energies).mean(), rel=1e-5)
    rotations = augmentation_rotations("o3", 4, np.random.default_rng(trainer.config.seed))
    spreads = [
        spread_in_frames(potential, [Structure.from_atoms(a) for a in part], rotations)
        for part in (validation, unlabelled)
    ]
    assert (spreads[1] > spreads[0]) == (stretch > 1.0)
    # a molecule has three atoms
    score = np.abs(forces).mean() + 5.0 * np.abs(energies).mean() / 3 + 2.0 * max(spreads)
    assert trainer.best == pytest.approx(score, rel=1e-5)


def test_energies_that_are_not_trained_do_not_choose_the_model(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, epochs=1, loss={"energy": 0.0})
    trainer.run(quiet=True)
    errors = trainer.evaluate(trainer.validation_samples, trainer.average.weights)
    assert errors.energy_mae_per_atom > 0.0
    assert trainer.best == pytest.approx(errors.force_mae, rel=1e-6)


@pytest.mark.parametrize("setting", [{"seed": -1}, {"threads": 0}], ids=str)
def test_seeds_and_threads_that_are_none(tmp_path: Path, setting: dict[str, int]) -> None:
    with pytest.raises(UserError, match=next(iter(setting))):
        trainer_of(tmp_path, **setting)


def test_a_checkpoint_holds_the_state_of_the_training(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    trainer.train_step(np.arange(4))
    trainer.epoch, trainer.stale = 7, 3
    trainer.hours, trainer.best, trainer.best_force_mae = 0.5, 2.0, 1.0
    save_checkpoint(trainer)
    (tmp_path / "model" / "checkpoint.safetensors").rename(tmp_path / "checkpoint.safetensors")
    again = trainer_of(tmp_path)
    (tmp_path / "checkpoint.safetensors").rename(tmp_path / "model" / "checkpoint.safetensors")
    load_checkpoint(again)
    for name in ("step", "epoch", "stale", "hours", "best", "best_force_mae"):
        assert getattr(again, name) == getattr(trainer, name), name
    assert again.average.steps == 1
    for key, value in trainer.average.weights.items():
        assert torch.equal(again.average.weights[key], value), key
        assert torch.equal(again.network.state_dict()[key], trainer.network.state_dict()[key]), key


def test_what_a_gradient_that_is_not_finite_asks_for_can_be_done(tmp_path: Path) -> None:
    """A training resumes with another learning rate, which then is that of its steps."""
    trainer = trainer_of(tmp_path, warmup_steps=0, optimizer="adamw")
    save_checkpoint(trainer)
    for p in trainer.network.parameters():
        torch.nn.init.constant_(p, float("nan"))
    with pytest.raises(
        UserError, match=r"lower `learning_rate` \(got 0.001\) or `gradient_clip` .* --resume"
    ):
        trainer.train_step(np.arange(4))
    changes = {"warmup_steps": 0, "optimizer": "adamw", "learning_rate": 1e-5, "gradient_clip": 0.5}
    config = load_config(write_config(tmp_path, **changes))
    resumed = build_trainer(config, resume=True)
    before = [p.detach().clone() for p in resumed.network.parameters()]
    resumed.train_step(np.arange(4))
    after = resumed.network.parameters()
    moved = max(float((p.detach() - q).abs().max()) for p, q in zip(after, before, strict=True))
    # a step of AdamW moves each weight by its learning rate at most
    assert 0.0 < moved < 1.1e-5


def test_a_kill_while_the_best_model_is_written_costs_nothing(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, epochs=2)
    trainer.run(quiet=True)
    model = tmp_path / "model"
    before = load_potential(model).network.state_dict()
    trainer.train_step(np.arange(4))
    (model / "model.yaml.part").mkdir()  # the second file cannot be written
    with pytest.raises(OSError, match=r"model\.yaml\.part"):
        trainer.save_best({})
    for key, value in load_potential(model).network.state_dict().items():
        assert torch.equal(value, before[key]), key
    # between the two files the weights are already those of the next model
    weights = model / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    resumed = build_trainer(load_config(tmp_path / "train.yaml"), resume=True)
    np.testing.assert_array_equal(resumed.baseline.atomic_energies, trainer.baseline.atomic_energies)
    state = read_state(model / "checkpoint.safetensors")["network"]
    for key, value in resumed.network.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_the_average_of_the_weights_and_its_memory() -> None:
    """As the formula gives it, from the weights at the start on, and after a restart in between."""
    network = torch.nn.Linear(3, 2)
    average, expected = MovingAverage(network, 0.3), network.weight.detach().clone()
    for step in range(1, 8):
        with torch.no_grad():
            network.weight.normal_()
        average.update(network)
        decay = min(0.3, (1.0 + step) / (10.0 + step))
        expected = expected.lerp(network.weight.detach(), 1.0 - decay)
        assert torch.equal(average.weights["weight"], expected)
        if step == 4:
            before, average = average, MovingAverage(network, 0.3)
            average.restore(before.weights, before.steps)
        assert average.steps == step


def test_warm_up_by_steps_or_by_a_fraction_of_the_training() -> None:
    by_steps = [learning_rate_factor(k, 0.0, 4, 1.0) for k in range(6)]
    assert by_steps == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0])
    by_fraction = [learning_rate_factor(0, p, 4, 1.0, 0.2) for p in (0.0, 0.05, 0.1, 0.2, 0.9)]
    assert by_fraction[0] > 0.0
    assert by_fraction[1:] == pytest.approx([0.25, 0.5, 1.0, 1.0])
    assert learning_rate_factor(0, 0.5, 4, 0.0, 0.0) == pytest.approx(0.5)
