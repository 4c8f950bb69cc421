"""What `ipi-driver check` has found, in sentences for people."""

from __future__ import annotations

import math

import numpy as np

from ipi_driver.report.tables import formatted
from ipi_driver.symmetry.check import CheckResult
from ipi_driver.symmetry.consistency import Consistency
from ipi_driver.symmetry.drift import Drift
from ipi_driver.symmetry.inner_forces import InnerForces
from ipi_driver.symmetry.orientation import PerturbedFreeEnergy
from ipi_driver.symmetry.outer_step import StrideTable
from ipi_driver.symmetry.walk import RotationWalk
from ipi_driver.units import FS_PER_NS, FS_PER_PS, MILLI


def further_texts(result: CheckResult, data_set: str) -> list[str]:
    """Sentences on everything but the averages, of one data set."""
    texts = [consistency_text(result.consistency[data_set])]
    if data_set in result.walks:
        texts.append(walk_text(result.walks[data_set]))
    if data_set in result.drifts:
        texts.append(drift_text(result.drifts[data_set]))
    if data_set in result.inner:
        texts.append(inner_text(result.inner[data_set]))
    if data_set in result.orientation:
        texts.append(orientation_text(result.orientation[data_set]))
    if data_set in result.explanations:
        texts.append(result.explanations[data_set].text)
    return texts


def consistency_text(found: Consistency) -> str:
    """One or two sentences on the finite differences and the rotations."""
    verdict = "are" if found.conservative else "are NOT"
    parts = [
        f"Forces {verdict} derivatives of the energy (deviation {number(found.force_deviation * MILLI)} of "
        f"{number(found.force_scale * MILLI)} meV/Å)"
    ]
    if not found.conservative:
        parts.append(f"{number(100.0 * found.jacobian_asymmetry)} % of their Jacobian is antisymmetric")
    if found.virial_consistent is None:
        parts.append("the potential gives no virial here")
    else:
        verdict = "is" if found.virial_consistent else "is NOT"
        deviation, scale = found.virial_deviation or 0.0, found.virial_scale or 0.0
        parts.append(
            f"the virial {verdict} (deviation {number(deviation * MILLI)} of {number(scale * MILLI)} meV)"
        )
    verdict = "turns" if found.rotations_turn_everything else "does NOT turn"
    parts.append(f"a rotation {verdict} atoms and cell together")
    return "; ".join(parts) + "."


def walk_text(found: RotationWalk) -> str:
    """One sentence with the numbers of ML-PEG's rotational benchmark."""
    energies, forces = MILLI * found.energies, MILLI * found.forces
    return (
        f"From one to the next of {found.energies.shape[1] + 1} orientations (ML-PEG's rotational benchmark): energy "
        f"{number(energies.mean())} meV per atom, largest {number(energies.max())}; forces "
        f"{number(forces.mean())} meV/Å, largest {number(forces.max())}."
    )


def orientation_text(found: PerturbedFreeEnergy) -> str:
    """One sentence on how far from uniform the orientations of an isolated molecule would be with the raw model."""
    value = formatted(found.rms, found.rms_error)
    lowest, highest = float(found.free_energy.min()), float(found.free_energy.max())
    return (
        f"Without an average the orientations of a molecule at {found.temperature:g} K have a free energy of {value} "
        f"kT (root mean square; {lowest:.2g} to {highest:.2g}), by perturbation from {found.n_structures} snapshots."
    )


def reference_text(result: CheckResult, data_set: str) -> str:
    """One sentence on how exact the reference is."""
    bound = result.reference_errors[data_set]
    name = result.settings.reference.name
    return f"The reference {name} itself deviates from the exact average by up to about {number(bound * MILLI)} meV/Å."


