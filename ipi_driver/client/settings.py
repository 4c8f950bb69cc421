"""What a client needs to know: `ServeSettings`, from the command line and from a ``driver.yaml``.

.. code-block:: yaml

    model: pet-water-s2
    endpoints:
      - unix: raw
      - unix: averaged
        average: 2i
    structure: init.xyz

Paths in a file are relative to the file.
"""

from __future__ import annotations

import difflib
import re
import reprlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ipi_driver.errors import UserError
from ipi_driver.potentials.registry import located_potential, parse_potential, with_options
from ipi_driver.potentials.spec import PotentialSpec, check_precision
from ipi_driver.rotations.quadrature import Quadrature, quadrature
from ipi_driver.yaml_file import load_yaml

UNIX_PATH_LIMIT = 107
"""Bytes in the path of a unix socket (Linux: 108 with the closing zero)."""


class Averaged:
    """Settings that name an average."""

    if TYPE_CHECKING:
        average: str

    @property
    def quadrature(self) -> Quadrature:
        """The average.

        Raises
        ------
        UserError
            If its name is unknown.
        """
        return quadrature(self.average)


class EndpointSettings(Averaged, BaseModel):
    """One socket of i-PI: one of ``unix``, ``shm`` (names) or ``inet`` ("HOST:PORT"), an average, and what is its own.

    ``model`` is another model than that of all endpoints, ``options`` are added to its name:
    ``{non_conservative: forces}`` is ``model.pt?non_conservative=forces``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    unix: str | None = Field(None, description="name of a local socket, as in <address>")
    inet: str | None = Field(None, description="HOST:PORT of a network socket")
    shm: str | None = Field(None, description="name of a local socket with shared memory")
    average: str = Field("none", description="average of this socket: none, Th, 2i, random, ...")
    model: str | None = Field(None, description="another model for this socket alone")
    options: dict[str, str] = Field(
        default_factory=dict, description="options of the model for this socket alone"
    )

    @field_validator("options", mode="before")
    @classmethod
    def _options_as_text(cls, value: Any) -> Any:
        """YAML reads numbers, true and false."""
        if not isinstance(value, dict):
            return value
        return {str(key): str(v).lower() if isinstance(v, bool) else str(v) for key, v in value.items()}

    @model_validator(mode="before")
    @classmethod
    def _average_as_text(cls, data: Any) -> Any:
        """``average: 2`` is a number in YAML, and ``average:`` or ``average: null`` means none."""
        if isinstance(data, dict) and "average" in data:
            average = data["average"]
            return {**data, "average": "none" if average in (None, False) else str(average)}
        return data

    @model_validator(mode="after")
    def _one_address(self) -> EndpointSettings:
        if sum(address is not None for address in (self.unix, self.inet, self.shm)) != 1:
            raise ValueError("expected exactly one of `unix`, `inet`, `shm`")
        if self.inet is not None:
            host, _, port = self.inet.rpartition(":")
            if not (host and port.isdigit() and 0 < int(port) < 65536):
                raise ValueError(f"`inet` must be HOST:PORT, got {self.inet!r}")
        return self

    @property
    def label(self) -> str:
        """For messages and statistics: "unix raw", "inet localhost:31415"."""
        kind = "unix" if self.unix is not None else "inet" if self.inet is not None else "shm"
        return f"{kind} {self.unix or self.inet or self.shm}"

    def unix_path(self, prefix: str) -> str | None:
        """Path of the socket in the file system, None for ``inet``.

        Raises
        ------
        UserError
            If it is longer than the system allows.
        """
        name = self.unix or self.shm
        if name is None:
            return None
        path = prefix + name
        if len(path.encode()) > UNIX_PATH_LIMIT:
            raise UserError(
                f"the socket path {path!r} has {len(path.encode())} bytes, and the system allows "
                f"{UNIX_PATH_LIMIT}; choose a shorter <address>, or a shorter prefix (-S, also for i-pi)"
            )
        return path


class WatchSettings(BaseModel):
    """Limits of `ipi_driver.runs.watch`, beyond which a run ends as failed; None switches one off.

    Attributes
    ----------
    temperature
        Times the temperature of the thermostat or of the start.
    conserved
        Change of the conserved quantity, eV per atom and picosecond.
    distance
        Of an atom of an isolated structure from all others, Å.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float | None = Field(default=10.0, gt=1.0, description="times that of the thermostat")
    conserved: float | None = Field(default=0.1, gt=0.0, description="drift, eV per atom and ps")
    distance: float | None = Field(default=50.0, gt=0.0, description="of an atom from all others, Å")

    @classmethod
    def off(cls) -> WatchSettings:
        """No limits."""
        return cls(temperature=None, conserved=None, distance=None)


