"""Hyperparameters and tensors of metatrain's PET under the names that they have in this package."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import ValidationError

from ipi_driver.errors import UserError
from ipi_driver.networks.metatrain_pet.config import MetatrainPetConfig

# key of metatrain -> key here
_KEYS = {
    "cutoff": "cutoff",
    "cutoff_width": "cutoff_width",
    "num_neighbors_adaptive": "adaptive_neighbors",
    "adaptive_cutoff_method": "adaptive_method",
    "cutoff_width_adaptive": "adaptive_width",
    "d_pet": "d_model",
    "d_node": "d_node",
    "d_head": "d_head",
    "d_feedforward": "d_feedforward",
    "num_heads": "n_heads",
    "num_gnn_layers": "n_gnn_layers",
    "num_attention_layers": "n_attention_layers",
    "attention_temperature": "attention_temperature",
    "featurizer_type": "featurizer",
}
# key of metatrain -> (key here, names there -> names here)
_NAMED: dict[str, tuple[str, dict[str, str]]] = {
    "cutoff_function": ("cutoff_function", {"Bump": "bump", "Cosine": "cosine"}),
    "transformer_type": ("norm", {"PreLN": "pre", "PostLN": "post"}),
    "normalization": ("norm_type", {"RMSNorm": "rms", "LayerNorm": "layer"}),
    "activation": ("activation", {"SwiGLU": "swiglu", "SiLU": "silu"}),
}
# parts of the names of tensors, metatrain's and ours, applied in this order
_TENSORS = (
    ("edge_embedder.weight", "message_embedding.weight", True),
    ("node_embedders.", "center_embeddings.", True),
    ("combination_mlps.", "combinations.", True),
    (".trans.layers.", ".layers.", False),
    (".attention.input_linear.", ".qkv.", False),
    (".attention.output_linear.", ".out.", False),
    (".norm_mlp.", ".norm_feedforward.", False),
    (".center_mlp.", ".center_feedforward.", False),
    (".mlp.", ".feedforward.", False),
    (".center_contraction.", ".contraction.", False),
    (".center_expansion.", ".expansion.", False),
    (".norm_center_features.", ".norm_center.", False),
    (".edge_embedder.", ".edge_embedding.", False),
    (".neighbor_embedder.", ".neighbor_embedding.", False),
)


def config_from_hypers(
    hypers: dict[str, Any],
    species: tuple[int, ...],
    energy_scale: float = 1.0,
    conditions: tuple[int, int] | None = None,
) -> MetatrainPetConfig:
    """Architecture from metatrain's ``model_hypers``; ``conditions``: charge and spin of a model that depends on them.

    Raises
    ------
    UserError
        If an option has a value that is not built here.
    """
    keys = {here: hypers[there] for there, here in _KEYS.items()}
    for there, (here, names) in _NAMED.items():
        value = hypers[there]
        if value not in names:
            raise UserError(f"metatrain's {there}: {value} is not built here, only {' and '.join(names)} are")
        keys[here] = names[value]
    try:
        charge, spin = conditions or (None, None)
        return MetatrainPetConfig(
            species=species,
            energy_scale=energy_scale,
            system_bias=conditions is not None,
            charge=charge,
            spin=spin,
            **keys,
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"metatrain's hyperparameters: {where}: {first['msg']}") from error


def tensors_of(backend: torch.nn.Module, target: str) -> dict[str, torch.Tensor]:
    """Tensors of metatrain's network under the names that they have here, with the heads of one target."""
    merge_adapters(backend)
    result: dict[str, torch.Tensor] = {}
    for key, value in backend.state_dict().items():
        if key == "species_to_species_index" or key.startswith("system_conditioning."):
            continue
        part, _, rest = key.partition(".")
        if part in ("node_heads", "edge_heads", "node_last_layers", "edge_last_layers"):
            if not rest.startswith(f"{target}."):
                continue
            layer, *tail = rest.removeprefix(f"{target}.").split(".")
            head = "center_heads" if part.startswith("node") else "bond_heads"
            inner = f"hidden.{'.'.join(tail)}" if part.endswith("heads") else f"last.{tail[-1]}"
            result[f"{head}.{layer}.{inner}"] = value
            continue
        for there, here, at_start in _TENSORS:
            if not at_start or key.startswith(there):
                key = key.replace(there, here, 1)
        result[key] = value
    return result


def merge_adapters(backend: torch.nn.Module) -> None:
    """Put low-rank adapters (LoRA), W + s B A, into the weights they belong to."""
    for module in list(backend.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__ == "LoRALinear":
                adapter: Any = child
                with torch.no_grad():
                    adapter.linear.weight += adapter.scaling * adapter.lora_B.weight @ adapter.lora_A.weight
                setattr(module, name, adapter.linear)
