"""Structures without labels: for the symmetry penalty, self-distillation and denoising."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.ipi_files.comment import ipi_comment
from ipi_driver.ipi_files.packed import unpacked
from ipi_driver.ipi_files.structures import read_data_set
from ipi_driver.lengths import in_bohr
from ipi_driver.structure import Structure
from ipi_driver.training.data import Units
from ipi_driver.training.formats.raw import check_finite, check_periodic
from ipi_driver.training.plausibility import check_lengths
from ipi_driver.units import BOHR


def read_unlabelled(paths: Sequence[Path], units: Units = "auto") -> list[Structure]:
    """Structures of any file that ASE reads, of i-PI's trajectories, and of the native form of labelled data.

    Raises
    ------
    UserError
        If a file cannot be read, a structure has no atoms, numbers that are not finite or periodic directions without a
        cell, or distances fit other units.
    """
    found: list[Structure] = []
    for path in paths:
        with unpacked(path) as plain:
            of_ipi = plain.is_file() and ipi_comment(plain) is not None
            images = [] if of_ipi else _images(path, plain)
        if of_ipi:
            structures = list(read_data_set(path).structures)
            atomic = [False] * len(structures)
        else:
            _check_images(path, images)
            atomic = in_bohr(images) if units == "auto" else [units == "atomic"] * len(images)
            lengths = [BOHR if bohr else 1.0 for bohr in atomic]
            structures = [
                replace(s, positions=length * s.positions, cell=length * s.cell)
                for s, length in zip(map(Structure.from_atoms, images), lengths, strict=True)
            ]
        check_lengths(path, structures, atomic, units != "auto")
        found += structures
    return found


def _images(path: Path, plain: Path) -> list[ase.Atoms]:
    """What ASE reads from ``plain``, the content of ``path``."""
    try:
        return list(ase.io.iread(plain, ":"))
    except Exception as error:  # ASE's readers raise anything on a malformed file
        raise UserError(f"unlabelled structures {path} cannot be read: {error}") from error


def _check_images(path: Path, images: Sequence[ase.Atoms]) -> None:
    """Name the file and the structure that cannot be used, as for labelled ones."""
    for number, atoms in enumerate(images):
        where = f"{path}, structure {number}"
        if len(atoms) == 0:
            raise UserError(f"{where}: the structure has no atoms")
        check_finite(atoms.positions, "positions", where)
        check_periodic(np.array(atoms.cell), np.asarray(atoms.pbc), where)
