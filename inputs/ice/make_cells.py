"""Make the nine proton-disordered cells of hexagonal ice in ``cells/``: run once, its output is kept.

Oxygen lattice: ideal hexagonal ice (all O-O distances equal) in the orthorhombic cell of 8 molecules, a x sqrt(3) a x sqrt(8/3) a
with a = 4.507 Å, the density of ice near its melting point; repeated to the sizes of Hayward and Reimers (J. Chem. Phys.
106, 1518 (1997)). Hydrogens: GenIce (Matsumoto, Yagasaki, Tanaka, J. Comput. Chem. 39, 61 (2018)), which draws them at random under
the ice rules with zero net dipole; a seed per cell.

    pip install genice2
    python make_cells.py
"""

from __future__ import annotations

from pathlib import Path

import genice2.lattices
import numpy as np
from ase import Atoms
from ase.io import write
from genice2.cell import cellvectors
from genice2.genice import GenIce
from genice2.plugin import Format, Molecule

A = 4.507  # Å

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


class HexagonalIce(genice2.lattices.Lattice):
    """Orthorhombic cell of 8 molecules; layers perpendicular to c are 3/8 and 1/8 of c apart."""

    def __init__(self) -> None:
        self.density = 0.92
        self.bondlen = 3.0
        self.coord = "relative"
        self.cell = cellvectors(a=A, b=np.sqrt(3.0) * A, c=np.sqrt(8.0 / 3.0) * A)
        lower = [(0.0, 0.0), (0.5, 0.5)]
        upper = [(0.0, 1.0 / 3.0), (0.5, 5.0 / 6.0)]
        heights = [(1 / 16, lower), (7 / 16, lower), (9 / 16, upper), (15 / 16, upper)]
        self.waters = "\n".join(f"{x} {y} {z}" for z, points in heights for x, y in points)


def make(repetitions: tuple[int, int, int], seed: int) -> Atoms:
    """One cell, O H H per molecule, molecules whole, Å."""
    np.random.seed(seed)
    import random

    random.seed(seed)
    text = GenIce(HexagonalIce(), rep=list(repetitions)).generate_ice(
        formatter=Format("exyz"), water=Molecule("spce"), depol="strict"
    )
    return text


if __name__ == "__main__":
    for name, (repetitions, seed) in CELLS.items():
        print(make(repetitions, seed)[:300])
        break
