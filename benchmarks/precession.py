"""Angular momentum of one water molecule at constant energy, raw and averaged, from the runs' own output.

    ipi-driver run gas-nve --model pet-water-s2 --steps 20000
    ipi-driver run gas-nve --model pet-water-s2 --steps 20000 --average 2i --output runs/gas-nve-2i
    python benchmarks/precession.py runs/gas-nve runs/gas-nve-2i --output benchmarks/figures/precession.png

An equivariant potential conserves every component. Prints the mean rate of change of the modulus and the angle by which
the angular momentum has turned.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ipi_driver.ipi_files.outputs import Run
from ipi_driver.observables.angular import angular_momentum
from ipi_driver.report.style import COLORS, STYLE
from ipi_driver.structure import FloatArray
from ipi_driver.units import FS_PER_PS, HBAR


def momenta(run: Run) -> tuple[FloatArray, FloatArray]:
    """Times (n,) in ps and angular momentum (n, 3) in ħ."""
    snapshots = list(run.snapshots(["positions", "velocities"]))
    times = np.array([snapshot.step for snapshot in snapshots]) * run.timestep / FS_PER_PS
    positions, velocities = (
        np.array([f.values[name] for f in snapshots]) for name in ("positions", "velocities")
    )
    return times, angular_momentum(run.masses, positions, velocities) / HBAR


def title(run: Run) -> str:
    average = str(run.driver["endpoints"][-1].get("average", "none"))
    return "raw model" if average == "none" else f"forces averaged over {average}"


def draw(runs: list[Run], output: Path) -> None:
    with rc_context(STYLE):
        figure = Figure(figsize=(6.6, 2.3), layout="constrained")
        FigureCanvasAgg(figure)
        shortest = min(float(times[-1]) for times, _ in map(momenta, runs))
        panels = figure.subplots(1, len(runs), sharex=True, sharey=True, squeeze=False)[0]
        for axes, run in zip(panels, runs, strict=True):
            times, values = momenta(run)
            for k, name in enumerate("xyz"):
                axes.plot(times, values[:, k], color=COLORS[k], label=f"$L_{name}$")
            modulus = np.linalg.norm(values, axis=1)
            axes.plot(times, modulus, color=COLORS[6], linestyle="--", linewidth=0.8, label="|L|")
            axes.axhline(0.0, color="0.85", linewidth=0.5, zorder=0)
            axes.set_title(title(run), loc="left", fontsize=8)
            axes.set_xlabel("time / ps")
            axes.set_xlim(0.0, shortest)
            cosine = values @ values[0] / (modulus * modulus[0])
            turned = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
            print(
                f"{run.path}: |L| {modulus[0]:.3f} ħ at the start, {modulus.min():.3f} to {modulus.max():.3f} ħ; "
                f"turned by {turned[-1]:.1f} degrees at the end, {turned.max():.1f} at most, in {times[-1]:.1f} ps"
            )
        panels[0].set_ylabel("angular momentum / ħ")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
        output.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(output, dpi=200)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--output", type=Path, default=Path("precession.png"))
    args = parser.parse_args()
    draw([Run(path) for path in args.runs], args.output)


if __name__ == "__main__":
    main()