class MonitorSettings(Averaged, BaseModel):
    """The average that `ipi_driver.runs.symmetry_monitor` evaluates beside a run.

    Attributes
    ----------
    average
        Name of the average.
    stride
        Steps between two evaluations.
    tolerance
        Of the standard deviation of the forces, meV/Å, above which there is a warning.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    average: str = Field(description="average that is evaluated beside the run")
    stride: int = Field(default=200, gt=0, description="steps between two evaluations")
    tolerance: float = Field(default=50.0, gt=0.0, description="of the force standard deviation, meV/Å")


class ServeSettings(BaseModel):
    """Everything that `ipi_driver.client.client.serve` needs; ``ipi-driver serve --help`` explains each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(description="shipped model, model folder, exported .pt, or KIND:NAME")
    endpoints: list[EndpointSettings] = Field(min_length=1, description="sockets to answer")
    sockets_prefix: str = Field("/tmp/ipi_", description="prefix of local sockets, as of i-pi -S")
    structure: Path | None = Field(
        None, description="file with elements and periodicity, in the order of i-PI"
    )
    input: Path | None = Field(None, description="input of i-PI, in place of `structure`")
    pbc: bool | None = Field(None, description="periodic or isolated, whatever the file states")
    device: str = Field("cpu", description="torch device: cpu, cuda, cuda:1")
    dtype: Literal["float32", "float64", "tf32"] | None = Field(
        None, description="precision; null: that of the model"
    )
    rotation_batch: int | None = Field(
        default=None, gt=0, description="rotations per call of the model; null: chosen"
    )
    seed: int = Field(default=0, ge=0, description="of random rotations")
    deadline: float = Field(default=600.0, ge=0, description="seconds to wait for i-PI; 0: for ever")
    threads: int | None = Field(default=None, gt=0, description="threads of the model; null: all cores")
    virial: Literal["required", "nan"] = Field(
        "required", description="nan: send NaN where the model has no virial"
    )
    charge: float | None = Field(
        default=None, allow_inf_nan=False, description="total charge; null: the structure's, else 0"
    )
    spin: int | None = Field(
        default=None, gt=0, description="multiplicity 2S+1; null: the structure's, else 1"
    )
    stats: Path | None = Field(None, description="JSON file for the number of evaluations and their time")
    record: Path | None = Field(None, description="file for the configurations that were evaluated last")
    modules: Path | None = Field(
        None, description="folder with the module of an `ase:` model, where Python does not find it"
    )
    extras: list[str] = Field(
        default_factory=list, description="further outputs of a metatomic model for i-PI"
    )
    watch: WatchSettings = WatchSettings()
    """For the launcher, which ends a run whose physics is wrong; the client does not look at it."""
    monitor: MonitorSettings | None = None
    """For the launcher, too."""

    @field_validator("watch", mode="before")
    @classmethod
    def _switched_off(cls, value: Any) -> Any:
        """``watch: off``, which is false in YAML, ``conserved: off`` for one limit, and ``temperature=20,...``."""
        if isinstance(value, str) and "=" in value:
            value = {
                name.strip(): limit.strip() for name, _, limit in (w.partition("=") for w in value.split(","))
            }
        if value in (False, "off"):
            return WatchSettings.off()
        if isinstance(value, dict):
            return {k: None if v is False or v == "off" else v for k, v in value.items()}
        return WatchSettings() if value in (True, None) else value

    def model_of(self, endpoint: EndpointSettings) -> PotentialSpec:
        """The model of an endpoint with its options and the outputs asked for as extras."""
        extras = {"extras": ",".join(self.extras)} if self.extras else {}
        spec = parse_potential(endpoint.model or self.model)
        return with_options(spec, {**extras, **endpoint.options})

    @model_validator(mode="after")
    def _each_address_once(self) -> ServeSettings:
        labels = [endpoint.label for endpoint in self.endpoints]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"the endpoint {label} is given {labels.count(label)} times")
        return self

    @model_validator(mode="after")
    def _precision_of_the_device(self) -> ServeSettings:
        try:
            check_precision(self.dtype, self.device)
        except UserError as error:
            raise ValueError(str(error)) from None
        return self


