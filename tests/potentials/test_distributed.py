"""Rotations divided among processes give what one process gives; a process that ends stops the group."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, sys
import numpy as np
import ase.build
from ipi_driver.potentials import load_potential
from ipi_driver.potentials.distributed import DistributedPotential
from ipi_driver.rotations import RotationalAverage
from ipi_driver.structure import Structure

raw = load_potential("anisotropic?l=2&amplitude=0.1")
group = DistributedPotential(raw)
if group.rank:
    if "{mode}" == "die":
        group._send(None)
        os._exit(7)
    if "{mode}" == "fail":
        group.local._evaluate = lambda *_: 1 / 0
    group.follow()
    sys.exit(0)
structures = [Structure.from_atoms(ase.build.molecule(name)) for name in ("H2O", "CH3OH")]
for name in ("none", "i", "T", "2i"):
    for structure in structures:
        one = RotationalAverage(raw, name).predict(structure)
        many = RotationalAverage(group, name).predict(structure)
        assert abs(one.energy - many.energy) < 1e-12, (one.energy, many.energy)
        np.testing.assert_allclose(many.forces, one.forces, atol=1e-12)
        np.testing.assert_allclose(many.virial, one.virial, atol=1e-12)
together = group.evaluate(structures, RotationalAverage(raw, "T").quadrature.rotations)
alone = raw.evaluate(structures, RotationalAverage(raw, "T").quadrature.rotations)
np.testing.assert_allclose(together.energies, alone.energies, atol=1e-12)
group.close()
print("equal")
"""


def start(tmp_path: Path, mode: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "group.py"
    script.write_text(SCRIPT.replace("{mode}", mode))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def test_the_same_numbers_as_one_process(tmp_path: Path) -> None:
    done = start(tmp_path, "good")
    assert done.returncode == 0, done.stderr
    assert "equal" in done.stdout


@pytest.mark.parametrize(
    ("mode", "message"), [("die", "another process of the group has ended"), ("fail", "ZeroDivisionError")]
)
def test_a_process_that_fails_ends_the_group(tmp_path: Path, mode: str, message: str) -> None:
    done = start(tmp_path, mode)
    assert done.returncode != 0
    assert message in done.stderr
