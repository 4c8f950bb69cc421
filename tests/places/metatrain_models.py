"""Random models of metatrain's PET and metatrain's own energies, forces and virials; imported where metatrain is."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import metatensor.torch as mts
import numpy as np
import torch
from metatensor.torch import Labels, TensorBlock, TensorMap
from metatomic.torch import ModelOutput, System
from metatrain.pet import PET
from metatrain.utils.architectures import get_default_hypers
from metatrain.utils.data import DatasetInfo
from metatrain.utils.data.target_info import get_energy_target_info, get_generic_target_info
from metatrain.utils.neighbor_lists import get_system_with_neighbor_lists

from ipi_driver.structure import FloatArray, Structure

SMALL = {
    "cutoff": 3.2,
    "d_pet": 16,
    "d_node": 24,
    "d_head": 12,
    "d_feedforward": 20,
    "num_heads": 4,
    "num_attention_layers": 2,
    "num_gnn_layers": 2,
}


def random_model(
    changes: dict[str, Any] | None = None,
    targets: Sequence[str] = ("energy",),
    species: Sequence[int] = (1, 8),
    seed: int = 0,
    forces: bool = False,
) -> PET:
    """A PET with random weights, norms, scales and atomic energies, in float64."""
    torch.manual_seed(seed)
    infos = {name: get_energy_target_info(name, {"quantity": "energy", "unit": "eV"}) for name in targets}
    if forces:
        infos["non_conservative_force"] = get_generic_target_info(
            "non_conservative_force",
            {
                "quantity": "force",
                "unit": "eV/angstrom",
                "type": {"cartesian": {"rank": 1}},
                "num_subtargets": 1,
                "sample_kind": "atom",
            },
        )
    hypers = get_default_hypers("pet")["model"] | SMALL | (changes or {})
    model = PET(hypers, DatasetInfo("angstrom", list(species), infos)).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter += 0.3 * torch.rand_like(parameter)
            elif parameter.ndim == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    generator = np.random.default_rng(seed)
    for name in targets:
        _set_buffers(
            model.additive_models[0], name, "_composition_buffer", generator.normal(size=len(species))
        )
        scale = generator.uniform(0.5, 2.0)
        for suffix in ("_scaler_buffer", "_per_target_scaler_buffer"):
            _set_buffers(model.scaler, name, suffix, np.array([scale]))
    model.additive_models[0].sync_tensor_maps()
    model.scaler.sync_tensor_maps()
    return model.eval()


def _set_buffers(module: torch.nn.Module, name: str, suffix: str, values: FloatArray) -> None:
    """Replace the numbers of a `TensorMap` that metatrain keeps as a buffer of bytes."""
    stored = mts.load_buffer(getattr(module, name + suffix))
    block = stored.block(0).copy()
    block.values[:] = torch.from_numpy(values).reshape(block.values.shape)
    setattr(module, name + suffix, mts.save_buffer(mts.make_contiguous(TensorMap(stored.keys, [block]))))


def save_checkpoint(model: PET, path: Path) -> Path:
    """Write a checkpoint as metatrain's trainer does."""
    torch.save(model.get_checkpoint(), path)
    return path


def reference(
    model: PET, structure: Structure, target: str = "energy", charge: int | None = None, spin: int = 1
) -> tuple[float, FloatArray, FloatArray]:
    """metatrain's energy (eV), forces (n_atoms, 3) and virial (3, 3)."""
    dtype = next(model.parameters()).dtype
    strain = torch.eye(3, dtype=dtype, requires_grad=True)
    positions = torch.tensor(structure.positions, dtype=dtype, requires_grad=True)
    cell = torch.tensor(structure.cell if structure.periodic else np.zeros((3, 3)), dtype=dtype)
    system = System(
        types=torch.tensor(structure.numbers, dtype=torch.int32),
        positions=positions @ strain.T,
        cell=cell @ strain.T,
        pbc=torch.tensor(structure.pbc),
    )
    if charge is not None:
        for name, value in (("charge", charge), ("spin_multiplicity", spin)):
            system.add_data(name, _number(name, value, dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lists = [*model.requested_neighbor_lists()]
        for additive in model.additive_models:
            lists += additive.requested_neighbor_lists()
        system = get_system_with_neighbor_lists(system, lists)
        energy = model([system], {target: ModelOutput(sample_kind="system")})[target].block().values.sum()
    gradients = torch.autograd.grad(energy, [positions, strain], allow_unused=True)
    by_positions, by_strain = (
        np.zeros(shape) if g is None else g.double().numpy()
        for g, shape in zip(gradients, [(structure.n_atoms, 3), (3, 3)], strict=True)
    )
    return float(energy.detach()), -by_positions, -by_strain


def _number(name: str, value: float, dtype: torch.dtype) -> TensorMap:
    """One number of a system, as metatomic passes it to a model."""
    zero = torch.tensor([[0]])
    block = TensorBlock(
        values=torch.tensor([[value]], dtype=dtype),
        samples=Labels(["system"], zero),
        components=[],
        properties=Labels([name], zero),
    )
    return TensorMap(Labels(["_"], zero), [block])
