"""The settings of an i-PI input: outputs, time step, temperature, forces, masses."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.ipi_files.remembered import remembered
from ipi_driver.ipi_files.units import ipi_factor
from ipi_driver.structure import FloatArray, IntArray

_DEFAULT_OUTPUT = """<output prefix='i-pi'>
<properties filename='md' stride='10'> [ time, step, conserved, temperature, potential, kinetic_cv ] </properties>
<trajectory filename='pos' stride='100'> positions </trajectory>
</output>"""
"""What i-PI writes for an input without <output>."""

_DYNAMICS = ("dynamics", "constrained_dynamics", "driven_dynamics")
"""Elements of <motion> that have a time step, an ensemble and a thermostat."""

_CHECKPOINT_MASSES = re.compile(r"<beads\b.*?<m\b[^>]*>([^<]*)</m>", re.DOTALL)


@dataclass(frozen=True)
class OutputFile:
    """One element of <output>.

    Attributes
    ----------
    kind
        properties or trajectory.
    content
        Text of the element: names of properties, or the quantity of a trajectory.
    stem
        File name without bead number and extension; it begins with the prefix of its system.
    stride
        Steps between writes.
    format
        xyz, ase, ... for trajectories.
    """

    kind: str
    content: str
    stem: str
    stride: int
    format: str = "xyz"

    @property
    def name(self) -> str:
        """Quantity with its arguments and without its unit: ``forces_component_raw(0)``."""
        return re.sub(r"\{[^}]*\}|\s", "", self.content)

    @property
    def columns(self) -> list[str]:
        """Names of the properties with their units, as listed between brackets."""
        return [word.strip() for word in self.content.strip().strip("[]").split(",") if word.strip()]

    @property
    def quantity(self) -> str:
        return self.content.split("{")[0].split("(")[0].strip()


@dataclass(frozen=True, eq=False)
class InputSettings:
    """Settings of a run; of several systems those of the first, outputs excepted.

    Attributes
    ----------
    outputs
        Property files and trajectories, in the order of the file, each for every system.
    timestep
        fs, or None where the input has none (a minimization).
    temperature
        K, or None.
    total_steps
        Steps asked for, or None.
    motion
        i-PI's motion mode: dynamics, minimize, replay, ...
    ensemble
        nve, nvt, ... of the dynamics, or "".
    thermostat
        Thermostat mode, or "".
    n_beads
        Number of beads.
    forces
        Names of the force fields in the order of <forces>, with their MTS weights as printed.
    masses
        (n_atoms,) dalton where the input sets them by hand, else None.
    systems
        Prefix of each system, "" where it has none.
    fixed
        (n,) coordinates that do not move: 3 times the atom plus 0, 1, 2 for x, y, z.
    checkpoint_strides
        Steps between two checkpoints, of each <checkpoint>.
    exchanges
        Whether the systems exchange their ensembles (replica exchange).
    wraps
        Of each <ffsocket>, whether i-PI puts the atoms into the cell before it sends them.
    """

    outputs: tuple[OutputFile, ...]
    timestep: float | None
    temperature: float | None
    total_steps: int | None
    motion: str
    ensemble: str
    thermostat: str
    n_beads: int
    forces: tuple[tuple[str, str], ...]
    masses: FloatArray | None
    systems: tuple[str, ...] = ("",)
    fixed: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    checkpoint_strides: tuple[int, ...] = ()
    wraps: tuple[bool, ...] = ()
    exchanges: bool = False


@dataclass(frozen=True)
class SystemStart:
    """Where i-PI takes the atoms of one system from.

    Attributes
    ----------
    labels
        Of the atoms, where the file itself holds them, as a checkpoint does.
    files
        Mode (xyz, pdb, ase, chk, ...) and name of each file of <initialize>, in its order.
    """

    labels: tuple[str, ...]
    files: tuple[tuple[str, str], ...]


@remembered
def read_input(path: Path) -> InputSettings:
    """Settings in an i-PI input file.

    Raises
    ------
    UserError
        If the file is not an i-PI input or a number in it cannot be read.
    """
    return _settings(path, None)


def read_system(path: Path, prefix: str) -> InputSettings:
    """As `read_input`, with the settings and the outputs of one system of several.

    Raises
    ------
    UserError
        Also if no system has that prefix, or several have, so that i-PI writes to the same files for them.
    """
    return _settings(path, prefix)


def _settings(path: Path, prefix: str | None) -> InputSettings:
    root = _parsed(path)
    if root.tag != "simulation":
        raise UserError(f"{path} is not an i-PI input: expected <simulation>, got <{root.tag}>")
    elements = expand_templates(root, path)
    systems = tuple(s.get("prefix", "").strip() for s in elements)
    system = root
    if prefix is not None:
        system = _only(elements, systems, prefix, path)
        systems = (prefix,)
    motion = system.find(".//motion")
    dynamics = next((e for name in _DYNAMICS if (e := system.find(f".//motion/{name}")) is not None), None)
    # a barostat has one of its own, which may stand before
    thermostat = None if dynamics is None else dynamics.find("thermostat")
    beads = system.find(".//initialize")
    restarted = system.find("beads" if system.tag == "system" else ".//system/beads")
    try:
        n_beads = 1
        for element in (beads, restarted):
            if element is not None:
                n_beads = int(element.get("nbeads", "1"))
        return InputSettings(
            outputs=_outputs(root, systems),
            timestep=None if dynamics is None else _quantity(dynamics, "timestep", "time"),
            temperature=_quantity(system, ".//ensemble/temperature", "temperature"),
            total_steps=_integer(root, "total_steps"),
            motion="" if motion is None else motion.get("mode", "dynamics"),
            ensemble="" if dynamics is None else dynamics.get("mode", "nve"),
            thermostat="" if thermostat is None else thermostat.get("mode", ""),
            n_beads=n_beads,
            forces=tuple(
                (force.get("forcefield", ""), (force.findtext("mts_weights") or "").strip())
                for force in system.iterfind(
                    "forces/force" if prefix is not None else ".//system/forces/force"
                )
            ),
            masses=_masses(system),
            systems=systems,
            fixed=_fixed(system),
            checkpoint_strides=tuple(int(c.get("stride", "1")) for c in root.findall("output/checkpoint")),
            exchanges=any(element.get("mode", "").strip() == "remd" for element in root.iter("smotion")),
            wraps=tuple(s.get("pbc", "").strip().lower() == "true" for s in root.iter("ffsocket")),
        )
    except ValueError as error:
        raise UserError(f"{path}: cannot read a setting: {error}") from error


def _only(
    elements: list[ElementTree.Element], systems: tuple[str, ...], prefix: str, path: Path
) -> ElementTree.Element:
    """The element of the one system with a prefix."""
    if prefix not in systems:
        raise UserError(f"{path} has no system {prefix!r}; it has {', '.join(dict.fromkeys(systems))}")
    if systems.count(prefix) > 1:
        raise UserError(
            f"{path} has {systems.count(prefix)} systems with the prefix {prefix!r}, whose outputs i-PI writes to "
            "files of one name: give each <system> a prefix of its own and run again"
        )
    return elements[systems.index(prefix)]


def read_starts(path: Path) -> list[SystemStart]:
    """Where an i-PI input or a checkpoint takes the atoms of each system from.

    Raises
    ------
    UserError
        If the file is not XML.
    """
    starts = []
    for system in expand_templates(_parsed(path), path):
        names = system.findtext(".//beads/names") or ""
        if not names and (given := system.find("initialize/labels[@mode='manual']")) is not None:
            names = given.text or ""
        found = [*system.iterfind("initialize/file"), *system.iterfind("initialize/beads")]
        files = [(element.get("mode", "chk").strip(), (element.text or "").strip()) for element in found]
        starts.append(SystemStart(tuple(re.findall(r"[A-Za-z]+", names)), tuple(files)))
    return starts


def _parsed(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise UserError(f"{path} is not well-formed XML: {error}") from error


def expand_templates(root: ElementTree.Element, path: Path) -> list[ElementTree.Element]:
    """Put the systems that i-PI makes of each <system_template> in its place; returns all systems (at least one)."""
    for place, template in reversed(list(enumerate(root))):
        if template.tag != "system_template":
            continue
        pattern = "".join(ElementTree.tostring(s, "unicode") for s in template.iterfind("template/system"))
        labels, made = template.findtext("labels") or "", []
        for instance in template.iterfind("instance"):
            text = filled(pattern, labels, instance.text or "")
            try:
                made += list(ElementTree.fromstring(f"<systems>{text}</systems>"))
            except ElementTree.ParseError as error:
                raise UserError(f"{path}: a <system_template> gives no XML: {error}") from error
        root[place : place + 1] = made
    return root.findall("system") or [ElementTree.Element("system")]


def filled(pattern: str, labels: str, instance: str) -> str:
    """The pattern of a <system_template> with the words of an instance, ``[ a, b ]``, in place of its labels."""
    words = ([word.strip() for word in text.strip().strip("[]").split(",")] for text in (labels, instance))
    for label, word in sorted(zip(*words, strict=False), reverse=True):  # in the order of i-PI
        pattern = pattern.replace(label, word)
    return pattern


def _outputs(root: ElementTree.Element, systems: tuple[str, ...]) -> tuple[OutputFile, ...]:
    outputs = []
    for section in root.findall("output") or [ElementTree.fromstring(_DEFAULT_OUTPUT)]:
        prefix = section.get("prefix", "i-pi")
        for element in section:
            if element.tag not in ("properties", "trajectory"):
                continue
            name = element.get("filename", "out" if element.tag == "properties" else "traj").strip()
            stem = f"{prefix}.{name}" if prefix else name
            stride = int(element.get("stride", "1"))
            content = (element.text or "").strip()
            format = element.get("format", "xyz").strip()
            for system in dict.fromkeys(systems):  # those of one prefix write to one file
                of_system = f"{system}_{stem}" if system else stem
                outputs.append(OutputFile(element.tag, content, of_system, stride, format))
    return tuple(outputs)


def _quantity(root: ElementTree.Element, where: str, dimension: str) -> float | None:
    element = root.find(where)
    if element is None or not (element.text or "").strip():
        return None
    unit = element.get("units", "")
    unit = "" if unit == "automatic" else unit
    return float((element.text or "").split()[0]) * ipi_factor(dimension, unit)


def _integer(root: ElementTree.Element, where: str) -> int | None:
    text = root.findtext(where)
    return int(text) if text and text.strip() else None


def _masses(root: ElementTree.Element) -> FloatArray | None:
    """Masses set by <masses mode='manual'>."""
    element = root.find(".//initialize/masses")
    if element is None or element.get("mode", "manual") != "manual":
        return None
    return _numbers(element.text or "") * ipi_factor("mass", element.get("units", ""))


def _fixed(root: ElementTree.Element) -> IntArray:
    """Coordinates held by <fixatoms> (of whole atoms) and <fixatoms_dof>."""
    found = [_integers(element.text or "") for element in root.iterfind(".//motion/fixatoms_dof")]
    for element in root.iterfind(".//motion/fixatoms"):
        found.append((3 * _integers(element.text or "")[:, None] + np.arange(3)).ravel())
    return np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *found]))


def checkpoint_masses(path: Path, system: int = 0) -> FloatArray | None:
    """Masses in dalton that i-PI wrote to a checkpoint (RESTART) for a system, by its place in the input, or None.

    A checkpoint is not always well-formed XML (i-PI does not escape parameters), so only this element is read.
    """
    found = _CHECKPOINT_MASSES.findall(path.read_text(errors="replace"))
    try:
        return None if system >= len(found) else _numbers(found[system]) * ipi_factor("mass", "")
    except ValueError:
        return None


def _integers(text: str) -> IntArray:
    return _numbers(text).astype(np.int64)


def _numbers(text: str) -> FloatArray:
    return np.array(text.replace("[", " ").replace("]", " ").replace(",", " ").split(), dtype=np.float64)
