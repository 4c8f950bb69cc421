"""Which outputs of a metatomic model are asked for, and what becomes of the further ones (extras).

A model may hold an energy in several variants, ``energy`` and ``energy/NAME``; direct forces and stress under
``non_conservative_force`` (older: ``non_conservative_forces``) and ``non_conservative_stress``, each in variants,
too; and any other output. Outputs without components are scalars; those with one or two components ``xyz`` are
vectors and tensors of the turned structure, which are turned back here. So are spherical tensors, whose blocks have a
component ``o3_mu`` and the keys ``o3_lambda`` and ``o3_sigma``, with Wigner matrices: their blocks stand one after the
other in the last axis, each with its properties as the fastest index.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from metatomic.torch import ModelOutput

from ipi_driver.errors import UserError
from ipi_driver.structure import FloatArray, Structure
from ipi_driver.wigner import irreps_matrices

_UNITS = dict.fromkeys(("energy", "energy_uncertainty", "energy_ensemble"), "eV") | {
    "non_conservative_force": "eV/angstrom",
    "non_conservative_forces": "eV/angstrom",
    "non_conservative_stress": "eV/angstrom^3",
}
"""Of extras, whatever the model's own is; of others the model's."""
_DIPOLE_UNITS = {"": 1.0, "ea": 1.0, "eå": 1.0, "eangstrom": 1.0} | {
    "debye": 0.20819433, "d": 0.20819433, "ebohr": 0.529177210903, "au": 0.529177210903,
}  # fmt: skip
"""In e Å; no unit counts as e Å."""


def energy_name(outputs: Sequence[str], variant: str | None, model: str) -> str:
    """Name of the energy: the variant asked for, else the plain one, else the only one.

    Raises
    ------
    UserError
        If there is none, or several to choose from.
    """
    variants = [name for name in outputs if name.startswith("energy/")]
    known = ", ".join(name.removeprefix("energy/") for name in variants) or "none"
    if variant is not None:
        if f"energy/{variant}" in outputs:
            return f"energy/{variant}"
        raise UserError(f"{model}: the model has no variant {variant!r} of the energy, it has: {known}")
    if "energy" in outputs:
        return "energy"
    if len(variants) == 1:
        return variants[0]
    if variants:
        raise UserError(
            f"{model}: the model has several energies; choose one of {known}: ?variant={variants[0][7:]}"
        )
    raise UserError(
        f"{model}: the model must have the output `energy`, it has: {', '.join(outputs) or 'none'}"
    )


def direct_name(outputs: Sequence[str], quantities: Sequence[str], variant: str | None, model: str) -> str:
    """Name of a direct (non-conservative) output, in the variant asked for, else the plain one.

    Raises
    ------
    UserError
        If there is none.
    """
    if variant is not None:
        for quantity in quantities:
            if f"{quantity}/{variant}" in outputs:
                return f"{quantity}/{variant}"
    for quantity in quantities:
        if quantity in outputs:
            return quantity
    found = [name for name in outputs if name.split("/")[0] in quantities]
    if variant is None and len(found) == 1:
        return found[0]
    what = f" in the variant {variant!r}" if variant is not None else ""
    raise UserError(
        f"{model}: the model has no output `{quantities[0]}`{what}, it has: {', '.join(outputs)}; leave out "
        "non_conservative"
    )


class ExtraOutput:
    """A further output of a model as an extra.

    Parameters
    ----------
    name
        Of the model: ``energy_ensemble``, ``mtt::dipole``.
    capability
        The model's description of it.

    Raises
    ------
    UserError
        If it is a dipole in a unit that is not known.
    """

    def __init__(self, name: str, capability: Any) -> None:
        self.output = name
        self.name = name.rpartition("::")[2]
        per_system = name.split("/")[0] == "energy_ensemble"
        self.per_atom = capability.sample_kind == "atom" and not per_system
        self.factor = 1.0
        unit = _UNITS.get(name.split("/")[0], capability.unit)
        if self.name == "dipole":  # e Å
            self.factor = _dipole_factor(str(capability.unit), name)
        self.request = ModelOutput(unit=unit, sample_kind="atom" if self.per_atom else "system")

    def values(self, tensor: Any, structures: Sequence[Structure], rotations: FloatArray) -> list[FloatArray]:
        """Values of each structure, (n_rotations, ...), in the laboratory frame.

        Raises
        ------
        UserError
            If the output is not a scalar, a vector or a Cartesian tensor.
        """
        if "o3_lambda" in tensor.keys.names:
            return self._spherical(tensor, structures, rotations)
        if len(tensor) != 1:
            raise UserError(f"extras: the output {self.output!r} has {len(tensor)} blocks, expected one")
        block = tensor.block()
        rank = len(block.components)
        if (
            any(not name.startswith("xyz") for labels in block.components for name in labels.names)
            or rank > 2
        ):
            names = [name for labels in block.components for name in labels.names]
            raise UserError(
                f"extras: the output {self.output!r} has the components {names}; expected a scalar, a vector or a "
                "Cartesian tensor (xyz)"
            )
        values = self.factor * block.values.detach().cpu().double().numpy()
        parts = self._by_structure(values, structures, len(rotations))
        return [self._turned_back(part, rotations, rank) for part in parts]

    def _by_structure(
        self, values: FloatArray, structures: Sequence[Structure], n_rotations: int
    ) -> list[FloatArray]:
        """(n_rotations, n_rows, ...) of each structure."""
        found, start = [], 0
        for structure in structures:
            rows = structure.n_atoms if self.per_atom else 1
            stop = start + rows * n_rotations
            found.append(values[start:stop].reshape(n_rotations, rows, *values.shape[1:]))
            start = stop
        return found

    def _spherical(
        self, tensor: Any, structures: Sequence[Structure], rotations: FloatArray
    ) -> list[FloatArray]:
        """Blocks of a spherical tensor in the laboratory frame, side by side in the last axis."""
        n = len(rotations)
        blocks: list[list[FloatArray]] = [[] for _ in structures]
        keys, found = tensor.keys, tensor.blocks()
        expected = sum(s.n_atoms if self.per_atom else 1 for s in structures) * n
        for k, block in enumerate(found):
            degree = int(keys.column("o3_lambda")[k])
            parity = int(keys.column("o3_sigma")[k]) * (-1) ** degree if "o3_sigma" in keys.names else None
            values = self.factor * block.values.detach().cpu().double().numpy()
            names = [name for labels in block.components for name in labels.names]
            if names != ["o3_mu"] or len(values) != expected:
                raise UserError(
                    f"extras: a block of the spherical output {self.output!r} has the components {names} and "
                    f"{len(values)} samples; expected o3_mu and {expected} samples, all atoms or systems in each block"
                )
            natural = (-1) ** degree if parity is None else parity
            matrices = irreps_matrices(rotations, f"{degree}{'e' if natural == 1 else 'o'}", "standard")
            for s, part in enumerate(self._by_structure(values, structures, n)):
                turned = np.einsum("kiap,kab->kibp", part, matrices)
                blocks[s].append(turned.reshape(*turned.shape[:2], -1))
        joined = [np.concatenate(parts, axis=2) for parts in blocks]
        return joined if self.per_atom else [values[:, 0] for values in joined]

    def _turned_back(self, values: FloatArray, rotations: FloatArray, rank: int) -> FloatArray:
        """(n_rotations, n_rows, 3, ..., n_properties) to the laboratory frame, without axes of length one."""
        if rank == 1:
            values = np.einsum("kiap,kab->kibp", values, rotations)
        elif rank == 2:
            values = np.einsum("kiabp,kac,kbd->kicdp", values, rotations, rotations)
        if values.shape[-1] == 1:
            values = values[..., 0]
        return values if self.per_atom else values[:, 0]


def _dipole_factor(unit: str, output: str) -> float:
    """From the unit of a dipole to e Å.

    >>> _dipole_factor("e * angstrom", "dipole"), _dipole_factor("Debye", "dipole")
    (1.0, 0.20819433)
    """
    word = unit.lower().translate(str.maketrans("", "", " *·._"))
    if word not in _DIPOLE_UNITS:
        raise UserError(
            f"extras: the unit {unit!r} of {output!r} is not known; expected e*A, debye or e*bohr"
        )
    return _DIPOLE_UNITS[word]
