"""`train`: a model from labelled structures, from Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from ipi_driver.errors import UserError
from ipi_driver.potentials import load_potential
from ipi_driver.potentials.base import Potential
from ipi_driver.training.config import TrainConfig, load_config
from ipi_driver.training.lock import held
from ipi_driver.training.setup import build_trainer
from ipi_driver.units import MILLI
from ipi_driver.yaml_file import first_problem


@dataclass(frozen=True)
class TrainedModel:
    """A model folder after its training.

    Attributes
    ----------
    folder
        What `load_potential`, ``serve`` and ``run`` take as a model.
    force_mae
        Best mean absolute force error on the validation part, eV/Å.
    """

    folder: Path
    force_mae: float

    def __repr__(self) -> str:
        return f"TrainedModel({str(self.folder)!r}: validation force MAE {MILLI * self.force_mae:.1f} meV/Å)"

    def load(self, device: str = "cpu") -> Potential:
        """The potential."""
        return load_potential(str(self.folder), device)


def train(
    config: str | Path | Mapping[str, Any], *, resume: bool = False, quiet: bool = True
) -> TrainedModel:
    """Train a model, as ``ipi-driver train`` does.

    Parameters
    ----------
    config
        A YAML file, or its content (paths are then relative to the current folder).
    resume
        Continue from the checkpoint in the output folder.
    quiet
        Show no progress bar.

    Raises
    ------
    UserError
        If a key is unknown or a value is wrong, data are missing or unlabelled, or the output folder holds a model.

    Examples
    --------
    >>> ipi_driver.train({"data": {"files": ["water.extxyz"]}, "output": "my-model", "max_hours": 1})  # doctest: +SKIP
    TrainedModel('my-model': validation force MAE 66.2 meV/Å)
    """
    loaded = _from_mapping(config) if isinstance(config, Mapping) else load_config(Path(config))
    with held(loaded.output, resume):
        best = build_trainer(loaded, resume=resume).run(quiet=quiet)
    return TrainedModel(loaded.output, best)


def _from_mapping(config: Mapping[str, Any]) -> TrainConfig:
    """The configuration, with paths relative to the current folder."""
    try:
        return TrainConfig.model_validate(_plain(config), context={"folder": Path.cwd()})
    except ValidationError as error:
        raise UserError(f"configuration of the training: {first_problem(error)}") from error


def _plain(value: Any) -> Any:
    """The value as YAML would hold it: paths as text, numbers of numpy as those of Python."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value
