"""The two files of pet-kokkos, ``PREFIX.json`` and ``PREFIX.safetensors``, from a checkpoint of metatrain.

The JSON holds hyperparameters, units, scale and atomic energies; the weights have metatrain's names in the backend, in
single precision, with the one energy called ``energy``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from ipi_driver.errors import UserError
from ipi_driver.networks.metatrain_pet.checkpoint import ChosenEnergy, chosen_energy, has_zbl, load_pet
from ipi_driver.networks.metatrain_pet.names import merge_adapters
from ipi_driver.whole_file import write_together

_SETTINGS = (
    "d_pet",
    "d_head",
    "d_node",
    "d_feedforward",
    "num_heads",
    "num_attention_layers",
    "num_gnn_layers",
    "normalization",
    "activation",
    "transformer_type",
    "featurizer_type",
    "attention_temperature",
    "cutoff",
    "cutoff_width",
    "cutoff_function",
    "num_neighbors_adaptive",
    "adaptive_cutoff_method",
    "cutoff_width_adaptive",
    "system_conditioning",
    "max_charge",
    "max_spin_multiplicity",
)
_HEADS = ("node_heads", "edge_heads", "node_last_layers", "edge_last_layers")


def write_kokkos_files(checkpoint: Path, prefix: Path, target: str | None = None) -> ChosenEnergy:
    """Write both files; returns the energy that they hold.

    Parameters
    ----------
    checkpoint
        A ``.ckpt`` file of metatrain's PET.
    prefix
        Path without the endings.
    target
        Name of the energy or of its variant.

    Raises
    ------
    UserError
        As `import_checkpoint`; and where the model has what pet-kokkos has not (zbl, long range).
    """
    model = load_pet(checkpoint)
    hypers = dict(model.hypers)
    chosen = chosen_energy(model, target, checkpoint)
    if hypers["long_range"]["enable"] or has_zbl(model, chosen.name, float("inf")):
        raise UserError(
            f"{checkpoint}: pet-kokkos has neither zbl nor long_range; import it without --kokkos"
        )
    readouts = 1 if hypers["featurizer_type"] == "feedforward" else int(hypers["num_gnn_layers"])
    neighbors = hypers["num_neighbors_adaptive"]
    settings = {key: hypers[key] for key in _SETTINGS} | {
        "head_dim": hypers["d_pet"] // hypers["num_heads"],
        "num_readout_layers": readouts,
        "num_neighbors_adaptive": None if neighbors is None else float(neighbors),
        "zbl": False,
        "long_range_enabled": False,
    }
    content: dict[str, Any] = {
        "format_version": 1,
        "architecture": "pet",
        "source_model": checkpoint.name,
        "target": chosen.name,
        "hypers": settings,
        "length_unit": "angstrom",
        "energy_unit": "eV",
        "energy_scale": chosen.scale,
        "n_species": len(model.atomic_types),
        "atomic_types": [int(z) for z in model.atomic_types],
        "species_to_index": model.backend.species_to_species_index.tolist(),
        "composition_energies": chosen.atomic_energies.tolist(),
    }
    prefix.parent.mkdir(parents=True, exist_ok=True)
    # the endings are added: a prefix may hold a dot
    write_together(
        {
            prefix.with_name(f"{prefix.name}.safetensors"): save(_weights(model, chosen.name)),
            prefix.with_name(f"{prefix.name}.json"): (json.dumps(content, indent=1) + "\n").encode(),
        }
    )
    return chosen


def _weights(model: Any, target: str) -> dict[str, torch.Tensor]:
    """Weights of the backend with the heads of one energy, under the name ``energy``."""
    merge_adapters(model.backend)
    found = {}
    for name, weights in model.backend.state_dict().items():
        root, _, rest = name.partition(".")
        if not weights.is_floating_point() or (root in _HEADS and not rest.startswith(f"{target}.")):
            continue
        if root in _HEADS:
            name = name.replace(target, "energy")
        found[name] = weights.detach().float().cpu().contiguous()
    return found
