"""What an average has in common with the reference is not seen in their difference, and counts all the same."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ipi_driver.ipi_files.structures import DataSet
from ipi_driver.potentials import load_potential
from ipi_driver.potentials.anisotropic import AnisotropicPotential
from ipi_driver.rotations import quadrature, quadratures
from ipi_driver.structure import Structure
from ipi_driver.symmetry.check import CheckSettings, run_check
from ipi_driver.symmetry.degrees import decompose, shared_force
from ipi_driver.symmetry.recommend import recommend

WATER = Structure(np.array([8, 1, 1]), np.array([[0.0, 0.0, 0.0], [0.96, 0.1, 0.0], [-0.24, 0.93, 0.1]]))


def potential() -> AnisotropicPotential:
    """The icosahedral groups keep invariants of l = 6, proper or not."""
    found = load_potential("anisotropic?l=6&amplitude=0.05")
    assert isinstance(found, AnisotropicPotential)
    return found


def test_i_is_not_exact_because_ih_is_as_wrong() -> None:
    settings = CheckSettings(quadratures(["none", "I"]), quadrature("Ih"), 1e-3, max_degree=6)
    result = run_check(potential(), [DataSet("water", [WATER])], settings)
    assert next(row.force_mae for row in result.errors if row.average == "I") < 1e-12
    assert not result.recommendation.sufficient
    assert "the reference has it too" in result.recommendation.text
    assert "a larger reference (--reference 5i)" in result.recommendation.text
    # against a reference that averages l = 6 exactly nothing is shared
    found = result.decompositions["water"]
    assert shared_force(found, quadrature("I"), quadrature("4i")) < 1e-12
    raw = next(row.force_mae for row in result.errors if row.average == "none")
    shared = {("water", "I"): 0.5 * raw}
    assert recommend(result.errors, 0.6 * raw, shared).average == "I"
    assert not recommend(result.errors, 0.4 * raw, shared).sufficient


def test_no_average_is_told_better_than_the_reference() -> None:
    """Against Ih, which keeps l = 6, the exact 4i has the error of Ih: larger averages will not help."""
    settings = CheckSettings(quadratures(["none", "T", "4i"]), quadrature("Ih"), 1e-4, max_degree=6)
    text = run_check(potential(), [DataSet("water", [WATER])], settings).recommendation.text
    assert "the best is 4i" in text
    assert "the reference itself has" in text
    assert "Add a larger reference" in text


def test_shared_error_is_that_of_the_average_itself() -> None:
    """Root mean square, over orientations of the rotations, of the difference from the exact average."""
    model, grid = potential(), quadrature("I")
    exact = model.exact_average().predict(WATER).forces
    deviations = [
        np.einsum("k,kix->ix", grid.weights, model.evaluate([WATER], turn @ grid.rotations).forces[0]) - exact
        for turn in Rotation.random(40, random_state=4).as_matrix()
    ]
    shared = shared_force(decompose(model, WATER, 6), grid, quadrature("Ih"))
    assert shared == pytest.approx(float(np.sqrt(np.mean(np.square(deviations)))), rel=0.25)