def read_yaml(path: Path) -> dict[str, Any]:
    """Settings in a ``driver.yaml``, with paths made absolute; not validated yet.

    Raises
    ------
    UserError
        If the file is missing, not YAML, or not a mapping.
    """
    if not path.is_file():
        raise UserError(f"no configuration file {str(path)!r}")
    values = load_yaml(path)
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold `key: value` lines, got {type(values).__name__}")
    folder = path.resolve().parent
    for key in ("structure", "input", "stats", "modules"):
        if isinstance(values.get(key), str):
            values[key] = folder / Path(values[key]).expanduser()
    if isinstance(values.get("model"), str):
        values["model"] = str(located_potential(values["model"], folder))
    endpoints = values.get("endpoints")
    for endpoint in endpoints if isinstance(endpoints, list) else []:
        if isinstance(endpoint, dict) and isinstance(endpoint.get("model"), str):
            endpoint["model"] = str(located_potential(endpoint["model"], folder))
    return values


_ASE_MODULE = re.compile(r"(?:^|[:+,(])ase:(\w+)")
"""Module of each ``ase:`` in a model's text."""


def modules_here(model: str, folder: Path) -> Path | None:
    """``folder`` where the module of an ``ase:`` model, also in a sum or committee, is a file of it; else None."""
    for top in _ASE_MODULE.findall(model):
        here = (folder / f"{top}.py").is_file() or (folder / top / "__init__.py").is_file()
        if here and top not in sys.stdlib_module_names:
            return folder.resolve()
    return None


def make_settings(values: dict[str, Any], source: str = "the command line") -> ServeSettings:
    """Validated settings.

    Raises
    ------
    UserError
        One line that names every key that is unknown, missing or wrong.
    """
    try:
        return ServeSettings.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_describe(problem) for problem in error.errors())
        raise UserError(f"settings from {source}: {problems}") from None


def _describe(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        of: dict[str, type[BaseModel]] = {
            "endpoints": EndpointSettings,
            "watch": WatchSettings,
            "monitor": MonitorSettings,
        }
        nested = of.get(str(problem["loc"][0]), ServeSettings) if len(problem["loc"]) > 1 else ServeSettings
        known = list(nested.model_fields)
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        return f"unknown key `{where}`" + (
            f" (did you mean `{near[0]}`?)" if near else f"; known: {', '.join(known)}"
        )
    if problem["type"] == "missing" and where == "model":
        return "no model given (MODEL on the command line, `model:` in driver.yaml)"
    if where == "endpoints" and problem["type"] in ("missing", "too_short"):
        return "no endpoint given (--unix NAME or --inet HOST:PORT, or `endpoints:` in driver.yaml)"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return (
        f"`{where}`: {message}, got {reprlib.repr(problem['input'])}"
        if where and problem["type"] != "value_error"
        else message
    )
