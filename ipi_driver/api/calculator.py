"""`Calculator`: any model and average as an ASE calculator, for optimizers, phonons and dynamics of ASE.

>>> import ase
>>> from ipi_driver import Calculator
>>> water = ase.Atoms("OH2", [[0, 0, 0], [0.97, 0, 0.1], [-0.2, 0.9, 0]])
>>> water.calc = Calculator("anisotropic?l=2&amplitude=0.1", average="Th")
>>> round(water.get_potential_energy(), 3)
-8.018
>>> water.calc.results["energy_std"] > 0.01
True
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes

from ipi_driver.errors import UserError
from ipi_driver.potentials import Potential, load_potential
from ipi_driver.rotations import Quadrature, RotationalAverage
from ipi_driver.rotations.transmission import physics_removed
from ipi_driver.structure import Structure

_CONDITIONS = ("charge", "spin", "spin_multiplicity")


class Calculator(AseCalculator):
    """ASE calculator of a model, averaged over rotations.

    Its results are ``energy`` and ``free_energy`` (eV), ``forces`` (eV/Å), ``stress`` (eV/Å³, six components; periodic
    structures of models with a virial), and besides: ``energy_std`` (eV), ``forces_std`` (eV/Å) and ``stress_std``
    (eV/Å³), standard deviations over the rotations; ``n_rotations``; what the model adds (`Prediction.extras`).

    Parameters
    ----------
    model
        What `load_potential` takes, or a potential.
    average
        Name of an average, or a `Quadrature`.
    device, dtype
        As of `load_potential`; of a potential that is given they are its own.
    seed
        Of random rotations.
    rotation_batch
        Rotations in a call of the model; None chooses.

    Raises
    ------
    UserError
        If there is no such model or average, or a potential is given with another device or precision.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 - as in ASE

    def __init__(
        self,
        model: str | Path | Potential,
        average: str | Quadrature = "none",
        device: str = "cpu",
        dtype: str | None = None,
        seed: int = 0,
        rotation_batch: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(model, Potential) and (device != "cpu" or dtype is not None):
            raise UserError(
                f"`device` and `dtype` are of a model that is loaded here, got {device!r} and {dtype!r} with the "
                f"potential {model.name}; give them to `load_potential`"
            )
        potential = model if isinstance(model, Potential) else load_potential(model, device, dtype)
        self.average = RotationalAverage(potential, average, seed=seed, rotation_batch=rotation_batch)
        lost = physics_removed(potential.directions, self.average.quadrature)
        if lost is not None:
            warnings.warn(lost, stacklevel=2)

    def check_state(self, atoms: ase.Atoms, tol: float = 1e-15) -> list[str]:
        """What has changed since the last evaluation; ASE does not look at charge and spin."""
        changes: list[str] = super().check_state(atoms, tol)
        if self.atoms is not None and any(
            atoms.info.get(key) != self.atoms.info.get(key) for key in _CONDITIONS
        ):
            changes.append("info")
        return changes

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Evaluate all properties at once."""
        super().calculate(atoms, properties, system_changes)
        structure = Structure.from_atoms(self.atoms)
        found = self.average.predict(structure)
        self.results = {
            **found.extras,  # first: one that is called like a result does not replace it
            "energy": found.energy,
            "free_energy": found.energy,
            "forces": found.forces,
            "energy_std": found.energy_std,
            "forces_std": found.forces_std,
            "n_rotations": found.n_rotations,
        }
        if found.virial is not None and structure.periodic and structure.volume > 0.0:
            stress = -0.5 * (found.virial + found.virial.T) / structure.volume
            self.results["stress"] = np.array([stress[i, j] for i, j in _VOIGT])
            if found.virial_std is not None:
                self.results["stress_std"] = found.virial_std / structure.volume


_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
