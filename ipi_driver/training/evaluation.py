r"""Errors of a model on labelled structures, with and without rotational averaging.

With :math:`\Delta_s` the error of the energy of structure s with :math:`n_s` atoms, energies are judged twice:
absolutely, and after subtraction of the mean offset :math:`n_s \langle \Delta / n \rangle`, which no simulation
feels. Forces and virials are compared component by component.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import gcd
from typing import Any, TypeVar

import numpy as np
from ase.data import chemical_symbols

from ipi_driver.errors import UserError
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.chunks import Progress, RotationChunks, no_progress
from ipi_driver.rotations.pool import RotationPool
from ipi_driver.rotations.quadrature import Quadrature
from ipi_driver.structure import FloatArray, Prediction, Structure
from ipi_driver.training.data import LabelledStructure

_T = TypeVar("_T")


@dataclass(frozen=True)
class Metrics:
    """Errors of one average on all structures: eV and eV/Å; those of energies are NaN where no structure has one.

    Attributes
    ----------
    average, n_rotations
        Name of the average, and evaluations that it costs.
    energy_mae, energy_rmse
        Per structure.
    energy_mae_per_atom, energy_rmse_per_atom
        Errors divided by the number of atoms.
    energy_mae_per_unit, energy_rmse_per_unit
        Errors divided by the number of formula units; None where the structures have different compositions.
    energy_offset_per_atom
        Mean signed error per atom, predicted minus reference.
    shifted_energy_mae, shifted_energy_rmse
        Per structure, after subtraction of the offset; likewise ``_per_atom`` and ``_per_unit``.
    force_mae, force_rmse, force_max
        Over components.
    force_mae_by_element
        By chemical symbol.
    virial_mae_per_atom, virial_rmse_per_atom
        Over components; None without virials.
    symmetry_energy_mae, symmetry_force_mae
        Mean absolute difference from the reference average, per structure and component; None without reference.
    """

    average: str
    n_rotations: int
    energy_mae: float
    energy_rmse: float
    energy_mae_per_atom: float
    energy_rmse_per_atom: float
    energy_mae_per_unit: float | None
    energy_rmse_per_unit: float | None
    energy_offset_per_atom: float
    shifted_energy_mae: float
    shifted_energy_rmse: float
    shifted_energy_mae_per_atom: float
    shifted_energy_rmse_per_atom: float
    shifted_energy_mae_per_unit: float | None
    shifted_energy_rmse_per_unit: float | None
    force_mae: float
    force_rmse: float
    force_max: float
    force_mae_by_element: dict[str, float]
    virial_mae_per_atom: float | None
    virial_rmse_per_atom: float | None
    symmetry_energy_mae: float | None
    symmetry_force_mae: float | None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All results of a model on a data set.

    Attributes
    ----------
    model
        Name.
    data
        The labelled structures.
    formula_unit
        Reduced formula that all structures share, such as "H2O", or None.
    reference
        Average that symmetry errors are measured against, or None.
    metrics
        One for each average, in the order asked for.
    predictions
        For each average, one for each structure.
    reference_predictions
        Of the reference average, or None.
    """

    model: str
    data: tuple[LabelledStructure, ...]
    formula_unit: str | None
    reference: str | None
    metrics: tuple[Metrics, ...]
    predictions: tuple[tuple[Prediction, ...], ...]
    reference_predictions: tuple[Prediction, ...] | None = None

    def part(self, indices: Sequence[int]) -> Evaluation:
        """The evaluation of some of the structures alone, without another evaluation of the potential."""

        def take(items: Sequence[_T]) -> tuple[_T, ...]:
            return tuple(items[k] for k in indices)

        reference = self.reference_predictions
        return _collect(
            self.model,
            take(self.data),
            [metrics.average for metrics in self.metrics],
            [take(column) for column in self.predictions],
            self.reference,
            None if reference is None else take(reference),
        )


