"""The rows of the table: number, fault, what a user expects, and a function that injects it."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from fault_rows.place import Place

Row = Callable[[Place], tuple[str, bool]]
"""Injects a fault; returns what happened, and whether that is what a user expects."""


@dataclass(frozen=True)
class Fault:
    """One row."""

    fault: str
    expected: str
    inject: Row


ROWS: dict[str, Fault] = {}


def row(number: str, fault: str, expected: str) -> Callable[[Row], Row]:
    """Register a function under the number of the review."""

    def add(function: Row) -> Row:
        if number in ROWS:
            raise ValueError(f"two rows {number}")
        ROWS[number] = Fault(fault, expected, function)
        return function

    return add


class Shared:
    """Run folders that several rows compare with or begin from, each made once."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, name: str, make: Callable[[Place], None]) -> Path:
        """The folder ``name``, which ``make`` makes in the place that it is given."""
        with self._lock:
            self._folder = self._folder or Path(tempfile.mkdtemp(prefix="faults-shared-"))
            lock = self._locks.setdefault(name, threading.Lock())
        place = self._folder / name
        with lock:
            if not (place / "done").exists():
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir()
                make(Place(place))
                (place / "done").touch()
        return place

    def close(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder)


SHARED = Shared()


def together(found: Iterable[tuple[str, bool]]) -> tuple[str, bool]:
    """Several cases as one row."""
    cases = list(found)
    return "; ".join(text for text, _ in cases), all(good for _, good in cases)
