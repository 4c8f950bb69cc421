"""Architecture of a PET model: everything that fixes the function apart from its weights."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from ipi_driver.networks.base import NetworkConfig


class PetConfig(NetworkConfig):
    """Hyperparameters of `PetNetwork`; the defaults are those of the published water model.

    ``radial_basis = 0`` is the published edge embedding of (x, y, z, |r|); a positive number adds the unit vector
    and that many Gaussians of the distance, which learns short bonds faster and is as non-equivariant as before.
    ``angular_basis > 0`` adds the angles to the other edges of the atom, see `ipi_driver.networks.pet.features`: the
    network need not learn them, and trains faster. With ``cartesian: false`` angles are all that it
    knows of directions, and it is exactly invariant to rotations and reflections.
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
    angular_basis: int = Field(
        0, ge=0, description="radial functions, for each element, of the angles to other edges"
    )
    angular_order: int = Field(2, ge=1, le=4, description="highest power of the cosines of these angles")
    cartesian: bool = Field(True, description="false: no x, y, z; exactly invariant")

    @property
    def edge_feature_sizes(self) -> tuple[int, int, int, int, int]:
        """Numbers of x, y, z; the length; the unit vector; Gaussians; angles: the features of an edge in this order."""
        vector = 3 if self.cartesian else 0
        unit = vector if self.radial_basis else 0
        angles = self.angular_order * len(self.species) * self.angular_basis
        return vector, 1, unit, self.radial_basis, angles

    @property
    def n_edge_features(self) -> int:
        """Numbers that the network is told of an edge."""
        return sum(self.edge_feature_sizes)

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
        if not (self.cartesian or self.angular_basis):
            raise ValueError(
                "`cartesian: false` needs `angular_basis` (4, say): else the network sees no angles at all"
            )
        return self
