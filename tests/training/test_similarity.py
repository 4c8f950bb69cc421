"""Relatives: constructed copies, displaced by known amounts; splits that keep families together."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from training_place import labelled_molecules, write_config

from ipi_driver.errors import UserError
from ipi_driver.structure import Structure
from ipi_driver.training.config import load_config
from ipi_driver.training.setup import build_trainer
from ipi_driver.training.similarity import distances, families, family_order, nearest, relatives
from ipi_driver.training.splits import make_split, read_split

CELL = np.array([[9.0, 0.0, 0.0], [1.0, 8.0, 0.0], [0.5, 0.7, 10.0]])


def random_structure(seed: int, n: int = 40, pbc: object = True) -> Structure:
    rng = np.random.default_rng(seed)
    return Structure(np.arange(n) % 2 * 7 + 1, rng.uniform(size=(n, 3)) @ CELL, CELL, np.full(3, pbc))


def displaced(structure: Structure, rms: float, seed: int = 9) -> Structure:
    """Moved by exactly ``rms`` without a common translation, then translated and wrapped into other cells."""
    rng = np.random.default_rng(seed)
    step = rng.normal(size=structure.positions.shape)
    step -= step.mean(0)
    step *= rms / np.sqrt(np.square(step).sum(1).mean())
    shifts = rng.integers(-1, 2, size=step.shape) @ structure.cell
    positions = structure.positions + step + rng.normal(size=3) + shifts * structure.pbc.all()
    return Structure(structure.numbers, positions, structure.cell, structure.pbc)


@pytest.mark.parametrize("pbc", [True, False])
@pytest.mark.parametrize("rms", [0.0, 0.2, 1.0])
def test_distance_is_the_displacement(pbc: bool, rms: float) -> None:
    """Whatever the translation and the images of the atoms."""
    structure = random_structure(0, pbc=pbc)
    others = [displaced(structure, rms, seed) for seed in (1, 2)]
    np.testing.assert_allclose(distances(structure, others), rms, atol=1e-7)


def test_slab_with_two_periodic_directions() -> None:
    structure = random_structure(3, pbc=(True, True, False))
    moved = displaced(structure, 0.3)
    np.testing.assert_allclose(distances(structure, [moved]), 0.3, atol=1e-7)


@pytest.mark.parametrize("pbc", [(False, False, False), (True, True, False), (False, True, False)])
def test_the_room_along_open_directions_means_nothing(pbc: tuple[bool, ...]) -> None:
    """Files hold any box around a molecule or a slab; a missing vector may be parallel to no axis."""
    structure = random_structure(3, pbc=pbc)
    moved = displaced(structure, 0.3)
    others = []
    for vector in ([0.0, 0.0, 14.0], [3.0, 2.0, 25.0], [0.0, 0.0, 0.0]):
        cell = np.where(structure.pbc[:, None], moved.cell, vector)
        others.append(Structure(moved.numbers, moved.positions, cell, moved.pbc))
    np.testing.assert_allclose(distances(structure, others), 0.3, atol=1e-7)
    assert families([structure, *others]).tolist() == [0, 0, 0, 0]
    np.testing.assert_allclose(nearest(others, [structure]), 0.3, atol=1e-7)


def test_families() -> None:
    """A chain of steps is one family; other cells, other elements and unrelated structures are not in it."""
    first = random_structure(0)
    chain = [first, displaced(first, 1.0, 1)]
    chain.append(displaced(chain[1], 1.0, 2))
    other = random_structure(1)
    cell = Structure(first.numbers, first.positions, first.cell + np.diag([2.0, 0.0, 0.0]), first.pbc)
    elements = Structure(first.numbers[::-1].copy(), first.positions, first.cell, first.pbc)
    labels = families([other, chain[0], cell, chain[2], elements, chain[1]])
    assert labels.tolist() == [0, 1, 2, 1, 3, 1]


def test_pairs_are_those_of_a_loop_over_all() -> None:
    rng = np.random.default_rng(0)
    structures = [random_structure(k // 3) for k in range(12)]
    structures = [displaced(s, rng.uniform(0.1, 1.6), k) for k, s in enumerate(structures)]
    pairs, apart = relatives(structures, 1.5)
    found = {tuple(pair): d for pair, d in zip(pairs.tolist(), apart, strict=True)}
    for j in range(12):
        for i in range(j):
            d = float(distances(structures[j], [structures[i]])[0])
            assert ((i, j) in found) == (d < 1.5)
            if (i, j) in found:
                assert found[i, j] == pytest.approx(d)
    assert 5 < len(found) < 66


def test_cells_that_differ_a_little() -> None:
    """Snapshots at constant pressure: the same fractional coordinates in a cell larger by a percent."""
    first = random_structure(0)
    second = Structure(first.numbers, 1.01 * first.positions, 1.01 * first.cell, first.pbc)
    assert distances(first, [second])[0] == pytest.approx(0.0, abs=1e-9)
    assert len(relatives([first, second])[0]) == 1


def test_rotated_structures_are_not_looked_for() -> None:
    first = random_structure(0, pbc=False)
    turned = first.rotated(Rotation.from_euler("z", 90, degrees=True).as_matrix())
    assert np.isinf(nearest([first], [turned])).all()


def test_nearest() -> None:
    first, other = random_structure(0), random_structure(1)
    train = [displaced(first, 1.2), displaced(first, 0.4), random_structure(2)]
    found = nearest([other, first], train)
    assert np.isinf(found[0])
    assert found[1] == pytest.approx(0.4)


def test_nearest_looks_at_no_pair_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are as many as training structures squared."""
    measured = []

    def counted(structure: Structure, others: list[Structure]) -> np.ndarray:
        measured.append(len(others))
        return distances(structure, others)

    monkeypatch.setattr("ipi_driver.training.similarity.distances", counted)
    first = random_structure(0)
    train = [displaced(first, 0.1 * k) for k in range(1, 8)]
    assert nearest([first, displaced(first, 0.05)], train)[0] == pytest.approx(0.1)
    assert measured == [7, 7]


