"""A training that is ended from outside: by a signal, killed, after its pre-training."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from training_place import write_config

from ipi_driver.cli import main
from ipi_driver.training import trainer as module
from ipi_driver.training.config import load_config
from ipi_driver.training.lock import held
from ipi_driver.training.losses import StepResult
from ipi_driver.training.setup import build_trainer
from ipi_driver.training.state_file import read_state
from ipi_driver.training.stopping import signals_that_stop
from ipi_driver.training.trainer import Trainer


class Killed(Exception):
    """Stands for a process that is gone."""


def at_step(number: int, action: object, patch: pytest.MonkeyPatch) -> None:
    """Do something once, after a step of a training."""
    step = Trainer.train_step

    def train_step(self: Trainer, indices: np.ndarray) -> StepResult:
        result = step(self, indices)
        if self.step == number:
            action()  # type: ignore[operator]
        return result

    patch.setattr(Trainer, "train_step", train_step)


def assert_same_end(one: Path, other: Path) -> None:
    a, b = (read_state(folder / "model" / "checkpoint.safetensors") for folder in (one, other))
    assert a["counters"][:2] == b["counters"][:2]
    for part in ("network", "average"):
        for key, value in a[part].items():
            assert torch.equal(value, b[part][key]), key


def kill() -> None:
    raise Killed


def test_a_signal_ends_the_training_after_its_epoch(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With a checkpoint, from which a resumed training does what one that was not stopped does."""
    assert main(["train", str(write_config(tmp_path / "whole", evaluate_every=3)), "--quiet"]) == 0
    path = write_config(tmp_path / "part", evaluate_every=3)
    number = signal.SIGTERM
    handler = signal.getsignal(number)
    with pytest.MonkeyPatch.context() as patch:
        at_step(2, lambda: signal.raise_signal(number), patch)  # of the four steps of the first epoch
        options = ["--output", str(tmp_path / "part" / "model"), "--max-hours", "10"]
        assert main(["train", str(path), "--quiet", *options]) == 128 + number
    assert signal.getsignal(number) == handler
    printed = capfd.readouterr()
    assert f"{number.name}: the training stops at the end of this epoch" in printed.err
    # what overrides the configuration is a part of the command that goes on
    assert f"next: ipi-driver train {path} --resume --max-hours 10.0 --output {options[1]}\n" in printed.out
    checkpoint = read_state(tmp_path / "part" / "model" / "checkpoint.safetensors")
    assert checkpoint["counters"][:2] == [4, 1]
    assert (tmp_path / "part" / "model" / "log.csv").read_text().count("\n") == 2  # evaluated as well
    assert main(["train", str(path), "--quiet", "--resume"]) == 0
    assert_same_end(tmp_path / "whole", tmp_path / "part")


def test_a_signal_in_the_last_epoch_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_step(14, lambda: signal.raise_signal(signal.SIGTERM), monkeypatch)
    assert main(["train", str(write_config(tmp_path)), "--quiet"]) == 0


def test_a_second_signal_acts_at_once() -> None:
    """Not one that comes together with the first, as from a terminal and torchrun."""
    with signals_that_stop() as stopping:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert stopping.number == signal.SIGINT
        stopping._since -= 5.0
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with signals_that_stop() as stopping:  # a warning of a queue, and its end of the job
        signal.raise_signal(signal.SIGUSR1)
        stopping._since -= 5.0
        signal.raise_signal(signal.SIGTERM)
        assert stopping.number == signal.SIGTERM


def test_what_is_killed_between_evaluations_goes_on_from_the_last_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SAVE_EVERY", -1.0)
    assert main(["train", str(write_config(tmp_path / "whole", evaluate_every=4)), "--quiet"]) == 0
    path = write_config(tmp_path / "part", evaluate_every=4)
    with pytest.MonkeyPatch.context() as patch:
        at_step(9, kill, patch)
        with pytest.raises(Killed):
            main(["train", str(path), "--quiet"])
    assert not (tmp_path / "part" / "model" / "log.csv").exists()
    resumed = build_trainer(load_config(path), resume=True)
    assert (resumed.step, resumed.epoch) == (8, 2)
    resumed.run(quiet=True)
    assert_same_end(tmp_path / "whole", tmp_path / "part")


def test_one_training_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second one, as of a job that was sent twice, would write to the same log, model and checkpoint."""
    path = write_config(tmp_path)
    with held(tmp_path / "model"):
        for words in ([], ["--resume"]):
            assert main(["train", str(path), "--quiet", *words]) == 2
            assert "another process trains in" in capsys.readouterr().err
    with held(tmp_path / "absent", resume=True):
        assert not (tmp_path / "absent").exists()
    assert main(["train", str(path), "--quiet", "--resume"]) == 2
    assert "nothing to resume" in capsys.readouterr().err


def test_what_a_full_disk_has_interrupted_is_done_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between the row of the log and the checkpoint of the same epoch."""
    path, log = write_config(tmp_path), tmp_path / "other" / "log.csv"

    def full(trainer: Trainer) -> None:
        if trainer.epoch == epoch:
            raise OSError(28, "No space left on device")
        save(trainer)

    save = module.save_checkpoint
    monkeypatch.setattr(module, "save_checkpoint", full)
    epoch = 2
    assert main(["train", str(path), "--quiet"]) == 2
    assert main(["train", str(path), "--quiet", "--resume"]) == 2
    assert (
        "start without --resume into another output, as this one holds model.yaml" in capsys.readouterr().err
    )
    path = write_config(tmp_path, output="other")
    epoch = 4
    assert main(["train", str(path), "--quiet"]) == 2
    assert [row.split(",")[0] for row in log.read_text().splitlines()] == ["epoch", "2", "4"]
    epoch = 0
    assert main(["train", str(path), "--quiet", "--resume"]) == 0
    assert [row.split(",")[0] for row in log.read_text().splitlines()] == ["epoch", "2", "4"]


def test_a_pre_training_is_kept(tmp_path: Path) -> None:
    """Before the first epoch of the training is over."""
    pretraining = {"files": ["data.extxyz"], "epochs": 1}
    path = write_config(tmp_path, pretrain=pretraining)
    trainer = build_trainer(load_config(path))
    resumed = build_trainer(load_config(path), resume=True)
    assert resumed.step == 0
    for key, value in trainer.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[key], value), key
    assert resumed.baseline.pair_coefficients == pytest.approx(trainer.baseline.pair_coefficients)
