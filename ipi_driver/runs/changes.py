"""What the command line changes in an input."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipi_driver.errors import UserError
from ipi_driver.rotations.quadrature import quadrature


@dataclass(frozen=True)
class Changes:
    """What the command line changes in an input; None leaves it as it is.

    Attributes
    ----------
    steps
        Total number of i-PI steps (outer steps of multiple time stepping).
    stride
        Inner steps per outer step of multiple time stepping.
    average
        Average of the endpoints that are averaged, or of the only one.
    endpoint
        ``ADDRESS=AVERAGE`` for single endpoints.
    model, device, dtype, seed, threads, rotation_batch, charge, spin
        Settings of the client; the seed is i-PI's too.
    structure
        Starting structure.
    pbc
        Whether the structure is periodic, whatever its file says.
    watch
        Limits of the watch over the physics, or "off".
    monitor, monitor_stride, tolerance
        Average that is evaluated beside the run, steps between two evaluations, tolerance in meV/Å.
    """

    steps: int | None = None
    stride: int | None = None
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

    def __post_init__(self) -> None:
        for name, smallest in (
            ("steps", 1),
            ("stride", 1),
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
