"""What an analysis hands to the report: numbers, curves and maps, each with its uncertainty and unit."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.observables.statistics import Estimate
from ipi_driver.potentials.base import Potential
from ipi_driver.rotations.quadrature import Quadrature, quadratures
from ipi_driver.structure import FloatArray, Structure
from ipi_driver.units import FS_PER_PS

_RANGES = {
    "skip": False,
    "longest_lag": True,
    "fit_start": False,
    "r_max": True,
    "pair_snapshots": True,
    "bandwidth": False,
    "map_bandwidth": False,
    "viscosity": True,
    "torque_snapshots": True,
}
"""Options that are numbers, and whether they must be positive; the others may be 0."""

TORQUE_AVERAGES = ("none", "i", "D2", "T", "2", "Th", "2i", "3", "3i")
"""Averages under which the mean torque of a molecule is computed."""


@dataclass(frozen=True)
class Options:
    """Choices of the user.

    Attributes
    ----------
    molecule
        Formula of the molecules to look at; None takes the most frequent kind.
    vector
        Orientation vector, such as "O->H"; None: from the heaviest atom to the mean of the others.
    skip
        Time left out at the start, ps.
    longest_lag
        Of the mean-square displacement and the orientation correlation, ps.
    fit_start
        Start of the window in which D and the relaxation time are fitted, ps.
    r_max
        Largest distance of pair correlations, Å; None: nearly half the smallest height of the first cell.
    pair_snapshots
        Largest number of snapshots used for pair correlations, which cost most.
    bandwidth
        Gaussian kernel of pair correlations, Å; 0: bins.
    map_bandwidth
        Gaussian kernel of maps of orientations, in cos theta and in phi (rad); 0: bins.
    axis
        Axis of an external field: adds the mean cosine and the free energy of the orientation of one molecule against
        it, and lets the molecule have a mean orientation; None: there is no field.
    viscosity
        Shear viscosity for the finite-size correction of D, mPa s; None: that of water (0.854 at 300 K) for water, and
        no correction for other liquids.
    model
        Potential for the torque against the average of gas runs and the orientational free energy by perturbation, or
        None.
    averages
        Averages for it.
    torque_snapshots
        Most snapshots for it.
    systems
        Prefixes of the systems to look at where a run has several; empty: all.
    """

    molecule: str | None = None
    vector: str | None = None
    skip: float = 0.0
    longest_lag: float = 10.0
    fit_start: float = 1.0
    r_max: float | None = None
    pair_snapshots: int = 400
    bandwidth: float = 0.0
    map_bandwidth: float = 0.0
    axis: tuple[float, float, float] | None = None
    viscosity: float | None = None
    model: Potential | None = None
    averages: tuple[Quadrature, ...] = field(default_factory=lambda: quadratures(TORQUE_AVERAGES))
    torque_snapshots: int = 100
    systems: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise `UserError` for a number that is not in its range."""
        for name, positive in _RANGES.items():
            value = getattr(self, name)
            if value is None or (math.isfinite(value) and (value > 0.0 if positive else value >= 0.0)):
                continue
            expected = "be positive" if positive else "not be negative"
            raise UserError(f"`{name}` (--{name.replace('_', '-')}) must {expected}, got {value:g}")
        if self.axis is not None and not 0.0 < sum(x * x for x in self.axis) < math.inf:
            raise UserError(
                f"`axis` (--axis) must be a direction, got {' '.join(f'{x:g}' for x in self.axis)}"
            )


@dataclass(frozen=True)
class Scalar:
    """A number with its uncertainty.

    Attributes
    ----------
    label
        What it is, for people.
    value, error
        In ``unit``; the error is NaN where none could be given.
    unit
        As printed.
    correlation_time, block_length
        ps; NaN where they do not apply.
    n_blocks
        Blocks behind the error, 0 where it has none.
    """

    label: str
    value: float
    error: float
    unit: str
    correlation_time: float = float("nan")
    block_length: float = float("nan")
    n_blocks: int = 0

    @classmethod
    def of(cls, label: str, estimate: Estimate, unit: str, scale: float = 1.0) -> Scalar:
        return cls(
            label,
            float(estimate.value) * scale,
            float(estimate.error) * scale,
            unit,
            estimate.correlation_time / FS_PER_PS,
            estimate.block_length / FS_PER_PS,
            estimate.n_blocks,
        )


@dataclass(frozen=True, eq=False)
class Curve:
    """A function of one variable.

    Attributes
    ----------
    x, y, error
        (n,) arrays; NaN where undefined.
    x_label, y_label
        With units.
    correlation_time, block_length
        ps.
    blocks
        (n_blocks, n) curve of each block behind the errors, or None; not written to files.
    correction, of_points
        Factor that the errors hold for the correlation left between the blocks, and that of each point by itself, see
        `Estimate`.
    scale_from
        Figures are scaled to the curve beyond this x: below lie the peaks of pairs within molecules.
    """

    x: FloatArray
    y: FloatArray
    error: FloatArray
    x_label: str
    y_label: str
    correlation_time: float = float("nan")
    block_length: float = float("nan")
    blocks: FloatArray | None = None
    correction: float = 1.0
    scale_from: float = 0.0
    of_points: FloatArray | None = None

    @classmethod
    def of(cls, x: FloatArray, estimate: Estimate, x_label: str, y_label: str) -> Curve:
        tau, length = estimate.correlation_time / FS_PER_PS, estimate.block_length / FS_PER_PS
        return cls(
            np.asarray(x),
            estimate.value,
            estimate.error,
            x_label,
            y_label,
            tau,
            length,
            estimate.blocks,
            estimate.correction,
            of_points=estimate.of_points,
        )

    @property
    def corrections(self) -> float | FloatArray:
        """Of each point, or where that is not known one for all."""
        return self.correction if self.of_points is None else self.of_points


@dataclass(frozen=True, eq=False)
class Map:
    """A function of (x, y): ``values`` and ``error`` are (n_x, n_y).

    Attributes
    ----------
    blocks
        (n_blocks, n_x, n_y) densities of the blocks behind a free energy, or None; not written to files.
    correction
        Factor that the errors hold for the correlation left between the blocks.
    block_length
        ps.
    """

    x: FloatArray
    y: FloatArray
    values: FloatArray
    error: FloatArray
    x_label: str
    y_label: str
    label: str
    blocks: FloatArray | None = None
    correction: float = 1.0
    block_length: float = float("nan")


@dataclass(eq=False)
class Analysis:
    """Everything measured on one run.

    Attributes
    ----------
    label
        For legends: the name of the folder and the average.
    kind
        gas, liquid or ice.
    source
        The folder.
    system
        Such as "512 H2O".
    settings
        Of the run, for the report.
    scalars, curves, maps
        By key; the same key means the same quantity in every run.
    notes
        What a reader should know: truncated files, quantities left out and why.
    structure
        First snapshot.
    """

    label: str
    kind: str
    source: str
    system: str
    settings: dict[str, str]
    scalars: dict[str, Scalar] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    maps: dict[str, Map] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    structure: Structure | None = None

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
