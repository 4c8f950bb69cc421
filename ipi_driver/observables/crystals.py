"""Comparing crystals relaxed with and without averaging.

For cells k with energies E_k of N_k molecules, ``e_k = E_k / N_k - mean_k(E_k / N_k)`` is the relative
energy. For two relaxed geometries of a cell, the common translation t is removed and ``RMSD = sqrt(sum_i |d_i
- t|² / N_atoms)`` with d_i the displacement at its minimum image and ``t = mean_i d_i``. For two sets of
forces, ``RMSE = sqrt(sum_i |F_i - F'_i|² / (3 N_atoms))``: per component.

Langer, Pozdnyakov, Ceriotti (Mach. Learn.: Sci. Technol. 5, 04LT01 (2024)) give sets of cells by one norm each: of the
relative energies ``sqrt(sum_k (e_k - e'_k)²)``, which grows with the number of cells, of geometries and forces
``sqrt(3 sum_i |d_i|² / sum_k N_k)`` over the atoms i of all cells (their archive, `pproc.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ipi_driver.errors import UserError
from ipi_driver.observables.molecules import minimum_image
from ipi_driver.structure import FloatArray, Structure


@dataclass(frozen=True)
class ForceDifference:
    """How far two sets of forces on the same structure are apart, eV/Å.

    Attributes
    ----------
    rmse
        Root mean square over atoms and components.
    mae
        Mean absolute difference over atoms and components.
    maximum
        Largest modulus of the difference on one atom.
    magnitude
        Root mean square component of the first set, for comparison.
    """

    rmse: float
    mae: float
    maximum: float
    magnitude: float


def relative_energies(energies: ArrayLike, n_molecules: ArrayLike) -> FloatArray:
    """Energies per molecule relative to their mean over cells; (n_cells,) eV and counts to (n_cells,)
    eV/molecule.
    """
    total, counts = np.asarray(energies, dtype=np.float64), np.asarray(n_molecules, dtype=np.float64)
    if total.shape != counts.shape or total.ndim != 1 or not len(total):
        raise UserError(
            f"one energy and one number of molecules per cell expected, got {total.shape} and {counts.shape}"
        )
    per_molecule = total / counts
    return np.asarray(per_molecule - per_molecule.mean())


def rmse(first: ArrayLike, second: ArrayLike) -> float:
    """Root mean square of the difference over all numbers of two arrays of equal shape."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape:
        raise UserError(f"arrays to compare must have the same shape, got {a.shape} and {b.shape}")
    return float(np.sqrt(((a - b) ** 2).mean()))


def root_sum_square(first: ArrayLike, second: ArrayLike) -> float:
    """Square root of the sum of the squared differences of two arrays of one shape: the published norm of energies."""
    return rmse(first, second) * float(np.sqrt(np.size(first)))


def pooled_norm(squares: ArrayLike, n_atoms: ArrayLike) -> float:
    """``sqrt(3 sum_k S_k / sum_k N_k)``: the published norm of forces and displacements of several cells.

    Parameters
    ----------
    squares
        (n_cells,) sums over the atoms of a cell of squared moduli.
    n_atoms
        (n_cells,) atoms of each cell.

    Examples
    --------
    >>> pooled_norm([0.12, 0.24], [4, 8])  # moduli of 0.1732 on every atom
    0.3
    """
    return float(np.sqrt(3.0 * np.sum(squares) / np.sum(n_atoms)).round(15))


def force_difference(first: FloatArray, second: FloatArray) -> ForceDifference:
    """Difference between two (n_atoms, 3) sets of forces in eV/Å."""
    if first.shape != second.shape:
        raise UserError(f"forces to compare must have the same shape, got {first.shape} and {second.shape}")
    difference = first - second
    return ForceDifference(
        rmse=rmse(first, second),
        mae=float(np.abs(difference).mean()),
        maximum=float(np.linalg.norm(difference, axis=-1).max()),
        magnitude=float(np.sqrt((first**2).mean())),
    )


def rmsd(first: Structure, second: Structure) -> float:
    """Root mean square displacement per atom between two geometries of one crystal, Å, common translation
    removed.

    Raises
    ------
    UserError
        If the structures do not hold the same atoms in the same cell.
    """
    if not np.array_equal(first.numbers, second.numbers):
        raise UserError(
            f"structures of different systems: expected the same atoms in the same order, got "
            f"{first.n_atoms} and "
            f"{second.n_atoms} atoms"
        )
    if not np.allclose(first.cell, second.cell, atol=1e-3):
        raise UserError("structures have different cells: an RMSD needs the same cell; relax at fixed cell")
    displacement = minimum_image(second.positions - first.positions, first.cell)
    # a translation near half a cell would wrap atoms to both sides: take it out first, then wrap again
    displacement = minimum_image(displacement - displacement[0], first.cell)
    displacement = displacement - displacement.mean(axis=0)
    return float(np.sqrt((displacement**2).sum() / first.n_atoms))
