"""Potentials behind one contract (`Potential`), made from a specification by `load_potential`."""

from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.kinds import potential_class, potential_kinds, register_potential
from ipi_driver.potentials.registry import load_potential, load_precise, parse_potential
from ipi_driver.potentials.spec import PotentialSpec

__all__ = [
    "Potential",
    "PotentialSpec",
    "load_potential",
    "load_precise",
    "parse_potential",
    "potential_class",
    "potential_kinds",
    "register_potential",
]
