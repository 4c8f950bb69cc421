"""Importer of metatrain's PET checkpoints (``.ckpt``), of every version that the installed metatrain can upgrade."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ipi_driver.errors import UserError
from ipi_driver.networks.baseline import Baseline
from ipi_driver.networks.metatrain_pet.names import config_from_hypers, tensors_of
from ipi_driver.networks.metatrain_pet.network import MetatrainPetNetwork
from ipi_driver.structure import FloatArray

if TYPE_CHECKING:
    from metatrain.pet import PET

_NO_METATRAIN = (
    "reading a metatrain checkpoint needs metatrain: pip install 'ipi-driver[metatrain]'; the folder that "
    "is written works without it"
)


@dataclass(frozen=True)
class ImportedPet:
    """Content of a checkpoint.

    Attributes
    ----------
    network, baseline
        The model of one energy.
    target
        Name of the energy.
    energies
        Names of all energies of the checkpoint.
    notes
        What the user should know, one line each.
    """

    network: MetatrainPetNetwork
    baseline: Baseline
    target: str
    energies: tuple[str, ...]
    notes: tuple[str, ...]


def import_checkpoint(path: Path, target: str | None = None, charge: int = 0, spin: int = 1) -> ImportedPet:
    """Network and baseline of one energy of a checkpoint.

    Parameters
    ----------
    path
        A ``.ckpt`` file of metatrain: PET, or an uncertainty wrapper (LLPR) around one.
    target
        Name of the energy or of its variant (``energy/r2scan`` or ``r2scan``); by default ``energy``, or the only one.
    charge, spin
        Total charge (e) and spin multiplicity (2 S + 1) of all systems, for a model that depends on them.

    Raises
    ------
    UserError
        If metatrain is not installed, the file is no such checkpoint, or the model needs what is not built here.
    """
    model = load_pet(path)
    hypers = dict(model.hypers)
    if hypers["long_range"]["enable"]:
        raise UserError(
            "metatrain's long_range is not built here: export the model (mtt export) and use the .pt file"
        )
    chosen = chosen_energy(model, target, path)
    name, notes = chosen.name, list(chosen.notes)
    species = tuple(int(z) for z in model.atomic_types)
    bias = _system_bias(model, charge, spin)
    if bias is not None:
        notes.append(f"charge {charge} and spin multiplicity {spin} are part of the folder")
    config = config_from_hypers(hypers, species, chosen.scale, None if bias is None else (charge, spin))
    network = MetatrainPetNetwork(config).to(next(model.backend.gnn_layers.parameters()).dtype)
    state = tensors_of(model.backend, name)
    if bias is not None:
        state["system_bias"] = bias
    _load(network, state)
    zbl = has_zbl(model, name, config.cutoff)
    baseline = Baseline(species, chosen.atomic_energies, config.cutoff, covalent_repulsion=zbl)
    return ImportedPet(network, baseline, name, chosen.energies, tuple(notes))


def load_pet(path: Path) -> PET:
    """The model of a checkpoint in metatrain itself, upgraded to the installed version, without an uncertainty wrapper.

    Raises
    ------
    UserError
        If metatrain is not installed or the file is no checkpoint of a PET.
    """
    try:
        import metatensor.torch  # noqa: F401
        import metatomic.torch  # noqa: F401  (checkpoints hold objects of theirs)
        from metatrain.utils.io import model_from_checkpoint
    except ImportError as error:
        raise UserError(f"{_NO_METATRAIN} ({error})") from error
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            # a pickle, as metatrain writes it: from a source that is trusted
            checkpoint = torch.load(path, weights_only=False, map_location="cpu")
        except Exception as error:
            raise UserError(f"{path} cannot be read: {_line(error)}") from error
        if not isinstance(checkpoint, dict) or "architecture_name" not in checkpoint:
            raise UserError(f"{path} is no checkpoint of metatrain: it has no architecture_name")
        while "wrapped_model_checkpoint" in checkpoint:
            checkpoint = checkpoint["wrapped_model_checkpoint"]
        architecture = checkpoint["architecture_name"]
        if architecture != "pet":
            raise UserError(f"{path} holds the architecture {architecture}: only pet is built here")
        if checkpoint.get("best_model_state_dict") is None:
            checkpoint["best_model_state_dict"] = checkpoint.get("model_state_dict")
        previous = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            return model_from_checkpoint(checkpoint, context="export")
        except Exception as error:
            cause = f" ({_line(error.__cause__)})" if error.__cause__ else ""
            raise UserError(f"metatrain cannot load {path}: {_line(error)}{cause}") from error
        finally:
            logging.disable(previous)


def _system_bias(model: PET, charge: int, spin: int) -> torch.Tensor | None:
    """What a model that knows charge and spin adds to every central token; (d_node,), None for other models."""
    conditioning = model.system_conditioning
    if conditioning is None:
        if (charge, spin) != (0, 1):
            raise UserError("the model does not depend on charge and spin (system_conditioning is off)")
        return None
    values = torch.tensor([charge]), torch.tensor([spin])
    try:
        conditioning.validate(*values)
    except ValueError as error:
        raise UserError(_line(error)) from error
    with torch.no_grad():
        return conditioning(*values, torch.tensor([0]))[0]


@dataclass(frozen=True, eq=False)
class ChosenEnergy:
    """The energy of a checkpoint that is converted, in eV.

    Attributes
    ----------
    name
        Of the target.
    energies
        Names of all energies.
    scale
        Factor of the network's output, eV: metatrain's scaler, per target and per property.
    atomic_energies
        (n_species,) eV.
    notes
        What was assumed of units, and what else the checkpoint holds, one line each.
    """

    name: str
    energies: tuple[str, ...]
    scale: float
    atomic_energies: FloatArray
    notes: tuple[str, ...]


def chosen_energy(model: PET, target: str | None, path: Path) -> ChosenEnergy:
    """The energy that is meant by ``target``, or the only one, or ``energy``.

    Raises
    ------
    UserError
        If there is no such energy, its unit is unknown, or lengths are not in angstrom.
    """
    targets = model.dataset_info.targets
    energies = tuple(name for name, info in targets.items() if _is_energy(info))
    name = _choose(energies, target, path)
    notes = []
    unit, length_unit = targets[name].unit, model.dataset_info.length_unit
    factor = _in_electronvolt(unit, name)
    if not unit:
        notes.append(f"{name} has no unit in the checkpoint and is taken to be in eV")
    if not length_unit:
        notes.append("lengths have no unit in the checkpoint and are taken to be in angstrom")
    elif length_unit.lower() not in ("angstrom", "a", "å"):
        raise UserError(f"{path} has lengths in {length_unit!r}: only models in angstrom are built here")
    if others := sorted(set(targets) - {name}):
        notes.append(f"not imported: {', '.join(others)}")
    scale = float(model.scaler.model.scales[name].block(0).values.double().flatten()[0])
    return ChosenEnergy(name, energies, factor * scale, factor * _composition(model, name), tuple(notes))


def _is_energy(info: Any) -> bool:
    return bool(
        info.quantity == "energy"
        and info.is_scalar
        and info.sample_kind == "system"
        and len(info.layout.block(0).properties) == 1
    )


def _choose(energies: tuple[str, ...], target: str | None, path: Path) -> str:
    known = ", ".join(energies) or "none"
    if target is None:
        if "energy" in energies:
            return "energy"
        if len(energies) == 1:
            return energies[0]
        raise UserError(f"{path} holds these energies: {known}; choose one with --target")
    for name in (target, f"energy/{target}", f"mtt::{target}"):
        if name in energies:
            return name
    raise UserError(f"{path} holds no energy {target!r}; it holds {known}")


def _in_electronvolt(unit: str, name: str) -> float:
    if unit in ("", "eV"):
        return 1.0
    from metatomic.torch import unit_conversion_factor

    try:
        return float(unit_conversion_factor(unit, "eV"))
    except Exception as error:
        raise UserError(f"the unit {unit!r} of {name} is no unit of energy: {_line(error)}") from error


def _composition(model: PET, name: str) -> FloatArray:
    """(n_species,) atomic energies in the unit of the target."""
    composition = model.additive_models[0]
    if name not in composition.model.weights:
        return np.zeros(len(model.atomic_types))
    block = composition.model.weights[name].block(0)
    order = [int(z) for z in block.samples.values[:, 0]]
    values = block.values.double().flatten().numpy()
    return np.array([values[order.index(int(z))] for z in model.atomic_types])


def has_zbl(model: PET, name: str, cutoff: float) -> bool:
    """Whether the energy has the repulsion that is switched off at the sum of covalent radii."""
    for additive in model.additive_models[1:]:
        if type(additive).__name__ != "ZBL":
            raise UserError(f"metatrain's additive model {type(additive).__name__} is not built here")
        if name not in additive.outputs:
            continue
        if additive.cutoff_radius > cutoff:
            raise UserError(
                f"metatrain's zbl reaches {additive.cutoff_radius:.2f} Å, beyond the cutoff {cutoff} Å: not built here"
            )
        return True
    return False


def _load(network: MetatrainPetNetwork, state: dict[str, torch.Tensor]) -> None:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(
            f"the weights do not fit the architecture: {' '.join(str(error).split())[:300]}"
        ) from error


def _line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
