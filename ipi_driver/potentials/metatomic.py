"""Exported metatomic models (``.pt``) as potentials: https://docs.metatensor.org/metatomic.

All rotations of a call are one list of systems, evaluated and differentiated together. The pairs of every
neighbour list the model asks for are found once per structure; only their vectors are turned. Forces and
virials are the derivatives of the model's ``energy`` with respect to positions and to a strain per rotation.

Needs the optional packages of ``pip install ipi-driver[metatomic]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.neighbors import all_pairs
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.spec import PotentialSpec
from ipi_driver.structure import FloatArray, IntArray, RotatedResults, Structure, shift_sign


class MetatomicPotential(Potential):
    """Potential of a loaded metatomic model; `load` makes one from a file.

    Parameters
    ----------
    model
        ``metatomic.torch.AtomisticModel``.
    device
        Torch device.
    name
        For logs.

    Raises
    ------
    UserError
        If the model has no ``energy`` output or does not support the device.
    """

    takes_device = True
    precision = "fixed"
    warm_up = 3  # TorchScript observes the first calls of each size and compiles

    def __init__(self, model: Any, device: str = "cpu", name: str = "metatomic") -> None:
        import torch
        from metatomic.torch import ModelEvaluationOptions, ModelOutput

        from ipi_driver.potentials.torch_device import torch_device

        capabilities = model.capabilities()
        if "energy" not in capabilities.outputs:
            outputs = ", ".join(capabilities.outputs) or "none"
            raise UserError(f"{name}: the model must have the output `energy`, it has: {outputs}")
        if torch_device(device).type not in capabilities.supported_devices:
            supported = ", ".join(capabilities.supported_devices)
            raise UserError(f"{name}: the model supports the devices {supported}, got --device {device}")
        self.name = name
        self.device = device
        self.dtype = getattr(torch, capabilities.dtype)  # fixed when the model was exported
        self.species = tuple(sorted(capabilities.atomic_types))
        self.model = model.to(device)
        self.lists = self.model.requested_neighbor_lists()
        self.conditions = _requested_conditions(self.model.requested_inputs(use_new_names=True), name)
        cutoffs = [options.engine_cutoff("angstrom") for options in self.lists]
        self.cutoff = max(cutoffs, default=None)
        self._options = ModelEvaluationOptions(
            length_unit="angstrom", outputs={"energy": ModelOutput(unit="eV")}
        )

    @classmethod
    def from_spec(
        cls, spec: PotentialSpec, device: str = "cpu", dtype: str | None = None
    ) -> MetatomicPotential:
        """From ``path/to/model.pt``, see `load`."""
        return cls.load(spec.name, device=device, dtype=dtype)

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu", dtype: str | None = None) -> MetatomicPotential:
        """From an exported file; the compiled extensions are looked for in ``extensions/`` beside it.

        The precision is that of the export: ``dtype`` is None or the same.

        Raises
        ------
        UserError
            If metatomic is not installed, the file is missing, it is not an exported model, or has another precision.
        """
        try:
            from metatomic.torch import load_atomistic_model
        except ImportError as error:
            raise UserError(
                f"a model file .pt needs metatomic ({error}): pip install 'ipi-driver[metatomic]'"
            ) from None
        file = Path(path)
        if not file.is_file():
            raise UserError(f"no such model file: {file}")
        extensions = file.parent / "extensions"
        try:
            model = load_atomistic_model(str(file), str(extensions) if extensions.is_dir() else None)
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"{file} cannot be loaded as an exported metatomic model: {reason}") from error
        fixed = model.capabilities().dtype
        if dtype not in (None, fixed):
            raise UserError(
                f"{file} was exported in {fixed}, which cannot be changed: got --dtype {dtype}; leave it out"
            )
        return cls(model, device, file.stem)

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        import torch

        systems, positions, strains = [], [], []
        for structure in structures:
            pairs = [self._pairs(structure, options) for options in self.lists]
            for rotation in rotations:
                sign = int(shift_sign(rotation))
                lists = [(i, j, sign * shifts) for i, j, shifts in pairs]
                system, leaf, strain = self._system(structure.rotated(rotation), lists)
                systems.append(system)
                positions.append(leaf)
                strains.append(strain)
        output = self.model(systems, self._options, check_consistency=False)["energy"]
        energies = output.block().values.reshape(-1)
        # the rotations do not interact: one backward pass of the sum gives the derivatives of each
        gradients = torch.autograd.grad(energies.sum(), [*positions, *strains])
        turned = [g.detach().cpu().to(torch.float64).numpy() for g in gradients]
        return _laboratory(
            energies.detach().cpu().to(torch.float64).numpy().reshape(len(structures), len(rotations)),
            turned[: len(positions)],
            turned[len(positions) :],
            rotations,
        )

    def _pairs(self, structure: Structure, options: Any) -> tuple[IntArray, IntArray, IntArray]:
        """Centres, neighbours and cell shifts of one requested neighbour list."""
        i, j, shifts = all_pairs(structure, options.engine_cutoff("angstrom"))
        if (
            not options.full_list
        ):  # one of (i, j, S) and (j, i, -S): the one with i < j, or a positive first shift
            signs = np.sign(shifts)
            leading = 4 * signs[:, 0] + 2 * signs[:, 1] + signs[:, 2]
            keep = (i < j) | ((i == j) & (leading > 0))
            i, j, shifts = i[keep], j[keep], shifts[keep]
        return i, j, shifts

    def _system(
        self, structure: Structure, pairs: list[tuple[IntArray, IntArray, IntArray]]
    ) -> tuple[Any, Any, Any]:
        """A metatomic ``System`` with its neighbour lists, and its leaves: positions and strain."""
        import torch
        from metatensor.torch import Labels, TensorBlock
        from metatomic.torch import System, register_autograd_neighbors

        kind = {"dtype": self.dtype, "device": self.device}
        leaf = torch.tensor(structure.positions, **kind).requires_grad_()
        strain = torch.eye(3, **kind).requires_grad_()
        periodic_cell = np.where(structure.pbc[:, None], structure.cell, 0.0)
        system = System(
            types=torch.tensor(structure.numbers, dtype=torch.int32, device=self.device),
            positions=leaf @ strain,
            cell=torch.tensor(periodic_cell, **kind) @ strain,
            pbc=torch.tensor(structure.pbc, device=self.device),
        )
        for options, (i, j, shifts) in zip(self.lists, pairs, strict=True):
            vectors = structure.positions[j] - structure.positions[i] + shifts @ structure.cell
            block = TensorBlock(
                values=torch.tensor(vectors, **kind).reshape(-1, 3, 1),
                samples=Labels(
                    ["first_atom", "second_atom", "cell_shift_a", "cell_shift_b", "cell_shift_c"],
                    torch.tensor(np.column_stack([i, j, shifts]), dtype=torch.int32, device=self.device),
                ),
                components=[Labels.range("xyz", 3).to(self.device)],
                properties=Labels.range("distance", 1).to(self.device),
            )
            register_autograd_neighbors(system, block, check_consistency=False)
            system.add_neighbor_list(options, block)
        for condition in self.conditions or ():
            self._add_condition(system, structure, condition)
        return system, leaf, strain

    def _add_condition(self, system: Any, structure: Structure, condition: str) -> None:
        """Charge or multiplicity of the structure; a neutral singlet where it has none."""
        import torch
        from metatensor.torch import Labels, TensorBlock, TensorMap

        charge, spin = structure.charge or 0.0, structure.spin or 1
        name, value, unit = (
            ("charge", charge, "e") if condition == "charge" else ("spin_multiplicity", float(spin), "")
        )
        block = TensorBlock(
            values=torch.tensor([[value]], dtype=self.dtype, device=self.device),
            samples=Labels(["system"], torch.zeros((1, 1), dtype=torch.int32, device=self.device)),
            components=[],
            properties=Labels([name], torch.zeros((1, 1), dtype=torch.int32, device=self.device)),
        )
        keys = Labels(["_"], torch.zeros((1, 1), dtype=torch.int32, device=self.device))
        tensor = TensorMap(keys, [block])
        tensor.set_info("unit", unit)
        system.add_data(name, tensor)


def _requested_conditions(inputs: Mapping[str, Any], model: str) -> tuple[str, ...]:
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


def _laboratory(
    energies: FloatArray,
    gradients: list[FloatArray],
    strain_gradients: list[FloatArray],
    rotations: FloatArray,
) -> RotatedResults:
    """Forces and virials in the laboratory from the derivatives of the rotated structures."""
    n_structures, n_rotations = energies.shape
    forces = []
    virials = np.zeros((n_structures, n_rotations, 3, 3))
    for s in range(n_structures):
        chosen = slice(s * n_rotations, (s + 1) * n_rotations)
        forces.append(-np.array(gradients[chosen]) @ rotations)
        # the strain multiplies row vectors from the right: it is the transpose of dE/dstrain
        of_rotated = -np.array(strain_gradients[chosen]).transpose(0, 2, 1)
        virials[s] = rotations.transpose(0, 2, 1) @ of_rotated @ rotations
    return RotatedResults(energies, tuple(forces), virials)
