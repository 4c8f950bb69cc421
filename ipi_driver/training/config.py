"""Every setting of `ipi-driver train CONFIG.yaml`, with defaults."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from ase.data import atomic_numbers
from pydantic import AfterValidator, BaseModel, Field, ValidationError, ValidationInfo, model_validator

from ipi_driver.errors import UserError
from ipi_driver.networks.base import NetworkConfig
from ipi_driver.networks.kinds import DEFAULT, network_config, settings_by_kind
from ipi_driver.shipped import shipped_names
from ipi_driver.training.data_config import DataConfig, LocatedPath, Section, folder_of
from ipi_driver.yaml_file import first_problem, load_yaml

logger = logging.getLogger(__name__)


class BaselineConfig(Section):
    """What is fitted linearly before the network: atomic energies always, pair terms if asked for."""

    pair: bool = Field(True, description="smooth pair terms with a repulsive wall")
    n_gaussians: int = Field(24, ge=2)


class LossConfig(Section):
    """Weights of the loss ``w_F <|dF|> + w_E |dE| / n_atoms + w_V <|dV|> / n_atoms + w_S (spread over rotations)``
    and ``w_R <|dE/drotation|> / n_atoms``.
    """

    forces: float = Field(1.0, ge=0)
    energy: float = Field(
        1.0,
        ge=0,
        description="per eV/atom, where forces are in eV/Å; 10, the default before, leaves both errors twice as large "
        "in equal time",
    )
    virial: float = Field(0.0, ge=0, description="per eV/atom; every training structure needs a virial")
    rotation_gradient: float = Field(
        0.0,
        ge=0,
        description="penalty on |dE/drotation| / n_atoms, eV/rad; needs no second rotation",
    )
    symmetry: float = Field(0.0, ge=0, description="symmetry penalty; 0 switches it off")
    symmetry_rotations: int = Field(
        2, ge=2, description="random rotations whose predictions are drawn together; earlier symmetry_frames"
    )
    symmetry_every: int = Field(1, ge=1, description="steps between two penalties on labelled structures")
    unlabelled_every: int = Field(4, ge=1, description="steps between two penalties on unlabelled structures")
    unlabelled: float = Field(
        1.0,
        gt=0,
        description="factor of the penalty on unlabelled structures; the gradients of like ones add up",
    )
    unlabelled_atoms: int = Field(
        200, ge=1, description="unlabelled structures batched up to this many atoms"
    )
    smoothing: float = Field(0.01, gt=0, description="eV/Å below which the loss is quadratic")
    symmetry_smoothing: float = Field(0.001, gt=0, description="the same of the symmetry penalty")

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "symmetry_frames" not in data:
            return data
        logger.warning("loss: `symmetry_frames` is now called `symmetry_rotations`")
        others = {key: value for key, value in data.items() if key != "symmetry_frames"}
        return {"symmetry_rotations": data["symmetry_frames"], **others}


class PretrainConfig(Section):
    """Pre-training on structures without labels, see `ipi_driver.training.denoising`."""

    files: list[LocatedPath] = Field(
        min_length=1, description="structures without labels, as `data.unlabelled_files`"
    )
    denoise: float = Field(10.0, gt=0, description="eV/Å², stiffness of the springs that undo displacements")
    sigma: float = Field(0.1, gt=0, description="Å, standard deviation of the displacements")
    epochs: int = Field(20, ge=1)
    hours: float | None = Field(None, gt=0, description="time limit; not a part of `max_hours`")
    learning_rate: float | None = Field(None, gt=0, description="null takes that of the training")


def _located_model(path: Path, info: ValidationInfo) -> Path:
    """A model folder, relative to the folder of the file, or the name of a shipped model."""
    folder = folder_of(info)
    if folder is None or not ((folder / path).exists() or path.name not in shipped_names("models")):
        return path
    return folder / path


class TrainConfig(Section):
    """The whole training."""

    data: DataConfig
    output: LocatedPath = Field(description="folder of the model, the log and the checkpoint")
    architecture: dict[str, Any] = Field({}, description="`kind` of the network, and the keys of that kind")
    species: list[str] | None = Field(None, description="chemical symbols; null takes those of the data")
    baseline: BaselineConfig = BaselineConfig()
    loss: LossConfig = LossConfig()
    augmentation: Literal["none", "so3", "o3"] = "o3"
    start_from: Annotated[Path, AfterValidator(_located_model)] | None = Field(
        None, description="model folder or shipped model to begin with, shifted to the energies of the data"
    )
    pretrain: PretrainConfig | None = Field(
        None,
        description="before the training: {files, denoise: 10, sigma: 0.1, epochs: 20, hours, learning_rate}",
    )
    optimizer: Literal["adamw", "muon"] | None = Field(
        None,
        description="null takes muon for PET where torch has it (2.9 or newer), else adamw",
    )
    learning_rate: float = Field(1e-3, gt=0, description="falls as a cosine to `final_learning_rate`")
    weight_decay: float = Field(0.01, ge=0)
    warmup_steps: int = Field(200, ge=0)
    warmup: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="fraction of the training with a rising learning rate, for `warmup_steps`",
    )
    final_learning_rate: float = Field(0.01, ge=0, le=1, description="as a fraction of the learning rate")
    batch_size: int = Field(1, ge=1, description="structures per step and process")
    epochs: int = Field(1000, ge=1)
    max_hours: float | None = Field(None, gt=0, description="the schedule ends when this time is used up")
    ema: float = Field(
        0.999, ge=0, lt=1, description="decay of the moving average of the weights that is kept"
    )
    gradient_clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    evaluate_every: int = Field(5, ge=1, description="epochs")
    score_energy: float = Field(
        5.0,
        ge=0,
        description="the best model has the lowest force MAE (eV/Å) + this times the energy MAE (eV/atom)",
    )
    patience: int | None = Field(None, ge=1, description="evaluations without improvement before stopping")
    force_gradient: Literal["finite-difference", "exact"] = "finite-difference"
    displacement: float = Field(0.005, gt=0, description="Å, largest of the finite-difference force gradient")
    seed: int = Field(0, ge=0)
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float32"
    tf32: bool = Field(
        False,
        description="products of float32 with 10 binary digits (NVIDIA GPUs); needs `force_gradient: exact`",
    )
    threads: int | None = Field(None, ge=1, description="of torch; null takes all cores")

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        if self.loss.forces == 0 and self.loss.energy == 0:
            raise ValueError("one of loss.forces and loss.energy must be positive")
        if self.tf32 and self.force_gradient != "exact":
            raise ValueError(
                "tf32 needs `force_gradient: exact`: a difference of two rounded gradients is mostly rounding"
            )
        if self.data.unlabelled_files and self.loss.symmetry == 0 and self.loss.rotation_gradient == 0:
            raise ValueError(
                "data.unlabelled_files serve the symmetry penalties alone: set loss.symmetry or "
                "loss.rotation_gradient"
            )
        return self

    def network_config(self, species: tuple[int, ...]) -> NetworkConfig:
        """Architecture for the given atomic numbers."""
        found = network_config(self.architecture, species)
        self.check_augmentation(found, "`architecture` asks for")
        return found

    def check_augmentation(self, network: NetworkConfig, source: str) -> None:
        """Raise `UserError` where turned copies would hide what a network is to find; ``source`` begins the message."""
        if network.learns_directions and self.augmentation != "none":
            raise UserError(
                f"{source} relaxed weights, which learn in what the data depend on their orientation; "
                f"`augmentation: {self.augmentation}` hides that: set `augmentation: none`"
            )

    def species_numbers(self) -> tuple[int, ...] | None:
        """Atomic numbers that the configuration asks for."""
        if self.species is None:
            return None
        unknown = [s for s in self.species if s not in atomic_numbers]
        if unknown:
            raise UserError(f"`species`: {unknown[0]!r} is not a chemical symbol")
        return tuple(sorted(atomic_numbers[s] for s in self.species))


def describe_keys() -> str:
    """Every key with its default and meaning, laid out as a configuration file."""
    return "\n".join(_described(TrainConfig, 0))


def _described(section: type[BaseModel], depth: int) -> list[str]:
    lines = []
    for name, field in section.model_fields.items():
        annotation = field.annotation
        if name == "architecture":
            lines += _described_architecture()
            continue
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            lines += [f"{'  ' * depth}{name}:", *_described(annotation, depth + 1)]
            continue
        if issubclass(section, NetworkConfig) and name == "species":
            continue  # the training fills it in
        default = "(required)" if field.is_required() else yaml.safe_dump(field.default).split("\n")[0]
        choices = get_args(annotation) if get_origin(annotation) is Literal else ()
        meaning = " or ".join(choices) if choices else (field.description or "")
        text = f"{'  ' * depth}{name}: {default}"
        lines.append(f"{text:40s}# {meaning}" if meaning else text)
    return lines


def _described_architecture() -> list[str]:
    """Keys of the default kind of network, then those of every other kind as a comment."""
    kinds = settings_by_kind()
    lines = ["architecture:", f"{'  kind: ' + DEFAULT:40s}# {' or '.join(kinds)}"]
    for kind, settings in kinds.items():
        keys = _described(settings, 1)
        if kind == DEFAULT:
            lines += keys
        else:
            lines += [f"# architecture, with its keys for kind: {kind}", f"#   kind: {kind}"]
            lines += [f"# {line}" for line in keys]
    return lines


def load_config(path: Path) -> TrainConfig:
    """Read a YAML file; paths in it are relative to the file's folder.

    Raises
    ------
    UserError
        If the file is missing, is not YAML, or has an unknown key or a value out of range.
    """
    if not path.is_file():
        raise UserError(f"no training configuration {path}")
    content = load_yaml(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold keys such as `data` and `output`, got {type(content).__name__}")
    try:
        return TrainConfig.model_validate(content, context={"folder": path.resolve().parent})
    except ValidationError as error:
        raise UserError(f"{path}: {first_problem(error)}") from error


def changed(config: TrainConfig, **changes: Any) -> TrainConfig:
    """The configuration with other values, which are validated as those of a file; None changes nothing.

    Raises
    ------
    UserError
        If a value is out of range.
    """
    given = {key: value for key, value in changes.items() if value is not None}
    try:
        return TrainConfig.model_validate({**config.model_dump(exclude_unset=True), **given})
    except ValidationError as error:
        option, _, problem = first_problem(error).partition(":")
        raise UserError(f"--{option.replace('_', '-')}:{problem}") from error
