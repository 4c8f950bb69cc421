"""Checkpoints of i-PI: whether one holds a complete state, found by parsing it.

A file that ends with ``</simulation>`` need not be one: a bad block of a disk, a power cut or an editor can leave a
hole, a letter in a number, or a number that is not finite. i-PI finds that out after the run has been started.
"""

from __future__ import annotations

import math
import os
import re
import xml.etree.ElementTree as ElementTree
from functools import lru_cache
from pathlib import Path

_WORDS = re.compile(r"[^\s,\[\]]+")
_LIKE_NUMBER = re.compile(r"[+-]?(\.?\d|nan\b|inf)", re.IGNORECASE)
_TEXTS = ("names", "labels", "file", "properties", "trajectory")
"""Elements whose words are names, which may begin with a digit."""


class _Damaged(Exception):
    """The reason why a file is no complete checkpoint."""


def checkpoint_problem(path: Path) -> str | None:
    """Why i-PI cannot go on from a checkpoint; None where the file holds a complete state.

    Parameters
    ----------
    path
        A checkpoint (``RESTART``, ``simulation.chk``) of i-PI.

    Returns
    -------
    str or None
        The first thing that is wrong: no well-formed XML, no number of steps or one beyond ``<total_steps>``, a
        system without atoms or cell, arrays that have not the size that they announce, or a number in positions,
        momenta, masses or cell that is not finite.
    """
    state = path.stat()
    return _problem(os.fspath(path), state.st_mtime_ns, state.st_size, state.st_ino)


@lru_cache(maxsize=64)
def _problem(path: str, changed: int, size: int, inode: int) -> str | None:
    """As `checkpoint_problem`; remembered for a file that has not changed."""
    try:
        _check(Path(path).read_bytes())
    except _Damaged as problem:
        return str(problem)
    except ElementTree.ParseError as error:
        return f"it is not well-formed XML ({error})"
    return None


def _check(content: bytes) -> None:
    root = ElementTree.fromstring(content)
    if root.tag != "simulation":
        raise _Damaged(f"it is no i-PI simulation, but <{root.tag}>")
    step, total = (root.findtext(tag, "").strip() for tag in ("step", "total_steps"))
    if not step.isdigit():
        raise _Damaged(f"its <step> is {step!r}")
    if total.isdigit() and int(step) > int(total):
        raise _Damaged(f"its <step> {step} is beyond its <total_steps> {total}")
    systems = root.findall("system")
    if not systems:
        raise _Damaged("it has no <system>")
    for system in systems:
        _check_atoms(system)
        for element in system.iter():
            if element.tag not in _TEXTS:
                _numbers(element)


def _check_atoms(system: ElementTree.Element) -> None:
    beads, cell = system.find("beads"), system.find("cell")
    if beads is None or cell is None:
        raise _Damaged(f"a <system> has no <{'cell' if beads is not None else 'beads'}>")
    try:
        n_atoms, n_beads = (int(beads.get(name, "")) for name in ("natoms", "nbeads"))
    except ValueError:
        raise _Damaged(
            f"<beads> has natoms {beads.get('natoms')!r} and nbeads {beads.get('nbeads')!r}"
        ) from None
    sizes = {"q": 3 * n_atoms * n_beads, "p": 3 * n_atoms * n_beads, "m": n_atoms}
    for tag, size in sizes.items():
        _finite(beads.find(tag), tag, size)
    _finite(cell, "cell", 9)
    names = beads.find("names")
    n_names = 0 if names is None else len(_WORDS.findall(names.text or ""))
    if n_names != n_atoms:
        raise _Damaged(f"it names {n_names} atoms of {n_atoms}")


def _finite(element: ElementTree.Element | None, tag: str, size: int) -> None:
    numbers = [] if element is None else _numbers(element)
    if len(numbers) != size:
        raise _Damaged(f"<{tag}> has {len(numbers)} numbers instead of {size}")
    if not all(map(math.isfinite, numbers)):
        raise _Damaged(f"<{tag}> has a number that is not finite")


def _numbers(element: ElementTree.Element) -> list[float]:
    """The numbers of an element, without its words; its array must be complete."""
    words = _WORDS.findall(element.text or "")
    if (shape := element.get("shape")) is not None:
        size = math.prod(int(word) for word in re.findall(r"\d+", shape))
        if len(words) != size:
            raise _Damaged(f"<{element.tag}> has {len(words)} entries instead of {size}")
    if shape is None or not words or not _LIKE_NUMBER.match(words[0]):
        words = [word for word in words if _LIKE_NUMBER.match(word)]
    try:
        return [float(word) for word in words]
    except ValueError as error:
        raise _Damaged(f"<{element.tag}>: {error}") from None
