"""What PET is told of an edge: its vector and length, and on request the angles that it encloses with other edges.

The published PET is told x, y, z and |r| and has to learn what a rotation is, angles included. With an angular basis
it is told sums over the edges of the same atom besides,

    s_{lnZ}(ij) = sum_k delta(Z_k, Z) g_n(r_ik) f_c(r_ik) cos(angle jik)^l,       l = 1 ... order,

with Gaussians g_n of the distance. They do not change when everything is turned or reflected. Without Cartesian
features the network is told nothing else of directions, and its energy is exactly invariant.
"""

from __future__ import annotations

import torch
from torch import nn

from ipi_driver.networks.blocks import Block
from ipi_driver.networks.graph import Graph
from ipi_driver.networks.pet.config import PetConfig
from ipi_driver.networks.pet.rows import to_rows, to_tokens


class EdgeFeatures(nn.Module):
    """Features of the edges of a batch; it has no weights.

    Parameters
    ----------
    config
        The architecture.
    """

    def __init__(self, config: PetConfig) -> None:
        super().__init__()
        self.config = config
        # Not persistent: the configuration fixes them.
        self.radial_centers: torch.Tensor
        self.angular_centers: torch.Tensor
        centers = torch.linspace(0.4, config.cutoff, config.radial_basis)
        self.register_buffer("radial_centers", centers, persistent=False)
        self.radial_width = _spacing(centers, config.cutoff)
        centers = torch.linspace(min(1.0, 0.5 * config.cutoff), config.cutoff, config.angular_basis)
        self.register_buffer("angular_centers", centers, persistent=False)
        self.angular_width = _spacing(centers, config.cutoff)
        self.kinds: torch.Tensor
        self.register_buffer("kinds", torch.arange(len(config.species)), persistent=False)

    def forward(
        self, vectors: torch.Tensor, lengths: torch.Tensor, weights: torch.Tensor, graph: Graph
    ) -> torch.Tensor:
        """(n_edges, config.n_edge_features): x, y, z, |r|, the unit vector, Gaussians of |r|, angles.

        The unit vector goes with the Gaussians; without Cartesian features it and x, y, z are left out.

        Parameters
        ----------
        vectors, lengths, weights
            (n_edges, 3) and (n_edges,), Å; (n_edges,) cutoff function.
        graph
            Of the batch.
        """
        units = vectors / lengths[:, None]
        features = self.of_single_edges(vectors, lengths, units)
        if self.config.angular_basis:
            radial = self.angular_gaussians(lengths) * weights[:, None]
            both = torch.cat([units, self.by_species(radial, graph.neighbor_species)], 1)
            rows = to_rows(torch.cat([both.new_zeros(graph.n_nodes, both.shape[1]), both]), graph)
            rows = rows.view(graph.n_nodes, graph.row_length, -1)
            sums = cosine_sums(rows[..., :3], rows[..., 3:], self.config.angular_order)
            features.append(to_tokens(sums.flatten(0, 1), graph)[graph.n_nodes :])
        return torch.cat(features, dim=1)

    def of_single_edges(
        self, vectors: torch.Tensor, lengths: torch.Tensor, units: torch.Tensor
    ) -> list[torch.Tensor]:
        """The features before the angles."""
        cartesian, radial = self.config.cartesian, self.config.radial_basis > 0
        features = [vectors, lengths[:, None]] if cartesian else [lengths[:, None]]
        if radial and cartesian:
            features.append(units)
        if radial:
            features.append(_gaussians(lengths, self.radial_centers, self.radial_width))
        return features

    def angular_gaussians(self, lengths: torch.Tensor) -> torch.Tensor:
        """(n_edges, angular_basis): g_n of the lengths."""
        return _gaussians(lengths, self.angular_centers, self.angular_width)

    def by_species(self, values: torch.Tensor, species: torch.Tensor) -> torch.Tensor:
        """(n_edges, n) -> (n_edges, n_species * n): the values in the columns of their species, zeros elsewhere."""
        return (self.of_species(species)[:, :, None] * values[:, None, :]).flatten(1)

    def of_species(self, species: torch.Tensor) -> torch.Tensor:
        """(n_edges, n_species): 1 in the column of the species, 0 elsewhere."""
        return (species[:, None] == self.kinds).to(self.angular_centers.dtype)


