"""What `ipi-driver check` prints and writes, against numbers of the potential itself."""

from __future__ import annotations

from io import StringIO

import numpy as np
import pytest
from ase.data import atomic_masses
from rich.console import Console

from ipi_driver.ipi_files.structures import DataSet
from ipi_driver.potentials.anisotropic import AnisotropicPotential, Term
from ipi_driver.report.check_tables import as_dictionary, print_check
from ipi_driver.rotations import quadratures
from ipi_driver.structure import Structure
from ipi_driver.symmetry.check import CheckResult, CheckSettings, run_check

POSITIONS = np.array([[0.0, 0.0, 0.0], [0.97, 0.02, 0.1], [-0.24, 0.93, 0.05]])
NUMBERS = np.array([8, 1, 1])
GAS = Structure(NUMBERS, POSITIONS)
ICE = Structure(NUMBERS, POSITIONS, 3.0 * np.eye(3), np.full(3, True))
POTENTIAL = AnisotropicPotential([Term.parse("2", 0.1)], cutoff=3.5)


@pytest.fixture(scope="module")
def result() -> CheckResult:
    settings = CheckSettings(averages=quadratures(["D2"]), max_degree=1, orientations=1)
    return run_check(POTENTIAL, [DataSet("gas", (GAS,)), DataSet("ice", (ICE,))], settings)


def cells_of_raw(result: CheckResult, data_set: str) -> list[str]:
    """The cells of `none` in the table of a data set, as printed."""
    stream = StringIO()
    print_check(result, Console(file=stream, width=160))
    table = stream.getvalue().split(f"on {data_set}: ")[1]
    return next(line.split() for line in table.splitlines() if line.split()[:1] == ["none"])


def digits(value: float) -> object:
    return pytest.approx(value, rel=6e-3)  # three digits are printed


def test_units_of_what_is_printed(result: CheckResult) -> None:
    """meV, meV/Å and MPa: differences from the invariant part, which Ih gives exactly."""
    for data_set, structure in (("gas", GAS), ("ice", ICE)):
        raw, exact = POTENTIAL.predict(structure), POTENTIAL.exact_average().predict(structure)
        energy = 1e3 * abs(raw.energy - exact.energy)
        force = 1e3 * np.abs(raw.forces - exact.forces)
        cells = cells_of_raw(result, data_set)
        printed = [float(cell) for cell in cells[3:]]
        assert cells[1] == "1"
        assert printed[:3] == [digits(energy), digits(energy), digits(energy / 3)]
        assert printed[3:5] == [digits(force.mean()), digits(force.max())]
        if structure is GAS:
            masses = atomic_masses[NUMBERS]
            arms = POSITIONS - masses @ POSITIONS / masses.sum()
            last = 1e3 * np.linalg.norm(np.cross(arms, raw.forces).sum(axis=0))
        else:  # eV/Å³ are 160.2 GPa
            last = 160.2177e3 * np.abs(raw.virial - exact.virial).mean() / 27.0
        assert printed[5:] == [digits(last)]


def test_what_is_written_is_in_electronvolt_and_gigapascal(result: CheckResult) -> None:
    rows = {(row["data_set"], row["average"]): row for row in as_dictionary(result)["errors"]}
    torque, stress = (float(cells_of_raw(result, name)[-1]) for name in ("gas", "ice"))
    assert 1e3 * rows["gas", "none"]["torque"] == digits(torque)
    assert 1e3 * rows["ice", "none"]["stress_mae"] == digits(stress)
