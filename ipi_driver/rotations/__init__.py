"""Quadratures over rotations and the averaged potential built on them."""

from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.rotations.quadrature import Quadrature, known_averages, quadrature, quadratures
from ipi_driver.rotations.tensors import TensorAverage

__all__ = ["Quadrature", "RotationalAverage", "TensorAverage", "known_averages", "quadrature", "quadratures"]
