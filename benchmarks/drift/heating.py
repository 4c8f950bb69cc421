"""Heating by the outer step of multiple time stepping: what `ipi-driver check` predicts, and what runs did.

    python benchmarks/drift/heating.py --output heating.png

Reads from this folder what `ipi-driver check` wrote, `predicted-MODEL.csv` (its `stride.csv`) and
`predicted-random.csv` (the heating of its `errors.csv` times the time step), and `measured.csv`, the drifts of the
runs; the commands are in the README.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ipi_driver.report.style import COLORS, STYLE
from ipi_driver.units import FS_PER_NS

MODELS = ("pet-water-s", "pet-water-noaug")
MEV_PER_MOLECULE_AND_NS = 3 * 1e3 * FS_PER_NS
"""Of eV per atom and fs, for water."""


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def draw(folder: Path, output: Path) -> None:
    measured = rows(folder / "measured.csv")
    random = {row["model"]: float(row["heating"]) for row in rows(folder / "predicted-random.csv")}
    with rc_context(STYLE):
        figure = Figure(figsize=(4.2, 3.0), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for color, model in zip(COLORS, MODELS, strict=False):
            predicted = [row for row in rows(folder / f"predicted-{model}.csv") if row["heating"]]
            steps = [float(row["outer_step_fs"]) for row in predicted]
            rates = [float(row["heating"]) * MEV_PER_MOLECULE_AND_NS for row in predicted]
            errors = [float(row["heating_error"]) * MEV_PER_MOLECULE_AND_NS for row in predicted]
            axes.plot(steps, rates, color=color, label=f"{model}, predicted")
            low, high = ([r + sign * e for r, e in zip(rates, errors, strict=True)] for sign in (-1, 1))
            axes.fill_between(steps, low, high, color=color, alpha=0.25, linewidth=0)
            axes.axhline(random[model] * MEV_PER_MOLECULE_AND_NS, color=color, linewidth=0.8, linestyle=":")
            for key, marker, said in (
                ("slope", "s", "slope of runs"),
                ("fluctuations", "o", "from fluctuations"),
            ):
                chosen = [
                    row for row in measured if row["model"] == model and row[key] and row["outer_step_fs"]
                ]
                if not chosen:
                    continue
                axes.errorbar(
                    [float(row["outer_step_fs"]) * (1.02 if key == "slope" else 1.0) for row in chosen],
                    [float(row[key]) for row in chosen],
                    [float(row[f"{key}_error"]) for row in chosen],
                    color=color, marker=marker, markersize=4, linestyle="none", capsize=2, label=f"{model}, {said}",
                    markerfacecolor="white" if key == "slope" else color,
                )  # fmt: skip
        axes.set(xscale="log", yscale="log", xlim=(1.9, 11.0), ylim=(0.5, 3e6))
        axes.set_xticks([2, 3, 4, 5, 6, 8, 10], ["2", "3", "4", "5", "6", "8", "10"])
        axes.minorticks_off()
        axes.set_xlabel("outer step / fs (dotted: random frames every 0.5 fs, predicted)")
        axes.set_ylabel("heating / meV per molecule and ns")
        axes.legend(fontsize=6)
        figure.savefig(output, dpi=200)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("heating.png"))
    arguments = parser.parse_args()
    draw(Path(__file__).parent, arguments.output)


if __name__ == "__main__":
    main()
