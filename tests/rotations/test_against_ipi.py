"""i-PI's own <ffrotations> (Legendre 2 with inversion) over the same potential, in a real i-PI."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ipi_driver.potentials.anisotropic import AnisotropicPotential
from ipi_driver.rotations import RotationalAverage
from ipi_driver.structure import Structure
from ipi_driver.units import BOHR, HARTREE

CELL = np.array([[3.0, 0.0, 0.0], [0.4, 3.2, 0.0], [0.1, -0.3, 2.9]])
POSITIONS = np.array([[0.0, 0.0, 0.0], [0.97, 0.02, 0.1], [-0.24, 0.93, 0.05]])
OPTIONS = {"l": "2,4,3e", "amplitude": "0.1", "cutoff": "3.5"}

# the single, unrotated evaluations that i-PI asks for; units converted here with i-PI's own constants
PES = """
import numpy as np
from ipi.pes.dummy import Dummy_driver
from ipi.utils.units import unit_to_internal, unit_to_user
from ipi_driver.potentials.anisotropic import AnisotropicPotential
from ipi_driver.structure import Structure

__DRIVER_NAME__ = "raw"
__DRIVER_CLASS__ = "Raw"


class Raw(Dummy_driver):
    potential = AnisotropicPotential.from_options({options!r})

    def compute_structure(self, cell, pos):
        angstrom = unit_to_user("length", "angstrom", 1.0)
        hartree = unit_to_internal("energy", "electronvolt", 1.0)
        s = Structure(np.array([8, 1, 1]), pos * angstrom, cell.T * angstrom, np.ones(3, bool))
        result = self.potential.predict(s)
        return result.energy * hartree, result.forces * hartree * angstrom, result.virial * hartree, ""
"""

XML = """<simulation verbosity='quiet'>
  <output prefix='out'></output>
  <total_steps>1</total_steps>
  <ffrotations name='model'>
    <grid_mode>{mode}</grid_mode> <grid_order>{order}</grid_order> <inversion>{inversion}</inversion>
    <ffdirect name='inner' pbc='False'> <pes>custom</pes> <pes_path>{pes}</pes_path> </ffdirect>
  </ffrotations>
  <system>
    <initialize nbeads='1'> <file mode='ase' units='angstrom'>start.extxyz</file> </initialize>
    <forces> <force forcefield='model'></force> </forces>
    <ensemble> <temperature units='kelvin'>300</temperature> </ensemble>
    <motion mode='dynamics'> <dynamics mode='nve'> </dynamics> </motion>
  </system>
</simulation>
"""

DRIVE = """
import sys, numpy as np
from ipi.utils.scripting import InteractiveSimulation
from ipi.utils.depend import dstrip
simulation = InteractiveSimulation(open("input.xml").read())
forces = simulation.syslist[0].forces
f, virial = dstrip(forces.f).copy(), dstrip(forces.vir).copy()
np.savez("result.npz", energy=float(forces.pot), forces=f, virial=virial)
simulation.stop()
"""


@pytest.mark.parametrize(
    ("average", "mode", "order", "inversion"),
    [("2i", "legendre", 2, True), ("lebedev-3", "lebedev", 3, False)],
)
def test_energies_forces_virials_agree(
    tmp_path: Path, average: str, mode: str, order: int, inversion: bool
) -> None:
    structure = Structure(np.array([8, 1, 1]), POSITIONS, CELL, np.ones(3, dtype=bool))
    structure.to_atoms().write(tmp_path / "start.extxyz")
    (tmp_path / "pes.py").write_text(PES.format(options=OPTIONS))
    (tmp_path / "input.xml").write_text(
        XML.format(mode=mode, order=order, inversion=inversion, pes=tmp_path / "pes.py")
    )
    (tmp_path / "drive.py").write_text(DRIVE)
    run = subprocess.run(
        [sys.executable, "drive.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert (tmp_path / "result.npz").is_file(), run.stdout + run.stderr
    ipi = np.load(tmp_path / "result.npz")
    ours = RotationalAverage(AnisotropicPotential.from_options(OPTIONS), average).predict(structure)
    assert ours.virial is not None
    assert ours.energy / HARTREE == pytest.approx(float(ipi["energy"]), rel=1e-6)
    forces = ours.forces / HARTREE * BOHR
    assert ipi["forces"].reshape(-1, 3) == pytest.approx(forces, rel=1e-6, abs=1e-6 * np.abs(forces).max())
    # i-PI keeps the upper triangle of the virial
    virial = np.triu(ours.virial / HARTREE)
    assert np.triu(ipi["virial"]) == pytest.approx(virial, rel=1e-6, abs=1e-6 * np.abs(virial).max())
    # and the average matters here: the raw results differ by far more
    raw = AnisotropicPotential.from_options(OPTIONS).predict(structure)
    assert np.abs(raw.forces - ours.forces).max() > 1e-2 * np.abs(ours.forces).max()
