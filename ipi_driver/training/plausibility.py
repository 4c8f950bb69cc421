"""Do the units of labelled structures make sense?

Two numbers of a structure depend on its units and little on its chemistry: the median over atoms of the distance to
the nearest neighbor divided by the sum of the covalent radii, which is about 1 for molecules, liquids, metals and
salts alike (1.9 where bohr are taken for Å, 0.5 the other way round), and the root mean square of the forces.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.lengths import BOND_RANGE, bond_ratio
from ipi_driver.structure import FloatArray, Structure
from ipi_driver.units import BOHR, FORCE

logger = logging.getLogger(__name__)

FORCE_RANGE = (1e-4, 15.0)
"""Plausible force RMS of a file's median structure, eV/Å; single ones beyond twice the upper end are reported."""


def check_units(
    path: Path,
    structures: Sequence[Structure],
    forces: Sequence[FloatArray],
    atomic: Sequence[bool],
    chosen: bool = False,
) -> None:
    """Compare distances and forces with what is physically plausible.

    Parameters
    ----------
    path
        For the message.
    structures, forces
        In Å and eV/Å, (n_atoms, 3), after the conversion that was chosen.
    atomic
        Whether each structure was converted from bohr and hartree.
    chosen
        Whether the user has chosen the units: then they are only refused where the others explain the whole file.

    Raises
    ------
    UserError
        If they are not plausible; the message states whether the other choice of units explains them.
    """
    ratios = check_lengths(path, structures, atomic, chosen)
    low, high = 0.0 if chosen else FORCE_RANGE[0], FORCE_RANGE[1]
    # a lone atom, kept for its energy, feels no force
    rms = np.array([float(np.sqrt(np.mean(f**2))) if len(f) > 1 else np.nan for f in forces])
    felt = rms[np.isfinite(rms)]
    typical = float(np.median(felt)) if len(felt) else low
    if not low <= typical <= high:
        k = int(np.argmax(rms > high if typical > high else rms < low))
        otherwise = typical / FORCE if atomic[k] else typical * FORCE
        explained = FORCE_RANGE[0] <= otherwise <= high
        if explained or not chosen:
            lengths_fit = bool(np.isfinite(ratios[k]))
            _raise_forces(path, k, float(rms[k]), atomic[k], explained, lengths_fit)
    elif not chosen and (rms > 2.0 * high).any():
        # hard collisions are computed on purpose: the others show that the units are right
        logger.warning(
            "%s: %d of %d structures have a force RMS above %g eV/Å, up to %.3g (structure %d); they are used",
            path,
            np.count_nonzero(rms > 2.0 * high),
            len(rms),
            2.0 * high,
            np.nanmax(rms),
            np.nanargmax(rms),
        )


def check_lengths(
    path: Path, structures: Sequence[Structure], atomic: Sequence[bool], chosen: bool = False
) -> FloatArray:
    """As `check_units`, of the distances alone; returns the bond ratio of each structure, NaN where there is none."""
    ratios = np.array([bond_ratio(s) for s in structures])
    low, high = BOND_RANGE
    wrong = (ratios < low) | (ratios > high)
    if not wrong.any():
        return ratios
    k = int(np.argmax(wrong))
    other = ratios[k] * (1.0 / BOHR if atomic[k] else BOHR)
    explained = low <= other <= high
    most = np.count_nonzero(wrong) > 0.5 * np.count_nonzero(np.isfinite(ratios))
    # single structures may be torn apart or squeezed on purpose: they are refused only if another unit explains them
    # and the user has not named the unit
    if not (explained and most if chosen else explained or most):
        return ratios
    got = f"bonds are {ratios[k]:.2f} times the sum of the covalent radii (expected {low}-{high})"
    raise UserError(
        f"{path}, structure {k}: {got} with lengths in {_length(atomic[k])}; {_advice(explained, atomic[k])}"
    )


def _raise_forces(path: Path, k: int, rms: float, atomic: bool, explained: bool, lengths_fit: bool) -> None:
    low, high = FORCE_RANGE
    advice = _advice(explained, atomic)
    units = ("hartree/bohr", "eV/Å") if atomic else ("eV/Å", "hartree/bohr")
    if explained and lengths_fit:  # the other choice would spoil the lengths
        advice = f"the forces seem to be in {units[1]}, the lengths in {_length(atomic)}: convert the file"
        if rms < low:
            advice += f", or set units: {_name(atomic)} if the forces are as small as that"
    if rms < low and not explained:
        advice = f"if the forces do vanish, as in a perfect crystal, set units: {_name(atomic)}"
    got = f"the force RMS is {rms:.3g} eV/Å (expected {low:g}-{high:g})"
    raise UserError(f"{path}, structure {k}: {got} with forces in {units[0]}; {advice}")


def _length(atomic: bool) -> str:
    return "bohr" if atomic else "Å"


def _name(atomic: bool) -> str:
    """How the user chooses the units."""
    return "atomic" if atomic else "ev-angstrom"


def _advice(explained: bool, atomic: bool) -> str:
    if not explained:
        return (
            "no choice of bohr or Å explains this, check the units of the file; if they are right, "
            f"set units: {_name(atomic)}"
        )
    return f"the file seems to be in {'eV and Å' if atomic else 'bohr and hartree'}: set units: {_name(not atomic)}"
