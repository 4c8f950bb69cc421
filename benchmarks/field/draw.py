"""Figure and numbers of the water molecule in a field, from the files of the commands in README.md.

python draw.py breaking/breaking.json check/check.json analysis farm --output field.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ipi_driver.ipi_files.outputs import Run
from ipi_driver.observables.orientation import langevin
from ipi_driver.potentials import load_potential
from ipi_driver.potentials.field import FieldPotential
from ipi_driver.report.figures import COLORS, STYLE
from ipi_driver.structure import FloatArray, Structure
from ipi_driver.units import KB

FIELD = "field?electric=0.05,-0.1,0.1&charges=O:-0.82,H:0.41"
TEMPERATURE = 300.0


def exact(runs: list[Path]) -> tuple[float, float, float]:
    """a = µE/kT with the mean dipole along the bisector in the runs, its spread in e Å, and the number of ps."""
    field = load_potential(FIELD)
    assert isinstance(field, FieldPotential)
    dipoles, length = [], 0.0
    for folder in runs:
        run = Run(folder)
        for snapshot in run.snapshots(["positions"]):
            dipole = field.dipole(Structure(run.numbers, snapshot.positions))
            dipoles.append(np.linalg.norm(dipole))
            last = snapshot.step
        length += last * run.timestep / 1e3
    mean = float(np.mean(dipoles))
    return mean * np.linalg.norm(field.electric) / (KB * TEMPERATURE), float(np.std(dipoles)), length


def of_check(path: Path) -> dict[str, float]:
    """Force amplitudes by degree and parity, meV/Å."""
    rows = json.loads(path.read_text())["degrees"]
    return {
        f"{row['l']}{row['parity'][:1]}": 1e3 * row["force"]
        for row in rows
        if row["parity"] and (row["l"], row["parity"]) != (0, "even")
    }


def draw_degrees(axis: Axes, amplitudes: dict[str, float]) -> None:
    axis.bar(list(amplitudes), list(amplitudes.values()), color=COLORS[0])
    axis.set_yscale("log")
    axis.set_ylim(1e-3, 100)
    axis.set(xlabel="degree and parity", ylabel="force amplitude (meV/Å)")
    axis.set_title("check", loc="left", fontsize=8)


def draw_alignment(axis: Axes, curve: FloatArray, a: float) -> None:
    x = np.linspace(-1, 1, 101)
    axis.plot(x, -a * x + np.log(np.sinh(a) / a), color=COLORS[1], label=r"$-\mu E \cos\theta$")
    axis.errorbar(curve[:, 0], curve[:, 1], curve[:, 2], fmt="o", ms=3, color=COLORS[0], label="runs")
    axis.set(xlabel="cos θ to the field", ylabel="F / kT")
    axis.legend(fontsize=7)
    axis.set_title("analyze", loc="left", fontsize=8)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("breaking", type=Path)
    parser.add_argument("check", type=Path)
    parser.add_argument("analysis", type=Path)
    parser.add_argument("farm", type=Path)
    parser.add_argument("--output", type=Path, default=Path("field.png"))
    args = parser.parse_args()
    field = load_potential(FIELD)
    assert isinstance(field, FieldPotential)
    size = float(np.linalg.norm(field.electric))
    breaking = json.loads(args.breaking.read_text())
    theta = np.array(breaking["layers"]["layer 1"]["weights"]["1o"])
    angle = np.degrees(np.arccos(min(1.0, abs(theta @ field.electric) / size / np.linalg.norm(theta))))
    found = np.array(breaking["field"]["electric"])
    print(f"direction of the vector of the weights: {angle:.3f} degrees from the field")
    print(f"size from the odd forces: {np.linalg.norm(found):.5f} V/Å of {size:.5f}")
    a, spread, length = exact(sorted(path for path in args.farm.iterdir() if (path / "input.xml").is_file()))
    scalars, curve = of_analysis(args.analysis)
    print(f"a = µE/kT {a:.4f} (spread of µ {spread:.4f} e Å), {length:.1f} ps")
    for key, expected in (("mean_cosine", float(langevin(a))), ("alignment", a)):
        value, error = scalars[key]
        print(
            f"{key}: {value:.4f} ± {error:.4f}, expected {expected:.4f}, {(value - expected) / error:+.2f} errors"
        )
    slope, slope_error = fitted(curve)
    print(f"slope of F against cos θ: {slope:.3f} ± {slope_error:.3f}, expected {-a:.3f}")
    with rc_context(STYLE):
        figure = Figure(figsize=(6.2, 2.6), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        draw_degrees(left, of_check(args.check))
        draw_alignment(right, curve, a)
        figure.savefig(args.output, dpi=200)


def fitted(curve: FloatArray) -> tuple[float, float]:
    """Slope and its error, of the cells that were visited often enough for an error."""
    good = np.isfinite(curve).all(axis=1) & (curve[:, 2] > 0) & (curve[:, 2] < 1.0)
    weights = 1.0 / curve[good, 2]
    (slope, _), covariance = np.polyfit(curve[good, 0], curve[good, 1], 1, w=weights, cov="unscaled")
    return float(slope), float(np.sqrt(covariance[0, 0]))


def of_analysis(folder: Path) -> tuple[dict[str, tuple[float, float]], FloatArray]:
    """Scalars with their errors, and the free energy against cos θ."""
    (found,) = json.loads((folder / "analysis.json").read_text())
    scalars = {key: (row["value"], row["error"]) for key, row in found["scalars"].items()}
    curve = found["curves"]["alignment"]
    return scalars, np.array([curve["x"], curve["y"], curve["error"]], dtype=np.float64).T


if __name__ == "__main__":
    main()
