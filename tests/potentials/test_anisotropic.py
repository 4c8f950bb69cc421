"""The analytic test potential: finite differences; degree and parity by e3nn's Wigner matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from e3nn import o3
from scipy.spatial.transform import Rotation

from ipi_driver.errors import UserError
from ipi_driver.potentials import load_potential
from ipi_driver.potentials.anisotropic import AnisotropicPotential, Term
from ipi_driver.rotations import quadrature
from ipi_driver.structure import Structure

POSITIONS = np.array([[0.0, 0.0, 0.0], [0.97, 0.02, 0.1], [-0.24, 0.93, 0.05]])
CELL = np.array([[3.0, 0.0, 0.0], [0.4, 3.2, 0.0], [0.1, -0.3, 2.9]])
MOLECULE = Structure(np.array([8, 1, 1]), POSITIONS)
CRYSTAL = Structure(np.array([8, 1, 1]), POSITIONS, CELL, np.ones(3, dtype=bool))
TERMS = ["1", "2", "3", "4", "6", "1e", "2o", "3e", "4o", "5e"]


def with_term(name: str) -> AnisotropicPotential:
    return AnisotropicPotential([Term.parse(name, 0.1)], cutoff=3.5)


@pytest.mark.parametrize("structure", [MOLECULE, CRYSTAL], ids=["molecule", "crystal"])
@pytest.mark.parametrize("name", TERMS)
def test_derivatives_in_turned_rotations(name: str, structure: Structure) -> None:
    potential = with_term(name)
    rotations = Rotation.random(2, random_state=1).as_matrix() * np.array([1.0, -1.0])[:, None, None]
    results = potential.evaluate([structure], rotations)
    assert results.virials is not None
    rng = np.random.default_rng(0)
    shift, strain, h = rng.standard_normal((3, 3)), rng.standard_normal((3, 3)), 1e-5

    def energies(positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
        turned = [Structure(structure.numbers, positions, cell, structure.pbc).rotated(r) for r in rotations]
        return potential.evaluate(turned, np.eye(3)[None]).energies[:, 0]

    plus, minus = (energies(POSITIONS + s * h * shift, structure.cell) for s in (1, -1))
    assert -(results.forces[0] * shift).sum(axis=(1, 2)) == pytest.approx((plus - minus) / (2 * h), abs=1e-6)
    deform = [(np.eye(3) + s * h * strain).T for s in (1, -1)]
    plus, minus = (energies(POSITIONS @ d, structure.cell @ d) for d in deform)
    assert -(results.virials[0] * strain).sum(axis=(1, 2)) == pytest.approx(
        (plus - minus) / (2 * h), abs=1e-6
    )


@pytest.mark.parametrize("name", TERMS)
def test_only_the_stated_degree_and_parity(name: str) -> None:
    """Projected on D^l and det R over rotations, all but the term's own l and parity is zero."""
    term = Term.parse(name, 0.1)
    potential = AnisotropicPotential([term], cutoff=3.5, invariant=False)
    grid = quadrature("8i")  # exact for products up to l + l' = 14
    rotations = torch.tensor(grid.rotations.copy())
    signs = torch.linalg.det(rotations)
    angles = o3.matrix_to_angles(rotations * signs[:, None, None])
    energies = torch.tensor(potential.evaluate([CRYSTAL], grid.rotations).energies[0] * grid.weights)
    for degree in range(1, 8):
        wigner = o3.wigner_D(degree, *(angle.double() for angle in angles))
        for parity in (1, -1):
            weight = energies if parity == 1 else energies * signs
            size = float(torch.einsum("k,kij->ij", weight, wigner).abs().max())
            assert (size > 1e-7) == (degree == term.l and parity == term.parity), (degree, parity, size)


def test_terms_average_to_zero() -> None:
    results = with_term("3").evaluate([CRYSTAL], quadrature("3").rotations)
    exact = with_term("3").exact_average().predict(CRYSTAL)
    assert quadrature("3").weights @ results.energies[0] == pytest.approx(exact.energy, abs=1e-12)


def test_smooth_at_the_cutoff_and_without_neighbors() -> None:
    potential = AnisotropicPotential([Term.parse("2", 0.1), Term.parse("2o", 0.1)], cutoff=2.0)
    distances = [1.9999, 2.0001]
    energies = [
        potential.predict(Structure(np.array([8, 1]), np.array([[0, 0, 0], [0, 0, d]]))).energy
        for d in distances
    ]
    assert abs(energies[0]) < 1e-10
    assert energies[1] == 0.0
    alone = potential.predict(Structure(np.array([8]), np.zeros((1, 3))))
    assert alone.energy == 0.0
    assert np.array_equal(alone.forces, np.zeros((1, 3)))


def test_a_water_molecule_is_bound() -> None:
    from scipy.optimize import minimize

    potential = AnisotropicPotential.from_options({})

    def energy(x: np.ndarray) -> tuple[float, np.ndarray]:
        result = potential.predict(Structure(np.array([8, 1, 1]), x.reshape(3, 3)))
        return result.energy, -result.forces.ravel()

    found = minimize(energy, POSITIONS.ravel(), jac=True, method="BFGS")
    relaxed = found.x.reshape(3, 3)
    oh = np.linalg.norm(relaxed[1:] - relaxed[0], axis=1)
    hh = np.linalg.norm(relaxed[1] - relaxed[2])
    assert oh == pytest.approx([0.97, 0.97], abs=0.05)
    assert hh == pytest.approx(1.52, abs=0.1)


def test_options() -> None:
    potential = load_potential("anisotropic?l=1,3e,4o&amplitude=0.1,0.2,0.3&cutoff=3&seed=7&invariant=false")
    assert isinstance(potential, AnisotropicPotential)
    assert potential.terms == (Term(1, -1, 0.1), Term(3, 1, 0.2), Term(4, -1, 0.3))
    assert potential.cutoff == 3.0
    assert potential.exact_average().predict(CRYSTAL).energy == 0.0


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("degree=2", "unknown option 'degree'"),
        ("l=0", "must be 1 to 20"),
        ("l=2x", "must be 1 to 20"),
        ("l=1,2&amplitude=1,2,3", "2 degrees and 3 amplitudes"),
        ("amplitude=big", "must be numbers"),
        ("amplitude=nan", "`amplitude` must be finite"),
        ("cutoff=-1", "must be positive"),
        ("cutoff=nan", "must be positive"),
        ("seed=-1", "`seed` must be 0 or larger"),
        ("invariant=maybe", "true or false"),
    ],
)
def test_bad_options(query: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_potential(f"anisotropic?{query}")
