"""`check_potential`: what every potential must fulfil, as a test that any package can call.

>>> import numpy as np
>>> from ipi_driver.potentials import load_potential
>>> from ipi_driver.potentials.testing import check_potential
>>> from ipi_driver.structure import Structure
>>> water = Structure(np.array([8, 1, 1]), np.array([[0, 0, 0], [0.97, 0, 0.1], [-0.2, 0.9, 0]]))
>>> deviations = check_potential(load_potential("anisotropic?l=2,3e"), water)
>>> max(deviations.values()) < 1e-6
True
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.chunks import RotationChunks
from ipi_driver.potentials.derivatives import force_deviation, virial_deviation
from ipi_driver.structure import FloatArray, IntArray, RotatedResults, Structure

ALL = (
    "results", "forces", "virial", "rotations", "permutation", "translation", "lattice", "batch", "chunks", "input"
)  # fmt: skip
"""Names of the checks, in their order."""


class ConformanceError(AssertionError):
    """A potential does not fulfil the contract; the message names every check that failed."""


def check_potential(
    potential: Potential,
    structure: Structure,
    tolerance: float = 1e-6,
    derivative_tolerance: float | None = None,
    skip: tuple[str, ...] = (),
    seed: int = 0,
) -> dict[str, float]:
    """Check a potential on a structure against the contract of `Potential`.

    ==============  ==========================================================================================
    check           what must hold
    ==============  ==========================================================================================
    ``results``     shapes, float64, finite values; `Potential.edges_hint` is a number; one rotation is `predict`
    ``forces``      forces are derivatives of the energy, by finite differences
    ``virial``      so is the virial, by strain; skipped where there is none
    ``rotations``   a rotation, proper or not, is `predict` of `Structure.rotated`, turned back
    ``permutation`` another order of the atoms is the same
    ``translation`` so is another place
    ``lattice``     so are atoms moved by lattice vectors, and another basis of the lattice
    ``batch``       several structures of different size and rotations in one call are the same one by one
    ``chunks``      so are rotations in calls of any size
    ``input``       the structures and rotations are left as they were
    ==============  ==========================================================================================

    Parameters
    ----------
    potential
        The potential.
    structure
        At least three atoms, in general position. Periodic or not; both is best.
    tolerance
        Largest deviation that passes: of energies relative to 1 eV or the energy, forces relative to 1 eV/Å or the
        largest force, virials likewise. Single precision needs 1e-4.
    derivative_tolerance
        The same for finite differences; None: ten times ``tolerance``. Single precision needs 1e-2.
    skip
        Checks left out: ``("forces", "virial")`` for forces that are not derivatives.
    seed
        Of the random displacements and rotations.

    Returns
    -------
    dict
        Deviation of each check, relative as above.

    Raises
    ------
    ConformanceError
        If a check fails.
    """
    if derivative_tolerance is None:
        derivative_tolerance = 10.0 * tolerance
    run = _Checks(potential, structure, np.random.default_rng(seed))
    deviations: dict[str, float] = {}
    failures = []
    for name in ALL:
        if name in skip:
            continue
        try:
            found = getattr(run, name)()
        except ConformanceError as error:
            failures.append(f"{name}: {error}")
            continue
        if found is None:
            continue
        deviations[name] = found
        allowed = derivative_tolerance if name in ("forces", "virial") else tolerance
        if not found <= allowed:
            failures.append(f"{name}: deviation {found:.2e}, allowed {allowed:.1e}")
    if failures:
        raise ConformanceError(f"{potential.name}: " + "; ".join(failures))
    return deviations


class _Checks:
    """The checks; each returns a relative deviation, or None where it does not apply."""

    def __init__(self, potential: Potential, structure: Structure, rng: np.random.Generator) -> None:
        self.potential = potential
        self.structure = structure
        self.rng = rng
        self.matrices = Rotation.random(3, random_state=int(rng.integers(2**31))).as_matrix()
        self.matrices[1] *= -1.0
        self.result = potential.predict(structure)

    def results(self) -> float:
        """Shapes, types, and `predict` as the result of the identity."""
        n = self.structure.n_atoms
        found = self.potential.evaluate([self.structure], np.concatenate([np.eye(3)[None], self.matrices]))
        shapes: list[tuple[str, ArrayLike | None, tuple[int, ...]]] = [
            ("energies", found.energies, (1, 4)),
            ("forces", found.forces[0], (4, n, 3)),
            ("virials", found.virials, (1, 4, 3, 3)),
        ]
        for name, values, shape in shapes:
            if values is None:
                continue
            array = np.asarray(values)
            if array.shape != shape or array.dtype != np.float64:
                raise ConformanceError(f"{name} must be float64 {shape}, got {array.dtype} {array.shape}")
            if not np.isfinite(array).all():
                raise ConformanceError(f"{name} are not finite")
        if int(self.potential.edges_hint(self.structure)) < 0:
            raise ConformanceError("`edges_hint` must not be negative")
        return self._difference(found.select(slice(0, 1)), self._single(self.structure, np.eye(3)))

    def forces(self) -> float:
        """Forces are derivatives of the energy."""
        deviation = force_deviation(self.potential, self.structure, self.result, self.rng)
        return deviation / max(1.0, float(np.abs(self.result.forces).max()))

    def virial(self) -> float | None:
        """So is the virial."""
        deviation = virial_deviation(self.potential, self.structure, self.result, self.rng)
        if deviation is None or self.result.virial is None:
            return None
        return deviation / max(1.0, float(np.abs(self.result.virial).max()))

    def rotations(self) -> float:
        """A rotation is the result of the turned structure, turned back."""
        found = self.potential.evaluate([self.structure], self.matrices)
        return max(
            self._difference(found.select(slice(k, k + 1)), self._single(self.structure, rotation))
            for k, rotation in enumerate(self.matrices)
        )

    def permutation(self) -> float:
        """Another order of the atoms."""
        order = self.rng.permutation(self.structure.n_atoms)
        other = replace(
            self.structure, numbers=self.structure.numbers[order], positions=self.structure.positions[order]
        )
        return self._same(other, order)

    def translation(self) -> float:
        """Another place."""
        shift = self.rng.uniform(-2.0, 2.0, 3)
        return self._same(replace(self.structure, positions=self.structure.positions + shift))

    def lattice(self) -> float | None:
        """Atoms moved by lattice vectors; the lattice in another basis."""
        if not self.structure.periodic:
            return None
        steps = self.rng.integers(-2, 3, (self.structure.n_atoms, 3)) * self.structure.pbc
        moved = self._same(
            replace(self.structure, positions=self.structure.positions + steps @ self.structure.cell)
        )
        if not self.structure.pbc.all():
            return moved
        basis = np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1]]) @ self.structure.cell
        return max(moved, self._same(replace(self.structure, cell=basis)))

    def batch(self) -> float:
        """Several structures and rotations in one call."""
        moved = self.structure.positions + 0.02 * self.rng.standard_normal(self.structure.positions.shape)
        smaller = replace(
            self.structure, numbers=self.structure.numbers[:-1], positions=self.structure.positions[:-1]
        )
        structures = [self.structure, smaller, replace(self.structure, positions=moved), self.structure]
        together = self.potential.evaluate(structures, self.matrices[:2])
        worst = 0.0
        for s, structure in enumerate(structures):
            for k in range(2):
                alone = self.potential.evaluate([structure], self.matrices[k : k + 1])
                worst = max(worst, self._difference(together.of_structure(s).select(slice(k, k + 1)), alone))
        return worst

    def chunks(self) -> float:
        """Rotations in calls of any size."""
        whole = self.potential.evaluate([self.structure], self.matrices)
        return max(
            self._difference(
                RotationChunks(self.potential, size).evaluate(self.structure, self.matrices), whole
            )
            for size in (1, 2, None)
        )

    def input(self) -> float:
        """Structures and rotations are left as they were."""
        given = replace(self.structure)
        rotations = self.matrices.copy()
        self.potential.evaluate([given], rotations)
        same = given.same_configuration(self.structure) and np.array_equal(rotations, self.matrices)
        if not same:
            raise ConformanceError("the structure or the rotations were changed")
        return 0.0

    def _single(self, structure: Structure, rotation: FloatArray) -> RotatedResults:
        """`predict` of the turned structure, turned back."""
        found = self.potential.predict(structure.rotated(rotation))
        virials = None if found.virial is None else (rotation.T @ found.virial @ rotation)[None, None]
        return RotatedResults(np.array([[found.energy]]), ((found.forces @ rotation)[None],), virials)

    def _same(self, other: Structure, order: IntArray | None = None) -> float:
        """Difference of another description of the same structure, whose atoms are in ``order``."""
        found = self.potential.predict(other)
        forces = self.result.forces if order is None else self.result.forces[order]
        pairs: list[tuple[ArrayLike, ArrayLike]] = [
            (found.energy, self.result.energy),
            (found.forces, forces),
        ]
        if found.virial is not None and self.result.virial is not None:
            pairs.append((found.virial, self.result.virial))
        return max(_relative(*pair) for pair in pairs)

    def _difference(self, found: RotatedResults, expected: RotatedResults) -> float:
        if (found.virials is None) != (expected.virials is None):
            raise ConformanceError("there is a virial in one of two equal evaluations and none in the other")
        pairs: list[tuple[ArrayLike, ArrayLike]] = [
            (found.energies, expected.energies),
            (found.forces[0], expected.forces[0]),
        ]
        if found.virials is not None and expected.virials is not None:
            pairs.append((found.virials, expected.virials))
        return max(_relative(*pair) for pair in pairs)


def _relative(found: ArrayLike, expected: ArrayLike) -> float:
    values, reference = np.asarray(found), np.asarray(expected)
    return float(np.abs(values - reference).max(initial=0.0) / max(1.0, np.abs(reference).max(initial=0.0)))
