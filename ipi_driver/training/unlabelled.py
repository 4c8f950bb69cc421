"""Structures without labels: for the symmetry penalty, self-distillation and denoising."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ase.io
import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.ipi_files.comment import ipi_comment
from ipi_driver.ipi_files.packed import unpacked
from ipi_driver.ipi_files.structures import read_data_set
from ipi_driver.structure import Structure
from ipi_driver.training.data import Units
from ipi_driver.training.formats.extxyz import is_native
from ipi_driver.training.plausibility import check_lengths
from ipi_driver.units import BOHR


def read_unlabelled(paths: Sequence[Path], units: Units = "auto") -> list[Structure]:
    """Structures of any file that ASE reads, of i-PI's trajectories, and of the native form of labelled data.

    Raises
    ------
    UserError
        If a file cannot be read, or its distances fit other units.
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
            atomic = [units == "atomic" or (units == "auto" and is_native(atoms)) for atoms in images]
            lengths = [BOHR if in_bohr else 1.0 for in_bohr in atomic]
            structures = [
                Structure(atoms.numbers, length * atoms.positions, length * np.array(atoms.cell), atoms.pbc)
                for atoms, length in zip(images, lengths, strict=True)
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
