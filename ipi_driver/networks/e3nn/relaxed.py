r"""Relaxed weights: a filter that may point somewhere, and has learned where.

The filter of a convolution is the spherical harmonics of an edge. Relaxed, it is their products with relaxed weights
:math:`\theta = \oplus\, l^p`, the same for all channels,

.. math:: f^{(l, L^P)}(\hat r) = \sum_{l'^{p'}} [Y^l(\hat r) \otimes \theta^{l'^{p'}}]^{L^P}.

With a scalar :math:`\theta^{0e} = 1` alone this is :math:`Y^l`, and the network is equivariant. Otherwise rotating the
input equals rotating the weights back, :math:`E(R x; \theta) = E(x; D(R)^{-1} \theta)`, for all R in O(3), so that a
non-scalar component that a training finds shows which symmetry the data break, and along which direction.

Source: Hofgard, Wang, Walters, Smidt, "Relaxed Equivariant Graph Neural Networks", arXiv 2407.20471 (2024).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from e3nn import o3
from torch import nn

from ipi_driver.networks.e3nn.coupling import all_paths, coupling_matrix, starts


class RelaxedWeights(nn.Module):
    """Relaxed weights of one layer.

    Parameters
    ----------
    irreps
        Irreps of the weights; 0e is among them.

    Attributes
    ----------
    theta
        (dim,) the weights, irrep after irrep. Only the even scalar, 1, is not zero at first.
    scale
        Factor on the non-scalar weights, 1 unless it is set on purpose (see `E3nnNetwork.configure`).
    """

    def __init__(self, irreps: Sequence[o3.Irrep]) -> None:
        super().__init__()
        self.irreps = list(irreps)
        self.starts = starts(self.irreps)
        self.scale = 1.0
        scalar = torch.zeros(self.starts[-1])
        scalar[self.starts[self.irreps.index(o3.Irrep("0e"))]] = 1.0
        self.theta = nn.Parameter(scalar.clone())
        self.register_buffer("is_scalar", scalar, persistent=False)
        self.is_scalar: torch.Tensor

    def effective(self) -> torch.Tensor:
        """(dim,) the weights, the non-scalar ones multiplied by `scale`."""
        return self.theta * (self.is_scalar + self.scale * (1.0 - self.is_scalar))

    def non_scalar(self) -> torch.Tensor:
        """(dim,) the effective weights with zero for the even scalar: what breaks the symmetry."""
        return self.effective() * (1.0 - self.is_scalar)

    def by_irrep(self) -> dict[str, torch.Tensor]:
        """The effective weights (2l + 1,) of each irrep by its name, such as 1o."""
        weights = self.effective().detach()
        return {
            str(ir): weights[a:b]
            for ir, a, b in zip(self.irreps, self.starts[:-1], self.starts[1:], strict=True)
        }


class RelaxedFilter(nn.Module):
    """From spherical harmonics (n_edges, dim) to filters (n_edges, dim of `irreps`): a matrix linear in the weights.

    Parameters
    ----------
    harmonics
        Irreps of the spherical harmonics.
    weights
        Irreps of the relaxed weights.
    l_max
        Largest degree of the filters.
    """

    def __init__(self, harmonics: Sequence[o3.Irrep], weights: Sequence[o3.Irrep], l_max: int) -> None:
        super().__init__()
        self.weights = RelaxedWeights(weights)
        self.irreps: list[o3.Irrep] = []
        matrices = []
        for k, harmonic in enumerate(harmonics):
            found = sorted({ir for t in weights for ir in harmonic * t if ir.l <= l_max})
            for ir in found:
                paths = all_paths([harmonic], weights, [ir])
                block = coupling_matrix([harmonic], weights, [ir], paths)
                # all products that give this irrep are added
                summed = block.view(harmonic.dim, -1, len(paths), ir.dim).sum(2)
                full = torch.zeros(starts(harmonics)[-1], *summed.shape[1:], dtype=torch.float64)
                full[starts(harmonics)[k] : starts(harmonics)[k + 1]] = summed
                matrices.append(full)
                self.irreps.append(ir)
        self.register_buffer("matrix", torch.cat(matrices, dim=2), persistent=False)
        self.matrix: torch.Tensor

    def forward(self) -> torch.Tensor:
        """(dim of the spherical harmonics, dim of the filters)."""
        return torch.einsum("ytf,t->yf", self.matrix, self.weights.effective())
