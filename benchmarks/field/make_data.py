"""Water molecules in a uniform electric field, as training data: a rotation-exact potential plus a field on charges.

    python make_data.py               # writes water-in-field.extxyz
    ipi-driver train train.yaml       # the relaxed network, into model/

The potential is `pet-water-s` under the average `ecse`, which is invariant to rounding. The charges are those of a
water molecule with a dipole of about 0.49 e Å (2.3 D); the field has no special direction.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ase
import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from scipy.spatial.transform import Rotation

from ipi_driver import RotationalAverage, load_potential
from ipi_driver.potentials.composite import SumPotential
from ipi_driver.structure import Structure

FIELD = "field?electric=0.05,-0.1,0.1&charges=O:-0.82,H:0.41"


def molecules(n: int, seed: int) -> list[Structure]:
    """Water molecules of about twice the thermal width of bonds and angle at 300 K, in all orientations."""
    rng = np.random.default_rng(seed)
    bonds = rng.normal(0.965, 0.05, size=(n, 2))
    angles = np.radians(rng.normal(104.5, 9.0, size=n))
    turns = Rotation.random(n, random_state=seed).as_matrix()
    found = []
    for (first, second), angle, turn in zip(bonds, angles, turns, strict=True):
        atoms = [[0.0, 0.0, 0.0], [first, 0.0, 0.0], [second * np.cos(angle), second * np.sin(angle), 0.0]]
        found.append(Structure(np.array([8, 1, 1]), np.array(atoms) @ turn.T))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--structures", type=int, default=800)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "water-in-field.extxyz")
    args = parser.parse_args()
    invariant = RotationalAverage(load_potential("pet-water-s", dtype="float64"), "ecse")
    potential = SumPotential([invariant, load_potential(FIELD)])
    labelled = []
    for structure in molecules(args.structures, seed=1):
        found = potential.predict(structure)
        atoms: ase.Atoms = structure.to_atoms()
        atoms.calc = SinglePointCalculator(atoms, energy=found.energy, forces=found.forces)
        labelled.append(atoms)
    ase.io.write(args.output, labelled)


if __name__ == "__main__":
    main()
