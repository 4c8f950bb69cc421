"""Water molecules with labels of `pet-water-m2` averaged over Ih, for `ipi-driver landscape`.

    python benchmarks/landscape/make_data.py --output molecules.extxyz

The structures that the models were trained on are not shipped; a larger model, trained on more of them, stands for the
electronic structure, its average for the symmetry.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from scipy.spatial.transform import Rotation

from ipi_driver import RotationalAverage, load_potential
from ipi_driver.structure import Structure


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--structures", type=int, default=40)
    parser.add_argument("--output", type=Path, default=Path("molecules.extxyz"))
    args = parser.parse_args()
    reference = RotationalAverage(load_potential("pet-water-m2", dtype="float64"), "Ih")
    rng = np.random.default_rng(0)
    turns = Rotation.random(args.structures, random_state=0).as_matrix()
    found = []
    for turn in turns:
        first, second = rng.normal(0.965, 0.03, size=2)
        angle = np.radians(rng.normal(104.5, 5.0))
        atoms = [[0.0, 0.0, 0.0], [first, 0.0, 0.0], [second * np.cos(angle), second * np.sin(angle), 0.0]]
        structure = Structure(np.array([8, 1, 1]), np.array(atoms) @ turn.T)
        result = reference.predict(structure)
        labelled = structure.to_atoms()
        labelled.calc = SinglePointCalculator(labelled, energy=result.energy, forces=result.forces)
        found.append(labelled)
    ase.io.write(args.output, found)


if __name__ == "__main__":
    main()
