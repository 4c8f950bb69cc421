"""What a system is, from its structure: one molecule (gas), a disordered liquid, or ice.

The tetrahedral order of a molecule, ``q = 1 - 3/8 sum_{j<k} (cos psi_jk + 1/3)²`` over the angles between its
four nearest neighbors (Errington and Debenedetti, Nature 409, 318 (2001)), is 1 in perfect ice, above 0.85
in ice at its melting point and about 0.65 in liquid water; it is 0 on average in an ideal gas.
"""

from __future__ import annotations

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.observables.molecules import Molecules, minimum_image
from ipi_driver.structure import FloatArray, Structure

ICE_THRESHOLD = 0.80
KINDS = ("gas", "liquid", "ice")


def tetrahedral_order(centers: FloatArray, cell: FloatArray) -> FloatArray:
    """Order parameter q of each center; (n, 3) in Å and the cell to (n,). At least 5 centers are needed."""
    if len(centers) < 5:
        raise UserError(
            f"the tetrahedral order needs four neighbors of each molecule, got {len(centers)} molecules"
        )
    order = np.empty(len(centers))
    for i, center in enumerate(centers):
        vectors = minimum_image(centers - center, cell)
        distances = np.linalg.norm(vectors, axis=1)
        distances[i] = np.inf
        nearest = np.argsort(distances)[:4]
        directions = vectors[nearest] / distances[nearest, None]
        cosines = (directions @ directions.T)[np.triu_indices(4, 1)]
        order[i] = 1.0 - 3.0 / 8.0 * ((cosines + 1.0 / 3.0) ** 2).sum()
    return order


def recognize(structure: Structure, molecules: Molecules) -> str:
    """``gas`` for one molecule alone, else ``ice`` or ``liquid`` by the mean tetrahedral order of the first sites."""
    if molecules.n_sites == structure.n_atoms:
        return "gas"
    if molecules.n_molecules < 5:
        return "liquid"
    order = tetrahedral_order(structure.positions[molecules.indices[:, 0]], structure.cell)
    return "ice" if order.mean() > ICE_THRESHOLD else "liquid"