def heating_text(result: CheckResult, data_set: str) -> str:
    """One sentence on what random frames do to the energy of a simulation."""
    step = result.settings.time_step
    raw = next(row for row in result.errors if row.data_set == data_set and row.average == "none")
    rate = raw.heating * step * FS_PER_NS * MILLI
    heats = f"a run heats by about {number(rate)} meV per atom and ns."
    return f"With `random`, a new random rotation at every step of {step:g} fs, {heats}"


def stride_text(result: CheckResult) -> str:
    """One sentence on multiple time stepping."""
    stride = result.stride
    if stride is None:
        return "Multiple time stepping: of no use, as no average is needed."
    found = next(iter(result.inner.values()), None)
    inside = "" if found is None else f" with {found.inner} inside"
    outer = stride.recommended * stride.time_step
    chosen = list(stride.strides).index(stride.recommended)
    left = float(stride.unresolved[chosen]) * MILLI
    text = (
        f"Multiple time stepping{inside}: correct every {stride.recommended} steps of {stride.time_step:g} fs "
        f"(outer step {outer:g} fs leaves {left:.3g} of {stride.total * MILLI:.3g} meV/Å unresolved)."
    )
    if left > stride.tolerance * MILLI:
        text += " This is above the tolerance already: save the trajectory more often or raise --tolerance."
    elif stride.limited_by_spacing:
        text += " The trajectory's spacing limits this: save more often to be sure."
    if found is not None and found.inner == result.model != found.outer:
        # direct forces, corrected by derivatives
        text += (
            f" The average was chosen by the errors of {found.inner}; those of {found.outer}, which it is applied to, "
            f"may need a smaller one: `check` {found.outer} without non_conservative."
        )
    if stride.heating is not None:
        rate = heating_of(stride, chosen)
        if rate:
            text += f" A run heats by {rate} meV per atom and ns with it."
    return text


def heating_of(stride: StrideTable, k: int) -> str:
    """Heating by the k-th stride with its error, meV per atom and ns; empty where it is not known."""
    if stride.heating is None or not np.isfinite(stride.heating.rate[k]):
        return ""
    value, error = (float(x[k]) * FS_PER_NS * MILLI for x in stride.heating)
    return formatted(value, error) if np.isfinite(error) else f"about {number(value)}"


def drift_text(found: Drift) -> str:
    """One sentence on a run at constant energy."""
    length = f"{found.times[-1] / FS_PER_PS:.3g} ps of steps of {found.time_step:g} fs"
    if found.broken:
        return f"At constant energy the run breaks after {length}: {found.temperature:.3g} K."
    value, error = MILLI * found.rate, MILLI * found.error
    drift = f"drifts by {formatted(value, error)} meV per atom and ps"
    if not found.resolved:
        drift = f"does not drift (below {_two_digits(abs(value) + 3.0 * error)} meV per atom and ps)"
    return (
        f"At constant energy ({length}, {found.temperature:.3g} K) the total energy {drift}, and "
        f"fluctuates by {number(MILLI * found.fluctuation)} meV per atom."
    )


def inner_text(found: InnerForces) -> str:
    """One sentence on forces of an inner step."""
    share = 100.0 * found.rmse / found.scale if found.scale > 0.0 else math.nan
    return (
        f"The inner forces ({found.inner}) differ from those of {found.outer} by {number(MILLI * found.mae)} meV/Å, "
        f"largest {number(MILLI * found.largest)} ({number(share)} % of the force); "
        f"{number(100.0 * found.jacobian_asymmetry)} % of their Jacobian is antisymmetric."
    )


def _two_digits(value: float) -> str:
    return f"{value:.1e}" if value < 1e-3 else f"{value:.2g}"


def number(value: float | None) -> str:
    """Three digits that mean something."""
    if value is None or not math.isfinite(value):
        return ""
    size = abs(value)
    if 0.0 < size < 1e-3:
        return f"{value:.0e}"
    if size < 0.1:
        return f"{value:.2g}"
    return f"{value:.3g}" if size < 100 else f"{value:.0f}"
