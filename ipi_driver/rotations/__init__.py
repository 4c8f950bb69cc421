"""Quadratures over rotations and the averaged potential built on them."""

from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.rotations.quadrature import Quadrature, known_averages, quadrature, quadratures

__all__ = ["Quadrature", "RotationalAverage", "known_averages", "quadrature", "quadratures"]
