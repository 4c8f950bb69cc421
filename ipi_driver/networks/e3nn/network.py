r"""An equivariant message-passing network, and its relaxed form.

.. math::
    A_i = \frac{1}{\sqrt n} \sum_j R(r_{ij}) \, h_j \otimes f(\hat r_{ij}), \qquad
    h_i' = \mathrm{gate}(W A_i + W' A_i \otimes A_i + W'' A_i \otimes A_i \otimes A_i + W_{Z_i} h_i),

with the features h of irreps of O(3), the spherical harmonics f = Y (relaxed: see `relaxed`), and a radial network R
on Bessel functions with a smooth cutoff. The features of the first layer are embeddings of the elements; after each
layer a head reads an energy from the scalars of each atom. The products on the atoms are those of the atomic cluster
expansion; they cost little, because there are many more edges than atoms.

Sources: Batzner et al., Nat. Commun. 13, 2453 (2022) (NequIP); Batatia et al., NeurIPS 2022 (MACE).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from e3nn import o3
from torch import nn

from ipi_driver.errors import UserError
from ipi_driver.networks.base import EdgeNetwork, NetworkConfig
from ipi_driver.networks.e3nn.config import E3nnConfig, irreps_up_to
from ipi_driver.networks.e3nn.layers import Convolution, Features, Gate, Hidden, Linear, Product
from ipi_driver.networks.e3nn.relaxed import RelaxedFilter, RelaxedWeights
from ipi_driver.networks.graph import Graph

SCALAR = o3.Irrep("0e")
_NO_BREAKING = 1e-6
"""Norm of the non-scalar relaxed weights, relative to the scalar ones, below which there is no breaking."""
_NOTABLE = 0.1


class RadialNetwork(nn.Module):
    """Radial features (n_edges, width) of an edge: a network on Bessel functions and the two elements, times a cutoff.

    The cutoff is 1 - 28 x^6 + 48 x^7 - 21 x^8 with x = r / cutoff (Gasteiger et al., 2020), twice differentiable.
    """

    def __init__(self, config: E3nnConfig) -> None:
        super().__init__()
        self.cutoff = config.cutoff
        self.n_species = len(config.species)
        self.register_buffer(
            "frequencies",
            math.pi / config.cutoff * torch.arange(1, config.n_radial + 1, dtype=torch.float64),
            persistent=False,
        )
        self.frequencies: torch.Tensor
        width = config.d_radial
        self.first = nn.Linear(config.n_radial, width)
        self.pairs = nn.Embedding(self.n_species**2, width)
        self.second = nn.Linear(width, width)

    def forward(self, lengths: torch.Tensor, graph: Graph) -> torch.Tensor:
        bessel = (
            (2.0 / self.cutoff) ** 0.5 * torch.sin(lengths[:, None] * self.frequencies) / lengths[:, None]
        )
        x = (lengths / self.cutoff).clamp(max=1.0)
        x6 = x**6
        envelope = 1.0 - x6 * (28.0 - 48.0 * x + 21.0 * x * x)
        pair = graph.species.index_select(0, graph.centers) * self.n_species + graph.neighbor_species
        hidden = nn.functional.silu(self.first(bessel) + self.pairs(pair))
        return nn.functional.silu(self.second(hidden)) * envelope[:, None]


class InteractionLayer(nn.Module):
    """One message-passing step.

    Parameters
    ----------
    config
        Settings.
    hidden_in, hidden_out
        Features before and after.
    """

    def __init__(self, config: E3nnConfig, hidden_in: Hidden, hidden_out: Hidden) -> None:
        super().__init__()
        harmonics = irreps_up_to(config.l_max, "natural")
        irreps = irreps_up_to(config.l_max, config.parities)
        self.relaxed: RelaxedFilter | None = None
        if config.relaxed is not None:
            weights = irreps_up_to(config.relaxed.l_max, config.relaxed.parities)
            self.relaxed = RelaxedFilter(harmonics, weights, config.l_max)
        filters = harmonics if self.relaxed is None else self.relaxed.irreps
        self.radial = RadialNetwork(config)
        self.convolution = Convolution(hidden_in, filters, irreps, config.d_radial, config.average_neighbors)
        density = self.convolution.hidden_out
        self.gate = Gate(hidden_out)
        wanted = [*hidden_out, (self.gate.n_gates, SCALAR)]
        irreps_out = list(dict.fromkeys(ir for _, ir in wanted))
        channels = config.product_channels
        same = [(channels, ir) for ir in irreps]
        self.from_density = Linear(density, wanted)
        n_factors = config.correlation if config.correlation > 1 else 0
        self.factors = nn.ModuleList(Linear(density, same) for _ in range(n_factors))
        self.products, self.from_products, self.between = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for k in range(2, config.correlation + 1):
            out = irreps if k < config.correlation else irreps_out
            product = Product(irreps, irreps, out, channels)
            self.products.append(product)
            self.from_products.append(Linear(product.hidden_out, wanted))
            if k < config.correlation:
                self.between.append(Linear(product.hidden_out, same))
        self.skips = nn.ModuleList(Linear(hidden_in, wanted) for _ in config.species)

    def forward(
        self,
        features: Features,
        harmonics: torch.Tensor,
        lengths: torch.Tensor,
        graph: Graph,
        neighbors: torch.Tensor,
    ) -> Features:
        relaxed = None if self.relaxed is None else self.relaxed()
        radial = self.radial(lengths, graph)
        density = self.convolution(features, harmonics, relaxed, radial, graph.centers, neighbors)
        found = self.from_density(density)
        products: Features = []
        for k, product in enumerate(self.products):
            left = self.factors[0](density) if k == 0 else self.between[k - 1](products)
            products = product(left, self.factors[k + 1](density))
            found = [a + b for a, b in zip(found, self.from_products[k](products), strict=True)]
        for z, skip in enumerate(self.skips):
            mask = (graph.species == z).to(lengths.dtype)[:, None, None]
            found = [a + mask * b for a, b in zip(found, skip(features), strict=True)]
        return self.gate(found)


class Head(nn.Module):
    """Energies (n_nodes,) from the scalars (n_nodes, channels) of the atoms."""

    def __init__(self, config: E3nnConfig) -> None:
        super().__init__()
        self.first = nn.Linear(config.channels, config.d_head)
        self.last = nn.Linear(config.d_head, 1)

    def forward(self, scalars: torch.Tensor) -> torch.Tensor:
        energies: torch.Tensor = self.last(nn.functional.silu(self.first(scalars)))[:, 0]
        return energies


class E3nnNetwork(EdgeNetwork):
    """The network; see the module's description for the formulas.

    Parameters
    ----------
    config
        Settings.
    scalars_last
        Whether the last layer makes scalars alone, which is all that energies need.
    """

    config_class: ClassVar[type[NetworkConfig]] = E3nnConfig
    options: ClassVar[tuple[str, ...]] = ("theta_scale",)
    config: E3nnConfig

    def __init__(self, config: E3nnConfig, scalars_last: bool = True) -> None:
        super().__init__(config)
        self.l_max = config.l_max
        self.embedding = nn.Embedding(len(config.species), config.channels)
        self.layers, self.heads = nn.ModuleList(), nn.ModuleList()
        hidden: Hidden = [(config.channels, SCALAR)]
        for k in range(config.n_layers):
            last = scalars_last and k == config.n_layers - 1
            hidden_out = [(config.channels, SCALAR)] if last else config.hidden
            self.layers.append(InteractionLayer(config, hidden, hidden_out))
            self.heads.append(Head(config))
            hidden = hidden_out

    @property
    def interaction_range(self) -> float:
        return self.config.n_layers * self.config.cutoff

    @property
    def width(self) -> int:
        return sum(n * ir.dim for n, ir in self.config.hidden)

    def zero_output(self) -> None:
        for head in self.heads:
            assert isinstance(head, Head)
            nn.init.zeros_(head.last.weight)
            nn.init.zeros_(head.last.bias)

    @property
    def relaxed_weights(self) -> list[RelaxedWeights]:
        """Relaxed weights of each layer; empty for an equivariant network."""
        filters = [layer.relaxed for layer in self.layers if isinstance(layer, InteractionLayer)]
        return [f.weights for f in filters if f is not None]

    @property
    def directions(self) -> tuple[str, ...]:
        """Irreps of the relaxed weights that hold more than `_NOTABLE` of the norm of the non-scalar ones."""
        norms: dict[str, float] = {}
        for weights in self.relaxed_weights:
            for name, values in weights.by_irrep().items():
                norms[name] = math.hypot(norms.get(name, 0.0), float(values.norm()))
        scalar = norms.pop(str(SCALAR), 0.0)
        whole = math.hypot(*norms.values())
        if whole <= _NO_BREAKING * max(scalar, 1e-300):
            return ()
        return tuple(name for name, norm in norms.items() if norm > _NOTABLE * whole)

    def penalty(self) -> torch.Tensor | None:
        """Sum of the squared non-scalar relaxed weights, times the factor of the settings."""
        if self.config.relaxed is None or self.config.relaxed.regularization == 0.0:
            return None
        squares = [weights.non_scalar().square().sum() for weights in self.relaxed_weights]
        return self.config.relaxed.regularization * torch.stack(squares).sum()

    def configure(self, options: Mapping[str, str]) -> None:
        """``theta_scale``: factor on the non-scalar relaxed weights; 0 makes the network equivariant."""
        text = options["theta_scale"]
        try:
            scale = float(text)
        except ValueError:
            raise UserError(f"`theta_scale` must be a number, got {text!r}") from None
        if not math.isfinite(scale):
            raise UserError(f"`theta_scale` must be finite, got {text}")
        if not self.relaxed_weights:
            raise UserError(
                "`theta_scale` scales relaxed weights, and this network has none: it is equivariant; leave it out"
            )
        for weights in self.relaxed_weights:
            weights.scale = scale

    def features(self, vectors: torch.Tensor, graph: Graph) -> list[Features]:
        """Features of the atoms after each layer, from edge vectors (n_edges, 3), Å."""
        lengths = vectors.norm(dim=1)
        degrees = list(range(self.l_max + 1))
        harmonics = o3.spherical_harmonics(degrees, vectors, normalize=True, normalization="component")
        neighbors = graph.centers.index_select(0, graph.reverse)
        hidden = [self.embedding(graph.species)[:, :, None]]
        found = []
        for layer in self.layers:
            hidden = layer(hidden, harmonics, lengths, graph, neighbors)
            found.append(hidden)
        return found

    def forward(self, vectors: torch.Tensor, graph: Graph) -> tuple[torch.Tensor, torch.Tensor]:
        atomic = vectors.new_zeros(graph.n_nodes)
        for head, hidden in zip(self.heads, self.features(vectors, graph), strict=True):
            atomic = atomic + head(hidden[0][:, :, 0])
        return atomic, vectors.new_zeros(graph.n_edges)
