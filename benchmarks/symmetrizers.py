"""Averages over rotations of one metatrain PET: here, in metatomic's two symmetrizers and in i-PI's <ffrotations>.

    OMP_NUM_THREADS=1 nice -n 5 python benchmarks/symmetrizers.py --output benchmarks/symmetrizers.json

needs metatrain and metatomic-ase. All take the same random weights (the shape of UPET-XS, float32): the exported file
through metatomic, or the network that `import-pet` makes of the checkpoint. Times are CPU times, the smallest of
repetitions that take turns, over that of one raw evaluation with metatomic's own ASE calculator in the same process;
every evaluation has new positions. TorchScript's profiling is off for all (it costs seconds at the first calls and
gains nothing here). Errors are those of the forces against the average Ih (1 and 8 molecules) or 2i (64). Memory is the
growth of the largest resident set in one evaluation, after freed memory was returned to the system.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", os.environ["OMP_NUM_THREADS"])

import numpy as np
import torch
from engines import water
from metatomic.torch import load_atomistic_model
from metatomic.torch.o3 import SymmetrizedModel
from metatomic_ase import MetatomicCalculator, SymmetrizedCalculator
from metatrain_pet import model_of_metatrain

from ipi_driver.cli import main as command
from ipi_driver.potentials import load_potential
from ipi_driver.rotations import RotationalAverage
from ipi_driver.structure import Structure

Evaluate = Callable[[Structure], tuple[float, np.ndarray]]
"""Energy, eV, and forces, eV/Å, of a structure."""
REPETITIONS = {1: 5, 8: 2, 64: 1}
"""Beyond the evaluation for error and memory, which counts, too, where there is no other."""
SHORT = ("ours, network, T", "ours, exported file, T")
"""Left out for 64 molecules."""

IPI_INPUT = """<simulation verbosity='quiet' threading='False'>
  <output prefix='out'></output> <total_steps>100</total_steps>
  <ffrotations name='model'>
    <grid_mode>legendre</grid_mode> <grid_order>2</grid_order> <inversion>True</inversion>
    <ffdirect name='inner' pbc='False'>
      <pes>metatomic</pes> <parameters>{{template: start.extxyz, model: {model}}}</parameters>
      <batch_size>36</batch_size>
    </ffdirect>
  </ffrotations>
  <system>
    <initialize nbeads='1'> <file mode='ase' units='angstrom'>start.extxyz</file> </initialize>
    <forces> <force forcefield='model'></force> </forces>
    <ensemble> <temperature units='kelvin'>300</temperature> </ensemble>
    <motion mode='dynamics'> <dynamics mode='nve'> <timestep units='femtosecond'>0.1</timestep> </dynamics> </motion>
  </system>
</simulation>
"""
IPI_DRIVE = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import ase.io, torch
torch._C._set_graph_executor_optimize(False)
from ipi.utils.scripting import InteractiveSimulation
from ipi.utils.depend import dstrip
from metatomic_ase import MetatomicCalculator
from benchmark_memory import peak
atoms = ase.io.read("start.extxyz")
atoms.calc = MetatomicCalculator(sys.argv[1])
raw = []
for k in range(3 + int(sys.argv[2])):
    atoms.positions += 1e-3
    start = time.process_time(); atoms.get_forces(); raw.append(time.process_time() - start)
simulation = InteractiveSimulation(open("input.xml").read())
forces = simulation.syslist[0].forces
energy, f = float(forces.pot), dstrip(forces.f).copy().reshape(-1, 3)
steps = []
_, memory = peak(lambda: simulation.run(1))
for k in range(max(1, int(sys.argv[2]))):
    start = time.process_time(); simulation.run(1); steps.append(time.process_time() - start)
result = {"ratio": min(steps) / min(raw), "MB": memory, "energy": energy, "forces": f.tolist()}
json.dump(result, open("result.json", "w"))
simulation.stop()
"""


def peak(task: Callable[[], object]) -> tuple[object, float]:
    """Result of a task, and by how much the largest resident set grew, MB."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    result = task()
    return result, (_status("VmHWM") - before) / 1024


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


def of_calculator(calculator: object) -> Evaluate:
    def evaluate(structure: Structure) -> tuple[float, np.ndarray]:
        atoms = structure.to_atoms()
        calculator.calculate(atoms, ["energy", "forces"], ["positions"])
        return float(calculator.results["energy"]), np.asarray(calculator.results["forces"])

    return evaluate


def of_average(average: RotationalAverage) -> Evaluate:
    def evaluate(structure: Structure) -> tuple[float, np.ndarray]:
        found = average.predict(structure)
        return found.energy, found.forces

    return evaluate


def methods(folder: Path) -> dict[str, tuple[int, Evaluate]]:
    """Number of evaluations and function of each; the first is the raw model."""
    model = model_of_metatrain()
    torch.save(model.get_checkpoint(), folder / "model.ckpt")
    model.export().save(str(folder / "model.pt"))
    command(["import-pet", str(folder / "model.ckpt"), str(folder / "network")])
    command(["export", str(folder / "network"), str(folder / "network-Th.pt"), "--average", "Th"])
    raw = MetatomicCalculator(str(folder / "model.pt"))
    wrapped = SymmetrizedModel.wrap(
        load_atomistic_model(str(folder / "model.pt")), max_angular_momentum_target=1
    )
    found: dict[str, tuple[int, Evaluate]] = {"raw, metatomic-ase": (1, of_calculator(raw))}
    for label, name in (("network", "network"), ("exported file", "model.pt")):
        potential = load_potential(str(folder / name))
        for average in ("none", "T", "Th", "2i"):
            made = RotationalAverage(potential, average)
            found[f"ours, {label}, {average}"] = (made.n_rotations, of_average(made))
    inside = MetatomicCalculator(str(folder / "network-Th.pt"))
    found["ours, exported with Th inside, in metatomic-ase"] = (24, of_calculator(inside))
    found["SymmetrizedModel, degree 3"] = (24, of_calculator(MetatomicCalculator(wrapped)))
    calculator = SymmetrizedCalculator(raw, l_max=1)
    n = len(calculator.quadrature_rotations) + 1
    found["SymmetrizedCalculator, l_max 1"] = (n, of_calculator(calculator))
    return found


def ffrotations(folder: Path, structure: Structure, repetitions: int) -> dict[str, object]:
    """i-PI's <ffrotations> over its own metatomic driver with batches, in a process of its own."""
    structure.to_atoms().write(folder / "start.extxyz")
    (folder / "input.xml").write_text(IPI_INPUT.format(model=folder / "model.pt"))
    (folder / "drive.py").write_text(IPI_DRIVE)
    text = Path(__file__).read_text()
    start, end = text.index("def peak("), text.index("def of_calculator(")
    header = "import ctypes, gc\nfrom collections.abc import Callable\nfrom pathlib import Path\n"
    (folder / "benchmark_memory.py").write_text(header + text[start:end])
    command = [sys.executable, "drive.py", str(folder / "model.pt"), str(repetitions)]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    found: dict[str, object] = json.loads((folder / "result.json").read_text())
    return found


