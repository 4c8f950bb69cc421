"""Run i-PI with machine-learned potentials that are not exactly rotation-equivariant.

The names below are the public interface; they are imported when they are first used, so that
``import ipi_driver`` costs no time.

>>> import ipi_driver
>>> model = ipi_driver.RotationalAverage(ipi_driver.load_potential("anisotropic"), "Th")
>>> model.n_rotations
24
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipi_driver.api.analyzing import Analyses, analyze
    from ipi_driver.api.calculator import Calculator
    from ipi_driver.api.checking import check
    from ipi_driver.api.serving import serve
    from ipi_driver.api.simulation import Run, run
    from ipi_driver.api.training import TrainedModel, train
    from ipi_driver.errors import UserError
    from ipi_driver.potentials import load_potential
    from ipi_driver.rotations import Quadrature, RotationalAverage, quadrature
    from ipi_driver.structure import Prediction, Structure

__version__ = "0.1.0"

_PLACES = {
    "Analyses": "ipi_driver.api.analyzing",
    "Calculator": "ipi_driver.api.calculator",
    "Prediction": "ipi_driver.structure",
    "Quadrature": "ipi_driver.rotations",
    "RotationalAverage": "ipi_driver.rotations",
    "Run": "ipi_driver.api.simulation",
    "Structure": "ipi_driver.structure",
    "TrainedModel": "ipi_driver.api.training",
    "UserError": "ipi_driver.errors",
    "analyze": "ipi_driver.api.analyzing",
    "check": "ipi_driver.api.checking",
    "load_potential": "ipi_driver.potentials",
    "quadrature": "ipi_driver.rotations",
    "run": "ipi_driver.api.simulation",
    "serve": "ipi_driver.api.serving",
    "train": "ipi_driver.api.training",
}

__all__ = [
    "Analyses",
    "Calculator",
    "Prediction",
    "Quadrature",
    "RotationalAverage",
    "Run",
    "Structure",
    "TrainedModel",
    "UserError",
    "analyze",
    "check",
    "load_potential",
    "quadrature",
    "run",
    "serve",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'ipi_driver' has no attribute {name!r}")
    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
