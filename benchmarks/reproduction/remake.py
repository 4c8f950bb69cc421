"""The report of `benchmarks/reproduction` from the curves, maps and numbers kept there, in today's definitions.

    python benchmarks/reproduction/remake.py [--orientation RUN] [--output FOLDER]

The runs themselves are not kept, but their curves, maps and numbers in `kept/`. What follows from these is computed
anew: c_uu transverse without a factor 1/2, kernel estimates of 0.1 Å of g(r) and c_uu, the published norms of ice. What
does not is left as it was, with a note. The blocks behind the curves are not kept either: errors of kernel estimates
take the points for independent, and whole curves are not compared. RUN is a gas-phase run with averaged forces for the
orientational free energy by perturbation (`ipi-driver run gas-nvt --average 2i --steps 1200`).
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from ipi_driver.analysis.common import open_system
from ipi_driver.analysis.orientation import FEWEST_TURNS, add_perturbed_orientation
from ipi_driver.analysis.result import Analysis, Curve, Map, Options, Scalar
from ipi_driver.ipi_files import Run
from ipi_driver.observables.crystals import pooled_norm, root_sum_square
from ipi_driver.observables.pairs import kernel
from ipi_driver.potentials import load_potential
from ipi_driver.report.page import Section, table_html
from ipi_driver.report.writer import write_report
from ipi_driver.structure import FloatArray
from ipi_driver.studies.langer2024.conclusion import conclude
from ipi_driver.studies.langer2024.plan import Settings, shipped_cells
from ipi_driver.studies.langer2024.published import figure_remarks, published_rows
from ipi_driver.studies.langer2024.published_curves import (
    compare_with_published,
    published_curves,
    published_maps,
)
from ipi_driver.studies.langer2024.stability import Stability
from ipi_driver.studies.langer2024.symmetry import card_errors, symmetry_section
from ipi_driver.studies.langer2024.tables import (
    Reproduction,
    curve_table,
    published_table,
    stability_table,
    write_tables,
)

HERE = Path(__file__).resolve().parent
KEPT = HERE / "kept"
BANDWIDTH = 0.1
_FIRST = ("liquid-g_OO",)
_MAXWELL = math.sqrt(3.0 * math.pi / 8.0)
"""Root mean square over mean of the modulus of a normally distributed vector."""
_STABILITY = {"frames": "snapshots"}
SAID = (
    "Made from the curves and numbers of earlier runs (README.md), not from one run of today's code. Of "
    "older definition are the torques (root mean squares estimated as 1.09 times the means that are kept, "
    "as for a normally distributed torque), spectra (rows every 5 fs, aliased), maps of orientations "
    "(cells, not kernels) and symmetry errors of energies (with their mean only). In today's definition "
    "are g(r), c_uu, ice, the orientational free energy by perturbation, and the errors on the model's "
    "test set.",
    "Errors of kernel estimates take the points of a curve for independent; the blocks of the runs are "
    "not kept, so that whole curves of the three liquids are not compared here (the older verdicts: "
    "in-one-go.md and README.md).",
)


def stored_analyses(folder: Path) -> dict[str, Analysis]:
    """The runs of a report by the names of their folders, from its CSV files."""
    found: dict[str, Analysis] = {}

    def of(label: str, kind: str) -> Analysis:
        name = label.partition(" (")[0]
        system = {"gas": "1 H2O", "liquid": "64 H2O", "ice": "9 cells of 96 to 768 H2O"}[kind]
        average = label.partition("(")[2].rstrip(")") or name.partition("-")[2]
        settings = {"run": name, "average": average}
        return found.setdefault(name, Analysis(label, kind, name, system, settings))

    for row in _rows(folder / "scalars.csv"):
        numbers = [_float(row[key]) for key in ("value", "error", "correlation_time_ps", "block_length_ps")]
        of(row["run"], row["kind"]).scalars[row["key"]] = Scalar(
            row["label"], numbers[0], numbers[1], row["unit"], numbers[2], numbers[3], int(row["n_blocks"])
        )
    for path in sorted(
        (folder / "curves").glob("*.csv"), key=lambda path: (path.stem not in _FIRST, path.stem)
    ):
        kind, _, key = path.stem.partition("-")
        table = _table(path)
        for label, values in table.rows.items():
            x, y, error = np.array(values).T
            beyond = {"g_OH": 1.4, "g_HH": 2.0}.get(key, 0.0)
            of(label, kind).curves[key] = Curve(x, y, error, *table.labels, scale_from=beyond)
    for path in sorted((folder / "maps").glob("*.csv")):
        kind, _, key = path.stem.partition("-")
        if key != "orientation":
            continue
        table = _table(path)
        for label, values in table.rows.items():
            cos_theta, phi, value, error = np.array(values).T
            grid = [np.unique(axis.round(9)) for axis in (cos_theta, phi)]
            shape = (len(grid[0]), len(grid[1]))
            of(label, kind).maps[key] = Map(*grid, value.reshape(shape), error.reshape(shape), *table.labels)
    return found


class _table:
    """Labels and rows by run of a CSV file of a report."""

    def __init__(self, path: Path) -> None:
        with path.open(encoding="utf-8", newline="") as file:
            header, *lines = csv.reader(file)
        self.labels = header[1:-1]
        self.rows: dict[str, list[list[float]]] = {}
        for line in lines:
            self.rows.setdefault(line[0], []).append([_float(cell) for cell in line[1:]])


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _float(text: str) -> float:
    return float(text) if text else math.nan


def in_todays_definitions(analyses: dict[str, Analysis]) -> None:
    """Transverse c_uu without 1/2, kernel estimates, published norms of ice."""
    for analysis in analyses.values():
        curves = analysis.curves
        if "g_OO" in curves:
            g = curves["g_OO"]
            for key in ("cuu_longitudinal", "cuu_transverse"):
                c = curves[key]
                factor = 2.0 if key == "cuu_transverse" else 1.0
                pairs = np.interp(c.x, g.x, g.y) * c.x**2
                curves[key] = _smooth(replace(c, y=factor * c.y, error=factor * c.error), pairs)
            for key in [key for key in curves if key.startswith("g_")]:
                curves[key] = _smooth(curves[key], curves[key].x ** 2)
            _first_maximum(analysis)
    for analysis in analyses.values():
        for key in [key for key in analysis.scalars if key == "torque" or key.startswith("torque_")]:
            if key not in ("torque_vector", "torque_digits"):
                s = analysis.scalars[key]
                label = s.label.replace("mean torque", "torque, root mean square (1.09 × its mean)")
                analysis.scalars[key] = replace(
                    s, label=label, value=_MAXWELL * s.value, error=_MAXWELL * s.error
                )
        if "torque_average" in analysis.curves:
            c = analysis.curves["torque_average"]
            label = "root mean square torque / meV"
            analysis.curves["torque_average"] = replace(
                c, y=_MAXWELL * c.y, error=_MAXWELL * c.error, y_label=label
            )
        turning = analysis.scalars.get("relaxation") or analyses["liquid-raw"].scalars["relaxation"]
        if analysis.kind == "liquid" and analysis.curves["conserved"].x[-1] < FEWEST_TURNS * turning.value:
            del analysis.maps["orientation"]
            for key in ("roughness", "roughness_noise", "roughness_chi2", "mean_orientation"):
                analysis.scalars.pop(key, None)
            analysis.note(
                f"no map of orientations: the run is shorter than {FEWEST_TURNS:g} reorientation times of "
                f"{turning.value:.2g} ps"
            )
    raw, averaged = (analyses[name] for name in ("ice-raw", "ice-2i"))
    for analysis in (raw, averaged):
        for key in ("initial", "relaxed"):
            spread = float(analysis.curves[f"ice_{key}"].y.std())
            name = f"ice_{key}_spread"
            analysis.scalars[name] = replace(analysis.scalars[name], value=spread)
    n_atoms = np.array([3 * int(name[:3]) for name in shipped_cells("ice")])
    against = "against ice-raw (none)"
    norm = root_sum_square(raw.curves["ice_relaxed"].y, averaged.curves["ice_relaxed"].y)
    nan = math.nan
    averaged.scalars["ice_relaxed_norm"] = Scalar(
        f"relaxed relative energies, √Σ over cells {against}", norm, nan, "meV/molecule"
    )
    norm = pooled_norm(averaged.curves["ice_rmsd"].y ** 2 * n_atoms, n_atoms)
    averaged.scalars["ice_rmsd_norm"] = Scalar(
        f"relaxed geometries, √(3Σ|Δx|²/Σ atoms) {against}", norm, nan, "1e-3 Å"
    )
    # of each cell only the mean over cells is kept: 3 times that
    norm = 3.0 * averaged.scalars["ice_forces_rmse"].value
    averaged.scalars["ice_forces_norm"] = Scalar(
        f"initial forces, 3 × the mean RMSE {against}", norm, nan, "meV/Å"
    )


def _smooth(curve: Curve, weights: FloatArray) -> Curve:
    """Kernel estimate from the points of a histogram, whose errors are taken as independent."""
    known = np.isfinite(curve.y) & np.isfinite(curve.error) & (weights > 0.0)
    w = np.where(known, weights, 0.0) * kernel(curve.x, BANDWIDTH)
    total = w.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        y = (w @ np.where(known, curve.y, 0.0)) / total
        error = np.sqrt(w**2 @ np.where(known, curve.error, 0.0) ** 2) / total
    first = curve.x[known][0] if known.any() else 0.0
    seen = curve.x >= first - BANDWIDTH
    y, error = np.where(seen, y, np.nan), np.where(seen, error, np.nan)
    return replace(curve, y=y, error=error, y_label=f"{curve.y_label} (kernel of {BANDWIDTH:g} Å)")


def _first_maximum(analysis: Analysis) -> None:
    curve = analysis.curves["g_OO"]
    top = int(np.nanargmax(curve.y))
    half = 0.5 * float(curve.x[1] - curve.x[0])
    height = Scalar("g O–O: maximum (kernel of 0.1 Å)", float(curve.y[top]), float(curve.error[top]), "")
    analysis.scalars["g_OO_height"] = height
    analysis.scalars["g_OO_place"] = Scalar("g O–O: place of the maximum", float(curve.x[top]), half, "Å")


def check_errors(folder: Path) -> dict[str, float]:
    """Symmetry errors in meV and meV/Å of the stored check."""
    rows = json.loads((folder / "check" / "check.json").read_text())["errors"]
    keys = ("energy_mae", "energy_mae_centred", "force_mae")
    return {f"{r['data_set']}:{r['average']}:{key}": 1e3 * r[key] for r in rows for key in keys if key in r}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orientation", type=Path, help="gas-phase run with averaged forces")
    parser.add_argument("--output", type=Path, default=HERE)
    args = parser.parse_args()
    stored = json.loads((KEPT / "table.json").read_text())
    analyses = stored_analyses(KEPT)
    in_todays_definitions(analyses)
    if args.orientation is not None:
        system = open_system(Run(args.orientation), Options())
        add_perturbed_orientation(
            analyses["gas-nvt-2i"], system, Options(), load_potential(stored["settings"]["model"])
        )
    rows = published_rows(analyses, check_errors(HERE), card_errors(stored["settings"]["model"]))
    stability = [
        Stability(
            **{_STABILITY.get(k, k): math.nan if v is None else v for k, v in row.items() if k != "whole"}
        )
        for row in stored["stability"]
    ]
    curves = compare_with_published(analyses)
    result = Reproduction(rows, [], stability, args.output / "report.html", curves)
    header, lines = published_table(rows)
    body = "".join(f"<p>{text}</p>" for text in SAID)
    body += table_html(
        [header[0], *header[1:3], *header[4:]], [[*r[:3], *r[4:]] for r in lines], [r[3] for r in lines]
    )
    sections = [
        Section("Published values and this model", body),
        Section("Published curves and this model", table_html(*curve_table(curves))),
        Section("Stability", table_html(*stability_table(stability))),
        *symmetry_section(HERE / "check"),
    ]
    kinds = ("gas", "liquid", "ice")
    write_report(
        list(analyses.values()), args.output, "python benchmarks/reproduction/remake.py", False,
        "Reproduction of the gas, liquid and ice tests", sections, figure_remarks("small"),
        conclude(analyses, rows, [], stored["settings"]["model"]),
        {kind: published_curves(kind) for kind in kinds}, {kind: published_maps(kind) for kind in kinds},
    )  # fmt: skip
    write_tables(result, Settings(**stored["settings"]), [*SAID, *stored["notes"]], args.output)


if __name__ == "__main__":
    main()
