"""Between what i-PI holds and what the package holds; used by the sockets and by the in-process plugin.

i-PI: bohr, hartree, cell vectors as the **columns** of ``h``. The package: Å, eV, cell vectors as rows.
The virial needs no transposition: i-PI deforms its cell as ``h' = (1 + strain) h``, which is
``positions @ (1 + strain).T`` for rows, so element (a, b) is ``-dE/dstrain_ab`` on both sides. i-PI keeps the
upper triangle of it only.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.ipi_files.units import BOHR, FORCE, HARTREE
from ipi_driver.structure import FloatArray, Prediction, Structure

_IPI_EXTRAS = {"energy_ensemble": ("committee_pot", HARTREE), "dipole": ("dipole", BOHR)}
"""Extras that i-PI reads itself: its name for them and our unit in its own."""

_NO_VIRIAL = np.full((3, 3), np.nan)


def structure_from_ipi(template: Structure, h: FloatArray, positions: FloatArray) -> Structure:
    """The structure that i-PI asks for.

    Parameters
    ----------
    template
        Where the species and ``pbc`` come from, which i-PI does not send.
    h
        (3, 3) cell vectors as columns, bohr.
    positions
        (n_atoms, 3), bohr.

    Returns
    -------
    Structure
        Å; the cell is zero where the template is not periodic in any direction.

    Raises
    ------
    UserError
        If the number of atoms differs from the template's, or a value is not finite.
    """
    if len(positions) != template.n_atoms:
        raise UserError(
            f"i-PI sends {len(positions)} atoms, but the structure given has {template.n_atoms}; "
            "give the file that i-PI starts from (--structure FILE or --input input.xml)"
        )
    cell = h.T * BOHR if template.periodic else np.zeros((3, 3))
    return replace(template, positions=positions * BOHR, cell=cell)


def results_to_ipi(
    structure: Structure, prediction: Prediction, virial: str = "required"
) -> tuple[float, FloatArray, FloatArray]:
    """Energy (hartree), forces (n_atoms, 3) (hartree/bohr) and virial (3, 3) (hartree) for i-PI.

    Parameters
    ----------
    structure
        What was evaluated.
    prediction
        Its result, eV and Å.
    virial
        What to do for a periodic structure if the potential has no virial: "required" raises, "nan" sends
        NaN, so that every pressure that i-PI prints is nan. It is never silently zero.

    Raises
    ------
    UserError
        If a virial is missing, or anything is not finite.
    """
    energy, forces = prediction.energy, prediction.forces
    if not (math.isfinite(energy) and np.isfinite(forces).all()):
        what = "energy" if not math.isfinite(energy) else "forces"
        raise UserError(f"the model gave {what} that are not finite (NaN or infinity)")
    if prediction.virial is None:
        if structure.periodic and virial != "nan":
            raise UserError(
                "the potential gives no virial for a periodic structure, and i-PI needs it for the pressure; "
                "if no pressure is needed set `virial: nan` (--virial nan): i-PI then prints nan pressures"
            )
        matrix = _NO_VIRIAL
    elif not np.isfinite(prediction.virial).all():
        raise UserError("the model gave a virial that is not finite (NaN or infinity)")
    else:
        matrix = prediction.virial / HARTREE
    return energy / HARTREE, forces / FORCE, matrix


def extras_json(prediction: Prediction) -> str:
    """What i-PI can print with ``extra_type``: one JSON object, numbers and lists only, eV and Å.

    Keys: ``n_frames``, ``energy_spread``, ``forces_spread``, ``virial_spread`` (with a virial),
    ``energy_raw`` (if the unrotated orientation is among those evaluated), ``net_force`` (3), ``net_torque`` (3,
    isolated only).
    What the potential itself adds (`Prediction.extras`) is there by its own name, except that ``energy_ensemble`` is
    ``committee_pot`` in hartree and ``dipole`` is in atomic units (e bohr), as i-PI reads these two.
    A key is there at every evaluation of an endpoint or at none, as i-PI requires.
    """
    values: dict[str, Any] = {
        "n_frames": prediction.n_rotations,
        "energy_spread": prediction.energy_std,
        "forces_spread": prediction.forces_std,
    }
    if prediction.virial_std is not None:
        values["virial_spread"] = prediction.virial_std
    if prediction.raw is not None:
        values["energy_raw"] = prediction.raw.energy
    if prediction.net_force is not None:
        values["net_force"] = prediction.net_force.tolist()
    if prediction.net_torque is not None:
        values["net_torque"] = prediction.net_torque.tolist()
    for name, value in prediction.extras.items():
        ipi_name, unit = _IPI_EXTRAS.get(name, (name, 1.0))
        values[ipi_name] = (value / unit).tolist()
    return json.dumps(values)
