"""Architecture of metatrain's PET: everything that fixes the function apart from its weights."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from ipi_driver.networks.base import NetworkConfig


class MetatrainPetConfig(NetworkConfig):
    """Hyperparameters of `MetatrainPetNetwork`; the defaults are metatrain's."""

    kind: ClassVar[str] = "metatrain-pet"
    optimizer: ClassVar[str] = "muon"

    cutoff: float = Field(4.5, gt=0, description="Å; with adaptive cutoffs the largest one")
    cutoff_function: Literal["bump", "cosine"] = "bump"
    cutoff_width: float = Field(0.5, gt=0, description="Å over which an edge's weight falls from 1 to 0")
    adaptive_neighbors: float | None = Field(
        None, gt=0, description="each atom has the cutoff within which it has about this many neighbors"
    )
    adaptive_method: Literal["solver", "grid"] = "solver"
    adaptive_width: float = Field(1.0, gt=0, description="Å over which a neighbor ceases to be counted")
    d_model: int = Field(128, gt=0, description="width of the edge tokens")
    d_node: int = Field(256, gt=0, description="width of the central tokens between attentions")
    d_head: int = Field(128, gt=0, description="hidden width of the output heads")
    d_feedforward: int = Field(256, gt=0)
    n_heads: int = Field(8, gt=0)
    n_gnn_layers: int = Field(2, gt=0)
    n_attention_layers: int = Field(2, gt=0, description="transformer layers in each GNN layer")
    norm: Literal["pre", "post"] = "pre"
    norm_type: Literal["rms", "layer"] = "rms"
    activation: Literal["swiglu", "silu"] = "swiglu"
    attention_temperature: float = Field(1.0, gt=0)
    featurizer: Literal["feedforward", "residual"] = "feedforward"
    system_bias: bool = Field(
        False,
        description="a vector added to the central tokens after each GNN layer: charge and spin of a model",
    )
    charge: int | None = Field(None, description="total charge that `system_bias` is of, where that is known")
    spin: int | None = Field(None, description="spin multiplicity, likewise")
    energy_scale: float = Field(1.0, description="factor of the network's energies")

    @model_validator(mode="after")
    def _check(self) -> MetatrainPetConfig:
        if self.d_model % self.n_heads:
            raise ValueError(
                f"`d_model` must be a multiple of `n_heads`, got {self.d_model} and {self.n_heads}"
            )
        return self
