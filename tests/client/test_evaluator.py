"""One model behind several endpoints: whose result is whose."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import molecule

from ipi_driver.client.evaluator import Counts, SharedEvaluator
from ipi_driver.potentials.registry import load_potential
from ipi_driver.structure import Structure


def test_no_structure_of_a_large_batch_is_computed_twice() -> None:
    potential = load_potential("anisotropic?l=4&amplitude=0.1")
    rng = np.random.default_rng(0)
    structures = [
        Structure(np.array([8, 1, 1]), molecule("H2O").positions + 0.01 * rng.normal(size=(3, 3)))
        for _ in range(100)
    ]
    evaluator, counts = SharedEvaluator(potential), Counts("none")
    evaluator.predict(structures, "none", counts)
    assert (counts.evaluations, counts.rotations) == (100, 100)


def test_other_elements_at_the_same_positions_are_another_configuration() -> None:
    """As of force fields that differ in the elements alone, in one process."""
    potential = load_potential("anisotropic?l=4&amplitude=0.1")
    evaluator, counts = SharedEvaluator(potential), Counts("none")
    structures = [
        Structure(np.array(numbers), molecule("H2O").positions) for numbers in ([8, 1, 1], [1, 8, 8])
    ]
    for known in (0, 2):
        found = [evaluator.predict([structure], "none", counts)[0].energy for structure in structures]
        assert found == pytest.approx([potential.predict(structure).energy for structure in structures])
        assert found[0] != pytest.approx(found[1])
        assert counts.repeated == known
