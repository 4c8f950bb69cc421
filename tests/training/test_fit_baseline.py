"""The fitted baseline: exact where the labels are pair terms, a wall where there are none, sums of energies."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.morse import MorsePotential
from ase.calculators.tip3p import TIP3P
from scipy.optimize import LinearConstraint, minimize

from ipi_driver.errors import UserError
from ipi_driver.neighbors import NeighborList
from ipi_driver.networks.baseline import Baseline
from ipi_driver.structure import FloatArray, Structure
from ipi_driver.training.data import LabelledStructure
from ipi_driver.training.fit_baseline import fit_baseline, force_rms, least_squares_above


def evaluated(baseline: Baseline, structure: Structure) -> tuple[float, FloatArray]:
    edges = NeighborList(baseline.cutoff, skin=0.0).edges(structure)
    return baseline.evaluate(structure.numbers, edges)[:2]


def labelled(atoms: Atoms, offset: float = 0.0) -> LabelledStructure:
    energy = atoms.get_potential_energy() + offset
    return LabelledStructure(Structure.from_atoms(atoms), energy, atoms.get_forces())


def morse_solid(n: int, seed: int) -> list[LabelledStructure]:
    """Displaced copper crystals of different sizes with ASE's smoothly cut Morse pair potential."""
    rng = np.random.default_rng(seed)
    data = []
    for k in range(n):
        atoms = bulk("Cu", a=3.6 * (1.0 + 0.05 * rng.normal()), cubic=True) * (
            (2, 1, 1) if k % 2 else (1, 1, 1)
        )
        atoms.rattle(0.15, rng=rng)
        atoms.calc = MorsePotential(epsilon=0.4, rho0=4.0, r0=2.6, rcut1=3.6, rcut2=4.4)
        data.append(labelled(atoms, offset=-100.0 * len(atoms)))
    return data


def water_box(n: int, seed: int) -> list[LabelledStructure]:
    """Eight TIP3P molecules on a loose lattice with flexible bonds (harmonic, by hand)."""
    rng = np.random.default_rng(seed)
    single = molecule("H2O")
    data = []
    for _ in range(n):
        atoms = Atoms(pbc=True, cell=np.eye(3) * 6.4)
        for corner in np.indices((2, 2, 2)).reshape(3, 8).T:
            water = single.copy()
            water.rotate(rng.uniform(0, 180), rng.normal(size=3), center="COM")
            water.translate(3.2 * corner + rng.normal(scale=0.1, size=3))
            atoms += water
        atoms.calc = TIP3P(rc=3.1)
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.positions += (stretch := rng.normal(scale=0.02, size=forces.shape))
        spring = 20.0
        structure = Structure.from_atoms(atoms)
        data.append(
            LabelledStructure(
                structure, energy - 469.0 * 8 + 0.5 * spring * np.sum(stretch**2), forces - spring * stretch
            )
        )
    return data


def test_pair_labels_are_learnt_and_transfer() -> None:
    """A pair potential is represented: unseen structures are predicted to a few per cent of their forces."""
    train, test = morse_solid(12, 0), morse_solid(4, 1)
    baseline = fit_baseline(train, 4.5, n_gaussians=24)
    assert force_rms(train) > 0.5
    assert force_rms(train, baseline) < 0.03 * force_rms(train)
    assert force_rms(test, baseline) < 0.04 * force_rms(test)
    for item in test:
        energy, _ = evaluated(baseline, item.structure)
        assert energy == pytest.approx(item.energy, abs=0.01 * item.structure.n_atoms)


def test_normal_equations_are_those_of_the_dense_problem() -> None:
    """Without a wall in the way, the coefficients solve the dense least-squares problem made of `evaluate` alone."""
    train = morse_solid(4, 2)
    n_gaussians, cutoff, ridge = 10, 4.5, 1e-6
    baseline = fit_baseline(train, cutoff, n_gaussians=n_gaussians, ridge=ridge)
    assert baseline.pair_coefficients is not None
    zero = Baseline((29,), np.zeros(1), cutoff, np.zeros((1, n_gaussians)))
    blocks, targets = [], []
    for item in train:
        root = np.sqrt(item.structure.n_atoms)
        energy, forces = evaluated(zero, item.structure)
        columns = [np.append(np.zeros(forces.size), 3.0 * root)]  # the atomic energy
        for unit in np.eye(n_gaussians):
            e, f = evaluated(Baseline((29,), np.zeros(1), cutoff, unit[None]), item.structure)
            columns.append(np.append((f - forces).ravel(), 3.0 * (e - energy) / root))
        blocks.append(np.array(columns).T)
        targets.append(np.append((item.forces - forces).ravel(), 3.0 * (item.energy - energy) / root))
    design, target = np.concatenate(blocks), np.concatenate(targets)

    def residual(coefficients: FloatArray, atomic: float) -> float:
        return float(np.sum((design @ np.append(atomic, coefficients) - target) ** 2))

    best = np.linalg.lstsq(design, target, rcond=None)[0]
    found = residual(baseline.pair_coefficients[0], float(baseline.atomic_energies[0]))
    nothing = residual(np.zeros(n_gaussians), float(np.mean([d.energy / d.structure.n_atoms for d in train])))
    assert found < residual(best[1:], float(best[0])) + 2e-3 * nothing


