"""The run folder: a copy of an input with the changes of the command line applied; comments of the XML survive."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import ase.io
import yaml

from ipi_driver.errors import UserError
from ipi_driver.rotations.quadrature import quadrature
from ipi_driver.serving.settings import make_settings, read_yaml
from ipi_driver.shipped import find_shipped

CHECKPOINTS = ("RESTART", "simulation.chk")
_STEPS = re.compile(r"(<total_steps>)\s*(\d+)\s*(</total_steps>)")
_SEED = re.compile(r"(<seed>)[^<]*(</seed>)")


@dataclass(frozen=True)
class Changes:
    """What the command line changes in an input; None leaves it as it is.

    Attributes
    ----------
    steps
        Total number of i-PI steps (outer steps of multiple time stepping).
    average
        Average of the endpoints that are averaged, or of the only one.
    model, device, dtype, seed, threads, rotation_batch
        Settings of the client; the seed is i-PI's too.
    structure
        Starting structure.
    """

    steps: int | None = None
    average: str | None = None
    model: str | None = None
    device: str | None = None
    dtype: str | None = None
    seed: int | None = None
    threads: int | None = None
    rotation_batch: int | None = None
    structure: Path | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise UserError(f"`--steps` must be a positive number of i-PI steps, got {self.steps}")
        if self.average is not None:
            quadrature(self.average)
        if self.structure is not None and not self.structure.is_file():
            raise UserError(f"no structure file {self.structure}")


def prepare(source: str | Path, output: Path, changes: Changes) -> Path:
    """Copy the input ``source`` (a path or a shipped name) to ``output`` with the changes applied.

    Returns
    -------
    The run folder. Nothing is written if anything is wrong.

    Raises
    ------
    UserError
        If the input, the model or a setting is bad, or ``output`` is not empty.
    """
    folder = find_shipped("inputs", source)
    for name in ("input.xml", "driver.yaml"):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is not an input folder: it has no {name}; `ipi-driver new` makes one")
    if output.exists() and any(output.iterdir()):
        raise UserError(
            f"{output} exists and is not empty; continue the run with --resume, or give another --output"
        )
    settings = changed_settings(read_yaml(folder / "driver.yaml"), changes)
    xml = changed_xml((folder / "input.xml").read_text(), changes)
    check_settings(settings, str(folder / "driver.yaml"))
    atoms = read_start(changes.structure) if changes.structure is not None else None
    output.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.is_file():
            shutil.copyfile(path, output / path.name)
    if atoms is not None:
        settings["structure"] = write_start(atoms, output, xml)
    for key in ("structure", "input"):
        if isinstance(settings.get(key), Path):
            settings[key] = settings[key].name
    (output / "input.xml").write_text(xml)
    head = "# settings of `ipi-driver serve`; every key is also an option of the command\n"
    (output / "driver.yaml").write_text(head + yaml.safe_dump(settings, sort_keys=False))
    return output


def changed_settings(settings: dict[str, Any], changes: Changes) -> dict[str, Any]:
    """The client's settings with the changes applied."""
    changed = dict(settings)
    for key in ("device", "dtype", "seed", "threads", "rotation_batch"):
        value = getattr(changes, key)
        if value is not None:
            changed[key] = value
    if changes.model is not None:
        # a path is relative to where the command is given, not to the run folder
        path = Path(changes.model)
        changed["model"] = str(path.resolve()) if path.exists() else changes.model
    if changes.average is not None:
        endpoints = [dict(e) for e in changed.get("endpoints") or []]
        averaged = [e for e in endpoints if e.get("average", "none") != "none"]
        for endpoint in averaged or endpoints:
            endpoint["average"] = changes.average
        changed["endpoints"] = endpoints
    return changed


def check_settings(settings: dict[str, Any], source: str) -> None:
    """Raise `UserError` for settings or a model that the client would refuse, before anything is started."""
    checked = make_settings(settings, source)
    name = checked.model.partition("?")[0]
    if not name.startswith("ase:") and name != "anisotropic":
        find_shipped("models", name)


