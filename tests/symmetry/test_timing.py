"""Times of averages: what a potential keeps of the structure before is no evaluation, nor are its first calls."""

from __future__ import annotations

import time

import numpy as np
import pytest
from ase.calculators.calculator import Calculator, all_changes

from ipi_driver.potentials.ase import AsePotential
from ipi_driver.potentials.base import Potential
from ipi_driver.rotations import quadratures
from ipi_driver.structure import FloatArray, RotatedResults, Structure
from ipi_driver.symmetry.errors import time_averages

MOLECULE = Structure(np.array([8, 1]), np.array([[0.0, 0.0, 0.0], [0.0, 0.2, 0.95]]))
PAUSE = 0.01


class Slow(Calculator):
    """Takes a hundredth of a second, and keeps its result as ASE's calculators do."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:  # type: ignore[no-untyped-def]
        super().calculate(atoms, properties, system_changes)
        time.sleep(PAUSE)
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}


def test_a_kept_result_is_no_evaluation() -> None:
    seconds = time_averages(AsePotential(Slow()), MOLECULE, quadratures(["none", "i"]))
    assert seconds["none"] >= PAUSE
    assert seconds["i"] >= 2 * PAUSE


def test_the_time_of_a_grid_is_not_scaled_from_frames_of_the_structure() -> None:
    """Their placeholder is one rotation, and of water they are four."""
    water = Structure(np.array([8, 1, 1]), np.array([[0.0, 0.0, 0.0], [0.76, 0.0, 0.59], [-0.76, 0.0, 0.59]]))
    seconds = time_averages(AsePotential(Slow()), water, quadratures(["none", "ecse", "Ih"]), longest=0.1)
    assert seconds["Ih"] == pytest.approx(120 * seconds["none"])


class Compiled(Potential):
    """Its first three calls of each size are slow."""

    warm_up = 3

    def __init__(self) -> None:
        self.calls: dict[int, int] = {}

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        n = len(rotations)
        self.calls[n] = self.calls.get(n, 0) + 1
        time.sleep(PAUSE if self.calls[n] > 3 else 100 * PAUSE)
        shape = (len(structures), n)
        forces = tuple(np.zeros((n, s.n_atoms, 3)) for s in structures)
        return RotatedResults(np.zeros(shape), forces, np.zeros((*shape, 3, 3)))


def test_the_first_calls_are_not_counted() -> None:
    potential = Compiled()
    seconds = time_averages(potential, MOLECULE, quadratures(["none"]))
    assert potential.calls[1] > 5  # enough of the quick calls to find the least
    assert PAUSE <= seconds["none"] < 100 * PAUSE
