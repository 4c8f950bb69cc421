"""Checkpoints of a training: everything that a resumed training needs to repeat what an uninterrupted one does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.training.config import TrainConfig
from ipi_driver.training.data_config import DataConfig
from ipi_driver.training.state_file import read_state, write_state

if TYPE_CHECKING:
    from ipi_driver.training.trainer import Trainer

FILE = "checkpoint.safetensors"
RESULTS = ("model.yaml", "weights.safetensors", "log.csv")
"""What a training writes beside it."""

# Keys that may change when a training is resumed: they do not alter what has been done so far, or name a folder. The
# learning rate and the clipping are those of each step: what a training whose gradient was not finite needs to go on.
_RESUMABLE = {
    "max_hours",
    "epochs",
    "patience",
    "evaluate_every",
    "threads",
    "device",
    "output",
    "start_from",
    "score_energy",
    "pretrain",
    "learning_rate",
    "gradient_clip",
}
# Keys that older checkpoints lack and whose default is not what those did, with the value that is. Every other key
# that a checkpoint lacks is newer than it, and had the effect of its default.
_ADDED: dict[str, str] = {}
# Keys that have another name now.
_RENAMED = {"loss.symmetry_frames": "loss.symmetry_rotations"}
_DATA = "training and validation structures"


def save_checkpoint(trainer: Trainer) -> None:
    """Write ``checkpoint.safetensors`` into the output folder."""
    state = {
        "config": fixed_settings(trainer),
        "network": trainer.network.state_dict(),
        "average": trainer.average.weights,
        "average_steps": trainer.average.steps,
        "optimizers": trainer.optimizers.state_dict(),
        "counters": [trainer.step, trainer.epoch, trainer.stale],
        "offsets": trainer.offsets.values.tolist(),
        "clock": [trainer.hours, trainer.best, trainer.best_force_mae],
    }
    write_state(trainer.output / FILE, state)


def check_resumable(output: Path) -> None:
    """Raise `UserError` where ``output`` holds no checkpoint; the message names a remedy that the folder allows."""
    path = output / FILE
    if path.is_file():
        return
    if path.with_suffix(".pt").is_file():
        raise UserError(
            f"{path.with_suffix('.pt')} is the checkpoint of an older version, which is not read any more (a pickle); "
            "go on from the weights: `start_from` this folder, and another `output`"
        )
    held = [name for name in RESULTS if (output / name).exists()]
    remedy = f" into another output, as this one holds {', '.join(held)}" if held else ""
    raise UserError(f"nothing to resume: {path} does not exist; start without --resume{remedy}")


def load_checkpoint(trainer: Trainer) -> None:
    """Continue from ``checkpoint.safetensors``.

    Raises
    ------
    UserError
        If there is none, or it was made with another configuration.
    """
    check_resumable(trainer.output)
    state = read_state(trainer.output / FILE, trainer.device)
    now = fixed_settings(trainer)
    before = _defaults() | _ADDED | {_RENAMED.get(key, key): value for key, value in state["config"].items()}
    for key in sorted((set(now) | set(before)) - _RESUMABLE):
        if key == _DATA and key not in before:
            continue  # an older checkpoint
        if now.get(key) != before.get(key):
            raise UserError(
                f"--resume with another configuration: `{key}` was {before.get(key)}, "
                f"is now {now.get(key)}; restore it, or train into another output folder"
            )
    trainer.network.load_state_dict(state["network"])
    trainer.average.restore(state["average"], state["average_steps"])
    trainer.optimizers.load_state_dict(state["optimizers"])
    trainer.step, trainer.epoch, trainer.stale = state["counters"]
    trainer.offsets.values = np.array(state.get("offsets", trainer.offsets.values), dtype=np.float64)
    # older checkpoints hold the best force error alone, which was the score
    trainer.hours, trainer.best = state["clock"][:2]
    trainer.best_force_mae = state["clock"][-1]


def fixed_settings(trainer: Trainer) -> dict[str, str]:
    """Every setting that must not change on resuming, as text."""
    flat = {
        "n_train": str(len(trainer.train_samples)),
        "world_size": str(trainer.world_size),
        _DATA: trainer.data_digest,
    }
    return flat | _flat(trainer.config.model_dump(mode="json"))


def _defaults() -> dict[str, str]:
    """The settings of a configuration that names none."""
    plain = TrainConfig.model_construct(data=DataConfig.model_construct(), output=Path())
    return _flat(plain.model_dump(mode="json"))


def _flat(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings that must not change, as text, those of a section after its name and a dot."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if key in _RESUMABLE:
            continue
        if isinstance(value, dict):
            flat |= {f"{key}.{k}": _text(v) for k, v in value.items() if "file" not in k}
        else:
            flat[key] = str(value)
    return flat


def _text(value: object) -> str:
    """A setting; of data sets all but their files, which may be moved."""
    if isinstance(value, list):
        value = [
            {k: v for k, v in item.items() if k != "files"} if isinstance(item, dict) else item
            for item in value
        ]
    return str(value)
