"""Drift of short runs at constant energy, against ASE and forces whose work is known."""

from __future__ import annotations

import ase
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.md.verlet import VelocityVerlet

from ipi_driver.errors import UserError
from ipi_driver.ipi_files.structures import DataSet
from ipi_driver.potentials import load_potential
from ipi_driver.potentials.base import Potential
from ipi_driver.rotations import quadratures
from ipi_driver.structure import FloatArray, RotatedResults, Structure
from ipi_driver.symmetry.check import CheckSettings, run_check
from ipi_driver.symmetry.drift import _velocities, nve_drift
from ipi_driver.units import DALTON

WATER = Structure.from_atoms(molecule("H2O"))


class Friction(Potential):
    """Free atoms on which a constant force acts of which the energy knows nothing: dH/dt = F · v."""

    name = "pushed"

    def __init__(self, force: float) -> None:
        self.force = np.array([force, 0.0, 0.0])

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        n = len(rotations)
        forces = tuple(np.tile(self.force, (n, s.n_atoms, 1)) for s in structures)
        return RotatedResults(np.zeros((len(structures), n)), forces, None)


def test_the_total_energy_is_that_of_the_same_run_in_ase() -> None:
    potential = load_potential("ase:ase.calculators.emt.EMT")
    found = nve_drift(potential, WATER, 120, 0.4, 300.0, seed=3)
    atoms = molecule("H2O")
    atoms.calc = EMT()
    atoms.set_velocities(_velocities(DALTON * atoms.get_masses()[:, None], 300.0, 3) / ase.units.fs)
    start, totals = atoms.get_total_energy(), []
    dynamics = VelocityVerlet(atoms, 0.4 * ase.units.fs)
    dynamics.attach(lambda: totals.append(atoms.get_total_energy()))
    dynamics.run(120)
    assert found.energies == pytest.approx((np.array(totals) - start) / 3, abs=1e-7)
    assert found.times[-1] == pytest.approx(48.0)
    assert not found.broken


def test_exact_derivatives_do_not_drift_and_the_fluctuation_is_of_second_order() -> None:
    potential = load_potential("anisotropic?l=2&amplitude=0.05")
    runs = [nve_drift(potential, WATER, n, step) for n, step in ((400, 0.5), (800, 0.25))]
    for found in runs:
        assert found.acceptable
        assert abs(found.rate) < 5.0 * found.error + 1e-7
    assert runs[0].fluctuation / runs[1].fluctuation == pytest.approx(4.0, rel=0.25)


def test_forces_that_are_no_derivatives_drift_as_they_must() -> None:
    """H(t) = (F t)² / 2m of each atom, as velocities of the start belong to zero kelvin."""
    force, n_steps, step = 2e-3, 200, 0.5
    found = nve_drift(Friction(force), WATER, n_steps, step, temperature=0.0)
    times = step * np.arange(n_steps + 1)
    masses = molecule("H2O").get_masses()
    expected = 0.5 * (force * times) ** 2 * (1.0 / (DALTON * masses)).mean()
    assert found.energies == pytest.approx(expected, rel=1e-9, abs=1e-15)
    assert found.resolved
    assert not found.acceptable
    kept = times >= 0.1 * times[-1]  # the line through a parabola has the slope of its middle
    assert found.rate == pytest.approx(1e3 * np.polyfit(times[kept], expected[kept], 1)[0], rel=0.02)


def test_a_run_that_breaks_says_so() -> None:
    found = nve_drift(Friction(5.0), WATER, 200, 2.0)
    assert found.broken
    assert np.isnan(found.rate)
    assert not found.acceptable
    assert len(found.energies) < 200


def test_isotopes_and_too_few_steps() -> None:
    heavy = nve_drift(Friction(1e-2), WATER, 80, 0.5, 0.0, masses=np.array([32.0, 2.0, 2.0]))
    light = nve_drift(Friction(1e-2), WATER, 80, 0.5, 0.0, masses=np.array([16.0, 1.0, 1.0]))
    assert light.energies[-1] == pytest.approx(2.0 * heavy.energies[-1])
    settings = CheckSettings(averages=quadratures(["T"]), max_degree=1, drift_steps=10)
    with pytest.raises(UserError, match="--drift must be at least 80 steps, got 10"):
        run_check(Friction(0.0), [DataSet("gas", (WATER,))], settings)
