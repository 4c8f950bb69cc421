"""One average on one and on two processes of one thread each: 64 molecules, 36 rotations (2i).

python benchmarks/ranks.py [--molecules 64] [--average 2i] [--repeats 3]

Prints seconds of both, their ratio and the largest difference of energy and forces. Nothing else should run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

import ase.io
import numpy as np
import torch


def inside(args: argparse.Namespace) -> None:
    """What every process does: rank 0 times the group, then itself alone."""
    from ipi_driver.potentials import load_potential
    from ipi_driver.potentials.distributed import DistributedPotential
    from ipi_driver.rotations import RotationalAverage
    from ipi_driver.shipped import shipped_folder
    from ipi_driver.structure import Structure

    torch.set_num_threads(1)
    raw = load_potential("pet-water-s")
    group = DistributedPotential(raw)
    if group.rank:
        group.follow()
        return
    atoms = ase.io.read(shipped_folder("inputs") / "liquid-nvt" / "init.xyz", format="xyz")
    atoms.set_cell([12.42] * 3)
    atoms.pbc = True
    if args.molecules == 1:
        atoms = atoms[:3]
        atoms.pbc = False
    structure = Structure.from_atoms(atoms)
    times: dict[str, list[float]] = {"alone": [], "group": []}
    for _ in range(args.repeats + 1):
        for name, potential in (("alone", raw), ("group", group)):
            start = time.perf_counter()
            found = RotationalAverage(potential, args.average).predict(structure)
            times[name].append(time.perf_counter() - start)
            if name == "alone":
                reference = found
    alone, together = (min(times[name][1:]) for name in ("alone", "group"))
    energy = abs(found.energy - reference.energy)
    forces = np.abs(found.forces - reference.forces).max()
    print(
        f"{args.average}, {structure.n_atoms} atoms: one process {alone:.3f} s, {group.size} {together:.3f} s,"
    )
    print(f"ratio {alone / together:.2f}; largest difference {energy:.1e} eV, {forces:.1e} eV/Å")
    group.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--molecules", type=int, choices=(1, 64), default=64)
    parser.add_argument("--average", default="2i")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    if "RANK" in os.environ:
        inside(args)
        return
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        __file__,
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    sys.exit(subprocess.run([*command, *sys.argv[1:]], env=environment).returncode)


if __name__ == "__main__":
    main()