def changed_xml(text: str, changes: Changes) -> str:
    """i-PI's input with the number of steps and the seed replaced."""
    if changes.steps is not None:
        text = with_total_steps(text, changes.steps)
    if changes.seed is not None:
        text = _SEED.sub(rf"\g<1> {changes.seed} \g<2>", text)
    return text


def total_steps(text: str) -> int:
    """Number of steps that an i-PI input or checkpoint asks for."""
    found = _STEPS.search(text)
    if found is None:
        raise UserError("the i-PI input has no <total_steps>: add it, so that the run has an end")
    return int(found[2])


def with_total_steps(text: str, steps: int) -> str:
    """The input or checkpoint with another number of steps."""
    total_steps(text)
    return _STEPS.sub(rf"\g<1> {steps} \g<3>", text)


def read_start(path: Path) -> ase.Atoms:
    """Starting structure from any file that ASE reads."""
    try:
        atoms = ase.io.read(path)
    except Exception as error:  # ASE's readers raise many kinds; all of them mean an unreadable file
        raise UserError(f"structure file {path} cannot be read: {type(error).__name__}: {error}") from error
    if isinstance(atoms, list):
        atoms = atoms[-1]
    return atoms


def write_start(atoms: ase.Atoms, output: Path, xml: str) -> str:
    """Write ``init.xyz`` in i-PI's form and ``structure.extxyz`` for the client; returns the latter's name."""
    if "init.xyz" not in xml:
        raise UserError(
            "--structure replaces init.xyz, but input.xml starts from another file; edit it there"
        )
    atoms = atoms.copy()
    if not atoms.pbc.any():
        atoms.cell = [30.0, 30.0, 30.0]  # i-PI wants a cell; the client treats the molecule as isolated
    # i-PI builds its cell from lengths and angles, the first vector along x
    lengths_angles = atoms.cell.cellpar()
    standard, rotation = atoms.cell.standard_form()
    atoms.positions = atoms.positions @ rotation.T
    atoms.cell = standard
    header = "# CELL(abcABC): " + " ".join(f"{x:.8f}" for x in lengths_angles)
    lines = [
        f"{s} {x:.8f} {y:.8f} {z:.8f}" for s, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)
    ]
    text = "\n".join([str(len(atoms)), header + " positions{angstrom} cell{angstrom}", *lines]) + "\n"
    (output / "init.xyz").write_text(text)
    bare = ase.Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    ase.io.write(output / "structure.extxyz", bare, format="extxyz")
    return "structure.extxyz"


def prepare_resume(output: Path, changes: Changes) -> str:
    """Name of the checkpoint to continue from; applies ``steps``.

    Raises
    ------
    UserError
        If there is nothing to continue, or something else than the number of steps was to be changed.
    """
    if not (output / "driver.yaml").is_file():
        raise UserError(f"nothing to resume in {output}: it is not a run folder")
    other = [k for k in ("average", "model", "dtype", "seed", "structure") if getattr(changes, k) is not None]
    if other:
        raise UserError(
            f"--resume continues a run as it was; --{other[0]} belongs to a new run (give another --output)"
        )
    found = [output / name for name in CHECKPOINTS if (output / name).is_file()]
    if not found:
        raise UserError(
            f"nothing to resume in {output}: no {' or '.join(CHECKPOINTS)}; start it again without --resume"
        )
    newest = max(found, key=lambda p: p.stat().st_mtime)
    text = newest.read_text()
    if changes.steps is not None:
        text = with_total_steps(text, changes.steps)
    done = re.search(r"<step>\s*(\d+)\s*</step>", text)
    if done is not None and int(done[1]) >= total_steps(text) - 1:
        raise UserError(
            f"the run in {output} has done {done[1]} of {total_steps(text)} steps; continue it with a larger --steps"
        )
    # i-PI overwrites RESTART itself: continue from a copy
    (output / "continue.xml").write_text(text)
    settings = changed_settings(
        read_yaml(output / "driver.yaml"), Changes(device=changes.device, threads=changes.threads)
    )
    check_settings(settings, str(output / "driver.yaml"))
    return "continue.xml"