def compare(
    folder: Path, found: dict[str, tuple[int, Evaluate]], n_molecules: int, with_ipi: bool
) -> list[dict[str, object]]:
    """The rows of one system."""
    structure, repetitions = water(n_molecules), REPETITIONS[n_molecules]
    if not structure.periodic:  # i-PI has a cell always, and a large one changes nothing
        cell = 30.0 * np.eye(3)
        structure = Structure(structure.numbers, structure.positions, cell, np.zeros(3, dtype=bool))
    network = load_potential(str(folder / "network"))
    exact = RotationalAverage(network, "Ih" if n_molecules < 64 else "2i").predict(structure)
    rng, rows = np.random.default_rng(0), {}
    times: dict[str, list[float]] = {}
    if n_molecules == 64:
        found = {name: method for name, method in found.items() if name not in SHORT}
    for name, (evaluations, evaluate) in found.items():
        print(f"{n_molecules} H2O: {name}", file=sys.stderr, flush=True)
        start = time.process_time()
        (energy, forces), memory = peak(lambda of=evaluate: of(structure))
        times[name] = [time.process_time() - start]
        error = float(np.abs(forces - exact.forces).max())
        row = {"molecules": n_molecules, "method": name, "evaluations": evaluations, "MB": memory}
        rows[name] = row | {
            "energy_error_meV": 1e3 * (energy - exact.energy),
            "force_error_meV_A": 1e3 * error,
        }
    for _ in range(repetitions):
        moved = structure.positions + rng.normal(scale=1e-3, size=structure.positions.shape)
        new = Structure(structure.numbers, moved, structure.cell, structure.pbc)
        for name, (_, evaluate) in found.items():
            start = time.process_time()
            evaluate(new)
            times[name].append(time.process_time() - start)
    raw = min(times["raw, metatomic-ase"])
    for name, row in rows.items():
        row["ratio"] = min(times[name]) / raw
    if not with_ipi:
        return list(rows.values())
    print(f"{n_molecules} H2O: i-PI", file=sys.stderr, flush=True)
    result = ffrotations(folder, structure, repetitions)
    forces = np.array(result["forces"]) / 0.019446905  # hartree/bohr to eV/Å
    row = {"molecules": n_molecules, "method": "i-PI <ffrotations>, legendre 2", "evaluations": 36}
    row |= {
        "MB": result["MB"],
        "energy_error_meV": 1e3 * (float(result["energy"]) * 27.211386 - exact.energy),
    }
    row |= {"force_error_meV_A": 1e3 * float(np.abs(forces - exact.forces).max()), "ratio": result["ratio"]}
    return [*rows.values(), row]


def table(rows: list[dict[str, object]]) -> str:
    """Markdown."""
    lines = []
    for n in dict.fromkeys(row["molecules"] for row in rows):
        lines += [
            "",
            f"{n} H2O",
            "",
            "| method | evaluations | CPU time / raw | largest force error, meV/Å | memory, MB |",
        ]
        lines.append("|---|---|---|---|---|")
        for row in rows:
            if row["molecules"] == n:
                numbers = [
                    "" if row.get(key) is None else f"{row[key]:.{digits}g}"
                    for key, digits in (("ratio", 3), ("force_error_meV_A", 2), ("MB", 3))
                ]
                lines.append(f"| {row['method']} | {row['evaluations']} | {' | '.join(numbers)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--molecules", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--skip-ipi", action="store_true")
    parser.add_argument(
        "--only", nargs="+", default=[""], help="methods whose name contains one of these, and raw"
    )
    parser.add_argument("--output", type=Path, help="JSON file to write; the table goes beside it (.md)")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch._C._set_graph_executor_optimize(False)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        found = methods(Path(name))
        found = {
            key: method
            for key, method in found.items()
            if key.startswith("raw") or any(word in key for word in args.only)
        }
        for n in args.molecules:
            rows += compare(Path(name), found, n, not args.skip_ipi)
            print(table(rows[-len(found) - 1 :]), flush=True)
            if args.output:
                args.output.write_text(json.dumps(rows, indent=1) + "\n")
                args.output.with_suffix(".md").write_text(table(rows))


if __name__ == "__main__":
    main()
