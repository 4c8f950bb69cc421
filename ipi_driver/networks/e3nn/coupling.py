"""Coupling coefficients of products of irreps as matrices, made with e3nn's Wigner 3j symbols.

A product of a left and a right irrep holds every irrep l^p with |l_a - l_b| <= l <= l_a + l_b and p = p_a p_b once. All
products that are wanted stand as columns of one matrix, so that one matrix product evaluates them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from e3nn import o3

Irreps = Sequence[o3.Irrep]


@dataclass(frozen=True)
class Path:
    """The product of irrep ``left`` and irrep ``right`` that gives irrep ``out`` (positions in the lists)."""

    left: int
    right: int
    out: int


def all_paths(left: Irreps, right: Irreps, out: Irreps) -> list[Path]:
    """Every product of one of ``left`` and one of ``right`` that holds one of ``out``."""
    return [
        Path(i, j, k)
        for i, a in enumerate(left)
        for j, b in enumerate(right)
        for k, c in enumerate(out)
        if c in a * b
    ]


def coupling(left: o3.Irrep, right: o3.Irrep, out: o3.Irrep) -> torch.Tensor:
    """(2 l_left + 1, 2 l_right + 1, 2 l_out + 1) in float64; components of unit variance give such components."""
    symbols: torch.Tensor = o3.wigner_3j(left.l, right.l, out.l, dtype=torch.float64)
    return symbols * out.dim**0.5


def starts(irreps: Irreps) -> list[int]:
    """First component of each irrep in their concatenation, and the number of components."""
    found = [0]
    for ir in irreps:
        found.append(found[-1] + ir.dim)
    return found


def coupling_matrix(left: Irreps, right: Irreps, out: Irreps, paths: Sequence[Path]) -> torch.Tensor:
    """(dim left, dim right, sum over the paths of dim out) in float64: the products of all ``paths`` side by side."""
    left_start, right_start = starts(left), starts(right)
    columns = starts([out[path.out] for path in paths])
    matrix = torch.zeros(left_start[-1], right_start[-1], columns[-1], dtype=torch.float64)
    for path, column in zip(paths, columns, strict=False):
        a, b, c = left[path.left], right[path.right], out[path.out]
        i, j = left_start[path.left], right_start[path.right]
        matrix[i : i + a.dim, j : j + b.dim, column : column + c.dim] = coupling(a, b, c)
    return matrix
