"""What a reproduction consists of: runs, their lengths, and the file that makes it restartable."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ipi_driver.errors import UserError
from ipi_driver.shipped import shipped_folder

SYSTEMS = ("gas", "liquid", "ice")
SCALES = ("small", "full")
PLAN_FILE = "plan.json"
PUBLISHED_STRIDE = 10
"""Inner steps of 0.5 fs per outer step."""

# Seconds of one thread for a raw evaluation of a molecule (alone; each of the liquid; each of the larger cells of ice)
# and for i-PI's own part of a step, of `pet-water-s` beside another run: they only serve the estimate.
_GAS, _LIQUID, _ICE, _STEP = 2.3e-3, 0.85e-3, 0.55e-3, 1.2e-3
_GAS_FRAME = 0.35e-3


@dataclass(frozen=True)
class Part:
    """One run.

    Attributes
    ----------
    name
        Of its folder.
    system
        gas, liquid or ice.
    source
        The shipped input.
    average
        Of the averaged endpoint or of the only one; None keeps that of the input.
    steps
        Of i-PI (outer ones with multiple time stepping); None: until it has converged.
    structures
        Starting structure, or the cells of a set; empty: those of the input.
    seconds
        Estimated time on one thread.
    stride
        Inner steps per outer step; None keeps that of the input.
    """

    name: str
    system: str
    source: str
    average: str | None
    steps: int | None
    structures: tuple[str, ...] = ()
    seconds: float = 0.0
    stride: int | None = None

    @property
    def is_set(self) -> bool:
        """Whether the run is a folder of relaxations."""
        return self.system == "ice"


_FEWEST_CELLS = 3
_RELAXATION_STEPS = 45


def parts_of(
    scale: str, systems: Sequence[str], fraction: float = 1.0, stride: int | None = None
) -> list[Part]:
    """Runs of a scale.

    Parameters
    ----------
    scale
        ``small`` (64 molecules of the liquid) or ``full`` (512 molecules, longer).
    systems
        Of `SYSTEMS`; empty takes all.
    fraction
        Multiplies all lengths, and of ice the number of the cells, of which the smallest three are relaxed at least.
    stride
        Inner steps per outer step of the averaged liquid, whose number of outer steps stays; None: the published 10.

    Raises
    ------
    UserError
        If a name is unknown, or the fraction or the stride not positive.
    """
    if scale not in SCALES:
        raise UserError(f"unknown scale {scale!r}: expected one of {', '.join(SCALES)}")
    unknown = [name for name in systems if name not in SYSTEMS]
    if unknown:
        raise UserError(f"unknown system {unknown[0]!r}: expected some of {', '.join(SYSTEMS)}")
    if not 0.0 < fraction <= 1.0:
        raise UserError(f"the fraction of the lengths must be above 0 and at most 1, got {fraction}")
    if stride is not None and stride < 1:
        raise UserError(f"--nmts must be at least 1, got {stride}")
    small = scale == "small"
    n = 64 if small else 512
    box = () if small else ("init-512.xyz",)
    bulk = n * _LIQUID
    shipped = shipped_cells("ice")
    n_cells = max(_FEWEST_CELLS, math.ceil(fraction * len(shipped)))
    # the names begin with the number of molecules
    ice = _RELAXATION_STEPS * sum(int(name[:3]) for name in shipped[:n_cells]) * _ICE
    cells = tuple(shipped[:n_cells]) if n_cells < len(shipped) else ()

    def steps(count: int) -> int:
        return max(20, round(count * fraction))

    def part(
        name: str,
        system: str,
        source: str,
        average: str | None,
        count: int,
        cost: float,
        structures: tuple[str, ...] = (),
    ) -> Part:
        return Part(name, system, source, average, steps(count), structures, steps(count) * cost)

    longer = 1 if small else 10
    gas_2i, liquid_2i = 36 * _GAS_FRAME, ((stride or PUBLISHED_STRIDE) + 36) * bulk
    averaged = part("liquid-2i", "liquid", "liquid-nvt", "2i", 3200 if small else 20_000, liquid_2i, box)
    found = [
        replace(averaged, stride=stride),
        part("liquid-raw", "liquid", "liquid-nvt-raw", None, 50_000 if small else 200_000, bulk, box),
        part("liquid-random", "liquid", "liquid-nvt-random", None, 50_000 if small else 200_000, bulk, box),
        Part("ice-raw", "ice", "ice", "none", None, cells, ice),
        Part("ice-2i", "ice", "ice", "2i", None, cells, 36 * ice),
        part("gas-nve-raw", "gas", "gas-nve", "none", 200_000 * longer, _GAS + _STEP),
        part("gas-nve-2i", "gas", "gas-nve", "2i", 20_000 * longer, gas_2i + _STEP),
        # the averaged energy is evaluated at every second step, for the spectra
        part(
            "gas-nve-spectrum", "gas", "gas-nve-spectrum", None, 40_000 * longer, _GAS + _STEP + 0.5 * gas_2i
        ),
        part("gas-nvt-raw", "gas", "gas-nvt", "none", 10_000 * longer, 10 * (_GAS + _STEP)),
        part("gas-nvt-2i", "gas", "gas-nvt", "2i", 5_000 * longer, 10 * (_GAS + _STEP) + gas_2i),
        # the correction of every outer step in one random frame
        part("gas-nvt-random", "gas", "gas-nvt", "random", 5_000 * longer, 10 * (_GAS + _STEP) + _GAS),
    ]
    return [part for part in found if not systems or part.system in systems]


@dataclass(frozen=True)
class Settings:
    """What may not change between two calls on the same output folder."""

    model: str
    weights: str
    scale: str
    fraction: float
    seed: int
    stride: int | None = None


def fingerprint(model: str) -> str:
    """SHA-256 of a model's weights (shipped name or folder); of the specification itself for other potentials."""
    folder = Path(model) if Path(model).exists() else shipped_folder("models") / model
    files = sorted(folder.glob("*.safetensors")) + [f for f in [folder / "model.yaml"] if f.is_file()]
    if folder.is_file():
        files = [folder]
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    if not files:
        digest.update(model.encode())
    return digest.hexdigest()


