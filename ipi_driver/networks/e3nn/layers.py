"""Parts of an equivariant network: linear maps, convolutions over edges, products on atoms, gates.

Features are a list of tensors (n_nodes, channels, 2l + 1), one for each irrep. Every operation takes irreps apart by
their Wigner matrices: features of a rotated structure are the rotated features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from e3nn import o3
from torch import nn

from ipi_driver.networks.e3nn.coupling import Path, all_paths, coupling_matrix

Features = list[torch.Tensor]
Hidden = Sequence[tuple[int, o3.Irrep]]


class ChannelMix(nn.Module):
    """Linear map of the channels of one irrep: (n, n_in, 2l + 1) -> (n, n_out, 2l + 1), unit variance kept."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in))
        self.factor = max(n_in, 1) ** -0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.matmul(self.weight * self.factor, x)


class Linear(nn.Module):
    """`ChannelMix` of every irrep; an irrep that the input lacks is zero."""

    def __init__(self, hidden_in: Hidden, hidden_out: Hidden) -> None:
        super().__init__()
        have = [ir for _, ir in hidden_in]
        self.source = [have.index(ir) if ir in have else -1 for _, ir in hidden_out]
        self.out = list(hidden_out)
        self.mixes = nn.ModuleList(
            ChannelMix(hidden_in[k][0], n) if k >= 0 else nn.Identity()
            for k, (n, _) in zip(self.source, hidden_out, strict=True)
        )

    def forward(self, features: Features) -> Features:
        n = features[0].shape[0]
        return [
            mix(features[k]) if k >= 0 else features[0].new_zeros(n, channels, ir.dim)
            for k, mix, (channels, ir) in zip(self.source, self.mixes, self.out, strict=True)
        ]


class Convolution(nn.Module):
    """Sum over the neighbors of products of their features and the filter of the edge.

        A_i^{path} = 1 / sqrt(n) sum_j R^{path}(r_ij) [h_j^{l_1} x f^{l_2}(r_ij)]^{l_3}

    The filter does not depend on the channel. For each irrep of the features, one small matrix per edge holds all
    products with the filter; channels are multiplied by it together.

    Parameters
    ----------
    hidden_in
        Features that are sent.
    filters
        Irreps of the filter.
    irreps_out
        Irreps that are received.
    d_radial
        Width of the radial features.
    average_neighbors
        n.
    """

    def __init__(
        self,
        hidden_in: Hidden,
        filters: Sequence[o3.Irrep],
        irreps_out: Sequence[o3.Irrep],
        d_radial: int,
        average_neighbors: float,
    ) -> None:
        super().__init__()
        self.factor = average_neighbors**-0.5
        self.irreps_out = list(irreps_out)
        self.paths: list[list[Path]] = []
        self.radial = nn.ModuleList()
        n_out = [0] * len(self.irreps_out)
        for k, (channels, ir) in enumerate(hidden_in):
            paths = all_paths([ir], filters, self.irreps_out)
            self.paths.append(paths)
            matrix = coupling_matrix([ir], filters, self.irreps_out, paths)
            # (filter, component of the feature x components of all products)
            self.register_buffer(
                f"coupling_{k}", matrix.transpose(0, 1).reshape(matrix.shape[1], -1), persistent=False
            )
            radial = nn.Linear(d_radial, channels * len(paths), bias=False)
            nn.init.normal_(radial.weight, std=d_radial**-0.5)
            self.radial.append(radial)
            for path in paths:
                n_out[path.out] += channels
        self.hidden_out = list(zip(n_out, self.irreps_out, strict=True))

    def forward(
        self,
        features: Features,
        harmonics: torch.Tensor,
        relaxed: torch.Tensor | None,
        radial: torch.Tensor,
        centers: torch.Tensor,
        neighbors: torch.Tensor,
    ) -> Features:
        """Densities of each atom, a list of (n_nodes, channels, 2l + 1).

        Parameters
        ----------
        features
            Of the atoms.
        harmonics
            (n_edges, dim) spherical harmonics.
        relaxed
            (dim of the spherical harmonics, dim of the filter), or None if the harmonics are the filter.
        radial
            (n_edges, d_radial), zero at the cutoff.
        centers, neighbors
            (n_edges,) indices of the atoms.
        """
        n_nodes = features[0].shape[0]
        received: list[Features] = [[] for _ in self.irreps_out]
        for k, (feature, paths) in enumerate(zip(features, self.paths, strict=True)):
            if not paths:
                continue
            matrix = getattr(self, f"coupling_{k}")
            matrix = matrix if relaxed is None else relaxed @ matrix
            sent = feature.index_select(0, neighbors)
            n_edges, channels, dim = sent.shape
            products = torch.bmm(sent, (harmonics @ matrix).view(n_edges, dim, matrix.shape[1] // dim))
            weights = self.radial[k](radial).view(n_edges, channels, len(paths))
            # split and unbind: the derivatives of slices would be as large as the whole, one for each slice
            parts = products.split([self.irreps_out[path.out].dim for path in paths], dim=2)
            for path, part, weight in zip(paths, parts, weights.unbind(2), strict=True):
                message = part * weight[:, :, None]
                total = message.new_zeros(n_nodes, channels, message.shape[2])
                received[path.out].append(total.index_add(0, centers, message))
        return [
            self.factor * torch.cat(found, dim=1) if found else features[0].new_zeros(n_nodes, 0, ir.dim)
            for found, ir in zip(received, self.irreps_out, strict=True)
        ]


class Product(nn.Module):
    """Products of two features of an atom, channel by channel: [a_c x b_c]^l for all irreps that are wanted."""

    def __init__(
        self, left: Sequence[o3.Irrep], right: Sequence[o3.Irrep], out: Sequence[o3.Irrep], channels: int
    ) -> None:
        super().__init__()
        paths = [p for k in range(len(out)) for p in all_paths(left, right, out) if p.out == k]
        matrix = coupling_matrix(left, right, out, paths)
        self.register_buffer("matrix", matrix.reshape(-1, matrix.shape[2]), persistent=False)
        self.matrix: torch.Tensor
        self.counts = [sum(p.out == k for p in paths) for k in range(len(out))]
        self.dims = [ir.dim for ir in out]
        self.hidden_out = [(channels * n, ir) for n, ir in zip(self.counts, out, strict=True)]

    def forward(self, left: Features, right: Features) -> Features:
        a, b = torch.cat(left, dim=2), torch.cat(right, dim=2)
        n, channels, _ = a.shape
        outer = (a[:, :, :, None] * b[:, :, None, :]).view(n, channels, -1)
        sizes = [count * dim for count, dim in zip(self.counts, self.dims, strict=True)]
        parts = (outer @ self.matrix).split(sizes, dim=2)
        return [
            part.reshape(n, channels * count, dim)
            for part, count, dim in zip(parts, self.counts, self.dims, strict=True)
        ]


class Gate(nn.Module):
    """SiLU of the even scalars, tanh of the odd ones; other irreps times a sigmoid of scalars of their own.

    The input holds, as its last entry, the scalars for the gates.
    """

    def __init__(self, hidden: Hidden) -> None:
        super().__init__()
        self.hidden = list(hidden)
        self.n_gates = sum(n for n, ir in hidden if ir.l > 0)

    def forward(self, features: Features) -> Features:
        *features, gates = features
        found, start = [], 0
        for feature, (n, ir) in zip(features, self.hidden, strict=True):
            if ir.l == 0:
                found.append(nn.functional.silu(feature) if ir.p == 1 else torch.tanh(feature))
            else:
                found.append(feature * torch.sigmoid(gates[:, start : start + n]))
                start += n
        return found
