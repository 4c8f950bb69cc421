"""Make the nine proton-disordered cells of hexagonal ice in ``cells/``; run once, its output is kept.

Oxygen lattice: ideal hexagonal ice (all O-O distances equal) in the orthorhombic cell of 8 molecules,
a x sqrt(3) a x sqrt(8/3) a with a = 4.507 Å, repeated to the sizes of Hayward and Reimers (J. Chem. Phys. 106,
1518 (1997)). Hydrogens: GenIce (Matsumoto, Yagasaki, Tanaka, J. Comput. Chem. 39, 61 (2018)) draws them at random
under the ice rules with zero net dipole, one seed per cell.

    pip install genice2==2.2.13.3
    python make_cells.py
"""

from __future__ import annotations

import random
from pathlib import Path

import genice2.lattices
import numpy as np
from ase import Atoms
from genice2.cell import cellvectors
from genice2.genice import GenIce
from genice2.plugin import Format, Molecule

A = 4.507  # Å: 32.37 Å3 per molecule
EDGES = np.array([A, np.sqrt(3.0) * A, np.sqrt(8.0 / 3.0) * A])

# name -> (repetitions of the cell of 8 molecules, seed)
CELLS = {
    "096-a": ((3, 2, 2), 1),
    "096-b": ((3, 2, 2), 2),
    "096-c": ((3, 2, 2), 3),
    "192-a": ((4, 3, 2), 4),
    "192-b": ((4, 3, 2), 5),
    "360-a": ((5, 3, 3), 6),
    "360-b": ((9, 5, 1), 7),
    "432-a": ((6, 3, 3), 8),
    "768-a": ((6, 4, 4), 9),
}


def lattice(repetitions: tuple[int, int, int]) -> np.ndarray:
    """(n_molecules, 3) oxygen positions in Å: puckered layers perpendicular to c, half of c apart."""
    lower = [(0.0, 0.0), (0.5, 0.5)]
    upper = [(0.0, 1.0 / 3.0), (0.5, 5.0 / 6.0)]
    heights = [(1 / 16, lower), (7 / 16, lower), (9 / 16, upper), (15 / 16, upper)]
    unit = np.array([(x, y, z) for z, points in heights for x, y in points])
    shifts = np.array(list(np.ndindex(*repetitions)), dtype=float)
    return np.asarray((unit[None] + shifts[:, None]).reshape(-1, 3) * EDGES)


class HexagonalIce(genice2.lattices.Lattice):
    """The whole cell: in the cell of 8 molecules two molecules would be bonded through two images, which GenIce
    does not distinguish.
    """

    def __init__(self, repetitions: tuple[int, int, int]) -> None:
        self.density = 0.92  # GenIce scales to it; `make` scales back
        self.bondlen = 3.0
        self.coord = "relative"
        edges = EDGES * repetitions
        self.cell = cellvectors(*edges)
        self.waters = "\n".join("{:.12f} {:.12f} {:.12f}".format(*p) for p in lattice(repetitions) / edges)


def make(repetitions: tuple[int, int, int], seed: int) -> Atoms:
    """One cell, O H H per molecule, molecules whole, Å."""
    np.random.seed(seed)  # noqa: NPY002 - what GenIce draws from
    random.seed(seed)
    generator = GenIce(HexagonalIce(repetitions))
    text = generator.generate_ice(formatter=Format("exyz"), water=Molecule("spce"), depol="strict")
    lines = [line.split() for line in text.splitlines()]
    rows = np.array([line[1:] for line in lines if line and line[0] in ("Ow", "Hw")], dtype=float)
    scaled = np.array([line[1:] for line in lines if line and line[0].startswith("Vector")], dtype=float)
    molecules = rows.reshape(-1, 3, 3)
    edges = EDGES * repetitions
    # GenIce puts the centre of mass on a lattice point; here the oxygen is put there
    points = lattice(repetitions)
    offsets = points[None] - (molecules[:, 0] / np.diag(scaled) * edges)[:, None]
    offsets -= edges * np.rint(offsets / edges)
    nearest = np.linalg.norm(offsets, axis=-1).argmin(axis=1)
    if len(set(nearest.tolist())) != len(points):
        raise RuntimeError("molecules and lattice points do not match")
    positions = points[nearest][:, None] + (molecules - molecules[:, :1])
    return Atoms(["O", "H", "H"] * len(molecules), positions.reshape(-1, 3), cell=edges, pbc=True)


def check(atoms: Atoms) -> float:
    """Raise unless the ice rules hold; the modulus of the sum of O -> midpoint vectors, Å."""
    oxygens, hydrogens = atoms.positions[::3], atoms.positions.reshape(-1, 3, 3)[:, 1:].reshape(-1, 3)
    edges = np.diag(np.array(atoms.cell))
    vectors = oxygens[None] - hydrogens[:, None]
    distances = np.linalg.norm(vectors - edges * np.rint(vectors / edges), axis=-1)
    accepted = np.argsort(distances, axis=1)[:, 1]
    if (
        not (np.bincount(accepted, minlength=len(oxygens)) == 2).all()
        or (np.sort(distances)[:, 1] > 2.0).any()
    ):
        raise RuntimeError("not every molecule accepts two hydrogen bonds")
    return float(
        np.linalg.norm((atoms.positions[1::3] + atoms.positions[2::3] - 2 * oxygens).sum(axis=0) / 2)
    )


def write(path: Path, atoms: Atoms, comment: str) -> None:
    """In the format of i-PI, which `ipi-driver serve --structure` reads too."""
    edges = np.diag(np.array(atoms.cell))
    header = "# CELL(abcABC): " + " ".join(f"{edge:.8f}" for edge in edges) + " 90.0 90.0 90.0"
    rows = [
        f"{s} {x:.6f} {y:.6f} {z:.6f}" for s, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)
    ]
    text = [str(len(atoms)), f"{header}  positions{{angstrom}} cell{{angstrom}}  {comment}", *rows]
    path.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    folder = Path(__file__).with_name("cells")
    folder.mkdir(exist_ok=True)
    for name, (repetitions, seed) in CELLS.items():
        ice = make(repetitions, seed)
        dipole = check(ice)
        print(
            f"{name}: {len(ice) // 3} H2O, cell {np.diag(np.array(ice.cell)).round(3)}, net dipole {dipole:.1e} Å"
        )
        write(folder / f"{name}.xyz", ice, f"hexagonal ice, GenIce seed {seed}")
