"""Sockets to which i-PI sends some of the atoms only: ``<activelist>`` of an ``<ffsocket>``."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.ipi_files.edit import sockets
from ipi_driver.structure import IntArray, Structure


def active_atoms(text: str, source: Path) -> dict[str, IntArray]:
    """Indices of the atoms that i-PI sends to a socket, by its label, of the sockets that do not get all.

    Parameters
    ----------
    text
        An i-PI input.
    source
        The file, for messages.

    Raises
    ------
    UserError
        If a list holds something else than indices.
    """
    try:
        elements = list(ElementTree.fromstring(text).iter("ffsocket"))
    except ElementTree.ParseError:  # a checkpoint need not be well-formed, as i-PI does not escape parameters
        return {}
    found: dict[str, IntArray] = {}
    for element, socket in zip(elements, sockets(text), strict=False):
        words = (element.findtext("activelist") or "").strip(" []\n\t").replace(",", " ").split()
        try:
            atoms = np.array([int(word) for word in words], dtype=np.int64)
        except ValueError:
            raise UserError(f"{source}: <activelist> of {socket.label} holds no indices of atoms") from None
        if len(atoms) and atoms[0] != -1:
            found[socket.label] = atoms
    return found


def part_of(structure: Structure, atoms: IntArray, source: Path) -> Structure:
    """Some atoms of a structure.

    Raises
    ------
    UserError
        If there is an index that no atom has.
    """
    if atoms.min() < 0 or atoms.max() >= structure.n_atoms:
        raise UserError(
            f"{source}: an <activelist> names atoms {atoms.min()} to {atoms.max()} of {structure.n_atoms}, which are "
            "counted from 0"
        )
    return replace(structure, numbers=structure.numbers[atoms], positions=structure.positions[atoms])
