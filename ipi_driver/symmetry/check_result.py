"""Settings and results of a check."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ipi_driver.rotations.quadrature import Quadrature, quadrature, quadratures
from ipi_driver.symmetry.consistency import Consistency
from ipi_driver.symmetry.degrees import Decomposition
from ipi_driver.symmetry.drift import Drift
from ipi_driver.symmetry.errors import AverageError
from ipi_driver.symmetry.inner_forces import InnerForces
from ipi_driver.symmetry.orientation import PerturbedFreeEnergy
from ipi_driver.symmetry.outer_step import StrideTable
from ipi_driver.symmetry.recommend import Recommendation
from ipi_driver.symmetry.walk import RotationWalk

if TYPE_CHECKING:  # it needs e3nn
    from ipi_driver.symmetry.explain import Explanation

DEFAULT_AVERAGES = ("none", "i", "D2", "D2h", "T", "Th", "O", "Oh", "I", "Ih", "2", "2i", "3", "3i")


@dataclass(frozen=True)
class CheckSettings:
    """Settings of a check.

    Attributes
    ----------
    averages, reference
        The averages to compare, and the one that they are compared with.
    tolerance
        eV/Å.
    max_degree
        Of the decomposition; None: as high as half a minute per structure allows, at least 2.
    orientations
        Of each isolated structure: as it is given, and turned at random. A molecule along the axes, as in many files,
        has another error there than in a run, where it turns. None: as many as make eight with all structures of a
        set, where half a minute allows. Periodic structures stay as they are given.
    seed, rotation_batch
        As in `RotationalAverage`.
    time_step
        Inner step of multiple time stepping, fs.
    temperature
        Of the orientational free energy of isolated molecules and of the run at constant energy, K.
    explain
        Whether a relaxed network is fitted to the residual forces, see `ipi_driver.symmetry.explain`.
    drift_steps
        Steps of a run at constant energy, see `ipi_driver.symmetry.drift`; 0: none.
    """

    averages: tuple[Quadrature, ...] = field(default_factory=lambda: quadratures(DEFAULT_AVERAGES))
    reference: Quadrature = field(default_factory=lambda: quadrature("Ih"))
    tolerance: float = 1e-3
    max_degree: int | None = None
    orientations: int | None = None
    seed: int = 0
    rotation_batch: int | None = None
    time_step: float = 0.5
    temperature: float = 300.0
    explain: bool = False
    drift_steps: int = 0


@dataclass(frozen=True)
class CheckResult:
    """Results of a check.

    Attributes
    ----------
    model
        Name of the potential.
    settings
        As given.
    errors
        Rows of the table.
    decompositions, consistency
        By data set.
    reference_errors
        By data set, estimate from above of the reference's own root-mean-square force error, eV/Å.
    recommendation
        The cheapest sufficient average.
    stride
        For the trajectory, if there is one and averaging is of use.
    has_trajectory
        Whether there is one.
    orientation
        Orientational free energy by perturbation, of data sets of one isolated molecule.
    explanations
        What a relaxed network finds in the residual forces, by data set, where it was asked for.
    walks
        The raw result along the walk of ML-PEG's rotational benchmark, by data set.
    drifts
        Runs at constant energy from the first structure, by data set, where they were asked for.
    inner
        Difference of inner and outer forces, by data set, where the two are of different potentials.
    """

    model: str
    settings: CheckSettings
    errors: tuple[AverageError, ...]
    decompositions: dict[str, Decomposition]
    consistency: dict[str, Consistency]
    reference_errors: dict[str, float]
    recommendation: Recommendation
    stride: StrideTable | None
    has_trajectory: bool = False
    orientation: dict[str, PerturbedFreeEnergy] = field(default_factory=dict)
    explanations: dict[str, Explanation] = field(default_factory=dict)
    walks: dict[str, RotationWalk] = field(default_factory=dict)
    drifts: dict[str, Drift] = field(default_factory=dict)
    inner: dict[str, InnerForces] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"CheckResult({self.model}: {self.recommendation.text})"
