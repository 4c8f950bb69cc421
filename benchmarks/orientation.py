"""Orientational free energy of a gas-phase molecule by perturbation, for several models, beside the histogram of a run.

    ipi-driver run gas-nvt --model pet-water-s --average 2i --steps 1200 --output runs/gas-nvt-2i
    python benchmarks/orientation.py runs/gas-nvt-2i --output benchmarks/figures/orientation.png

The snapshots are those of one run with averaged forces of `pet-water-s`; every model is evaluated on them. The
histogram is that of a raw run of 50 ps (`gas-nvt`), the published map was digitised. Prints the numbers.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from ipi_driver.analysis.result import Analysis, Map
from ipi_driver.ipi_files import Run
from ipi_driver.observables.molecules import find_molecules
from ipi_driver.potentials import load_potential
from ipi_driver.report.figures import draw_maps
from ipi_driver.structure import Structure
from ipi_driver.studies.langer2024.published_curves import published_maps
from ipi_driver.symmetry.orientation import orientational_free_energy

MODELS = {"pet-water-s": "raw", "pet-water-sym": "penalised", "pet-water-noaug": "not augmented"}
HISTOGRAM = Path(__file__).resolve().parent / "figures" / "orientation-histogram.csv"


def snapshots(folder: Path, n: int) -> list[Structure]:
    """Molecules of a run at equal times, without its first tenth."""
    run = Run(folder)
    stride = max(1, int(0.9 * run.n_snapshots()) // n)
    found = [
        Structure(run.numbers, s.positions)
        for k, s in enumerate(run.snapshots(["positions"], stride))
        if k * stride >= 0.1 * run.n_snapshots()
    ][:n]
    find_molecules(found[0])  # one molecule, or an error that names what else
    return found


def histogram(label: str) -> Map:
    """Map of a run in the report of the reproduction."""
    with HISTOGRAM.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if row[0] == label]
    values = np.array([[float(cell or "nan") for cell in row[1:]] for row in rows])
    grid = [np.unique(values[:, k].round(9)) for k in (0, 1)]
    shape = (len(grid[0]), len(grid[1]))
    return Map(*grid, values[:, 2].reshape(shape), values[:, 3].reshape(shape), "cos θ", "φ / rad", "F / kT")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--snapshots", type=int, default=50)
    parser.add_argument("--output", type=Path, default=Path("orientation.png"))
    args = parser.parse_args()
    structures = snapshots(args.run, args.snapshots)
    analyses = []
    print("| model | | rms / kT | lowest, highest / kT | noise / kT |\n| --- | --- | --- | --- | --- |")
    for model, what in MODELS.items():
        found = orientational_free_energy(load_potential(model), structures)
        lowest, highest = found.free_energy.min(), found.free_energy.max()
        value = f"{found.rms:.4f} ± {found.rms_error:.4f}"
        print(f"| {model} | {what} | {value} | {lowest:.3f}, {highest:.3f} | {found.noise:.4f} |", flush=True)
        made = Analysis(f"{model}, {what}\nby perturbation", "gas", model, "1 H2O", {})
        made.maps["orientation"] = Map(
            found.cos_theta, found.phi, found.free_energy, found.error, "cos θ", "φ / rad", "F / kT"
        )
        analyses.append(made)
    beside = [
        ("pet-water-s, raw, 50 ps\nhistogram", histogram("gas-nvt-raw (none + none)")),
        published_maps("gas")[0],
    ]
    figure = draw_maps("orientation", analyses, beside)
    assert figure is not None
    args.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.output, dpi=160)


if __name__ == "__main__":
    main()