class BlockFeatures:
    """`EdgeFeatures` of a graph and the derivatives by what they are made of, without autograd, block by block.

    Parameters
    ----------
    features
        Of the network.
    vectors, lengths, weights
        As for `EdgeFeatures`.
    graph, blocks
        The graph and its blocks.

    Attributes
    ----------
    values
        (n_edges, config.n_edge_features).
    """

    def __init__(
        self,
        features: EdgeFeatures,
        vectors: torch.Tensor,
        lengths: torch.Tensor,
        weights: torch.Tensor,
        graph: Graph,
        blocks: list[Block],
    ) -> None:
        self.features, self.config = features, features.config
        self.lengths, self.weights, self.graph, self.blocks = lengths, weights, graph, blocks
        self.units = vectors / lengths[:, None]
        parts = features.of_single_edges(vectors, lengths, self.units)
        if self.config.angular_basis:
            self.gaussians = features.angular_gaussians(lengths)
            self.radial = features.by_species(self.gaussians * weights[:, None], graph.neighbor_species)
            sums = lengths.new_empty(len(lengths), self.config.angular_order * self.radial.shape[1])
            for block in blocks:
                units, radial = _in_rows(self.units, block), _in_rows(self.radial, block)
                found = cosine_sums(units, radial, self.config.angular_order).flatten(0, 1)
                sums[block.edges] = found.index_select(0, block.edge_slots)
            parts.append(sums)
        self.values = torch.cat(parts, 1)

    def gradient(self, g_features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Derivatives by vectors (n_edges, 3), lengths and weights (n_edges,) from those by the features."""
        config, features, lengths = self.config, self.features, self.lengths
        parts, own = (
            g_features.split(config.edge_feature_sizes, 1),
            self.values.split(config.edge_feature_sizes, 1),
        )
        g_vectors = parts[0].clone() if config.cartesian else torch.zeros_like(self.units)
        g_units = parts[2].clone() if parts[2].shape[1] else torch.zeros_like(self.units)
        g_lengths, g_weights = parts[1][:, 0].clone(), torch.zeros_like(lengths)
        if config.radial_basis:
            slopes = _slopes(lengths, features.radial_centers, features.radial_width, own[3])
            g_lengths += slopes.mul_(parts[3]).sum(1)
        if config.angular_basis:
            kinds = features.of_species(self.graph.neighbor_species)[:, :, None]
            g_radial = (
                self._angles_backward(parts[4], g_units).unflatten(1, (kinds.shape[1], -1)) * kinds
            ).sum(1)
            g_weights += (g_radial * self.gaussians).sum(1)
            slopes = _slopes(lengths, features.angular_centers, features.angular_width, self.gaussians)
            g_lengths += slopes.mul_(g_radial).sum(1).mul_(self.weights)
        g_units /= lengths[:, None]
        g_vectors += g_units
        g_lengths -= g_units.mul_(self.units).sum(1)
        return g_vectors, g_lengths, g_weights

    def _angles_backward(self, gradient: torch.Tensor, g_units: torch.Tensor) -> torch.Tensor:
        """Derivative by ``radial`` from that by the sums; adds that by the units to ``g_units``."""
        g_radial = torch.empty_like(self.radial)
        for block in self.blocks:
            of_units, of_radial = cosine_sums_backward(
                _in_rows(self.units, block), _in_rows(self.radial, block), _in_rows(gradient, block)
            )
            g_units[block.edges] += of_units.flatten(0, 1).index_select(0, block.edge_slots)
            g_radial[block.edges] = of_radial.flatten(0, 1).index_select(0, block.edge_slots)
        return g_radial


def cosine_sums(units: torch.Tensor, radial: torch.Tensor, order: int) -> torch.Tensor:
    """(n_nodes, row_length, order * n): sum_k cos(angle jik)^l radial_k for l = 1 ... order.

    Parameters
    ----------
    units, radial
        (n_nodes, row_length, 3) unit vectors and (n_nodes, row_length, n) of the edges of each node, zeros in
        empty slots.
    """
    cosines = torch.bmm(units, units.mT)
    power, sums = cosines, [torch.bmm(cosines, radial)]
    for _ in range(order - 1):
        power = power * cosines
        sums.append(torch.bmm(power, radial))
    return torch.cat(sums, 2)


def cosine_sums_backward(
    units: torch.Tensor, radial: torch.Tensor, gradient: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Derivatives by the units and by ``radial`` from those by the sums, see `cosine_sums`."""
    cosines = torch.bmm(units, units.mT)
    g_radial = torch.zeros_like(radial)
    g_cosines = torch.zeros_like(cosines)
    power = torch.ones_like(cosines)
    for degree, part in enumerate(gradient.split(radial.shape[2], dim=2), start=1):
        g_cosines.addcmul_(torch.bmm(part, radial.mT), power, value=degree)
        power *= cosines
        g_radial.baddbmm_(power, part)  # the matrix of the cosines is symmetric
    return torch.bmm(g_cosines + g_cosines.mT, units), g_radial


def _in_rows(values: torch.Tensor, block: Block) -> torch.Tensor:
    """(n_edges of the graph, n) -> (n_nodes, row_length, n) of a block, zeros in empty slots."""
    rows = values.new_zeros(block.n_nodes * block.row_length, values.shape[1])
    return rows.index_copy_(0, block.edge_slots, values[block.edges]).view(
        block.n_nodes, block.row_length, -1
    )


def _spacing(centers: torch.Tensor, cutoff: float) -> float:
    return float(centers[1] - centers[0]) if len(centers) > 1 else cutoff


def _gaussians(lengths: torch.Tensor, centers: torch.Tensor, width: float) -> torch.Tensor:
    offsets = (lengths[:, None] - centers) / width
    return torch.exp(-0.5 * offsets * offsets)


def _slopes(lengths: torch.Tensor, centers: torch.Tensor, width: float, values: torch.Tensor) -> torch.Tensor:
    """Derivatives of Gaussians with these values by the lengths."""
    return (centers - lengths[:, None]).mul_(values).mul_(1.0 / (width * width))