def test_split_keeps_families_together() -> None:
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.repeat(np.arange(30), rng.integers(1, 6, size=30)))
    split = make_split(len(labels), validation=9, test=12, families=labels, seed=4)
    parts = [split.train, split.validation, split.test]
    assert [len(part) for part in parts] == [len(labels) - 21, 9, 12]
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    for k, part in enumerate(parts):
        for other in parts[k + 1 :]:
            assert not set(labels[part]) & set(labels[other])
    again = make_split(len(labels), train=20, validation=9, test=12, families=labels, seed=4)
    assert np.array_equal(again.test, split.test)
    assert np.array_equal(again.train, split.train[:20])
    assert not np.array_equal(family_order(labels, 9, 12, 5), family_order(labels, 9, 12, 4))


def test_one_family_cannot_be_split() -> None:
    with pytest.raises(UserError, match=r"finds 0 of 3 structures for the test part: .* 1 families"):
        family_order(np.zeros(10, dtype=np.int64), 2, 3, 0)


def test_training_with_a_split_by_similarity(tmp_path: Path) -> None:
    """What the training writes keeps relatives together; resuming an older training is not disturbed by the option."""
    frames = []
    for k, atoms in enumerate(labelled_molecules(24)):
        atoms.set_cell(np.eye(3) * (20.0 + k // 3))
        atoms.pbc = True
        frames.append(atoms)
    config = write_config(
        tmp_path,
        data={"files": ["data.extxyz"], "validation": 3, "test": 6, "split": "similarity"},
    )
    ase.io.write(tmp_path / "data.extxyz", frames)
    build_trainer(load_config(config))
    split = read_split(tmp_path / "model" / "split.yaml")
    groups = [set((getattr(split, name) // 3).tolist()) for name in ("train", "validation", "test")]
    assert [len(group) for group in groups] == [5, 1, 2]
    assert sorted(k for group in groups for k in group) == list(range(8))
