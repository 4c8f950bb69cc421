"""What PET is told of an edge: its vector and length, and on request the angles that it encloses with other edges.

The published PET is told x, y, z and |r| and has to learn what a rotation is, angles included. With an angular basis
it is told sums over the edges of the same atom besides,

    s_{lanZ}(ij) = sum_k delta(Z_k, Z) g_n(r_ik) f_c(r_ik) cos(angle jik)^l,       l = 1 ... order,

with Gaussians g_n of the distance. They do not change when everything is turned or reflected. As

    (u . v)^l = T_l(u) . T_l(v),       T_l(u): the monomials of x, y, z of degree l, times roots of multinomials,

they need no loop over pairs of edges: the density of each atom, q = sum_k g f_c T_l(u_ik), is projected on T_l(u_ij).
Without Cartesian features the network is told nothing else of directions, and its energy is exactly invariant.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import nn

from ipi_driver.networks.graph import Graph
from ipi_driver.networks.pet.config import PetConfig


@cache
def _monomials(degree: int) -> tuple[tuple[tuple[int, int, int], float], ...]:
    """Exponents of x, y and z, and the root of the multinomial coefficient."""
    return tuple(
        (
            (i, j, degree - i - j),
            math.sqrt(math.comb(degree, i) * math.comb(degree - i, j)),
        )
        for i in range(degree, -1, -1)
        for j in range(degree - i, -1, -1)
    )


def _product(columns: list[torch.Tensor], exponents: tuple[int, ...], factor: float) -> torch.Tensor:
    result = torch.full_like(columns[0], factor)
    for column, exponent in zip(columns, exponents, strict=True):
        for _ in range(exponent):
            result = result * column
    return result


def directions(units: torch.Tensor, degree: int) -> torch.Tensor:
    """(n_edges, n_monomials): T_l of unit vectors (n_edges, 3), see the module's description."""
    columns = list(units.unbind(1))
    return torch.stack([_product(columns, exponents, c) for exponents, c in _monomials(degree)], 1)


