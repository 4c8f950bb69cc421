"""Potentials behind one contract (`Potential`), made from a specification by `load_potential`."""

from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.registry import load_potential, load_precise

__all__ = ["Potential", "load_potential", "load_precise"]
