"""Angular momentum of one water molecule at constant energy: raw, averaged over grids, exactly symmetrized.

    for a in none 2i Ih ecse; do python benchmarks/ecse/angular_momentum.py run $a; done
    python benchmarks/ecse/angular_momentum.py draw

The model is `pet-water-noaug`, whose symmetry error is large; velocity Verlet of ASE, 0.5 fs, from 300 K. ``draw``
makes angular-momentum.png and the table: how far L moves, the torque, the drift of the energy, evaluations and
processor time of a step; and the frames that methanol needs, with the analytic potential, which knows every element.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import ase
import numpy as np
from ase import units
from ase.build import molecule
from ase.md.velocitydistribution import Stationary
from ase.md.verlet import VelocityVerlet
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ipi_driver import Calculator, RotationalAverage, load_potential
from ipi_driver.observables.angular import angular_momentum
from ipi_driver.report.figures import COLORS, STYLE
from ipi_driver.structure import FloatArray, Structure
from ipi_driver.units import HBAR

MODEL = "pet-water-noaug"
AVERAGES = ("none", "2i", "Ih", "ecse")
HERE = Path(__file__).parent
EVERY = 4
COLUMNS = ("time_ps", "Lx", "Ly", "Lz", "energy_eV", "torque_meV")


def start() -> ase.Atoms:
    """One molecule at 300 K whose centre is at rest."""
    atoms = molecule("H2O")
    rng = np.random.default_rng(5)
    atoms.set_momenta(rng.normal(size=(3, 3)) * np.sqrt(atoms.get_masses() * units.kB * 300.0)[:, None])
    Stationary(atoms)
    return atoms


def run(average: str, steps: int, folder: Path) -> None:
    """One trajectory, as rows of `COLUMNS`, L in ħ."""
    atoms = start()
    atoms.calc = Calculator(MODEL, average=average, dtype="float64")
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    rows, began = [], time.process_time()

    def record() -> None:
        positions, velocities = atoms.positions, atoms.get_velocities() * units.fs
        momentum = angular_momentum(atoms.get_masses(), positions, velocities) / HBAR
        arms = positions - atoms.get_center_of_mass()
        torque = 1e3 * np.linalg.norm(np.cross(arms, atoms.get_forces()).sum(axis=0))
        rows.append([dynamics.get_time() / units.fs / 1e3, *momentum, atoms.get_total_energy(), torque])

    dynamics.attach(record, interval=EVERY)
    dynamics.run(steps)
    seconds = time.process_time() - began
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{average}.csv").open("w", newline="", encoding="utf-8") as stream:
        stream.write(f"# {1e3 * seconds / steps:.3f} ms of processor time for a step\n")
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows([f"{value:.9g}" for value in row] for row in rows)


def read(path: Path) -> tuple[FloatArray, float]:
    """Rows of a trajectory and ms of a step."""
    with path.open(encoding="utf-8") as stream:
        first = stream.readline()
        return np.loadtxt(stream, delimiter=",", skiprows=1), float(first.split()[1])


def frames(name: str, average: str) -> tuple[int, float]:
    """Evaluations for a molecule, and the shortest processor time of an averaged one over a raw one."""
    structure = Structure.from_atoms(molecule(name))
    potential = load_potential("anisotropic?l=2,3")
    seconds = []
    for how in ("none", average):
        averaged = RotationalAverage(potential, how)
        best = np.inf
        for k in range(30):
            moved = Structure(structure.numbers, structure.positions + 1e-3 * np.sin(k + structure.positions))
            began = time.process_time()
            found = averaged.predict(moved)
            best = min(best, time.process_time() - began)
        seconds.append(best)
    return found.n_rotations, seconds[1] / seconds[0]


def draw(folder: Path) -> None:
    """Figure and table."""
    known = [average for average in AVERAGES if (folder / f"{average}.csv").is_file()]
    print(
        "| average | evaluations | ms a step | largest change of L | largest torque / meV | energy range / meV |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    water = Structure.from_atoms(molecule("H2O"))
    potential = load_potential(MODEL)
    with rc_context(STYLE):
        figure = Figure(figsize=(1.8 * len(known) + 0.6, 2.3), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(known), sharey=True, squeeze=False)[0]
        for axis, average in zip(panels, known, strict=True):
            rows, ms = read(folder / f"{average}.csv")
            momenta = rows[:, 1:4]
            for k, letter in enumerate("xyz"):
                axis.plot(rows[:, 0], momenta[:, k], color=COLORS[k], linewidth=0.9, label=f"$L_{letter}$")
            axis.plot(rows[:, 0], np.linalg.norm(momenta, axis=1), "k--", linewidth=0.8, label="|L|")
            count = RotationalAverage(potential, average).predict(water).n_rotations
            axis.set_title(f"{average} ({count})", fontsize=8)
            axis.set_xlabel("time / ps")
            change = np.linalg.norm(momenta - momenta[0], axis=1).max() / np.linalg.norm(momenta[0])
            energy = 1e3 * np.ptp(rows[:, 4])
            print(
                f"| {average} | {count} | {ms:.1f} | {change:.1e} | {rows[:, 5].max():.1e} | {energy:.2g} |"
            )
        panels[0].set_ylabel("angular momentum / ħ")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
        figure.savefig(folder / "angular-momentum.png", dpi=200)
    print("\n| molecule | average | evaluations | time over raw |\n| --- | --- | --- | --- |")
    for name in ("H2O", "CH3OH"):
        for average in AVERAGES[1:]:
            count, ratio = frames(name, average)
            print(f"| {name} | {average} | {count} | {ratio:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "draw"))
    parser.add_argument("average", nargs="?", default="none")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--folder", type=Path, default=HERE)
    args = parser.parse_args()
    if args.what == "run":
        run(args.average, args.steps, args.folder)
    else:
        draw(args.folder)


if __name__ == "__main__":
    main()
