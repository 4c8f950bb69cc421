"""Species and ``pbc`` from a file, as i-PI sends neither.

Read: anything that ASE reads; the xyz files of i-PI, as `ipi_driver.ipi_files.comment` recognizes them; the input XML
of i-PI (through the ``<file>`` of its ``<initialize>``) and its RESTART checkpoints. i-PI always has a cell: what an
input or a checkpoint starts from is periodic, unless the comment of an xyz has ``pbc="F F F"``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ipi_driver.elements import elements_of
from ipi_driver.errors import UserError
from ipi_driver.ipi_files.comment import ipi_comment
from ipi_driver.ipi_files.edit import masked
from ipi_driver.ipi_files.input import SystemStart, read_starts
from ipi_driver.ipi_files.packed import unpacked
from ipi_driver.structure import BoolArray, Structure


def read_template(path: str | Path, pbc: bool | None = None) -> Structure:
    """The atoms in a structure file, an i-PI input or an i-PI checkpoint.

    Parameters
    ----------
    path
        The file.
    pbc
        Whether the structure is periodic (in all three directions), whatever the file states.

    Returns
    -------
    Structure
        Its positions and cell are those of the file where it was read by ASE, else zero; only the species and
        ``pbc`` are meant to be used.

    Raises
    ------
    UserError
        If the file is missing or not understood, or an element is unknown.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no structure file {str(path)!r}")
    if _starts_like_xml(path):
        structure = _from_ipi_xml(path)
    else:
        with unpacked(path) as plain:  # of a packed file ASE would read no cell of i-PI
            if comment := ipi_comment(plain):
                structure = _from_labels(_labels_of_xyz(plain), comment.periodic, path)
            else:
                structure = _from_ase(plain)
    if pbc is None:
        return structure
    return replace(structure, pbc=np.array(pbc))


def states_isolated(settings: Mapping[str, Any], folder: Path) -> bool:
    """Whether the ``driver.yaml`` of a run folder states that the structure is isolated.

    i-PI writes the cell that it was given around it all the same. False where the file states nothing.
    """
    if settings.get("pbc") is not None:
        return not settings["pbc"]
    template = _named(settings, folder)
    return template is not None and not template.periodic


def open_directions(settings: Mapping[str, Any], folder: Path) -> BoolArray:
    """(3,) along which cell vectors a slab or wire of a ``driver.yaml`` has no images; none where all are alike."""
    template = _named(settings, folder) if settings.get("pbc") is None else None
    if template is None or not template.periodic:
        return np.zeros(3, dtype=bool)
    return np.asarray(~template.pbc)


def conditions_of(settings: Mapping[str, Any], folder: Path) -> tuple[float | None, int | None]:
    """Charge and multiplicity that a client with the ``driver.yaml`` of a run folder gives to the model; None: none."""
    template = _named(settings, folder)
    charge, spin = settings.get("charge"), settings.get("spin")
    if template is not None:
        charge = template.charge if charge is None else charge
        spin = template.spin if spin is None else spin
    return None if charge is None else float(charge), None if spin is None else int(spin)


def _named(settings: Mapping[str, Any], folder: Path) -> Structure | None:
    """The structure that a ``driver.yaml`` names, where it can be read."""
    for key in ("structure", "input"):
        name = settings.get(key)
        if isinstance(name, str) and (folder / name).is_file():
            with suppress(UserError):
                return read_template(folder / name)
    return None


def check_not_wrapped(text: str, pbc: BoolArray, source: Path) -> None:
    """Raise `UserError` where the i-PI input ``text`` wraps atoms into a cell that the client does not repeat."""
    wraps = re.search(r"<ffsocket\b[^>]*\bpbc\s*=\s*['\"]\s*true", masked(text), re.IGNORECASE)
    if wraps and not pbc.all():
        raise UserError(
            f"{source}: pbc='true' of an <ffsocket> wraps the atoms into the cell, and tears apart a structure that "
            "is not periodic in every direction; set pbc='false'"
        )


def _starts_like_xml(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(512).lstrip().startswith(b"<")


def _from_labels(labels: Sequence[str], pbc: bool, source: Path) -> Structure:
    numbers = elements_of(labels, source)
    return Structure(numbers, np.zeros((len(numbers), 3)), pbc=np.array(pbc))


def _labels_of_xyz(path: Path) -> list[str]:
    """Labels of the atoms of the first snapshot."""
    with path.open(errors="replace") as stream:
        count = stream.readline().strip()
        stream.readline()
        rows = [row.split() for row in islice(stream, int(count))] if count.isdigit() else []
    if not rows or len(rows) != int(count) or not all(rows):
        raise UserError(f"{path} announces {count} atoms and holds {sum(map(bool, rows))}")
    return [row[0] for row in rows]


def _from_ase(path: Path, format: str | None = None) -> Structure:
    import ase.io  # takes half a second, which a client of i-PI's own files does not need

    try:
        atoms = ase.io.read(path, index=0, format=format)
    except Exception as error:  # every reader of ASE has its own
        raise UserError(f"cannot read a structure from {path}: {type(error).__name__}: {error}") from error
    if not isinstance(atoms, ase.Atoms):
        raise UserError(f"{path} holds several structures where one was expected")
    return Structure.from_atoms(atoms)


def _from_ipi_xml(path: Path) -> Structure:
    """Input or checkpoint of i-PI; all systems of it must hold the same atoms."""
    found = [_from_start(start, path) for start in read_starts(path)]
    structures = [structure for structure in found if structure is not None]
    if not structures:
        raise UserError(
            f"no atoms in {path}: expected <initialize> with a <file mode='xyz|pdb|ase|chk'>, or the <beads> "
            "of a checkpoint; give the starting structure with --structure"
        )
    for other in structures[1:]:
        if not np.array_equal(other.numbers, structures[0].numbers):
            raise UserError(
                f"the systems of {path} hold different atoms; give each a client and a --structure"
            )
    return structures[0]


def _from_start(start: SystemStart, path: Path) -> Structure | None:
    if start.labels:
        return _from_labels(start.labels, True, path)
    for mode, name in start.files:
        source = path.parent / name
        if not name or mode not in ("xyz", "pdb", "ase", "chk"):
            continue
        if not source.is_file():
            raise UserError(f"{path} starts from {name!r}, but there is no file {source}")
        if mode == "chk":
            return _from_ipi_xml(source)
        if mode == "ase":
            return _from_ase(source)
        if mode == "xyz":  # i-PI always has a cell, if not from here then from <cell>
            comment = ipi_comment(source)
            isolated = comment is not None and comment.isolated
            return _from_labels(_labels_of_xyz(source), not isolated, source)
        return replace(_from_ase(source, "proteindatabank"), pbc=np.ones(3, dtype=bool))
    return None
