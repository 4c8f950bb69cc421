r"""Quadratures over the rotation group: which rotations to evaluate, and with which weights.

An average over orientations, with the normalized Haar measure dR, becomes a finite sum:

.. math::  \int f(R)\,dR \approx \sum_k w_k f(R_k), \qquad \sum_k w_k = 1 .

``degree`` is the highest l up to which the sum is exact, that is, up to which
:math:`\sum_k w_k D^{l'}(R_k) = 0` for all 1 ≤ l' ≤ l. A quadrature with inversion holds -R_k beside every R_k
and removes, in addition, everything that is odd under inversion, at every l.

=================  ========================================  =======  =========================================
name               rotations                                 degree   construction
=================  ========================================  =======  =========================================
``none``           1                                         0        the laboratory frame
``i``              2                                         0        the laboratory frame and its inversion
``N`` (2, 3, …)    N (2N-1)²                                 2N-2     uniform × Gauss–Legendre × uniform Euler
                                                                      angles (zxz), as in i-PI's ``legendre``
``lebedev-L``      L × points of the Lebedev rule            L-1      i-PI's ``lebedev``
``D2 T O I``       4, 12, 24, 60                             1 2 3 5  rotation groups, equal weights
``D2h Th Oh Ih``   8, 24, 48, 120                            1 2 3 5  the same with inversion
``Ni``             2 N (2N-1)²                               2N-2     ``N`` with inversion
``random``         1                                         0        one rotation, uniform over O(3)
``random-so3``     1                                         0        one rotation, uniform over SO(3)
``random-NAME``    as NAME                                   NAME's   the grid NAME in a random frame of O(3)
``ecse``           by structure; 4 for water                 all      frames of an isolated structure (exact)
=================  ========================================  =======  =========================================

A finite rotation group integrates degree l exactly if no function of angular momentum 1 … l is invariant
under it: the first invariant of D2 is at l = 2, of T at 3, of O at 4, of I at 6.

The rotations act as ``positions @ R.T`` (as i-PI's do). The original PET code multiplies by the same matrices
from the right, ``positions @ R``: its rotations are the inverses of these, as good but not the same.

References: Langer, Pozdnyakov, Ceriotti, Mach. Learn.: Sci. Technol. 5, 04LT01 (2024); Lebedev, Laikov,
Dokl. Math. 59, 477 (1999).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.structure import FloatArray

GROUP_DEGREES = {"D2": 1, "T": 2, "O": 3, "I": 5}
"""Rotation groups and the degree that each integrates exactly."""

MAX_ORDER = 40
"""Largest N of the Euler-angle grids (249640 rotations); larger ones are typing errors."""

# scipy is imported where a grid is built: it takes a quarter of a second, which a raw client need not wait for
_IDENTITY = np.eye(3)

_ALL_DEGREES = 10**6
"""Degree of an exact average."""


@dataclass(frozen=True, eq=False)
class Quadrature:
    """Rotations and weights.

    Attributes
    ----------
    name
        As in the table of `ipi_driver.rotations.quadrature`.
    rotations
        (n_rotations, 3, 3) matrices in O(3).
    weights
        (n_rotations,), sum 1.
    degree
        Highest angular momentum l integrated exactly.
    has_inversion
        Whether -R is a rotation with the weight of R, for every rotation R.
    identity
        Index of the unrotated orientation, or None.
    random
        ``"o3"`` or ``"so3"``: the rotations are R_k Q with one random Q from that group. None: as they stand.
    own_frames
        Whether the rotations are frames of each structure (`ipi_driver.rotations.ecse`); ``rotations`` is then one
        placeholder.
    """

    name: str
    rotations: FloatArray
    weights: FloatArray
    degree: int
    has_inversion: bool
    identity: int | None
    random: Literal["o3", "so3"] | None = None
    own_frames: bool = False

    def __post_init__(self) -> None:
        self.rotations.setflags(write=False)  # quadratures are shared by a cache
        self.weights.setflags(write=False)

    @property
    def is_fixed(self) -> bool:
        """Whether the rotations are the same for every structure and every evaluation."""
        return self.random is None and not self.own_frames

    def __len__(self) -> int:
        return len(self.weights)


def known_averages() -> str:
    """The names that `quadrature` takes, for help texts and errors."""
    return (
        "none, i, 2, 2i, 3, 3i, ..., D2, D2h, T, Th, O, Oh, I, Ih, lebedev-L (L = 3, 5, 7, ...), "
        "random, random-so3, random-NAME, ecse (isolated structures)"
    )


def quadratures(names: Iterable[str]) -> tuple[Quadrature, ...]:
    """The quadratures of several names, each once, in their order.

    >>> [len(grid) for grid in quadratures(["none", "T", "none"])]
    [1, 12]

    Raises
    ------
    UserError
        If a name is unknown.
    """
    return tuple(quadrature(name) for name in dict.fromkeys(names))


@lru_cache(maxsize=32)
def quadrature(name: str) -> Quadrature:
    """The quadrature called ``name``, case-sensitive (``i``: the inversion, ``I``: the icosahedral group).

    Raises
    ------
    UserError
        If the name is unknown; the message lists the known ones.
    """
    if name == "none":
        return _build(name, _IDENTITY[None], np.ones(1), 0)
    if name == "i":
        return _with_inversion(_build(name, _IDENTITY[None], np.ones(1), 0), name)
    if name == "ecse":
        exact = _build(name, _IDENTITY[None].copy(), np.ones(1), 0)
        return replace(exact, degree=_ALL_DEGREES, has_inversion=True, identity=None, own_frames=True)
    if name in ("random", "random-so3"):
        return replace(
            quadrature("none"), name=name, random="o3" if name == "random" else "so3", identity=None
        )
    if name.startswith("random-"):
        base = name.removeprefix("random-")
        if base.startswith("random") or base in ("none", "ecse"):
            raise UserError(
                f"average {name!r}: expected random-NAME with NAME a fixed grid such as T or 2i; use `random`"
            )
        return replace(quadrature(base), name=name, random="o3", identity=None)
    if name in GROUP_DEGREES:
        return _group(name)
    if name.endswith("h") and name[:-1] in GROUP_DEGREES:
        return _with_inversion(_group(name[:-1]), name)
    if matched := re.fullmatch(r"([1-9]\d*)(i?)", name):
        euler = _euler_grid(int(matched[1]))
        return _with_inversion(euler, name) if matched[2] else euler
    if matched := re.fullmatch(r"lebedev-(\d+)", name):
        return _lebedev(int(matched[1]))
    candidates = ["none", "i", "2", "2i", "3", "3i", "random", "random-so3", "lebedev-5", "ecse"]
    candidates += [group + suffix for group in GROUP_DEGREES for suffix in ("", "h")]
    close = [c for c in candidates if c.lower() == name.lower()]
    close = close or difflib.get_close_matches(name, candidates, n=1)
    hint = f", did you mean {close[0]}?" if close else "."
    raise UserError(f"unknown average {name!r}{hint} Known: {known_averages()}")


def _build(name: str, rotations: FloatArray, weights: FloatArray, degree: int) -> Quadrature:
    distance = np.abs(rotations - _IDENTITY).max(axis=(1, 2))
    nearest = int(distance.argmin())
    identity = nearest if distance[nearest] < 1e-10 else None
    if identity is not None:
        rotations[identity] = _IDENTITY  # exactly: the raw result may then stand for this rotation
    return Quadrature(name, rotations, weights / weights.sum(), degree, False, identity)


def _with_inversion(proper: Quadrature, name: str) -> Quadrature:
    rotations = np.concatenate([proper.rotations, -proper.rotations])
    weights = 0.5 * np.concatenate([proper.weights, proper.weights])
    return replace(proper, name=name, rotations=rotations, weights=weights, has_inversion=True)


def _group(name: str) -> Quadrature:
    """Rotation group, the identity first."""
    from scipy.spatial.transform import Rotation

    rotations = Rotation.create_group(name).as_matrix()
    first = int(np.trace(rotations, axis1=1, axis2=2).argmax())
    order = [first, *(k for k in range(len(rotations)) if k != first)]
    return _build(name, rotations[order], np.ones(len(order)), GROUP_DEGREES[name])


def _euler_grid(order: int) -> Quadrature:
    """N (2N-1)² zxz Euler angles: first and third uniform, cosine of the second at Gauss–Legendre nodes."""
    from scipy.spatial.transform import Rotation
    from scipy.special import roots_legendre

    if not 2 <= order <= MAX_ORDER:
        raise UserError(f"average: the order N of an Euler-angle grid must be 2 to {MAX_ORDER}, got {order}")
    nodes, node_weights = roots_legendre(order)
    angles = 2.0 * np.pi * np.arange(2 * order - 1) / (2 * order - 1)
    first, third, second = np.meshgrid(angles, angles, np.arccos(nodes), indexing="ij")
    euler = np.stack([first.ravel(), second.ravel(), third.ravel()], axis=1)
    weights = np.tile(node_weights, (2 * order - 1) ** 2)
    return _build(str(order), Rotation.from_euler("zxz", euler).as_matrix(), weights, 2 * order - 2)


def _lebedev(order: int) -> Quadrature:
    """Lebedev rule for the first two Euler angles (a point on the sphere), L uniform values of the third."""
    from scipy.integrate import lebedev_rule
    from scipy.spatial.transform import Rotation

    try:
        points, point_weights = lebedev_rule(order)
    except (ValueError, NotImplementedError):
        raise UserError(
            f"average: there is no Lebedev rule of order {order}; "
            "expected 3, 5, ..., 31 in steps of 2 or 35, 41, ..., 131 in steps of 6"
        ) from None
    x, y, z = points
    turns = 2.0 * np.pi * np.arange(order) / order
    # the azimuth of a pole is arbitrary; i-PI's tables have π/2
    azimuth = np.where(np.hypot(x, y) > 1e-12, np.arctan2(y, x), 0.5 * np.pi)
    polar = np.arccos(np.clip(z, -1.0, 1.0))
    euler = np.stack(
        [np.tile(azimuth, order), np.tile(polar, order), np.repeat(turns, len(azimuth))],
        axis=1,
    )
    rotations = Rotation.from_euler("zxz", euler).as_matrix()
    return _build(f"lebedev-{order}", rotations, np.tile(point_weights, order), order - 1)
