"""PET on Kokkos, ``pet-kokkos:PREFIX``: a model of metatrain in C++, on CPUs and GPUs, without torch.

``PREFIX`` is the path of ``PREFIX.json`` and ``PREFIX.safetensors``, which ``ipi-driver import-pet --kokkos`` makes
from a checkpoint of metatrain. All structures and rotations of a call are one batch. Charge and spin go to models
that were trained with them. Single precision; the virial is symmetric.

Needs the package ``pet-kokkos``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.neighbors import roomy_cell
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.spec import PotentialSpec
from ipi_driver.structure import FloatArray, RotatedResults, Structure

_MATRIX = np.array([[0, 3, 4], [3, 1, 5], [4, 5, 2]])
"""Places of the elements of a symmetric matrix among the six xx, yy, zz, xy, xz, yz."""


class KokkosPotential(Potential):
    """Potential of a loaded pet-kokkos model.

    Parameters
    ----------
    model
        ``pet_kokkos.Calculator``, or what offers its ``compute_batch``, ``cutoff`` and ``atomic_types``.
    name
        For logs.
    largest
        Largest charge and spin by the names "charge" and "spin", of a model that was trained with them: pet-kokkos
        takes the largest that it knows for a larger one.
    """

    def __init__(
        self, model: Any, name: str = "pet-kokkos", largest: Mapping[str, float] | None = None
    ) -> None:
        self.model = model
        self.name = name
        self.cutoff = float(model.cutoff)
        self.species = tuple(sorted(int(z) for z in model.atomic_types))
        self._largest = dict(largest or {})
        self.conditions = tuple(self._largest)

    @classmethod
    def from_spec(cls, spec: PotentialSpec, device: str = "cpu", dtype: str | None = None) -> KokkosPotential:
        """From the path without its ending."""
        try:
            from pet_kokkos import Calculator
        except ImportError as error:
            raise UserError(
                f"{spec} needs the package pet-kokkos ({error}): pip install pet-kokkos"
            ) from None
        cls.check_spec(spec)
        prefix = Path(spec.name).resolve()
        described = json.loads(prefix.with_name(f"{prefix.name}.json").read_text())
        try:
            model = Calculator(str(prefix))
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{spec} cannot be loaded: {' '.join(str(error).split())}") from error
        return cls(model, prefix.name, _largest_conditions(described))

    @classmethod
    def check_spec(cls, spec: PotentialSpec) -> None:
        """Raise `UserError` where one of the two files is missing."""
        for ending in (".json", ".safetensors"):
            if not Path(f"{spec.name}{ending}").is_file():
                raise UserError(f"{spec}: no such file {spec.name}{ending}")

    @classmethod
    def located(cls, spec: PotentialSpec, folder: Path) -> PotentialSpec:
        """The spec with the prefix made absolute."""
        if (folder / f"{spec.name}.json").is_file():
            return PotentialSpec(spec.kind, str((folder / spec.name).resolve()), spec.prefix)
        return spec

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        items = []
        for structure in structures:
            self._check_range(structure)
            inside = _wrapped(structure, self.cutoff or 0.0)
            for rotation in rotations:
                turned = inside.rotated(rotation)
                cell = turned.cell if turned.periodic else None
                item = (
                    turned.numbers,
                    turned.positions,
                    cell,
                    turned.pbc,
                    int(turned.charge or 0),
                    turned.spin or 1,
                )
                items.append(item)
        found = self.model.compute_batch(items)
        n = len(rotations)
        parts = [found[s * n : (s + 1) * n] for s in range(len(structures))]
        forces = [np.array([part["forces"] for part in row], dtype=np.float64) @ rotations for row in parts]
        virials = [
            self._virials(structure, rotations, row, own)
            for structure, row, own in zip(structures, parts, forces, strict=True)
        ]
        known = [virial for virial in virials if virial is not None]
        return RotatedResults(
            np.array([[part["energy"] for part in row] for row in parts], dtype=np.float64),
            tuple(forces),
            np.array(known) if len(known) == len(virials) else None,
        )

    def _check_range(self, structure: Structure) -> None:
        """`UserError` for a charge or spin that the model was not trained with, or a charge that is no integer."""
        for name, largest in self._largest.items():
            value = getattr(structure, name)
            if value is not None and (abs(value) > largest or value != round(value)):
                raise UserError(
                    f"{self.name}: the {name} must be a whole number of at most {largest:g}, got {value:g}: the model "
                    "knows no other"
                )

    @staticmethod
    def _virials(
        structure: Structure, rotations: FloatArray, found: list[dict[str, Any]], forces: FloatArray
    ) -> FloatArray | None:
        """In the laboratory frame: the derivative by strain, of an isolated structure from its forces."""
        if not structure.periodic:
            relative = structure.positions - structure.positions.mean(axis=0)
            return np.swapaxes(forces, 1, 2) @ relative
        if not structure.pbc.all():
            return None
        derivatives = np.array([np.asarray(part["virial"])[_MATRIX] for part in found], dtype=np.float64)
        return -rotations.transpose(0, 2, 1) @ derivatives @ rotations


def _largest_conditions(described: Any) -> dict[str, float]:
    """Largest charge and spin of a model whose description, or a part of it, states that it was trained with them."""
    if not isinstance(described, dict):
        return {}
    if described.get("system_conditioning"):
        keys = {"charge": "max_charge", "spin": "max_spin_multiplicity"}
        return {name: float(described.get(key, np.inf)) for name, key in keys.items()}
    return next(filter(None, map(_largest_conditions, described.values())), {})


def _wrapped(structure: Structure, cutoff: float) -> Structure:
    """The same atoms inside the cell: pet-kokkos 0.1.1 misses pairs of atoms that are whole cells apart.

    It also misses pairs along the periodic directions where another cell vector is zero.
    """
    if not structure.periodic:
        return structure
    cell = roomy_cell(structure, cutoff)
    shifts = np.floor(structure.positions @ np.linalg.inv(cell)) * structure.pbc
    return replace(structure, positions=structure.positions - shifts @ cell, cell=cell)
