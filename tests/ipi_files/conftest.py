"""A short run of i-PI itself: two waters in a triclinic cell, harmonic forces through <ffdirect>."""

import subprocess
import sys
from pathlib import Path

import pytest

START = """6
# CELL(abcABC): 12.0 13.0 14.0 80.0 95.0 100.0 positions{angstrom} cell{angstrom}
O 0.0 0.0 0.0
H 0.96 0.0 0.0
H -0.24 0.93 0.0
O 6.0 6.0 6.0
H 6.96 6.0 6.0
H 5.76 6.93 6.0
"""

INPUT = """<simulation verbosity='low'>
  <output prefix='water'>
    <properties stride='1' filename='log'>
      [ step, time{picosecond}, conserved{electronvolt}, temperature{kelvin}, potential,
        stress_md{megapascal} ]
    </properties>
    <trajectory filename='x' stride='2'> positions{angstrom} </trajectory>
    <trajectory filename='v' stride='2'> velocities{m/s} </trajectory>
    <trajectory filename='p' stride='1'> momenta </trajectory>
    <trajectory filename='f' stride='3'> forces{ev/ang} </trajectory>
    <trajectory filename='extras' stride='4' extra_type='raw'> extras </trajectory>
  </output>
  <total_steps> 20 </total_steps>
  <prng><seed> 3 </seed></prng>
  <ffdirect name='springs' pbc='false'>
    <pes> harmonic </pes> <parameters> {k1: 0.01} </parameters>
  </ffdirect>
  <system>
    <initialize nbeads='1'>
      <file mode='xyz'> start.xyz </file>
      <velocities mode='thermal' units='kelvin'> 300 </velocities>
    </initialize>
    <forces> <force forcefield='springs'></force> </forces>
    <motion mode='dynamics'>
      <dynamics mode='nve'> <timestep units='femtosecond'> 0.5 </timestep> </dynamics>
    </motion>
    <ensemble> <temperature units='kelvin'> 300 </temperature> </ensemble>
  </system>
</simulation>
"""


@pytest.fixture(scope="session")
def ipi_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "start.xyz").write_text(START)
    (folder / "input.xml").write_text(INPUT)
    program = Path(sys.executable).with_name("i-pi")
    subprocess.run([program, "input.xml"], cwd=folder, check=True, capture_output=True, timeout=120)
    return folder
