"""`check`: the symmetry error of a model, from Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import ase

from ipi_driver.errors import UserError
from ipi_driver.ipi_files.structures import DataSet, read_data_set, spacing_of
from ipi_driver.potentials import load_potential, load_precise
from ipi_driver.potentials.base import Potential
from ipi_driver.rotations import quadrature, quadratures
from ipi_driver.structure import Structure
from ipi_driver.symmetry.check import DEFAULT_AVERAGES, CheckResult, CheckSettings, run_check

Structures: TypeAlias = "str | Path | ase.Atoms | Structure | Sequence[ase.Atoms | Structure]"
"""A file, one structure, or several structures of one kind."""


def check(
    model: str | Potential,
    structures: Structures,
    *,
    averages: Sequence[str] = DEFAULT_AVERAGES,
    reference: str = "Ih",
    tolerance: float = 1e-3,
    trajectory: str | Path | None = None,
    spacing: float | None = None,
    time_step: float = 0.5,
    max_structures: int = 10,
    max_degree: int | None = None,
    orientations: int | None = None,
    pbc: bool | None = None,
    device: str = "cpu",
    dtype: str | None = None,
    seed: int = 0,
    explain: bool = False,
    drift_steps: int = 0,
    inner: str | Potential | None = None,
    card: str | Path | None = None,
) -> CheckResult:
    """Measure the symmetry error of a model and recommend an average, as ``ipi-driver check`` does.

    Parameters
    ----------
    model
        What `load_potential` takes, or a potential.
    structures
        A file of structures, or structures of one kind.
    averages, reference
        Names of averages to compare, and of the one that they are compared with.
    tolerance
        Largest mean absolute force error, eV/Å.
    trajectory, spacing
        File of snapshots at equal times, from which the outer step of multiple time stepping is chosen, and the
        time between them in fs (None: from the steps of an i-PI file).
    time_step
        Inner time step, fs.
    max_structures
        Structures to use of a file, evenly spaced.
    max_degree
        Highest degree of the decomposition; None: what half a minute allows.
    orientations
        Of each isolated structure: as it is, and turned at random; None: as many as make eight with all structures.
    pbc
        Periodic or isolated, whatever a file states.
    device, dtype
        Of a model that is loaded here; ``dtype`` is ``float32`` or ``float64``.
    seed
        Of random rotations.
    explain
        Whether a relaxed network is fitted to the residual forces: it shows a real field beside an error (needs e3nn).
    drift_steps
        Steps of a run at constant energy, whose drift is measured; 0: none.
    inner
        Model of the inner step of multiple time stepping, compared with ``model``: direct forces, a smaller model.
    card
        HTML file for a page with verdicts, numbers and figures.

    Returns
    -------
    CheckResult
        Printing it gives the recommendation in one sentence.

    Raises
    ------
    UserError
        If the model cannot be loaded, an average is unknown or a file holds no structures.

    Examples
    --------
    >>> import ase.build, ipi_driver
    >>> water = ase.build.molecule("H2O")
    >>> result = ipi_driver.check("anisotropic", water, averages=["i", "T", "Th"], max_degree=2)
    >>> result.recommendation.average, result.recommendation.n_rotations
    ('T', 12)
    """
    potential = load_potential(model, device, dtype) if isinstance(model, str) else model
    precise = potential
    if isinstance(model, str) and dtype != "float64":
        precise = load_precise(model, potential, device)
    settings = CheckSettings(
        averages=quadratures(averages),
        reference=quadrature(reference),
        tolerance=tolerance,
        max_degree=max_degree,
        orientations=orientations,
        seed=seed,
        time_step=time_step,
        explain=explain,
        drift_steps=drift_steps,
    )
    series = None
    if trajectory is not None:
        data = read_data_set(trajectory, pbc)
        series = (data, spacing_of(data, Path(trajectory), spacing))
    inside = load_potential(inner, device) if isinstance(inner, str) else inner
    sets = [_data_set(structures, pbc, max_structures)]
    result = run_check(potential, sets, settings, series, precise, inner=inside)
    if card is not None:
        from ipi_driver.report.check_card import write_card  # it loads matplotlib

        write_card(result, Path(card))
    return result


def _data_set(structures: Structures, pbc: bool | None, most: int) -> DataSet:
    if most < 1:
        raise UserError(f"`max_structures` must be at least 1, got {most}")
    if isinstance(structures, str | Path):
        return read_data_set(structures, pbc, sample=most)
    given = [structures] if isinstance(structures, ase.Atoms | Structure) else list(structures)
    if not given:
        raise UserError("`structures` is empty; expected a file, a structure or several of them")
    if pbc is not None:
        raise UserError("`pbc` is for files; set it in the structures themselves")
    made = tuple(s if isinstance(s, Structure) else Structure.from_atoms(s) for s in given)
    masses = None
    if all(isinstance(s, ase.Atoms) for s in given):
        masses = tuple(s.get_masses() for s in given)  # type: ignore[union-attr]
    return DataSet("structures", made, None, masses).sample(most)
