"""One model behind several endpoints: whose result is whose."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import numpy as np
import pytest
from ase.build import molecule

from ipi_driver.client.evaluator import Counts, EvaluationError, SharedEvaluator
from ipi_driver.errors import UserError
from ipi_driver.potentials.anisotropic import AnisotropicPotential
from ipi_driver.potentials.registry import load_potential
from ipi_driver.rotations.quadrature import quadrature
from ipi_driver.structure import Structure


def test_no_structure_of_a_large_batch_is_computed_twice() -> None:
    potential = load_potential("anisotropic?l=4&amplitude=0.1")
    rng = np.random.default_rng(0)
    structures = [
        Structure(np.array([8, 1, 1]), molecule("H2O").positions + 0.01 * rng.normal(size=(3, 3)))
        for _ in range(100)
    ]
    evaluator, counts = SharedEvaluator(potential), Counts("none")
    evaluator.predict(structures, evaluator.prepare(quadrature("none")), counts)
    assert (counts.evaluations, counts.rotations) == (100, 100)


def test_other_elements_at_the_same_positions_are_another_configuration() -> None:
    """As of force fields that differ in the elements alone, in one process."""
    potential = load_potential("anisotropic?l=4&amplitude=0.1")
    evaluator, counts = SharedEvaluator(potential), Counts("none")
    average = evaluator.prepare(quadrature("none"))
    structures = [
        Structure(np.array(numbers), molecule("H2O").positions) for numbers in ([8, 1, 1], [1, 8, 8])
    ]
    for known in (0, 2):
        found = [evaluator.predict([structure], average, counts)[0].energy for structure in structures]
        assert found == pytest.approx([potential.predict(structure).energy for structure in structures])
        assert found[0] != pytest.approx(found[1])
        assert counts.repeated == known


class Ending(AnisotropicPotential):
    """Does something first."""

    act: Callable[[], object]

    def _evaluate(self, structures, rotations):  # type: ignore[no-untyped-def]
        self.act()
        return super()._evaluate(structures, rotations)


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: sys.exit(3), "the model failed: it called sys.exit(3)"),
        (interrupt, "the model failed: KeyboardInterrupt"),
    ],
)
def test_a_model_that_wants_to_end_the_process_has_failed(act: Callable[[], object], message: str) -> None:
    potential = Ending()
    potential.act = act
    structure = Structure(np.array([8, 1, 1]), molecule("H2O").positions)
    evaluator = SharedEvaluator(potential)
    average = evaluator.prepare(quadrature("Th"))
    with pytest.raises(EvaluationError) as caught:
        evaluator.predict([structure], average, Counts("Th"))
    assert str(caught.value) == message
    assert caught.value.structure is structure


class Refusing(AnisotropicPotential):
    """Refuses molecules that have come apart, in words of its own."""

    def _evaluate(self, structures, rotations):  # type: ignore[no-untyped-def]
        if any(np.ptp(structure.positions) > 3.0 for structure in structures):
            raise UserError("the atoms are too far apart")
        return super()._evaluate(structures, rotations)


def test_the_bead_that_a_model_refuses_is_known() -> None:
    """Its configuration is written for the user, not that of the first bead."""
    positions = molecule("H2O").positions
    beads = [Structure(np.array([8, 1, 1]), scale * positions) for scale in (1.0, 0.9, 4.0, 1.1)]
    evaluator = SharedEvaluator(Refusing())
    with pytest.raises(EvaluationError, match=r"^the atoms are too far apart$") as caught:
        evaluator.predict(beads, evaluator.prepare(quadrature("none")), Counts("none"))
    assert caught.value.structure is beads[2]


def test_a_model_that_forks_and_comes_back_twice(capfd) -> None:
    potential, made = Ending(), []
    potential.act = lambda: made.append(os.fork())
    structure = Structure(np.array([8, 1, 1]), molecule("H2O").positions)
    evaluator = SharedEvaluator(potential)
    prediction = evaluator.predict([structure], evaluator.prepare(quadrature("none")), Counts("none"))[0]
    assert np.isfinite(prediction.forces).all()
    _, status = os.waitpid(made[0], 0)
    assert os.waitstatus_to_exitcode(status) == 70
    assert "the model has forked" in capfd.readouterr().err
