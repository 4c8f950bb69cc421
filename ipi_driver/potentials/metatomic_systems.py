"""Structures as systems of metatomic: neighbor lists, charge and spin, and the leaves of the derivatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from metatensor.torch import Labels, TensorBlock, TensorMap
from metatomic.torch import System, register_autograd_neighbors

from ipi_driver.errors import UserError
from ipi_driver.neighbors import all_pairs
from ipi_driver.structure import FloatArray, IntArray, Structure, shift_sign

Pairs = tuple[IntArray, IntArray, IntArray]


class Systems:
    """Makes the systems that a model asks for.

    Parameters
    ----------
    lists
        Options of the neighbor lists that the model asks for.
    conditions
        Which of "charge" and "spin" it asks for.
    dtype, device
        Of its tensors.
    """

    def __init__(
        self, lists: list[Any], conditions: tuple[str, ...], dtype: torch.dtype, device: str
    ) -> None:
        self.lists = lists
        self.conditions = conditions
        self._kind: dict[str, Any] = {"dtype": dtype, "device": device}
        self._device = device

    def pairs(self, structure: Structure) -> list[Pairs]:
        """Centers, neighbors and cell shifts of every neighbor list, the same for all rotations."""
        found = []
        for options in self.lists:
            i, j, shifts = all_pairs(structure, options.engine_cutoff("angstrom"))
            if not options.full_list:
                # one of (i, j, S) and (j, i, -S): the one with i < j, or a positive first shift
                signs = np.sign(shifts)
                leading = 4 * signs[:, 0] + 2 * signs[:, 1] + signs[:, 2]
                keep = (i < j) | ((i == j) & (leading > 0))
                i, j, shifts = i[keep], j[keep], shifts[keep]
            found.append((i, j, shifts))
        return found

    def system(
        self, structure: Structure, rotation: FloatArray, pairs: list[Pairs], leaves: bool = True
    ) -> tuple[Any, list[torch.Tensor]]:
        """The turned structure as a ``System``, and its leaves: positions and strain, or none.

        The strain multiplies row vectors from the right.
        """
        turned = structure.rotated(rotation)
        sign = int(shift_sign(rotation))
        positions = torch.tensor(turned.positions, **self._kind)
        cell = torch.tensor(np.where(turned.pbc[:, None], turned.cell, 0.0), **self._kind)
        found: list[torch.Tensor] = []
        if leaves:
            strain = torch.eye(3, **self._kind).requires_grad_()
            leaf = positions.requires_grad_()
            positions, cell, found = leaf @ strain, cell @ strain, [leaf, strain]
        system = System(
            types=torch.tensor(turned.numbers, dtype=torch.int32, device=self._device),
            positions=positions,
            cell=cell,
            pbc=torch.tensor(turned.pbc, device=self._device),
        )
        for options, (i, j, shifts) in zip(self.lists, pairs, strict=True):
            block = self._neighbors(turned, i, j, sign * shifts)
            if leaves:
                register_autograd_neighbors(system, block, check_consistency=False)
            system.add_neighbor_list(options, block)
        for condition in self.conditions:
            self._add_condition(system, structure, condition)
        return system, found

    def _neighbors(self, structure: Structure, i: IntArray, j: IntArray, shifts: IntArray) -> TensorBlock:
        vectors = structure.positions[j] - structure.positions[i] + shifts @ structure.cell
        return TensorBlock(
            values=torch.tensor(vectors, **self._kind).reshape(-1, 3, 1),
            samples=Labels(
                ["first_atom", "second_atom", "cell_shift_a", "cell_shift_b", "cell_shift_c"],
                torch.tensor(np.column_stack([i, j, shifts]), dtype=torch.int32, device=self._device),
            ),
            components=[Labels.range("xyz", 3).to(self._device)],
            properties=Labels.range("distance", 1).to(self._device),
        )

    def _add_condition(self, system: Any, structure: Structure, condition: str) -> None:
        """Charge or multiplicity of the structure; a neutral singlet where it has none."""
        if condition == "charge":
            name, value, unit = "charge", structure.charge or 0.0, "e"
        else:
            name, value, unit = "spin_multiplicity", float(structure.spin or 1), ""
        one = torch.zeros((1, 1), dtype=torch.int32, device=self._device)
        block = TensorBlock(
            values=torch.tensor([[value]], **self._kind),
            samples=Labels(["system"], one),
            components=[],
            properties=Labels([name], one),
        )
        tensor = TensorMap(Labels(["_"], one), [block])
        tensor.set_info("unit", unit)
        system.add_data(name, tensor)


def requested_conditions(inputs: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """Charge and spin where the model asks for them.

    Raises
    ------
    UserError
        If it asks for anything else.
    """
    known = {"charge": "charge", "spin_multiplicity": "spin"}
    missing = [name for name, what in inputs.items() if name not in known or what.sample_kind != "system"]
    if missing:
        raise UserError(
            f"{model}: the model asks for the input {missing[0]!r} ({inputs[missing[0]].sample_kind}), which is not "
            "supplied here: only the total charge and the spin multiplicity are"
        )
    return tuple(known[name] for name in inputs)