def directions_backward(units: torch.Tensor, degree: int, gradient: torch.Tensor) -> torch.Tensor:
    """(n_edges, 3): the derivative by the units from that by `directions`."""
    columns = list(units.unbind(1))
    result = torch.zeros_like(units)
    for k, (exponents, c) in enumerate(_monomials(degree)):
        for axis in range(3):
            if exponents[axis]:
                lower = tuple(e - (a == axis) for a, e in enumerate(exponents))
                result[:, axis].addcmul_(_product(columns, lower, c * exponents[axis]), gradient[:, k])
    return result


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
        self.n_species = len(config.species)
        # Not persistent: the configuration fixes them.
        self.centers: torch.Tensor
        self.angular_centers: torch.Tensor
        self.register_buffer(
            "centers", torch.linspace(0.4, config.cutoff, config.radial_basis), persistent=False
        )
        self.width = _spacing(self.centers, config.cutoff)
        self.register_buffer(
            "angular_centers",
            torch.linspace(min(1.0, 0.5 * config.cutoff), config.cutoff, config.angular_basis),
            persistent=False,
        )
        self.angular_width = _spacing(self.angular_centers, config.cutoff)

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
        config = self.config
        units = vectors / lengths[:, None]
        features = [vectors, lengths[:, None]] if config.cartesian else [lengths[:, None]]
        if config.radial_basis:
            features += [units] if config.cartesian else []
            features.append(_gaussians(lengths, self.centers, self.width))
        if config.angular_basis:
            radial = _gaussians(lengths, self.angular_centers, self.angular_width) * weights[:, None]
            features += [
                self._projected(radial, directions(units, degree), graph)
                for degree in range(1, config.angular_order + 1)
            ]
        return torch.cat(features, dim=1)

    def gradient(
        self,
        vectors: torch.Tensor,
        lengths: torch.Tensor,
        weights: torch.Tensor,
        graph: Graph,
        g_features: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Derivatives by vectors (n_edges, 3), lengths and weights (n_edges,) from those by the features."""
        config = self.config
        units = vectors / lengths[:, None]
        column = 3 if config.cartesian else 0
        g_vectors = g_features[:, :3].clone() if config.cartesian else torch.zeros_like(vectors)
        g_lengths = g_features[:, column].clone()
        g_weights = torch.zeros_like(lengths)
        g_units = torch.zeros_like(vectors)
        column += 1
        if config.radial_basis:
            if config.cartesian:
                g_units += g_features[:, column : column + 3]
                column += 3
            values = _gaussians(lengths, self.centers, self.width)
            g_values = g_features[:, column : column + config.radial_basis]
            g_lengths += _gaussians_backward(lengths, self.centers, self.width, values, g_values)
            column += config.radial_basis
        if config.angular_basis:
            gaussians = _gaussians(lengths, self.angular_centers, self.angular_width)
            radial = gaussians * weights[:, None]
            g_radial = torch.zeros_like(radial)
            n_densities = self.n_species * config.angular_basis
            for degree in range(1, config.angular_order + 1):
                g_projections = g_features[:, column : column + n_densities]
                found = directions(units, degree)
                g_found = self._projected_backward(radial, found, graph, g_projections, g_radial)
                g_units += directions_backward(units, degree, g_found)
                column += n_densities
            g_weights += (g_radial * gaussians).sum(1)
            g_lengths += _gaussians_backward(
                lengths, self.angular_centers, self.angular_width, radial, g_radial
            )
        g_units /= lengths[:, None]
        g_vectors += g_units
        g_lengths -= (g_units * units).sum(1)
        return g_vectors, g_lengths, g_weights

    def _densities(self, values: torch.Tensor, graph: Graph) -> torch.Tensor:
        """(n_edges, n, m) -> (n_nodes, n_species * n, m): sums over the edges to neighbors of each species."""
        of_species = graph.centers * self.n_species + graph.neighbor_species
        total = values.new_zeros(graph.n_nodes * self.n_species, *values.shape[1:])
        return total.index_add(0, of_species, values).view(graph.n_nodes, -1, values.shape[2])

    def _projected(self, radial: torch.Tensor, found: torch.Tensor, graph: Graph) -> torch.Tensor:
        """(n_edges, n_species * angular_basis): the densities of the centers projected on the directions."""
        densities = self._densities(radial[:, :, None] * found[:, None, :], graph)
        return torch.einsum("eac,ec->ea", densities.index_select(0, graph.centers), found)

    def _projected_backward(
        self,
        radial: torch.Tensor,
        found: torch.Tensor,
        graph: Graph,
        gradient: torch.Tensor,
        g_radial: torch.Tensor,
    ) -> torch.Tensor:
        """The derivative by the directions; adds that by the radial part to ``g_radial``."""
        densities = self._densities(radial[:, :, None] * found[:, None, :], graph)
        g_found = torch.einsum("eac,ea->ec", densities.index_select(0, graph.centers), gradient)
        g_densities = gradient.new_zeros(graph.n_nodes, gradient.shape[1], found.shape[1])
        g_densities.index_add_(0, graph.centers, gradient[:, :, None] * found[:, None, :])
        g_densities = g_densities.view(graph.n_nodes * self.n_species, -1, found.shape[1])
        of_neighbor = g_densities.index_select(0, graph.centers * self.n_species + graph.neighbor_species)
        g_radial += torch.einsum("enc,ec->en", of_neighbor, found)
        return g_found + torch.einsum("enc,en->ec", of_neighbor, radial)


def _spacing(centers: torch.Tensor, cutoff: float) -> float:
    return float(centers[1] - centers[0]) if len(centers) > 1 else cutoff


def _gaussians(lengths: torch.Tensor, centers: torch.Tensor, width: float) -> torch.Tensor:
    offsets = (lengths[:, None] - centers) / width
    return torch.exp(-0.5 * offsets * offsets)


def _gaussians_backward(
    lengths: torch.Tensor, centers: torch.Tensor, width: float, values: torch.Tensor, gradient: torch.Tensor
) -> torch.Tensor:
    """Derivative by the lengths; ``values`` are the Gaussians, also with a factor that does not depend on them."""
    offsets = (lengths[:, None] - centers).mul_(values)
    return offsets.mul_(gradient).sum(1).div_(-width * width)
