"""The cheapest average that is good enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ipi_driver.diagnostics.symmetry_error import AverageError
from ipi_driver.rotations.quadrature import quadrature


@dataclass(frozen=True)
class Recommendation:
    """What to use.

    Attributes
    ----------
    average
        The cheapest average whose force error is below the tolerance on every data set; if there is none, the
        one with the smallest error.
    force_mae
        Its error on the worst data set, eV/Å.
    n_frames
        Evaluations.
    sufficient
        Whether it is below the tolerance.
    tolerance
        eV/Å.
    """

    average: str
    force_mae: float
    n_frames: int
    sufficient: bool
    tolerance: float

    @property
    def text(self) -> str:
        """One sentence for people."""
        error, tolerance = 1000 * self.force_mae, 1000 * self.tolerance
        if not self.sufficient:
            return (
                f"No average is below {tolerance:g} meV/Å: the best is {self.average} with {error:.3g} meV/Å. "
                "Add larger ones (--average 4i) or raise --tolerance."
            )
        if self.average == "none":
            return (
                f"No average is needed: the raw force error, {error:.3g} meV/Å, is below {tolerance:g} meV/Å."
            )
        return (
            f"Use {self.average} ({self.n_frames} evaluations): force error {error:.3g} meV/Å, "
            f"below {tolerance:g} meV/Å."
        )


def recommend(rows: Sequence[AverageError], tolerance: float) -> Recommendation:
    """Choose from the table of errors; the reference, whose error is zero by construction, does not count.

    One random frame is no candidate: its error is the raw one, drawn again. Of averages that cost the same a fixed one
    comes before one in random frames.

    Parameters
    ----------
    rows
        Of all data sets.
    tolerance
        Largest mean absolute force error, eV/Å.
    """
    worst: dict[str, tuple[float, int]] = {}
    for row in rows:
        if not (row.is_reference or (row.n_frames == 1 and _is_random(row.average))):
            error = max(row.force_mae, worst.get(row.average, (0.0, 0))[0])
            worst[row.average] = (error, row.n_frames)
    good = {name: value for name, value in worst.items() if value[0] <= tolerance}
    if good:
        name = min(good, key=lambda name: (good[name][1], _is_random(name), good[name][0]))
    else:
        name = min(worst, key=lambda name: (worst[name][0], worst[name][1]))
    error, n_frames = worst[name]
    return Recommendation(name, error, n_frames, bool(good), tolerance)


def _is_random(average: str) -> bool:
    return quadrature(average).random is not None
