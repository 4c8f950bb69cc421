"""Architecture of a PET model: everything that fixes the function apart from its weights."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from ipi_driver.networks.base import NetworkConfig


class PetConfig(NetworkConfig):
    """Hyperparameters of `PetNetwork`; the defaults are those of the published water model.

    ``radial_basis = 0`` is the published edge embedding of (x, y, z, |r|); a positive number adds the unit vector
    and that many Gaussians of the distance, which learns short bonds faster and is as non-equivariant as before.
    """

    kind: ClassVar[str] = "pet"
    optimizer: ClassVar[str] = "muon"
    growing: ClassVar[tuple[str, ...]] = ("n_gnn_layers",)

    cutoff_width: float = Field(0.2, gt=0, description="Å over which the cutoff function falls from 1 to 0")
    d_model: int = Field(128, gt=0)
    n_heads: int = Field(4, gt=0)
    d_feedforward: int = Field(512, gt=0)
    n_gnn_layers: int = Field(4, gt=0)
    n_attention_layers: int = Field(2, gt=0, description="transformer layers in each GNN layer")
    d_head: int = Field(128, gt=0, description="hidden width of the output heads")
    norm: Literal["post", "pre"] = "post"
    compress: Literal["linear", "mlp"] = "mlp"
    activation: Literal["silu", "mish"] = "silu"
    embedding_activation: bool = False
    blend_neighbor_species: bool = False
    bond_energies: bool = True
    residual_factor: float = 0.5
    radial_basis: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> PetConfig:
        if self.d_model % self.n_heads:
            raise ValueError(
                f"`d_model` must be a multiple of `n_heads`, got {self.d_model} and {self.n_heads}"
            )
        if self.cutoff_width > self.cutoff:
            raise ValueError(
                f"`cutoff_width` must not exceed `cutoff`, got {self.cutoff_width} > {self.cutoff}"
            )
        return self
