"""Settings of an equivariant or relaxed-equivariant network on e3nn."""

from __future__ import annotations

from typing import ClassVar, Literal

from e3nn import o3
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ipi_driver.networks.base import NetworkConfig

Parities = Literal["natural", "both"]


def irreps_up_to(l_max: int, parities: Parities) -> list[o3.Irrep]:
    """Irreps of degree 0 to ``l_max``: those of the spherical harmonics, p = (-1)^l, or those of both parities."""
    natural = [o3.Irrep(degree, (-1) ** degree) for degree in range(l_max + 1)]
    if parities == "natural":
        return natural
    return natural + [o3.Irrep(ir.l, -ir.p) for ir in natural]


class RelaxedConfig(BaseModel):
    """Relaxed weights: what of the symmetry a network may break, and how dear that is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    l_max: int = Field(2, ge=0, description="largest degree of the relaxed weights")
    parities: Parities = "both"
    regularization: float = Field(0.01, ge=0, description="of the squared non-scalar relaxed weights")


class E3nnConfig(NetworkConfig):
    """Settings of `E3nnNetwork`."""

    kind: ClassVar[str] = "e3nn"

    l_max: int = Field(2, ge=0, le=4, description="largest degree of features and spherical harmonics")
    channels: int = Field(
        32, gt=0, description="scalar features; each degree has half of those of the one below"
    )
    parities: Parities = Field(
        "natural", description="natural: features of parity (-1)^l; both: and the others"
    )
    n_layers: int = Field(2, gt=0)
    n_radial: int = Field(8, gt=1, description="Bessel functions of the distance")
    d_radial: int = Field(32, gt=0, description="hidden width of the radial network")
    correlation: int = Field(3, ge=1, le=3, description="factors in the products of the densities of an atom")
    product_channels: int = Field(16, gt=0, description="channels of these products")
    d_head: int = Field(32, gt=0, description="hidden width of the output heads")
    average_neighbors: float = Field(30.0, gt=0, description="scale of the sums over neighbors")
    relaxed: RelaxedConfig | None = Field(None, description="relaxed weights: {l_max: 2, parities: both}")

    @model_validator(mode="after")
    def _check(self) -> E3nnConfig:
        if self.relaxed is not None and self.relaxed.l_max > 2 * self.l_max:
            raise ValueError(
                f"`relaxed.l_max` must not exceed twice `l_max`: tensor products of filters up to degree {self.l_max} "
                f"hold no higher degree than {2 * self.l_max}, got {self.relaxed.l_max}"
            )
        return self

    @property
    def learns_directions(self) -> bool:
        return self.relaxed is not None

    @property
    def hidden(self) -> list[tuple[int, o3.Irrep]]:
        """Multiplicity and irrep of the features."""
        return [(max(1, self.channels >> ir.l), ir) for ir in irreps_up_to(self.l_max, self.parities)]
