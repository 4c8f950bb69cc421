"""Training, validation and test structures for a metatrain PET with direct forces, from labelled structures.

    python benchmarks/direct/make_data.py structures.extxyz more.extxyz bulk-pimd.extxyz

Of each file the last 18 of a random order are kept apart, 3 to validate and 15 to test. The forces stand in the files
twice: as derivatives of the energy (`forces`) and as labels of the direct ones (`direct`). `--train 120 60 80` takes
the first ones of each file alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ase.io
import numpy as np

KEPT_APART, VALIDATION = 18, 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="+", help="extended XYZ with energy and forces")
    parser.add_argument(
        "--train", type=int, nargs="+", help="training structures of each file (default: all)"
    )
    parser.add_argument("--output", type=Path, default=Path(), help="folder (default: here)")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    parts: dict[str, list[ase.Atoms]] = {"train": [], "val": [], "test": []}
    for path, wanted in zip(args.files, args.train or [None] * len(args.files), strict=True):
        read = ase.io.read(path, ":")
        order = rng.permutation(len(read))
        first = len(read) - KEPT_APART
        for place, k in enumerate(order):
            if wanted is not None and wanted <= place < first:
                continue
            atoms = read[k]
            energy, forces = atoms.get_potential_energy(), atoms.get_forces()
            atoms.calc, atoms.info = None, {"energy": energy}
            atoms.arrays |= {"forces": forces, "direct": forces.copy()}
            part = "train" if place < first else "val" if place < first + VALIDATION else "test"
            parts[part].append(atoms)
    for name, structures in parts.items():
        shuffled = [structures[k] for k in rng.permutation(len(structures))]
        ase.io.write(args.output / f"{name}.xyz", shuffled, format="extxyz")
        print(f"{name}.xyz: {len(shuffled)} structures")


if __name__ == "__main__":
    main()
