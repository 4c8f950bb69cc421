"""`run_check` hands on what it is given: masses of isotopes, the precise potential, the time that there is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule
from ase.data import atomic_masses
from scipy.spatial.transform import Rotation

from ipi_driver.ipi_files.structures import DataSet
from ipi_driver.potentials.anisotropic import AnisotropicPotential, Term
from ipi_driver.potentials.base import Potential
from ipi_driver.rotations import quadratures
from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.rotations.quadrature import quadrature
from ipi_driver.structure import FloatArray, RotatedResults, Structure
from ipi_driver.symmetry.check import CheckSettings, _decompose, run_check, silent
from ipi_driver.symmetry.consistency import check_consistency
from ipi_driver.symmetry.degrees import decomposition_grid
from ipi_driver.units import DALTON

POSITIONS = np.array([[0.0, 0.0, 0.0], [0.97, 0.02, 0.1], [-0.24, 0.93, 0.05]])
NUMBERS = np.array([8, 1, 1])
MOLECULE = Structure(NUMBERS, POSITIONS)
POTENTIAL = AnisotropicPotential([Term.parse("2", 0.1)], cutoff=3.5)
SETTINGS = CheckSettings(averages=quadratures(["T"]), max_degree=1)
AS_GIVEN = replace(SETTINGS, orientations=1)
DEUTERATED = np.array([15.999, 2.014, 2.014])


def vibrating(n_snapshots: int = 80) -> tuple[Structure, ...]:
    """A molecule in a periodic cell, 0.5 fs between the snapshots, all atoms at a period of 10 fs."""
    amplitudes = np.random.default_rng(0).normal(size=(3, 3, 2)) * 0.05
    phases = 2.0 * np.pi * 0.5 * np.arange(n_snapshots) / 10.0
    waves = amplitudes @ np.array([np.sin(phases), np.cos(phases)])
    cell, pbc = 6.0 * np.eye(3), np.full(3, True)
    return tuple(Structure(NUMBERS, POSITIONS + waves[..., k], cell, pbc) for k in range(n_snapshots))


def test_masses_of_isotopes_count_for_what_heats() -> None:
    """Deviations heat by |ΔF|² / 2m; for the strides twice the masses are half the rate."""
    snapshots = vibrating()
    natural = atomic_masses[NUMBERS]
    heavy = DataSet("heavy", (MOLECULE,), masses=(DEUTERATED,))
    plain = DataSet("plain", (MOLECULE,))
    results = []
    for factor in (1.0, 2.0):
        trajectory = DataSet("run", snapshots, masses=(factor * natural,) * len(snapshots))
        results.append(run_check(POTENTIAL, [plain, heavy], AS_GIVEN, (trajectory, 0.5)))
    deviations = POTENTIAL.predict(MOLECULE).forces - POTENTIAL.exact_average().predict(MOLECULE).forces
    raw = {row.data_set: row for row in results[0].errors if row.average == "none"}
    for name, masses in (("plain", natural), ("heavy", DEUTERATED)):
        expected = ((deviations**2).sum(axis=1) / (2.0 * DALTON * masses)).mean()
        assert raw[name].heating == pytest.approx(expected)
    light, double = (result.stride.heating for result in results if result.stride is not None)
    assert light is not None
    assert double is not None
    assert np.isfinite(light.rate).sum() > 3
    assert double.rate == pytest.approx(light.rate / 2, nan_ok=True)


def test_a_molecule_is_checked_in_several_orientations() -> None:
    """The errors are means over the orientations that it has in a run; a crystal stays as it lies in its cell."""
    water = molecule("H2O")
    water.rotate(37.0, "x", center=(0, 0, 0))
    structure = Structure.from_atoms(water)
    data = DataSet("gas", (structure,), masses=(DEUTERATED,))
    raw, alone = (
        next(row for row in run_check(POTENTIAL, [data], settings).errors if row.average == "none")
        for settings in (replace(SETTINGS, orientations=40), AS_GIVEN)
    )
    assert (raw.n_structures, raw.n_orientations, alone.n_orientations) == (1, 40, 1)
    exact = POTENTIAL.exact_average().predict(structure).forces
    turns = Rotation.random(400, random_state=1).as_matrix()
    errors = [
        np.abs(POTENTIAL.predict(structure.rotated(turn)).forces - exact @ turn.T).mean() for turn in turns
    ]
    assert raw.force_mae == pytest.approx(np.mean(errors), rel=0.15)
    assert alone.force_mae == pytest.approx(np.abs(POTENTIAL.predict(structure).forces - exact).mean())
    box = Structure(structure.numbers, structure.positions, 6.0 * np.eye(3), np.full(3, True))
    rows = run_check(POTENTIAL, [DataSet("box", (box,))], replace(SETTINGS, orientations=40)).errors
    assert {row.n_orientations for row in rows} == {1}
    many = DataSet("many", (structure,) * 3)
    assert {row.n_orientations for row in run_check(POTENTIAL, [many], SETTINGS).errors} == {3}


def test_a_sample_keeps_the_masses_of_its_structures() -> None:
    structures = tuple(Structure(NUMBERS, POSITIONS + k) for k in range(5))
    data = DataSet("x", structures, masses=tuple(np.full(3, 1.0 + k) for k in range(5))).sample(3)
    assert data.masses is not None
    assert [masses[0] for masses in data.masses] == [1.0, 3.0, 5.0]
    assert [s.positions[0, 0] for s in data.structures] == [0.0, 2.0, 4.0]


class Single(Potential):
    """A potential whose energies have single precision."""

    def __init__(self, inner: Potential) -> None:
        self.inner, self.cutoff = inner, inner.cutoff

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        snapshots = self.inner.evaluate(structures, rotations)
        return replace(snapshots, energies=snapshots.energies.astype(np.float32).astype(np.float64))


def test_finite_differences_are_those_of_the_precise_potential() -> None:
    rough = Single(POTENTIAL)
    data = [DataSet("gas", (MOLECULE,))]
    found = run_check(rough, data, SETTINGS, precise=POTENTIAL).consistency["gas"]
    assert found == check_consistency(POTENTIAL, MOLECULE)
    alone = run_check(rough, data, SETTINGS).consistency["gas"]
    assert alone == check_consistency(rough, MOLECULE)
    assert alone.force_deviation > 10 * found.force_deviation


@pytest.mark.parametrize(("affordable", "degree"), [(4, 4), (3, 3), (2, 2)])
def test_degrees_are_resolved_as_high_as_the_time_allows(affordable: int, degree: int) -> None:
    """30 s are for the snapshots of one degree, and not for those of the next."""
    seconds = 29.0 / len(decomposition_grid(affordable))
    settings = CheckSettings()
    found = _decompose(POTENTIAL, DataSet("gas", (MOLECULE,)), settings, seconds, silent)
    assert found.max_degree == degree


def test_check_gives_the_orientational_free_energy_of_molecules_alone() -> None:
    rng = np.random.default_rng(3)
    water = molecule("H2O")
    positions = [water.positions + rng.normal(size=(3, 3)) * 0.02 for _ in range(3)]
    isolated = DataSet("gas", tuple(Structure(water.numbers, x) for x in positions))
    box = Structure(water.numbers, positions[0], np.eye(3) * 8.0, np.full(3, True))
    periodic = DataSet("box", (box, box))
    potential = POTENTIAL
    settings = CheckSettings(averages=(quadrature("D2"),), max_degree=2, temperature=600.0, orientations=1)
    result = run_check(potential, [isolated, periodic], settings)
    assert list(result.orientation) == ["gas"]
    assert result.orientation["gas"].temperature == 600.0
    assert result.orientation["gas"].rms > 0.0
    raw = next(row for row in result.errors if (row.data_set, row.average) == ("gas", "none"))
    differences = [potential.predict(s).energy for s in isolated.structures]
    reference = [
        RotationalAverage(potential, quadrature("Ih")).predict(s).energy for s in isolated.structures
    ]
    shifted = np.array(differences) - reference
    assert raw.energy_mae_centred == pytest.approx(np.abs(shifted - shifted.mean()).mean())