def formula_unit(structure: Structure) -> tuple[str, int]:
    """Reduced formula, elements by increasing atomic number (H2O), and how many of them there are."""
    numbers, counts = np.unique(structure.numbers, return_counts=True)
    units = reduce(gcd, counts.tolist())
    parts = [
        chemical_symbols[z] + (str(n // units) if n > units else "")
        for z, n in zip(numbers, counts, strict=True)
    ]
    return "".join(parts), units


def evaluate_model(
    potential: Potential,
    data: Sequence[LabelledStructure],
    averages: Sequence[Quadrature],
    reference: Quadrature | None = None,
    seed: int = 0,
    rotation_batch: int | None = None,
    progress: Progress = no_progress,
) -> Evaluation:
    """Compare a potential with labels; each different rotation of a structure is evaluated once.

    Parameters
    ----------
    potential
        Any.
    data
        Structures with labels in eV and Å.
    averages
        The averages.
    reference
        Average that is compared with for the symmetry error; None measures none.
    seed
        Of averages in random frames.
    rotation_batch
        Rotations per call of the potential; None chooses.
    progress
        Called with the number of evaluations done, see `n_evaluations`.

    Raises
    ------
    UserError
        If there are no data or no averages.
    """
    if not data:
        raise UserError("nothing to evaluate: the data hold no structures")
    if not averages:
        raise UserError("nothing to evaluate: give at least one average, such as none")
    grids = _quadratures(averages, reference)
    pool, names = RotationPool(grids, seed), [grid.name for grid in grids]
    if reference is not None:
        names.pop()
    chunks = RotationChunks(potential, rotation_batch)
    rows = [pool.averages(chunks, item.structure, progress) for item in data]
    columns = [tuple(row[k] for row in rows) for k in range(len(pool.quadratures))]
    symmetric = None if reference is None else columns[-1]
    name = None if reference is None else reference.name
    return _collect(potential.name, data, names, columns[: len(names)], name, symmetric)


def _collect(
    model: str,
    data: Sequence[LabelledStructure],
    names: Sequence[str],
    columns: Sequence[tuple[Prediction, ...]],
    reference: str | None,
    symmetric: tuple[Prediction, ...] | None,
) -> Evaluation:
    """Metrics of the predictions of each average."""
    units = [formula_unit(item.structure) for item in data]
    shared = units[0][0] if len({name for name, _ in units}) == 1 else None
    n_units = None if shared is None else np.array([count for _, count in units], dtype=float)
    metrics = tuple(
        error_metrics(name, data, column, n_units, None if name == reference else symmetric)
        for name, column in zip(names, columns, strict=True)
    )
    return Evaluation(model, tuple(data), shared, reference, metrics, tuple(columns), symmetric)


def n_evaluations(n_structures: int, averages: Sequence[Quadrature], reference: Quadrature | None) -> int:
    """Evaluations of the potential that `evaluate_model` makes, for a progress bar."""
    return n_structures * RotationPool(_quadratures(averages, reference)).n_evaluations


def _quadratures(averages: Sequence[Quadrature], reference: Quadrature | None) -> list[Quadrature]:
    """Averages asked for, each once, and the reference last."""
    grids = list({grid.name: grid for grid in averages}.values())
    return grids if reference is None else [*grids, reference]


def error_metrics(
    name: str,
    data: Sequence[LabelledStructure],
    predictions: Sequence[Prediction],
    n_units: FloatArray | None = None,
    reference: Sequence[Prediction] | None = None,
) -> Metrics:
    """Errors of predictions.

    Parameters
    ----------
    name
        Of the average.
    data, predictions
        Labels and predictions of the same structures, n_structures each.
    n_units
        (n_structures,) formula units, or None.
    reference
        Predictions that symmetry errors are measured against, or None.
    """
    n_atoms = np.array([item.structure.n_atoms for item in data], dtype=float)
    energy = np.array([p.energy - item.energy for p, item in zip(predictions, data, strict=True)])
    errors = np.concatenate([p.forces - item.forces for p, item in zip(predictions, data, strict=True)])
    numbers = np.concatenate([item.structure.numbers for item in data])
    by_element = {chemical_symbols[z]: _mae(errors[numbers == z]) for z in np.unique(numbers).tolist()}
    virials = [
        (p.virial - item.virial) / item.structure.n_atoms
        for p, item in zip(predictions, data, strict=True)
        if p.virial is not None and item.virial is not None
    ]
    symmetry_energy = symmetry_force = None
    if reference is not None:
        symmetry_energy = _mae(
            np.array([p.energy - r.energy for p, r in zip(predictions, reference, strict=True)])
        )
        symmetry_force = _mae(
            np.concatenate([p.forces - r.forces for p, r in zip(predictions, reference, strict=True)])
        )
    return Metrics(
        average=name,
        n_rotations=predictions[0].n_rotations,
        **_energy_errors(energy, n_atoms, n_units),
        force_mae=_mae(errors),
        force_rmse=_rmse(errors),
        force_max=float(np.abs(errors).max()),
        force_mae_by_element=by_element,
        virial_mae_per_atom=_mae(np.array(virials)) if virials else None,
        virial_rmse_per_atom=_rmse(np.array(virials)) if virials else None,
        symmetry_energy_mae=symmetry_energy,
        symmetry_force_mae=symmetry_force,
    )


def label_noise(data: Sequence[LabelledStructure]) -> float:
    """Standard deviation of the force labels by component, eV/Å, were it the reason that they do not sum to zero.

    Independent noise of N atoms leaves a net force of sqrt(N) times the noise of one. A model whose forces sum to zero
    cannot have a mean absolute error below sqrt(2 / pi) of it.
    """
    squares = [
        np.square(item.forces.sum(0)).mean() / item.structure.n_atoms
        for item in data
        if item.structure.n_atoms > 1
    ]
    return float(np.sqrt(np.mean(squares))) if squares else 0.0


def _energy_errors(errors: FloatArray, n_atoms: FloatArray, n_units: FloatArray | None) -> dict[str, Any]:
    """Fields of `Metrics` from errors (n_structures,) in eV, which are NaN where the energy is not known."""
    known = np.isfinite(errors)
    errors, n_atoms = errors[known], n_atoms[known]
    n_units = None if n_units is None else n_units[known]
    offset = float((errors / n_atoms).mean()) if len(errors) else float("nan")
    found: dict[str, Any] = {"energy_offset_per_atom": offset}
    for name, values in (("energy", errors), ("shifted_energy", errors - n_atoms * offset)):
        for end, counts in (("", np.ones(len(values))), ("_per_atom", n_atoms), ("_per_unit", n_units)):
            found[f"{name}_mae{end}"] = None if counts is None else _mae(values / counts)
            found[f"{name}_rmse{end}"] = None if counts is None else _rmse(values / counts)
    return found


def _mae(values: FloatArray) -> float:
    return float(np.abs(values).mean()) if len(values) else float("nan")


def _rmse(values: FloatArray) -> float:
    return float(np.sqrt(np.square(values).mean())) if len(values) else float("nan")
