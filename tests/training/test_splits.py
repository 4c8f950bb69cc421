"""Splits: sizes, repeatability, files, everything that must be refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ipi_driver.errors import UserError
from ipi_driver.training.splits import PARTS, Split, make_split, read_split, write_split


def sizes(split: Split) -> tuple[int, ...]:
    return tuple(len(getattr(split, name)) for name in PARTS)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (80, 10, 10)),
        ({"validation": 5, "test": 20}, (75, 5, 20)),
        ({"validation": 0.25, "test": 0.5}, (25, 25, 50)),
        ({"train": 40, "validation": 10, "test": 0.1}, (40, 10, 10)),
        ({"train": 0.5, "validation": 10, "test": 0}, (50, 10, 0)),
        ({"validation": None, "test": 20}, (80, 0, 20)),
        ({"train": 30, "validation": None, "test": None}, (30, 0, 0)),
    ],
)
def test_counts_and_fractions(options: dict[str, Any], expected: tuple[int, ...]) -> None:
    split = make_split(100, **options)
    assert sizes(split) == expected
    everything = np.concatenate([split.train, split.validation, split.test])
    assert len(np.unique(everything)) == len(everything)
    assert everything.min() >= 0
    assert everything.max() < 100


def test_seeds() -> None:
    first, same, other = make_split(50, seed=1), make_split(50, seed=1), make_split(50, seed=2)
    assert np.array_equal(first.train, same.train)
    assert not np.array_equal(first.train, other.train)


def test_fewer_training_structures_leave_the_others_alone() -> None:
    whole, part = make_split(50, validation=5, test=5), make_split(50, train=10, validation=5, test=5)
    assert np.array_equal(whole.train[:10], part.train)
    assert np.array_equal(whole.validation, part.validation)
    assert np.array_equal(whole.test, part.test)


@pytest.mark.parametrize("kind", ["npy", "txt"])
def test_index_file(tmp_path: Path, kind: str) -> None:
    """First training, next validation, last test, as in the data archive of the publication."""
    order = np.random.default_rng(3).permutation(20)
    path = tmp_path / f"permutation.{kind}"
    if kind == "npy":
        np.save(path, order)
    else:
        np.savetxt(path, order, fmt="%d")
    split = make_split(20, 13, 3, 4, index_file=path)
    assert np.array_equal(np.concatenate([split.train, split.validation, split.test]), order)


def test_written_and_read_back(tmp_path: Path) -> None:
    split = make_split(200, seed=4)
    write_split(split, tmp_path / "model" / "split.yaml")
    again = read_split(tmp_path / "model" / "split.yaml")
    for name in PARTS:
        assert np.array_equal(getattr(split, name), getattr(again, name))
    assert max(map(len, (tmp_path / "model" / "split.yaml").read_text().splitlines())) < 120
    write_split(make_split(20, test=0), tmp_path / "no-test.yaml")
    with pytest.raises(UserError, match="the test part of the split is empty"):
        read_split(tmp_path / "no-test.yaml").part("test")


@pytest.mark.parametrize(
    ("n", "options", "message"),
    [
        (100, {"validation": 0}, "the validation part of the split is empty"),
        (100, {"test": 0.001}, "the test part of the split is empty"),
        (100, {"train": 0}, "the train part of the split is empty"),
        (100, {"train": 90, "validation": 10, "test": 10}, "needs more than the 100 structures"),
        (100, {"validation": 60, "test": 40}, "needs more than the 100 structures"),
        (100, {"validation": 1.5}, "a count or a fraction between 0 and 1"),
        (100, {"validation": -0.5}, "a count or a fraction between 0 and 1"),
        (100, {"train": 1.0}, r"`train` 1\.0 may mean one .* give 1 for one, or null"),
        (100, {"test": 1.0}, r"`test` 1\.0 may mean one .* give 1 for one, or a fraction below 1"),
        (0, {}, "no structures"),
    ],
)
def test_impossible_splits(n: int, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_split(n, **options)


def test_overlaps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="structure 2 is in the train and the test part"):
        Split(np.array([1, 2]), np.array([3]), np.array([2]))
    (tmp_path / "split.yaml").write_text("train: [0, 1]\nvalidation: [1]\ntest: [2]\n")
    with pytest.raises(UserError, match="structure 1 is in the train and the validation part"):
        read_split(tmp_path / "split.yaml")
    with pytest.raises(UserError, match="index -1"):
        Split(np.array([-1, 2]), np.array([3]), np.array([4]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([0, 1, 2, 2], "index 2 more than once"),
        ([0, 1, 2, 9], "indices 0 to 9, but the data hold 4 structures"),
        ([0.0, 1.5], "whole numbers"),
        ([], "is empty"),
    ],
)
def test_bad_index_files(tmp_path: Path, content: list[float], message: str) -> None:
    np.save(tmp_path / "order.npy", np.array(content))
    with pytest.raises(UserError, match=message):
        make_split(4, validation=1, test=1, index_file=tmp_path / "order.npy")


def test_bad_split_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no split file"):
        read_split(tmp_path / "absent.yaml")
    with pytest.raises(UserError, match="no index file"):
        make_split(4, index_file=tmp_path / "absent.npy")
    for text in ("train: [0]\n", "just words", "train: [a]\nvalidation: [1]\ntest: [2]\n"):
        (tmp_path / "split.yaml").write_text(text)
        with pytest.raises(UserError, match="must hold lists of indices"):
            read_split(tmp_path / "split.yaml")
    (tmp_path / "order.npy").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read: No data left"):
        make_split(4, index_file=tmp_path / "order.npy")
    (tmp_path / "order.npy").write_text("not an array")
    with pytest.raises(UserError, match="cannot be read"):
        make_split(4, index_file=tmp_path / "order.npy")
    with pytest.raises(UserError, match="the split has the index 9, but the data hold 5"):
        Split(np.array([9]), np.array([1]), np.array([2])).check_range(5)
