"""Makes a box of liquid water: molecules on a lattice at the experimental density, in random orientations.

    python inputs/build_liquid.py 64 lattice.extxyz
    ipi-driver run liquid-nvt-raw --structure lattice.extxyz --steps 40000 --output runs/equilibration
    python inputs/build_liquid.py --last runs/equilibration inputs/liquid-nvt/init.xyz

The second command melts the lattice with the shipped model (20 ps at 300 K; oxygen is hotter than hydrogen for the
first 6); the third takes its last frame. Repeated twice along each direction it is the box of 512 molecules, whose
copies part ways within a few ps:

    python inputs/build_liquid.py --last inputs/liquid-nvt/init.xyz --repeat 2 inputs/liquid-nvt/init-512.xyz
    ipi-driver run liquid-nvt --structure init-512.xyz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ase
import ase.io
import numpy as np
from ase.build import molecule
from scipy.spatial.transform import Rotation

from ipi_driver.ipi_files.outputs import Run
from ipi_driver.ipi_files.start import read_start

# g/cm³ at 300 K; the published box of 512 molecules has an edge of 24.861 Å
DENSITY = 0.9965
GRAMS_PER_MOLECULE = 18.01528 / 6.02214076e23


def lattice(n_molecules: int, seed: int = 0) -> ase.Atoms:
    """Molecules on a simple cubic lattice."""
    rng = np.random.default_rng(seed)
    edge = (n_molecules * GRAMS_PER_MOLECULE / DENSITY * 1e24) ** (1 / 3)
    per_side = int(np.ceil(n_molecules ** (1 / 3) - 1e-9))
    sites = np.array([[i, j, k] for i in range(per_side) for j in range(per_side) for k in range(per_side)])
    chosen = np.sort(rng.permutation(len(sites))[:n_molecules])
    box = ase.Atoms(cell=[edge] * 3, pbc=True)
    for site, turn in zip(sites[chosen], Rotation.random(n_molecules, rng=rng), strict=True):
        one = molecule("H2O")
        one.positions = turn.apply(one.positions - one.positions[0]) + (site + 0.5) * edge / per_side
        box += one
    return box


def last_frame(path: Path, repeat: int) -> ase.Atoms:
    """Last positions of a run folder or of a structure file, repeated along each direction."""
    if path.is_dir():
        run = Run(path)
        *_, last = run.snapshots(["positions"])
        atoms = ase.Atoms(run.symbols, last.positions, cell=last.cell, pbc=True)
    else:
        atoms = read_start(path, periodic=True)
    return atoms.repeat(repeat)


def write(atoms: ase.Atoms, path: Path) -> None:
    """Extended XYZ, or i-PI's XYZ for the ending ``.xyz``."""
    if path.suffix == ".xyz":
        cell = " ".join(f"{x:.6f}" for x in atoms.cell.cellpar())
        rows = [
            f"{s} {x:.6f} {y:.6f} {z:.6f}"
            for s, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)
        ]
        header = f"# CELL(abcABC): {cell} positions{{angstrom}} cell{{angstrom}}"
        path.write_text("\n".join([str(len(atoms)), header, *rows]) + "\n")
    else:
        ase.io.write(path, atoms, format="extxyz")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("n_molecules", type=int, nargs="?", default=64)
    parser.add_argument("output", type=Path)
    parser.add_argument("--last", type=Path, metavar="PATH", help="last frame of a run or file instead")
    parser.add_argument("--repeat", type=int, default=1, help="repeat it along each direction")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    atoms = last_frame(args.last, args.repeat) if args.last else lattice(args.n_molecules, args.seed)
    write(atoms, args.output)
    print(f"{args.output}: {len(atoms) // 3} molecules, edge {atoms.cell.lengths()[0]:.4f} Å")


if __name__ == "__main__":
    main()
