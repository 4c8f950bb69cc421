"""Which curves stand in which figure of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ipi_driver.analysis.result import Analysis


@dataclass(frozen=True)
class Layout:
    """Panels of one figure.

    Attributes
    ----------
    name
        File name without extension.
    title, caption
        For the report.
    panels
        Keys of curves, one panel each; panels without any data are left out.
    columns
        Panels side by side.
    log_x, log_y
        Logarithmic axes.
    markers
        Points instead of lines.
    level
        Horizontal line for the eye, or None.
    cut_off
        Whether the ordinate ends a little above the curves beyond their ``scale_from``.
    difference
        Whether panels below show each run less the first, where the curves themselves lie on each other.
    common
        Whether the abscissa ends with the shortest run.
    least
        Least height of the ordinate relative to the largest value: what is constant is drawn as a line, not as noise.
    """

    name: str
    title: str
    caption: str
    panels: tuple[str, ...]
    columns: int = 1
    log_x: bool = False
    log_y: bool = False
    markers: bool = False
    level: float | None = None
    cut_off: bool = False
    difference: bool = False
    common: bool = False
    least: float = 0.0


LAYOUTS = {
    "gas": (
        Layout(
            "angular-momentum",
            "Angular momentum at constant energy",
            "Components and modulus of the angular momentum about the center of mass, and the angle by which it has "
            "turned, up to the end of the shortest run. An equivariant potential conserves all of them.",
            ("L_x", "L_y", "L_z", "L", "L_angle"),
            common=True,
            least=1e-3,
        ),
        Layout(
            "alignment",
            "Free energy of the orientation along the axis of a field",
            "-ln of the density of cos θ relative to a uniform one, θ from the axis given; of a dipole in a field a "
            "straight line, -a cos θ.",
            ("alignment",),
            markers=True,
        ),
        Layout(
            "torque",
            "Root mean square torque against the average",
            "Of the model on snapshots of the run, from raw (1 evaluation) on; the table names the averages.",
            ("torque_average",),
            log_x=True,
            log_y=True,
            markers=True,
        ),
        Layout(
            "spectra",
            "Power spectra",
            "One-sided power spectral density of the potential energy, and of the raw minus the averaged energy.",
            ("spectrum_potential", "spectrum_non_equivariant"),
            columns=2,
            log_y=True,
        ),
        Layout("conserved", "Conserved quantity", "Change since the start.", ("conserved",)),
    ),
    "liquid": (
        Layout(
            "pair-correlations",
            "Pair correlation functions",
            "Between elements; the peaks of pairs within a molecule are cut off. Below: each run less the first, with "
            "the standard error of the difference.",
            ("g_OO", "g_OH", "g_HH"),
            columns=3,
            level=1.0,
            cut_off=True,
            difference=True,
        ),
        Layout(
            "dipole-correlations",
            "Dipole correlations",
            "Mean over pairs of molecules at a distance r of (u·r̂)(u'·r̂), longitudinal, and u·u' − (u·r̂)(u'·r̂), "
            "transverse; u: unit orientation vectors. Below: each run less the first.",
            ("cuu_longitudinal", "cuu_transverse"),
            columns=2,
            level=0.0,
            difference=True,
        ),
        Layout(
            "slab",
            "Across the slab",
            "Mass density, and mean cosine between the orientation of a molecule and the normal of the surfaces. By "
            "symmetry the density is even about the middle of the slab, and the mean cosine odd.",
            ("slab_density", "slab_orientation"),
            columns=2,
        ),
        Layout(
            "msd", "Mean-square displacement", "Relative to the center of mass, all time origins.", ("msd",)
        ),
        Layout(
            "dipole-relaxation",
            "Dipole autocorrelation",
            "Of the unit orientation vector of each molecule, and of their sum.",
            ("dipole_single", "dipole_total"),
            columns=2,
            level=0.0,
        ),
        Layout("conserved", "Conserved quantity", "Change since the start.", ("conserved",)),
        Layout(
            "heating",
            "Heating, from the fluctuations of the conserved quantity",
            "Spectral density of the rate of the conserved quantity over 2kT. Its level at low wavenumbers is the "
            "drift by the fluctuation theorem; what rises with the square of the wavenumber is the error of the time "
            "step, borrowed and given back.",
            ("heating_spectrum",),
            log_x=True,
            log_y=True,
        ),
    ),
    "ice": (
        Layout(
            "energies",
            "Relative energies of the cells",
            "Energy per molecule relative to the mean over cells, before and after relaxation.",
            ("ice_initial", "ice_relaxed"),
            columns=2,
            markers=True,
            level=0.0,
        ),
        Layout(
            "geometries",
            "Relaxed geometries",
            "Root mean square displacement per atom, common translation removed.",
            ("ice_rmsd",),
            markers=True,
        ),
    ),
}


REPLAY = Layout(
    "replay",
    "Symmetry error along the trajectory",
    "Raw minus averaged energy of each snapshot.",
    ("replay_energy",),
    level=0.0,
)


INTERNAL = Layout(
    "bonds-and-angles", "Bond lengths and angles", "Distributions within the molecules.", (), columns=3
)
VIBRATIONS = Layout(
    "vibrations",
    "Vibrational density of states",
    "Mass-weighted power spectrum of the velocities, normalized to 1.",
    ("vdos",),
)


NAMES = frozenset(
    layout.name
    for layout in (*(one for each in LAYOUTS.values() for one in each), INTERNAL, VIBRATIONS, REPLAY)
)
"""Of all figures of curves, without the kind of run before them."""


def layouts_of(analyses: Sequence[Analysis]) -> tuple[Layout, ...]:
    """The figures of a kind, with what the runs hold: other elements than O and H, ice that moves."""
    kind = analyses[0].kind
    keys = {key for analysis in analyses for key in analysis.curves}
    layouts = (*LAYOUTS["ice"], *LAYOUTS["liquid"]) if kind == "ice" else LAYOUTS[kind]
    pairs = tuple(dict.fromkeys(k for a in analyses for k in a.curves if k.startswith("g_")))
    result = []
    internal = tuple(
        dict.fromkeys(k for a in analyses for k in a.curves if k.startswith(("bond_", "angle_")))
    )
    for layout in (*layouts, INTERNAL, VIBRATIONS, REPLAY):
        panels = {"pair-correlations": pairs, "bonds-and-angles": internal}.get(layout.name, layout.panels)
        present = tuple(panel for panel in panels if panel in keys)
        if present:
            result.append(replace(layout, panels=present, columns=min(layout.columns, len(present))))
    return tuple(result)