def test_fixed_composition_fixes_the_sum_of_the_atomic_energies() -> None:
    """Water alone: the mean energy is met, and each energy has a reasonable size."""
    train = water_box(5, 0)
    for pair in (False, True):
        baseline = fit_baseline(train, 3.0, pair, n_gaussians=12)
        errors = [evaluated(baseline, d.structure)[0] - d.energy for d in train]
        assert abs(np.mean(errors)) < 1e-6
        hydrogen, oxygen = baseline.atomic_energies
        assert oxygen < 20 * hydrogen < 0.0
        assert 2 * hydrogen + oxygen == pytest.approx(-469.0, abs=30.0)
    assert force_rms(train, baseline) < force_rms(train)


def test_different_compositions_fix_each_atomic_energy() -> None:
    true = {1: -13.0, 8: -430.0, 6: -1000.0}
    data = []
    for name in ("H2O", "H2", "O2", "CH4", "CO2", "H2O2"):
        structure = Structure.from_atoms(molecule(name))
        energy = sum(true[int(z)] for z in structure.numbers)
        data.append(LabelledStructure(structure, energy, np.zeros((structure.n_atoms, 3))))
    baseline = fit_baseline(data, 4.0, pair=False)
    np.testing.assert_allclose(baseline.atomic_energies, [true[z] for z in baseline.species], rtol=1e-9)
    assert baseline.pair_coefficients is None


@pytest.mark.parametrize("n_gaussians", [12, 24, 40])
def test_pairs_repel_where_there_are_no_data(n_gaussians: int) -> None:
    """Every pair of elements, alone, is pushed apart at all distances below nine tenths of the shortest one."""
    train = water_box(4, 3)
    baseline = fit_baseline(train, 4.0, n_gaussians=n_gaussians)
    for a, b in baseline.pairs:
        shortest = np.inf
        for item in train:
            edges = NeighborList(4.0, skin=0.0).edges(item.structure)
            numbers = item.structure.numbers
            chosen = (numbers[edges.centers] == a) & (numbers[edges.neighbors] == b)
            shortest = min(shortest, np.linalg.norm(edges.vectors[chosen], axis=1).min())
        for r in np.arange(0.1, 0.9 * shortest, 0.01):
            structure = Structure(np.array([a, b]), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, r]]))
            forces = evaluated(baseline, structure)[1]
            assert forces[1, 2] > 0.5, (a, b, r)


def test_conditions_against_a_general_minimizer() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(8, 6))
    normal, right = root.T @ root + 0.1 * np.eye(6), rng.normal(size=6)
    for seed in range(5):
        conditions = np.random.default_rng(seed).normal(size=(4, 6))
        bounds = np.random.default_rng(seed + 50).normal(size=4)
        found = least_squares_above(normal, right, conditions, bounds)
        assert (conditions @ found >= bounds - 1e-8).all()
        other = minimize(
            lambda x: 0.5 * x @ normal @ x - right @ x,
            np.zeros(6),
            jac=lambda x: normal @ x - right,
            constraints=LinearConstraint(conditions, bounds),
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        np.testing.assert_allclose(found, other.x, atol=1e-4)
    opposite = np.array([[1.0, 0, 0, 0, 0, 0], [-1.0, 0, 0, 0, 0, 0]])
    with pytest.raises(UserError, match="cannot be made repulsive"):
        least_squares_above(normal, right, opposite, np.ones(2))


def test_bad_data() -> None:
    with pytest.raises(UserError, match="at least one labelled structure"):
        fit_baseline([], 4.0)
    with pytest.raises(UserError, match=r"lacks the atomic numbers \[8\]"):
        fit_baseline(water_box(1, 0), 4.0, species=(1,))


def test_elements_and_pairs_without_data() -> None:
    """A lone pair of atoms, and an element that the data do not hold, are no obstacle."""
    atoms = molecule("H2O")
    structure = Structure.from_atoms(atoms)
    item = LabelledStructure(structure, -469.0, np.zeros((3, 3)))
    baseline = fit_baseline([item], 3.0, n_gaussians=8, species=(1, 6, 8))
    assert np.isfinite(baseline.atomic_energies).all()
    assert baseline.pair_coefficients is not None
    assert np.isfinite(baseline.pair_coefficients).all()
    single = LabelledStructure(Structure(np.array([8]), np.zeros((1, 3))), -430.0, np.zeros((1, 3)))
    assert fit_baseline([single], 3.0, n_gaussians=8).atomic_energies[0] == pytest.approx(-430.0)


def test_pair_terms_of_too_many_elements_are_refused() -> None:
    data = [LabelledStructure(Structure([1, 1], [[0.0, 0.0, 0.0], [0.8, 0.0, 0.0]]), 0.0, np.zeros((2, 3)))]
    with pytest.raises(
        UserError, match=r"pair terms of 60 elements take 15 GB .* `baseline: \{pair: false\}`"
    ):
        fit_baseline(data, 4.0, species=tuple(range(1, 61)))
