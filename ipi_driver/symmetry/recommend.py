"""The cheapest average that is good enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.rotations.transmission import irrep_in_words
from ipi_driver.symmetry.degrees import Decomposition
from ipi_driver.symmetry.errors import AverageError
from ipi_driver.units import MILLI


@dataclass(frozen=True)
class Recommendation:
    """The recommended average.

    Attributes
    ----------
    average
        The cheapest average whose force error is below the tolerance on every data set; if there is none, the
        one with the smallest error.
    force_mae
        Its error on the worst data set, eV/Å, with what it shares with the reference.
    n_rotations
        Evaluations.
    sufficient
        Whether it is below the tolerance.
    tolerance
        eV/Å.
    shared
        The part of the error that it shares with the reference, eV/Å.
    directions
        Irreps in which the model depends on the orientation on purpose (`Potential.directions`): no average is
        recommended, and `force_mae` is what lies in other degrees.
    kept
        What lies in the degrees of `directions`, eV/Å, root mean square per component.
    explained
        Whether `directions` are what a fit to the residual forces has found, not what the model states.
    reference_error
        Estimate of what is left in the reference on the worst data set, eV/Å: no error can be told better than that.
    """

    average: str
    force_mae: float
    n_rotations: int
    sufficient: bool
    tolerance: float
    shared: float = 0.0
    directions: tuple[str, ...] = ()
    kept: float = 0.0
    explained: bool = False
    reference_error: float = 0.0

    @property
    def text(self) -> str:
        """One sentence for people."""
        error, tolerance = MILLI * self.force_mae, MILLI * self.tolerance
        if self.directions:
            return self._on_purpose
        if not self.sufficient:
            best = (
                f"No average is below {tolerance:g} meV/Å: the best is {self.average} with {error:.3g} meV/Å"
            )
            if note := self._shared_note or self._reference_note:
                return (
                    f"{best}{note}. Add a larger reference (--reference 5i) and larger averages (--average 4i), or "
                    "raise --tolerance."
                )
            return f"{best}. Add larger ones (--average 4i) or raise --tolerance."
        if self.average == "none":
            return (
                f"No average is needed: the raw force error, {error:.3g} meV/Å, is below {tolerance:g} meV/Å."
            )
        return (
            f"Use {self.average} ({self.n_rotations} evaluations): force error {error:.3g} meV/Å{self._shared_note}, "
            f"below {tolerance:g} meV/Å."
        )

    @property
    def _on_purpose(self) -> str:
        """Of a model that depends on the orientation on purpose."""
        where = ", ".join(irrep_in_words(name) for name in self.directions)
        reason = "this model depends on the orientation on purpose"
        if self.explained:
            reason = "what depends on the orientation is one field fixed in the laboratory, by --explain"
        return (
            f"Use no average: {reason} ({where}; {MILLI * self.kept:.3g} meV/Å "
            f"of its forces there, {MILLI * self.force_mae:.3g} elsewhere). An average would remove physics, not error."
        )

    @property
    def _shared_note(self) -> str:
        """A note on the error that the reference shares, where it is most of the error."""
        if self.shared <= 0.5 * self.force_mae or self.average == "none":
            return ""
        return f" ({MILLI * self.shared:.2g} of it estimated: the reference has it too)"

    @property
    def _reference_note(self) -> str:
        """A note on what is left in the reference, where it is much of the tolerance."""
        if self.reference_error <= 0.5 * self.tolerance:
            return ""
        return f"; the reference itself has {MILLI * self.reference_error:.2g}"


def recommend(
    rows: Sequence[AverageError],
    tolerance: float,
    shared: Mapping[tuple[str, str], float] | None = None,
    reference_error: float = 0.0,
) -> Recommendation:
    """Choose from the table of errors; the reference, whose error is zero by construction, does not count.

    A single random rotation is no candidate, as its error is the raw one, drawn again. Among averages of the same cost
    a fixed grid comes before a grid in a random frame.

    Parameters
    ----------
    rows
        Of all data sets.
    tolerance
        Largest mean absolute force error, eV/Å.
    shared
        By data set and average the error (eV/Å) in common with the reference, which the table does not show.
    reference_error
        What is left in the reference on the worst data set, eV/Å.
    """
    worst: dict[str, tuple[float, int]] = {}
    hidden: dict[str, float] = {}
    for row in rows:
        if not (row.is_reference or (row.n_rotations == 1 and _is_random(row.average))):
            common = (shared or {}).get((row.data_set, row.average), 0.0)
            # what is not finite on one data set is good enough on none
            error = float(np.hypot(row.force_mae, common)) if np.isfinite(row.force_mae) else np.inf
            if error >= worst.get(row.average, (0.0, 0))[0]:
                worst[row.average], hidden[row.average] = (error, row.n_rotations), common
    if not np.isfinite([error for error, _ in worst.values()]).any():
        sets = ", ".join(dict.fromkeys(row.data_set for row in rows if not np.isfinite(row.force_mae)))
        raise UserError(
            f"the model gives no finite force errors for any average ({sets}): its weights or its data are damaged"
        )
    good = {name: value for name, value in worst.items() if value[0] <= tolerance}
    if good:
        name = min(good, key=lambda name: (good[name][1], _is_random(name), good[name][0]))
    else:
        name = min(worst, key=lambda name: (worst[name][0], worst[name][1]))
    error, n_rotations = worst[name]
    return Recommendation(
        name, error, n_rotations, bool(good), tolerance, hidden[name], reference_error=reference_error
    )


def keep_directions(
    directions: Sequence[str],
    decompositions: Iterable[Decomposition],
    tolerance: float,
    explained: bool = False,
) -> Recommendation:
    """Recommend no average for a model that depends on the orientation on purpose.

    Parameters
    ----------
    directions
        Irreps, such as 1o.
    decompositions
        Of every data set.
    tolerance
        eV/Å.
    explained
        Whether they were found in the residual forces (`ipi_driver.symmetry.explain`).
    """
    kept = rest = 0.0
    for found in decompositions:
        power = found.forces**2
        chosen = np.zeros(power.shape, dtype=bool)
        for name in directions:
            if int(name[:-1]) <= found.max_degree:
                chosen[int(name[:-1]), 0 if name.endswith("e") else 1] = True
        kept = max(kept, float(np.sqrt(power[chosen].sum())))
        rest = max(rest, float(np.sqrt(power[~chosen].sum() + found.forces_rest**2)))
    return Recommendation(
        "none", rest, 1, True, tolerance, directions=tuple(directions), kept=kept, explained=explained
    )


def _is_random(name: str) -> bool:
    return name.partition("-")[0] == "random"
