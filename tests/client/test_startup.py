"""What a client imports before it answers: each of these packages takes a fifth of a second or more."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
import ipi_driver.cli, ipi_driver.client.client
from ipi_driver.ipi_files.template import read_template
from ipi_driver.potentials import load_potential
from ipi_driver.rotations import RotationalAverage
from ipi_driver.shipped import shipped_folder

read_template(shipped_folder("inputs") / "gas-nve" / "init.xyz")
RotationalAverage(load_potential("pet-water-s2"), sys.argv[1])
print(*sorted({name.partition(".")[0] for name in sys.modules} | {name for name in sys.modules if name == "ase.io"}))
"""


@pytest.mark.parametrize(
    ("average", "unneeded"),
    [
        ("none", {"scipy", "ase.io", "ipi", "matplotlib", "e3nn"}),
        ("2i", {"ase.io", "ipi", "matplotlib", "e3nn"}),
    ],
)
def test_a_client_imports_what_it_needs(average: str, unneeded: set[str]) -> None:
    command = [sys.executable, "-c", SCRIPT, average]
    imported = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert {"torch", "numpy", "ipi_driver"} <= imported
    assert not imported & unneeded
