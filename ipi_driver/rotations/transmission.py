r"""What of a dependence on the orientation passes an average over rotations, by degree l and parity.

An average over rotations R_k passes a fraction of the power of (l, p), as a mean over the orientations of the structure
and of the rotations,

.. math::  \tau_{lp} = \frac{1}{2l+1} \Bigl\| \sum_k w_k (\det R_k)^{[p=-]} D^l(R_k) \Bigr\|_F^2 ,

which is 0 up to its degree, for a group the share of its invariants, and 1 without averaging.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ipi_driver.rotations.quadrature import Quadrature
from ipi_driver.structure import FloatArray
from ipi_driver.wigner import wigner_matrices

PARITIES = (1, -1)

IN_WORDS = {
    "0o": "pseudoscalar",
    "1o": "vector",
    "1e": "pseudovector",
    "2e": "tensor",
    "2o": "pseudotensor",
}
"""What the irreps of a dependence on the orientation are."""


def transmission(grid: Quadrature, max_degree: int) -> FloatArray:
    """(max_degree + 1, 2) fraction of the power of each degree and parity that an average lets through."""
    signs = np.linalg.det(grid.rotations)
    passed = np.zeros((max_degree + 1, 2))
    for degree in range(max_degree + 1):
        matrices = wigner_matrices(grid.rotations, degree)
        for column, parity in enumerate(PARITIES):
            weights = grid.weights if parity == 1 else grid.weights * signs
            mean = np.einsum("k,kab->ab", weights, matrices)
            passed[degree, column] = (mean**2).sum() / (2 * degree + 1)
    return passed


def irrep_in_words(irrep: str) -> str:
    """1o as ``l = 1, odd: a vector``."""
    parity = "even" if irrep.endswith("e") else "odd"
    name = f": a {IN_WORDS[irrep]}" if irrep in IN_WORDS else ""
    return f"l = {irrep[:-1]}, {parity}{name}"


def removed_directions(directions: Sequence[str], grid: Quadrature) -> tuple[str, ...]:
    """Those of ``directions`` (irreps of O(3)) that do not pass an average as they are.

    A random rotation removes them in the course of a simulation, frames of a structure's own at once.

    Examples
    --------
    >>> from ipi_driver.rotations import quadrature
    >>> removed_directions(["1o", "1e"], quadrature("i"))
    ('1o',)
    >>> removed_directions(["1o", "1e"], quadrature("random"))
    ('1o', '1e')
    """
    if not directions or grid.own_frames:
        return tuple(directions)
    if grid.random is not None:
        proper_only = grid.random == "so3" and (np.linalg.det(grid.rotations) > 0).all()
        return tuple(name for name in directions if not (name == "0o" and proper_only))
    passed = transmission(grid, max(int(name[:-1]) for name in directions))
    return tuple(name for name in directions if passed[int(name[:-1]), int(name.endswith("o"))] < 1.0 - 1e-6)


def physics_removed(directions: Sequence[str], grid: Quadrature) -> str | None:
    """One line where an average removes what a model depends on by design, see `Potential.directions`; else None."""
    removed = removed_directions(directions, grid)
    if not removed:
        return None
    return (
        f"the average {grid.name} removes physics, not error: this model depends on the orientation on purpose "
        f"({'; '.join(irrep_in_words(name) for name in removed)}); use none"
    )
