"""Importer of checkpoints of the original PET code (a folder with ``hypers_used.yaml`` and a state dict)."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from ipi_driver.errors import UserError
from ipi_driver.networks.baseline import Baseline
from ipi_driver.networks.pet.config import PetConfig
from ipi_driver.networks.pet.network import PetNetwork
from ipi_driver.yaml_file import load_yaml

_FILES = ("hypers_used.yaml", "all_species.npy", "self_contributions.npy")
_WEIGHTS = ("best_val_mae_both_model_state_dict", "model_state_dict")

# option of the original -> the only values that are built here
_REQUIRED: dict[str, tuple[Any, ...]] = {
    "USE_LONG_RANGE": (False, None),
    "USE_ADDITIONAL_SCALAR_ATTRIBUTES": (False, None),
    "TRANSFORMERS_CENTRAL_SPECIFIC": (False, None),
    "HEADS_CENTRAL_SPECIFIC": (False, None),
    "ADD_TOKEN_FIRST": (True,),
    "ADD_TOKEN_SECOND": (True,),
    "AVERAGE_POOLING": (False, None),
    "AVERAGE_BOND_ENERGIES": (False, None),
    "USE_ONLY_LENGTH": (False, None),
    "USE_LENGTH": (True,),
    "K_CUT": (None,),
    "D_OUTPUT": (1, None),
    "N_TARGETS": (1, None),
    "TARGET_TYPE": ("structural", None),
    "TARGET_AGGREGATION": ("sum", None),
    "USE_ZBL": (False, None),
}


def config_from_hypers(hypers: dict[str, Any], species: tuple[int, ...]) -> PetConfig:
    """Architecture from the original's ``ARCHITECTURAL_HYPERS``.

    Raises
    ------
    UserError
        If an option is set that is not built here.
    """
    for key, allowed in _REQUIRED.items():
        value = hypers.get(key, allowed[-1])
        if value not in allowed:
            raise UserError(
                f"the original option {key}: {value} is not built here, only {key}: {allowed[0]} is"
            )
    try:
        return PetConfig(
            species=species,
            cutoff=hypers["R_CUT"],
            cutoff_width=hypers["CUTOFF_DELTA"],
            d_model=hypers["TRANSFORMER_D_MODEL"],
            n_heads=hypers["TRANSFORMER_N_HEAD"],
            d_feedforward=hypers["TRANSFORMER_DIM_FEEDFORWARD"],
            n_gnn_layers=hypers["N_GNN_LAYERS"],
            n_attention_layers=hypers["N_TRANS_LAYERS"],
            d_head=hypers["HEAD_N_NEURONS"],
            norm={"PostLN": "post", "PreLN": "pre"}[hypers["TRANSFORMER_TYPE"]],
            compress=hypers["COMPRESS_MODE"],
            activation=hypers["ACTIVATION"],
            embedding_activation=hypers["R_EMBEDDING_ACTIVATION"],
            blend_neighbor_species=hypers["BLEND_NEIGHBOR_SPECIES"],
            bond_energies=hypers["USE_BOND_ENERGIES"],
            residual_factor=hypers["RESIDUAL_FACTOR"],
        )
    except KeyError as error:
        raise UserError(f"hypers_used.yaml lacks or does not know {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"hypers_used.yaml: {where}: {first['msg']}, got {first['input']!r}") from error


def _renamed(key: str, config: PetConfig) -> str | None:
    """Name of one of the original's tensors here; None for tensors that have no part in the result."""
    for prefix in ("module.", "model.", "pet_model."):
        key = key.removeprefix(prefix)
    parts = key.split(".")
    if parts[0] == "embedding":
        return "message_embedding.weight"
    if parts[0] in ("heads", "bond_heads"):
        head = "center_head" if parts[0] == "heads" else "bond_head"
        return f"gnn_layers.{parts[1]}.{head}.{'.'.join(parts[parts.index('nn') + 1 :])}"
    if parts[0] != "gnn_layers" or parts[2] == "trans_layer":
        return None  # predictors repeat the heads; trans_layer is the template that was copied
    rest = parts[2:]
    if rest[0] == "trans" and rest[1] == "final_norm":
        name = f"final_norm.{rest[2]}"
    elif rest[0] == "trans":
        inner = ".".join(rest[3:])
        for old, new in (
            ("attention.input_linear", "qkv"),
            ("attention.output_linear", "out"),
            ("norm_mlp", "norm_feedforward"),
            ("mlp.0", "feedforward.0"),
            ("mlp.3", "feedforward.2"),
        ):
            inner = inner.replace(old, new)
        name = f"layers.{rest[2]}.{inner}"
    elif rest[0] == "r_embedding":
        name = "edge_embedding." + (".".join(rest[1:]) if config.embedding_activation else f"0.{rest[-1]}")
    elif rest[0] == "compress":
        name = "compress." + (".".join(rest[1:]) if config.compress == "mlp" else f"0.{rest[-1]}")
    else:
        name = {"central_embedder": "center_embedding", "neighbor_embedder": "neighbor_embedding"}.get(
            rest[0], rest[0]
        ) + f".{rest[-1]}"
    return f"gnn_layers.{parts[1]}.{name}"


def import_original(folder: Path) -> tuple[PetNetwork, Baseline]:
    """Network and baseline of a checkpoint folder of the original code.

    Raises
    ------
    UserError
        If a file is missing, an option is not built here, or the weights do not fit the architecture.
    """
    folder = Path(folder)
    for name in _FILES:
        if not (folder / name).is_file():
            raise UserError(f"{folder} is not a checkpoint folder of the original PET code: it has no {name}")
    weights = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise UserError(f"{folder} holds no weights: expected a file named {' or '.join(_WEIGHTS)}")
    hypers = load_yaml(folder / "hypers_used.yaml")
    if not isinstance(hypers, dict) or not isinstance(hypers.get("ARCHITECTURAL_HYPERS"), dict):
        raise UserError(f"{folder / 'hypers_used.yaml'} must hold a section ARCHITECTURAL_HYPERS")
    try:
        species = tuple(int(z) for z in np.load(folder / "all_species.npy"))
        contributions = np.load(folder / "self_contributions.npy").astype(float)
    except (ValueError, EOFError, TypeError) as error:
        raise UserError(f"an array in {folder} cannot be read: {str(error).splitlines()[0]}") from error
    config = config_from_hypers(hypers["ARCHITECTURAL_HYPERS"], species)
    try:
        original = torch.load(weights, weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(f"{weights} cannot be read as a state dict: {str(error).splitlines()[0]}") from error
    state: dict[str, torch.Tensor] = {}
    for key, value in original.items():
        renamed = _renamed(key, config)
        if renamed is not None:
            # the original's embeddings have one more row, for padding
            padded = renamed.endswith("embedding.weight")
            state[renamed] = value[: len(species)] if padded else value
    network = PetNetwork(config)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(
            f"the weights do not fit hypers_used.yaml: {' '.join(str(error).split())[:300]}"
        ) from error
    return network, Baseline(species, contributions, config.cutoff)
