"""Division of a data set into training, validation and test structures, which never overlap."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ipi_driver.errors import UserError
from ipi_driver.structure import IntArray, Structure
from ipi_driver.training.similarity import family_order

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class DataOrder:
    """The structures that indices count, in their order.

    Attributes
    ----------
    files, counts
        Names of the data files, and the structures in each.
    digest
        Of the elements and positions (to 1e-4 Å) of all of them; labels do not count.
    forms
        Form and units of each file, for people; empty where they were not read from files.
    """

    files: tuple[str, ...]
    counts: tuple[int, ...]
    digest: str
    forms: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, paths: Sequence[Path], structures: Sequence[Sequence[Structure]], forms: tuple[str, ...] = ()
    ) -> DataOrder:
        """The order of the structures read from each file."""
        digest = _digest([s for part in structures for s in part])
        names, counts = tuple(path.name for path in paths), tuple(map(len, structures))
        return cls(names, counts, digest, forms)

    @staticmethod
    def joined(parts: Sequence[DataOrder], structures: Sequence[Structure]) -> DataOrder:
        """Several orders one after the other, with all their structures."""
        if len(parts) == 1:
            return parts[0]
        return DataOrder(
            tuple(file for part in parts for file in part.files),
            tuple(count for part in parts for count in part.counts),
            _digest(structures),
            tuple(form for part in parts for form in part.forms),
        )

    def described(self) -> list[str]:
        """A line for each file: structures, form and units."""
        rows = zip(self.files, self.counts, self.forms, strict=True)
        return [f"{file}: {n} structures, {form}" for file, n, form in rows]

    def __str__(self) -> str:
        return ", ".join(f"{file} ({n})" for file, n in zip(self.files, self.counts, strict=True))


def _digest(structures: Sequence[Structure]) -> str:
    digest = hashlib.sha256()
    for structure in structures:
        digest.update(structure.numbers.tobytes())
        digest.update((structure.positions.round(4) + 0.0).tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Split:
    """Indices of structures in the order of the data files.

    Attributes
    ----------
    train, validation, test
        Index arrays; the validation and the test part are empty where they stand in files of their own.
    data
        What the indices count; None where that is not known.

    Raises
    ------
    UserError
        If the training part is empty, an index is negative, or one occurs twice.
    """

    train: IntArray
    validation: IntArray
    test: IntArray
    data: DataOrder | None = None

    def __post_init__(self) -> None:
        seen: dict[int, str] = {}
        for name in PARTS:
            indices = np.asarray(getattr(self, name), dtype=np.int64).reshape(-1)
            object.__setattr__(self, name, indices)
            if name == "train" and len(indices) == 0:
                raise UserError(f"the {name} part of the split is empty; expected at least one structure")
            for index in indices.tolist():
                if index < 0:
                    raise UserError(
                        f"the {name} part of the split has the index {index}; expected 0 or larger"
                    )
                if index in seen:
                    raise UserError(
                        f"structure {index} is in the {seen[index]} and the {name} part of the split; "
                        "every structure may be used once"
                    )
                seen[index] = name

    def part(self, name: str) -> IntArray:
        """Indices of "train", "validation" or "test"; an empty part is an error here."""
        if name not in PARTS:
            raise UserError(f"`part` must be one of {', '.join(PARTS)}, got {name!r}")
        indices: IntArray = getattr(self, name)
        if len(indices) == 0:
            raise UserError(f"the {name} part of the split is empty; the data may be in a file of their own")
        return indices

    def check_data(self, data: DataOrder) -> None:
        """Raise `UserError` where the indices count other structures, or the same ones in another order."""
        if self.data is not None and data.digest != self.data.digest:
            raise UserError(
                "the split was made of other structures, or of these in another order or in other units (`units`); "
                f"expected (with the number of structures) {self.data}, in this order, got {data}"
            )

    def check_range(self, n_structures: int) -> None:
        """Raise `UserError` where an index does not exist among ``n_structures``."""
        largest = max(int(getattr(self, name).max(initial=-1)) for name in PARTS)
        if largest >= n_structures:
            raise UserError(
                f"the split has the index {largest}, but the data hold {n_structures} structures; give the same "
                "files in the same order as when the split was made"
            )


def make_split(
    n_structures: int,
    train: int | float | None = None,
    validation: int | float | None = 0.1,
    test: int | float | None = 0.1,
    index_file: Path | None = None,
    seed: int = 0,
    families: IntArray | None = None,
) -> Split:
    """Divide ``n_structures``: the training structures from the start of an order, validation and test from its end.

    Fewer training structures therefore leave validation and test as they are, and the learning curve against the
    number of structures is measured on the same ones.

    Parameters
    ----------
    n_structures
        Number of structures.
    train, validation, test
        A count, or a fraction (float below 1) of all structures; ``train=None`` takes what the others leave. None makes
        no such part, as it stands in files of its own; ``test=0`` makes none either.
    index_file
        The order, as ``.npy`` (such as ``permutation.npy``) or text; indices that it leaves out are not used. None
        draws an order.
    seed
        Of the order drawn.
    families
        (n_structures,) family of each structure, see `ipi_driver.training.similarity`: none of the validation and test
        structures has a relative in another part. None draws structure by structure.

    Raises
    ------
    UserError
        If a part is empty, the parts need more structures than there are, or the index file is not an order.
    """
    if n_structures < 1:
        raise UserError("the data hold no structures to be split")
    if index_file is None:
        order = np.random.default_rng(seed).permutation(n_structures)
    else:
        order = read_order(index_file, n_structures)
    sizes = {
        "validation": 0 if validation is None else _size(validation, len(order), "validation"),
        "test": _size(test, len(order), "test") if test else 0,
    }
    if families is not None:
        if index_file is not None:
            raise UserError("give `split_file` or `split: similarity`, not both: the file is the split")
        order = family_order(families, sizes["validation"], sizes["test"], seed)
    rest = len(order) - sizes["validation"] - sizes["test"]
    sizes["train"] = rest if train is None else _size(train, len(order), "train")
    wanted = sum(sizes.values())
    if wanted > len(order) or sizes["train"] < 1:
        asked = ", ".join(
            f"{name} {'the rest' if name == 'train' and train is None else sizes[name]}" for name in PARTS
        )
        raise UserError(f"the split ({asked}) needs more than the {len(order)} structures that there are")
    first_test = len(order) - sizes["test"]
    first_validation = first_test - sizes["validation"]
    return Split(order[: sizes["train"]], order[first_validation:first_test], order[first_test:])


def _size(asked: int | float, n_structures: int, name: str) -> int:
    """Count from a count or fraction."""
    if isinstance(asked, float) and asked == 1.0:
        rest = "null for all that the other parts leave" if name == "train" else "a fraction below 1"
        raise UserError(f"`{name}` 1.0 may mean one structure or all of them; give 1 for one, or {rest}")
    if isinstance(asked, float) and not asked.is_integer():
        if not 0.0 < asked < 1.0:
            raise UserError(f"`{name}` must be a count or a fraction between 0 and 1, got {asked}")
        count = round(asked * n_structures)
    else:
        count = int(asked)
    if count < 1:
        raise UserError(
            f"the {name} part of the split is empty: {asked} of {n_structures} structures; give a larger `{name}`"
        )
    return count


def read_order(path: Path, n_structures: int) -> IntArray:
    """Distinct indices below ``n_structures`` from ``.npy`` or a text file with whitespace between them.

    Raises
    ------
    UserError
        If the file is missing, or does not hold distinct indices of the structures.
    """
    if not path.is_file():
        raise UserError(f"no index file {path}")
    try:
        raw = np.load(path) if path.suffix == ".npy" else np.loadtxt(path, ndmin=1)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"index file {path} cannot be read: {' '.join(str(error).split())[:200]}") from error
    order = np.asarray(raw).reshape(-1)
    if order.dtype.kind not in "iuf" or not np.array_equal(order, np.asarray(order, dtype=np.int64)):
        raise UserError(f"index file {path} must hold whole numbers, got {order.dtype} values")
    order = order.astype(np.int64)
    if len(order) == 0:
        raise UserError(f"index file {path} is empty")
    if order.min() < 0 or order.max() >= n_structures:
        raise UserError(
            f"index file {path} has indices {order.min()} to {order.max()}, but the data hold {n_structures} "
            f"structures (0 to {n_structures - 1})"
        )
    if len(np.unique(order)) != len(order):
        values, counts = np.unique(order, return_counts=True)
        raise UserError(f"index file {path} has the index {values[counts > 1][0]} more than once")
    return order


def write_split(split: Split, path: Path) -> None:
    """Write a small YAML file that `read_split` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {name: getattr(split, name).tolist() for name in PARTS}
    head = "# indices of the structures, counted from 0 in the order of the data files\n"
    if split.data is not None:
        head += "# `data` is what they count; without it they are taken for any data\n"
        known = {"files": list(split.data.files), "structures": list(split.data.counts)}
        content = {"data": known | {"digest": split.data.digest}} | content
    path.write_text(head + yaml.safe_dump(content, sort_keys=False, width=110, default_flow_style=None))


def read_split(path: Path) -> Split:
    """Read what `write_split` wrote.

    Raises
    ------
    UserError
        If the file is missing or is not a split.
    """
    if not path.is_file():
        raise UserError(f"no split file {path}")
    try:
        content = yaml.safe_load(path.read_text())
        train, validation, test = (np.array(content[name], dtype=np.int64) for name in PARTS)
        data = None
        if (known := content.get("data")) is not None:
            data = DataOrder(tuple(known["files"]), tuple(known["structures"]), str(known["digest"]))
        return Split(train, validation, test, data)
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} must hold lists of indices `train`, `validation` and `test`") from error
