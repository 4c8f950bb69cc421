"""Units at the border to i-PI, with the values that i-PI itself uses.

i-PI's constants differ from CODATA 2018 from the eighth digit on (the kelvin from the sixth). A number must survive
the round trip: 1.8 Å in a file that i-PI reads is 1.8 Å where the package gets it back, and a time step of 0.5 fs is
0.5 fs. Therefore every number that comes from i-PI, or goes there, is converted with i-PI's constants, and physical
constants of `ipi_driver.units` are used for nothing of i-PI's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from ipi_driver.structure import FloatArray

ANGSTROM = 1.8897261
"""Bohr per Å, as in i-PI's table of units (tested against it: importing i-PI takes a second)."""

ELECTRONVOLT = 0.036749326
"""Hartree per eV, as in i-PI's table of units."""

BOHR = 1.0 / ANGSTROM
"""Å per bohr of i-PI."""

HARTREE = 1.0 / ELECTRONVOLT
"""eV per hartree of i-PI."""

FORCE = HARTREE / BOHR
"""eV/Å per hartree/bohr of i-PI."""

WITHOUT_IPI = {
    ("length", "angstrom"): ANGSTROM,
    ("energy", "electronvolt"): ELECTRONVOLT,
    ("length", "atomic_unit"): 1.0,
    ("energy", "atomic_unit"): 1.0,
}
"""Units of most structure files, tested against i-PI's: a client that reads one need not import i-PI."""


def ipi_factor(dimension: str, unit: str) -> float:
    """Factor from a number that i-PI printed, or reads, to the unit of this package.

    Parameters
    ----------
    dimension
        i-PI's name: length, energy, force, velocity, momentum, time, mass, temperature, ...
    unit
        i-PI's name with an optional prefix: angstrom, electronvolt, ev/ang, picosecond, ...; "" for atomic units.

    Returns
    -------
    float
        To Å, eV, eV/Å, Å/fs, dalton Å/fs, fs, dalton, K; for every other dimension to atomic units.

    Raises
    ------
    ValueError
        If i-PI knows no such unit.
    """
    return _to_atomic(dimension, unit) / _unit_of_package(dimension)


def masses_of(labels: Sequence[str]) -> FloatArray:
    """(n_atoms,) dalton, from i-PI's table of labels."""
    from ipi.utils.units import Elements

    return np.array([Elements.mass_list[label] for label in labels], dtype=np.float64)


@cache
def _unit_of_package(dimension: str) -> float:
    """The package's unit in atomic units; 1 for dimensions that the package takes as i-PI prints them."""
    base = {
        "length": "angstrom",
        "energy": "electronvolt",
        "time": "femtosecond",
        "mass": "dalton",
        "temperature": "kelvin",
    }
    if dimension in base:
        return _to_atomic(dimension, base[dimension])
    if dimension == "force":
        return _unit_of_package("energy") / _unit_of_package("length")
    if dimension == "velocity":
        return _unit_of_package("length") / _unit_of_package("time")
    if dimension == "momentum":
        return _unit_of_package("mass") * _unit_of_package("velocity")
    return 1.0


@cache
def _to_atomic(dimension: str, unit: str) -> float:
    known = WITHOUT_IPI.get((dimension, unit or "atomic_unit"))
    if known is not None:
        return known
    from ipi.utils.units import UnitMap, unit_to_internal

    if dimension not in UnitMap:
        raise ValueError(f"i-PI has no dimension {dimension!r}")
    try:
        return float(unit_to_internal(dimension, unit, 1.0))
    except (TypeError, ValueError) as error:
        raise ValueError(f"i-PI has no unit {unit!r} of {dimension}") from error
