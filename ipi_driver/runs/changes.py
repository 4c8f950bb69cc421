"""What the command line changes in an input, and the settings of the client after it."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ipi_driver.client.settings import ServeSettings, make_settings, modules_here
from ipi_driver.errors import UserError
from ipi_driver.ipi_files.endpoints import is_monitor
from ipi_driver.ipi_files.run_folder import SETTINGS
from ipi_driver.potentials.registry import check_potential_exists, located_potential
from ipi_driver.rotations.quadrature import quadrature
from ipi_driver.whole_file import write_whole

_HEAD = "# settings of `ipi-driver serve`; most keys are also options of the command\n"
_CLIENT_KEYS = ("device", "dtype", "seed", "threads", "rotation_batch", "charge", "spin", "pbc", "watch")


RESUMABLE = ("steps", "device", "threads", "rotation_batch", "watch", "address")
"""Changes that leave a run what it was."""


@dataclass(frozen=True)
class Changes:
    """What the command line changes in an input; None leaves it as it is.

    Attributes
    ----------
    steps
        Total number of i-PI steps (outer steps of multiple time stepping).
    nmts
        Inner steps per outer step of multiple time stepping.
    average
        Average of the endpoints that are averaged, or of the only one.
    endpoint
        ``ADDRESS=AVERAGE`` for single endpoints; on the command line also the name of the ``<ffsocket>``.
    model, device, dtype, seed, threads, rotation_batch, charge, spin
        Settings of the client; the seed is i-PI's too.
    structure
        Starting structure.
    pbc
        Whether the structure is periodic, whatever its file states.
    watch
        Limits of the watch over the physics, or "off".
    monitor, monitor_stride, tolerance
        Average that is evaluated beside the run, steps between two evaluations, tolerance in meV/Å.
    address
        Host or address on which i-PI opens network sockets in place of those of the input, for clients on other nodes.
    """

    steps: int | None = None
    nmts: int | None = None
    average: str | None = None
    endpoint: list[str] | None = None
    model: str | None = None
    device: str | None = None
    dtype: str | None = None
    seed: int | None = None
    threads: int | None = None
    rotation_batch: int | None = None
    charge: float | None = None
    spin: int | None = None
    structure: Path | None = None
    pbc: bool | None = None
    watch: str | dict[str, Any] | None = None
    monitor: str | None = None
    monitor_stride: int | None = None
    tolerance: float | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        for name, smallest in (
            ("steps", 1),
            ("nmts", 1),
            ("threads", 1),
            ("rotation_batch", 1),
            ("seed", 0),
            ("spin", 1),
        ):
            number = getattr(self, name)
            if number is not None and number < smallest:
                option = name.replace("_", "-")
                kind = "a positive number" if smallest else "zero or a positive number"
                of = " of i-PI steps" if name == "steps" else ""
                raise UserError(f"`--{option}` must be {kind}{of}, got {number}")
        if self.average is not None:
            quadrature(self.average)
        for word in self.endpoint or []:
            if "=" not in word:
                raise UserError(f"--endpoint must be ADDRESS=AVERAGE such as driver-aug=2i, got {word!r}")
            quadrature(word.rpartition("=")[2])


def changed_settings(settings: dict[str, Any], changes: Changes) -> dict[str, Any]:
    """The client's settings with the changes applied."""
    changed = dict(settings)
    for key in _CLIENT_KEYS:
        value = getattr(changes, key)
        if value is not None:
            changed[key] = value
    if changes.model is not None:
        endpoints = changed.get("endpoints")
        own = [e for e in endpoints if isinstance(e, dict)] if isinstance(endpoints, list) else []
        own = [e for e in own if not is_monitor(e)]
        if own and all(e.get("model") for e in own):
            raise UserError(
                f"--model {changes.model}: each endpoint in {SETTINGS} has a `model` of its own; change it there"
            )
        # a path is relative to where the command is given, not to the run folder
        changed["model"] = str(located_potential(changes.model, Path()))
        changed.pop("modules", None)
        if (modules := modules_here(changes.model, Path())) is not None:
            changed["modules"] = str(modules)
    if changes.endpoint is not None:
        changed["endpoints"] = _with_averages(changed.get("endpoints") or [], changes.endpoint)
    if changes.monitor is not None:
        given = {"average": changes.monitor, "stride": changes.monitor_stride, "tolerance": changes.tolerance}
        changed["monitor"] = {key: value for key, value in given.items() if value is not None}
    elif changes.monitor_stride is not None or changes.tolerance is not None:
        raise UserError("--monitor-stride and --tolerance belong to --monitor AVERAGE")
    if changes.average is not None:
        endpoints = changed.get("endpoints") or []
        if not isinstance(endpoints, list) or not all(isinstance(e, dict) for e in endpoints):
            raise UserError(
                f"{SETTINGS}: `endpoints` must be a list of mappings such as `- unix: NAME`, got "
                f"{reprlib.repr(endpoints)}"
            )
        endpoints = [dict(e) for e in endpoints]
        own = [e for e in endpoints if not is_monitor(e)] or endpoints
        averaged = [e for e in own if e.get("average") not in (None, False, "none")]
        if not averaged and len(own) > 1:
            raise UserError(
                f"--average: none of the {len(own)} endpoints in {SETTINGS} is averaged; name the average there"
            )
        for endpoint in averaged or own:
            endpoint["average"] = changes.average
        changed["endpoints"] = endpoints
    return changed


def _with_averages(endpoints: list[dict[str, Any]], given: Sequence[str]) -> list[dict[str, Any]]:
    """The endpoints with the averages of ``ADDRESS=AVERAGE`` words."""
    changed = [dict(endpoint) for endpoint in endpoints]
    known = {str(value): e for e in changed for key, value in e.items() if key in ("unix", "inet", "shm")}
    for word in given:
        address, _, average = word.rpartition("=")
        if address not in known:
            raise UserError(
                f"--endpoint {word}: the input opens no socket {address!r}; it opens: {', '.join(known)}"
            )
        known[address]["average"] = average
    return changed


def check_settings(settings: dict[str, Any], source: str) -> ServeSettings:
    """Validated settings; `UserError` for what the client would refuse, before anything is started."""
    checked = make_settings(settings, source)
    for endpoint in checked.endpoints:
        _ = endpoint.quadrature  # raises where it is unknown
    for endpoint in checked.endpoints:
        check_potential_exists(checked.model_of(endpoint))
    return checked


def write_settings(output: Path, settings: dict[str, Any]) -> None:
    """Write ``driver.yaml``."""
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()}
    write_whole(output / SETTINGS, _HEAD + yaml.safe_dump(plain, sort_keys=False))