def open_plan(output: Path, settings: Settings, parts: Sequence[Part] = (), write: bool = True) -> None:
    """Compare the plan with that of the output folder, and add to it what is new.

    Parameters
    ----------
    parts
        Runs that are asked for; those of earlier calls stay in the plan.
    write
        False: compare only.

    Raises
    ------
    UserError
        If the folder holds a reproduction with other settings or lengths, or something else.
    """
    path = output / PLAN_FILE
    known: dict[str, Any] = {}
    if path.is_file():
        known = _read_plan(path)
        for key, value in asdict(settings).items():
            _same(output, key, known.get(key), value)
    elif output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} is not empty and holds no {PLAN_FILE}; choose another --output")
    runs = known.get("runs", {})
    for part in parts:
        for key, value in _lasting(part).items():
            _same(output, f"{key} of {part.name}", runs.get(part.name, {}).get(key, value), value)
    if write:
        content = asdict(settings) | {"runs": runs | {part.name: _lasting(part) for part in parts}}
        output.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")  # a plan is never half written
        new.write_text(json.dumps(content, indent=2) + "\n")
        new.replace(path)


def _read_plan(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(known, dict) or not isinstance(known.get("runs", {}), dict):
        raise UserError(f"{path} is no plan of a reproduction; choose another --output")
    return known


def _lasting(part: Part) -> dict[str, Any]:
    """What may not change in a run that was begun."""
    return {key: getattr(part, key) for key in ("source", "average", "steps")} | {
        "structures": list(part.structures)
    }


def _same(output: Path, what: str, known: object, value: object) -> None:
    if known != value:
        raise UserError(
            f"{output} was begun with {what} {known}, got {value}; give the same to go on, or another --output"
        )


def shipped_cells(source: str) -> list[str]:
    """Names of the cells of an input that is a set."""
    return sorted(path.stem for path in (shipped_folder("inputs") / source / "cells").glob("*.xyz"))


def cells_folder(output: Path, part: Part) -> Path:
    """The chosen cells of a set, copied to a folder of their own."""
    shipped = shipped_folder("inputs") / part.source
    folder = output / "cells"
    folder.mkdir(parents=True, exist_ok=True)
    for name in part.structures:
        if not (folder / f"{name}.xyz").is_file():
            shutil.copyfile(shipped / "cells" / f"{name}.xyz", folder / f"{name}.xyz")
    return folder
