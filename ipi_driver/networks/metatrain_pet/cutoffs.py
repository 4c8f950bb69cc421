"""Cutoff functions and per-atom cutoffs: what depends on the distances alone, and is the same in every rotation.

An atom i with the distances d_ij to its neighbors has the cutoff r_i that solves

    n_i(r) = sum_j b(d_ij; r, w) + N (r / r_max)^3 = N,          b: bump function, w: its width,

so that about N neighbors count ("solver"), or an average over a grid of trial cutoffs ("grid", older checkpoints). An
edge exists where d_ij <= (r_i + r_j) / 2, and this mean is the cutoff of its weight.

References
----------
A. Mazitov et al., "PET-MAD, a lightweight universal interatomic potential for advanced materials modeling",
Nat. Commun. (2025), and metatrain, the code that trains these models.
"""

from __future__ import annotations

import math

import torch

# The bump function is 1 and 0 to rounding this close to the ends of its width; beyond, its formula overflows.
_MARGIN = 1e-6
_NEWTON_STEPS = 10
_SMALLEST_SLOPE = 1e-6
# Smallest cutoff of an atom: a fraction of the largest ("solver"), and Å ("grid").
_SMALLEST_FRACTION = 1.0 / 16.0
_FIRST_PROBE = 0.5


def bump(lengths: torch.Tensor, cutoff: torch.Tensor | float, width: float) -> torch.Tensor:
    """1/2 (1 + tanh(cot(pi x))), x = (lengths - cutoff + width) / width: from 1 to 0, infinitely differentiable."""
    x = ((lengths - (cutoff - width)) / width).clamp(_MARGIN, 1.0 - _MARGIN)
    return 0.5 * (1.0 + torch.tanh(1.0 / torch.tan(math.pi * x)))


def cosine(lengths: torch.Tensor, cutoff: torch.Tensor | float, width: float) -> torch.Tensor:
    """1/2 (1 + cos(pi x)), x = (lengths - cutoff + width) / width, between 1 and 0."""
    x = ((lengths - (cutoff - width)) / width).clamp(0.0, 1.0)
    return 0.5 * (1.0 + torch.cos(math.pi * x))


def cutoff_weight(
    name: str, lengths: torch.Tensor, cutoff: torch.Tensor | float, width: float
) -> torch.Tensor:
    """Weight of each edge; ``name`` is "bump" or "cosine"."""
    return (bump if name == "bump" else cosine)(lengths, cutoff, width)


def _bump_slope(x: torch.Tensor, width: float) -> torch.Tensor:
    """Derivative of the bump function by its cutoff, at x in (0, 1)."""
    s = math.pi * x.clamp(_MARGIN, 1.0 - _MARGIN)
    sine = torch.sin(s)
    tanh = torch.tanh(torch.cos(s) / sine)
    return (0.5 * math.pi / width) * (1.0 - tanh * tanh) / (sine * sine)


def _count(
    radii: torch.Tensor, lengths: torch.Tensor, centers: torch.Tensor, width: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """sum_j b(d_ij; r_i, width) and its derivative by r_i, both (n_nodes,); only edges on the slope cost anything."""
    x = (lengths - radii[centers] + width) / width
    inside = torch.nonzero(x <= 0.0)[:, 0]
    on_slope = torch.nonzero((x > 0.0) & (x < 1.0))[:, 0]
    slope_centers = centers[on_slope]
    value = torch.zeros_like(radii).index_add_(0, centers[inside], torch.ones_like(x[inside]))
    value = value.index_add(0, slope_centers, bump(lengths[on_slope], radii[slope_centers], width))
    slope = torch.zeros_like(radii).index_add_(0, slope_centers, _bump_slope(x[on_slope], width))
    return value, slope


def solved_cutoffs(
    lengths: torch.Tensor, centers: torch.Tensor, n_nodes: int, neighbors: float, cutoff: float, width: float
) -> torch.Tensor:
    """Cutoff of each atom, the root of n_i(r) = N; (n_nodes,), Å.

    Newton's method between the ends of a shrinking bracket finds the root without derivatives; one more step,
    r - (n(r) - N) / n'(r) with n'(r) held fixed, carries the exact first derivative by the distances.

    Parameters
    ----------
    lengths, centers
        (n_edges,) Å and index of the center, of all edges within ``cutoff``.
    neighbors
        N.
    cutoff, width
        r_max and w, Å.
    """
    fixed, of = lengths.detach(), centers
    near = None
    low, high = fixed.new_zeros(n_nodes), fixed.new_full((n_nodes,), cutoff)
    radii = 0.5 * high
    for step in range(_NEWTON_STEPS + 1):
        value, slope = _count(radii, fixed, of, width)
        x = radii / cutoff
        slope = (slope + 3.0 * neighbors / cutoff * x * x).clamp_min(_SMALLEST_SLOPE)
        if step == _NEWTON_STEPS:
            break
        excess = value + neighbors * x**3 - neighbors
        below = excess <= 0
        low, high = torch.where(below, radii, low), torch.where(below, high, radii)
        newton = radii - excess / slope
        radii = torch.where((newton >= low) & (newton <= high), newton, 0.5 * (low + high))
        if step == 0 and len(of):  # edges beyond the bracket count nowhere any more; most are
            near = torch.nonzero(fixed < high[of])[:, 0]
            fixed, of = fixed[near], of[near]
    differentiable = lengths if near is None else lengths[near]
    value, _ = _count(radii, differentiable, of, width)
    residual = value + neighbors * (radii / cutoff) ** 3 - neighbors
    return (radii - residual / slope).clamp(cutoff * _SMALLEST_FRACTION, cutoff)


def averaged_cutoffs(
    lengths: torch.Tensor, centers: torch.Tensor, n_nodes: int, neighbors: float, cutoff: float, width: float
) -> torch.Tensor:
    """Cutoff of each atom as an average over trial cutoffs p, weighted by exp(-1/2 ((n_i(p) - N) / n_i'(p))^2).

    Parameters and result as of `solved_cutoffs`; here the baseline in n_i is N x^3 with x from 0 to 1 along the grid.
    """
    spacing = width / 4.0
    probes = torch.arange(_FIRST_PROBE, cutoff, spacing, device=lengths.device, dtype=lengths.dtype)
    n_probes = len(probes)
    # An edge lies on the slope of the probes first ... first + 4, before them it counts 0 and after them 1.
    first = ((lengths.detach() - _FIRST_PROBE) / spacing).floor().long()
    window = first[:, None] + torch.arange(6, device=lengths.device)
    edge, column = torch.nonzero((window >= 0) & (window < n_probes), as_tuple=True)
    probe = window[edge, column]
    counts = lengths.new_zeros(n_nodes, n_probes + 1)
    full = (window[:, -1] + 1).clamp(0, n_probes)
    counts = counts.index_put((centers, full), torch.ones_like(lengths), accumulate=True).cumsum(1)[:, :-1]
    partial = bump(lengths[edge], probes[probe], width)
    counts = counts.index_put((centers[edge], probe), partial, accumulate=True)
    grid = torch.linspace(0.0, 1.0, n_probes, device=lengths.device, dtype=lengths.dtype)
    excess = counts - neighbors + neighbors * grid**3
    if n_probes == 1:
        slope = excess.abs() * 0.5 + 1e-12
    else:
        slope = torch.gradient(excess, dim=-1)[0].abs().clamp_min(1e-12)
    return (-0.5 * (excess / slope) ** 2).softmax(-1) @ probes
