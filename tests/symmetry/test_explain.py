"""What a relaxed network finds in residual forces: a field by its kind and direction, or nothing of the sort."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ipi_driver.potentials import load_potential
from ipi_driver.structure import Structure
from ipi_driver.symmetry.degrees import decompose
from ipi_driver.symmetry.explain import Explanation, explain
from ipi_driver.symmetry.recommend import keep_directions

FIELD = "(field?electric=0.1,-0.2,0.2&charges=O:-0.82,H:0.41)"


def molecules(n: int = 3) -> list[Structure]:
    rng = np.random.default_rng(0)
    water = np.array([[0.0, 0.0, 0.0], [0.97, 0.02, 0.1], [-0.24, 0.93, 0.05]])
    turns = Rotation.random(n, random_state=0).as_matrix()
    return [
        Structure(np.array([8, 1, 1]), (water + rng.normal(scale=0.05, size=(3, 3))) @ turn.T)
        for turn in turns
    ]


def test_a_field_is_told_from_an_error() -> None:
    field = explain(
        load_potential(f"sum:(anisotropic?l=4&amplitude=0.001)+{FIELD}"),
        molecules(),
        steps=60,
        most_atoms=180,
    )
    assert field.explained > 0.95
    assert field.leading == "1o"
    assert field.is_field
    assert field.group.name == "C∞v"
    np.testing.assert_allclose(np.abs(field.group.axis), np.array([1.0, 2.0, 2.0]) / 3.0, atol=0.05)
    assert abs(field.axis @ [1.0, -2.0, 2.0]) / 3.0 > 0.999
    assert "real external uniform field along (" in field.text
    mixed = replace(field, explained=0.84, by_irrep={**field.by_irrep, "1o": 0.46}, uniform=0.53)
    assert not mixed.is_field
    assert "Part of it looks like a real uniform field along (" in mixed.text
    error = explain(load_potential("anisotropic?l=5,6&amplitude=0.01"), molecules(), steps=60, most_atoms=180)
    assert error.explained < 0.5
    assert not error.is_field
    assert "an artefact, which an average removes" in error.text


@pytest.mark.parametrize(("term", "irrep"), [("2", "2e"), ("1e", "1e")])
def test_other_fields_are_known_by_their_irrep(term: str, irrep: str) -> None:
    found = explain(
        load_potential(f"anisotropic?l={term}&amplitude=0.1"), molecules(2), steps=80, most_atoms=180
    )
    assert found.leading == irrep
    assert found.by_irrep[irrep] > 0.5
    others = [share for name, share in found.by_irrep.items() if name != irrep]
    assert max(others) < 0.5 * found.by_irrep[irrep]


def test_nothing_to_explain() -> None:
    found = explain(load_potential("anisotropic?l=2&amplitude=0"), molecules(1), steps=2, most_atoms=36)
    assert isinstance(found, Explanation)
    assert found.residual < 1e-9
    assert not found.is_field
    assert "No residual forces" in found.text


def test_where_the_fit_finds_a_field_no_average_is_recommended() -> None:
    """The field's part of the forces is kept, the rest is named, and that it is a finding is said."""
    potential = load_potential(f"sum:(anisotropic?l=4&amplitude=0.001)+{FIELD}")
    parts = [decompose(potential, structure, 4) for structure in molecules()]
    found = keep_directions(("1o",), parts, 1e-3, explained=True)
    assert (found.average, found.explained) == ("none", True)
    charges = np.array([-0.82, 0.41, 0.41])
    field = np.sqrt(np.mean(np.outer(charges, [0.1, -0.2, 0.2]) ** 2))
    assert found.kept == pytest.approx(field, rel=1e-6)
    assert 0.0 < found.force_mae < 0.1 * field
    assert "what depends on the orientation is one field fixed in the laboratory, by --explain" in found.text
