"""The data section of the configuration of `ipi-driver train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from ipi_driver.training.similarity import THRESHOLD


def folder_of(info: ValidationInfo) -> Path | None:
    """The folder to which the paths of the file that is validated are relative."""
    return (info.context or {}).get("folder")


def _located(path: Path, info: ValidationInfo) -> Path:
    folder = folder_of(info)
    return path if folder is None else folder / path


LocatedPath = Annotated[Path, AfterValidator(_located)]
"""A path that is relative to the folder of its file."""


class Section(BaseModel):
    """A part of the configuration: it has no other keys than the known ones, and does not change once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSetConfig(Section):
    """Files whose labels come from the same settings."""

    files: list[LocatedPath] = Field(min_length=1)
    name: str | None = Field(None, description="for the log; null takes that of the first file")
    weight: float = Field(1.0, gt=0, description="factor of the loss")
    offset: Literal["fit", 0] = Field(0, description="fit: the energies differ by a constant per atom")
    forces_only: bool = Field(False, description="energies are not used")

    @property
    def is_zero(self) -> bool:
        """Whether its energies are the zero of the others."""
        return self.offset == 0 and not self.forces_only


class DataConfig(Section):
    """Where the labelled structures are and how they are divided."""

    files: list[LocatedPath] = Field(
        [], description="extended XYZ, n2p2 input.data, DeePMD folders; also packed"
    )
    sets: list[DataSetConfig] = Field(
        [],
        description="instead of `files`, each with files, name, weight: 1, offset: 0 or fit (a constant per atom), "
        "forces_only: false",
    )
    energy_key: str = Field("energy", description="names of the properties in extended XYZ")
    forces_key: str = "forces"
    stress_key: str | None = None
    virial_key: str | None = None
    units: Literal["auto", "ev-angstrom", "atomic"] = "auto"
    validation: int | float = Field(0.1, description="a count or fraction of `files`")
    test: int | float = Field(
        0.1, description="a count or fraction of `files`, which the training never sees"
    )
    train: int | float | None = Field(None, description="a count or fraction; null takes the rest")
    split_file: LocatedPath | None = Field(
        None, description="order of the structures: train, then validation, then test"
    )
    validation_files: list[LocatedPath] | None = Field(None, description="instead of a part of `files`")
    test_files: list[LocatedPath] | None = Field(
        None, description="likewise; no training structure may be in them"
    )
    split_seed: int = Field(0, ge=0)
    split: Literal["random", "similarity"] = Field(
        "random", description="similarity leaves no relative of a validation or test structure in training"
    )
    similarity_threshold: float = Field(
        THRESHOLD, gt=0, description="Å rms over atoms, below which structures of one cell are relatives"
    )
    unlabelled_files: list[LocatedPath] = Field([], description="structures for the symmetry penalty alone")

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if bool(self.files) == bool(self.sets):
            raise ValueError("give `files` or `sets`, one of them")
        if not any(part.is_zero for part in self.parts()):
            raise ValueError("one of `sets` must have `offset: 0` and energies: it is the zero of the others")
        names = self.names()
        if len(set(names)) < len(names):
            raise ValueError(f"`sets` need different names (`name`), got {', '.join(names)}")
        return self

    def parts(self) -> list[DataSetConfig]:
        """The sets; of plain `files` one."""
        return self.sets or [DataSetConfig(files=self.files)]

    def names(self) -> tuple[str, ...]:
        """Name of each set, else of its first file without its endings."""
        return tuple(part.name or part.files[0].name.split(".")[0] for part in self.parts())
