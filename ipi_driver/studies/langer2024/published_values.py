"""The published numbers, where this reproduction has its own, and what differs in how they were got.

Langer, Pozdnyakov, Ceriotti, Mach. Learn.: Sci. Technol. 5, 04LT01 (2024). Numbers of tables are printed; the others are
read off figures, those of curves off the digitised ones beside this file, with the uncertainty of a pixel. Long lines: a table.
"""

# ruff: noqa: E501
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One published number and where this reproduction has its own.

    Attributes
    ----------
    run
        Name of the run, "check" (symmetry errors) or "card" (the evaluation of the model on its test set).
    key
        Of the scalar; ``curve:NAME:x`` is a curve at x.
    label
        What it is.
    value, uncertainty
        In the unit of the scalar; the uncertainty is that of reading a figure or the printed one.
    unit
        As printed.
    remark
        What differs from the published calculation.
    text
        Said instead of the number, where the publication gives a bound or a range.
    kind
        ``property``: of the liquid or the crystal, another value is a difference; ``error``: of a model, the smaller the
        better; ``bound``: ``value`` is an upper bound.
    """

    run: str
    key: str
    label: str
    value: float
    unit: str
    remark: str = ""
    text: str = ""
    kind: str = "property"
    uncertainty: float = 0.0


_READ = "read off a figure"
_CELLS = "other cells, made by this project"
_NOT_3I = "reference Ih, not 3i"
_MEAN = "the mean over structures taken out, as in the publication's scripts for MD snapshots"
_CARD = "the model's own held-out structures; reference Ih, not 3i"
_LIQUID = f"kernel of 0.1 Å in both; {_READ}"
_SLOPE = "slope of the digitised curve from 5 to 500 ps; a shorter run"
_TEMPERATURE = "a shorter run; the 0.5 fs step makes O about 2 K hotter than H"
_RESONANCE = "outer steps near 5 fs are in resonance with the O–H stretch"
_TORQUES = (("none", 5.0), ("i", 3.0), ("2", 0.4), ("2i", 0.25), ("3", 0.1), ("3i", 0.02))


def _gas() -> list[Published]:
    rows = [
        Published(
            "gas-nve-raw", f"torque_{name}", f"gas: root mean square torque, {name}", value, "meV", _READ,
            f"about {value:g}", "error", 0.1 * value,
        )
        for name, value in _TORQUES
    ]  # fmt: skip
    how = "by perturbation from an averaged run, published from the orientations of a run of ns"
    label = "gas: orientational free energy, raw, rms"
    return [
        *rows,
        Published("gas-nvt-2i", "orientation_rms", label, 0.12, "kT", how, kind="error", uncertainty=0.01),
    ]


def _errors() -> list[Published]:
    rows = []
    for key, label, value, unit, remark in (
        ("energy_mae", "test set: energies, MAE", 74.0, "meV/structure", "64 H2O; mean difference removed"),
        (
            "energy_rmse",
            "test set: energies, RMSE",
            167.1,
            "meV/structure",
            "64 H2O; mean difference removed",
        ),
        ("force_mae", "test set: forces, MAE", 16.6, "meV/Å", "the model's own held-out structures"),
        ("force_rmse", "test set: forces, RMSE", 59.6, "meV/Å", "the model's own held-out structures"),
        ("symmetry_energy_mae", "symmetry error of energies, test set", 5.1, "meV/structure", _CARD),
        ("symmetry_force_mae", "symmetry error of forces, test set", 2.0, "meV/Å", _CARD),
    ):
        rows.append(Published("card", key, label, value, unit, remark, kind="error"))
    for name, energy, force in (("gas", 2.8, 11.8), ("liquid", 7.9, 1.2)):
        size = "64 molecules at scale small, published 512; " if name == "liquid" else ""
        for key, label, value, unit, remark in (
            ("energy_mae_centred", "energies", energy, "meV/structure", f"{_MEAN}; {size}{_NOT_3I}"),
            ("energy_mae", "energies, with the mean", energy, "meV/structure", f"{size}{_NOT_3I}"),
            ("force_mae", "forces", force, "meV/Å", _NOT_3I),
        ):
            label = f"symmetry error of {label}, {name}"
            rows.append(Published("check", f"{name}:none:{key}", label, value, unit, remark, kind="error"))
    return rows


def _liquid() -> list[Published]:
    raw = "liquid-raw"
    return [
        Published(raw, "g_OO_height", "liquid: first maximum of g(O–O)", 2.235, "", _LIQUID, "2.22 to 2.25", uncertainty=0.03),
        Published(raw, "g_OO_place", "liquid: its place", 2.83, "Å", _LIQUID, uncertainty=0.02),
        Published(raw, "curve:g_OO:4.5", "liquid: second maximum of g(O–O), at 4.5 Å", 1.08, "", _LIQUID, uncertainty=0.03),
        Published(raw, "curve:cuu_longitudinal:5.1", "liquid: c_uu longitudinal at 5.1 Å", 0.06, "", _LIQUID, uncertainty=0.005),
        Published(raw, "curve:cuu_transverse:4.3", "liquid: c_uu transverse at 4.3 Å", -0.06, "", _LIQUID, uncertainty=0.005),
        Published(
            raw, "diffusion", "liquid: diffusion coefficient", 1.55 / 6, "Å²/ps",
            f"slope of the mean-square displacement; no finite-size correction in either; {_READ}", uncertainty=0.01,
        ),
        Published(raw, "curve:dipole_single:2", "liquid: dipole autocorrelation at 2 ps", 0.5, "", _READ, uncertainty=0.01),
        Published(
            raw, "relaxation", "liquid: dipole relaxation time", 4.0, "ps", "from 0.5, 0.3 and 0.07 at 2, 4 and 10 ps",
            "about 4", uncertainty=0.3,
        ),
        *(
            Published(
                run, key, f"liquid: drift, {forces}{how}", value, "meV/molecule/ns", f"{_SLOPE}{more}{other}",
                kind="error", uncertainty=0.1,
            )
            for key, how, more in (
                ("drift", "", ""),
                ("dissipation", ", implied by the fluctuations", "; the published one is the slope"),
            )
            for run, forces, value, other in (
                ("liquid-raw", "raw", 2.0, ""),
                ("liquid-2i", "2i with multiple time stepping", 12.5, f"; {_RESONANCE}"),
                ("liquid-random", "random rotations", 20.1, ""),
            )
        ),
        *(
            Published(
                "liquid-random", f"temperature_{symbol}", f"liquid: kinetic temperature of {symbol}, random", 300.0, "K",
                _TEMPERATURE, "300 ± 0.2", uncertainty=0.2,
            )
            for symbol in ("O", "H")
        ),
    ]  # fmt: skip


def _ice() -> list[Published]:
    return [
        Published(
            "ice-raw", "ice_relaxed_spread", "ice: spread of the relaxed energies over cells", 0.3, "meV/molecule", _CELLS
        ),
        Published(
            "ice-2i", "ice_relaxed_norm", "ice: relaxed energies, raw against 2i, √Σ over cells", 0.02, "meV/molecule",
            _CELLS, "about 0.02", "error",
        ),
        Published(
            "ice-2i", "ice_rmsd_norm", "ice: relaxed geometries, raw against 2i, √(3Σ/Σ atoms)", 1.0, "1e-3 Å", _CELLS,
            "about 1", "error",
        ),
        Published(
            "ice-2i", "ice_forces_norm", "ice: initial forces, raw against 2i, √(3Σ/Σ atoms)", 1.0, "meV/Å", _CELLS, "< 1",
            "bound",
        ),
    ]  # fmt: skip


PUBLISHED = (*_gas(), *_errors(), *_liquid(), *_ice())
