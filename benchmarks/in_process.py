"""A step with the model behind a unix socket, shared memory, and within i-PI (`<ffdirect>`), and i-PI by itself.

    python benchmarks/in_process.py --model pet-water-s2
    python benchmarks/in_process.py --model pet-water-s2 --molecules 64 --steps 20 220

Each is run twice, with few and with many steps; the difference is free of the start. Prints wall time and CPU time (of
i-PI and the client together) of a step, smallest of the repetitions, which take turns, and of a client the time outside
the model, as the client measures that. "nothing" is i-PI with a client that answers at once with zeros.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import molecule
from engines import water

INPUT = """<simulation verbosity='quiet' threading='False' safe_stride='1000'>
  <output prefix='x'><properties stride='1000' filename='out'> [ step ] </properties></output>
  <total_steps> {steps} </total_steps>
  <prng> <seed> 31415 </seed> </prng>
  {field}
  <system>
    <initialize nbeads='1'>
      <file mode='ase' units='angstrom'> init.extxyz </file>
      <velocities mode='thermal' units='kelvin'> 300 </velocities>
    </initialize>
    <forces> <force forcefield='model'/> </forces>
    <ensemble> <temperature units='kelvin'> 300 </temperature> </ensemble>
    <motion mode='dynamics'> <dynamics mode='nve'> <timestep units='femtosecond'> 0.5 </timestep> </dynamics> </motion>
  </system>
</simulation>
"""
SOCKET = (
    "<ffsocket name='model' mode='{mode}' pbc='{pbc}'> <address>bench-in-process</address> <latency>1e-4</latency> "
    "<exit_on_disconnect>true</exit_on_disconnect> </ffsocket>"
)
DIRECT = (
    "<ffdirect name='model' pbc='{pbc}'> <pes>custom</pes> <pes_path>{path}</pes_path> "
    "<parameters>{{model: {model}, structure: init.extxyz, average: {average}}}</parameters> </ffdirect>"
)


NOTHING = """
import socket, struct, sys, time
import numpy as np

end, n = socket.socket(socket.AF_UNIX), int(sys.argv[1])
while end.connect_ex("/tmp/ipi_bench-in-process"):
    time.sleep(0.05)
reply = b"FORCEREADY  " + struct.pack("di", 0.0, n) + np.zeros(3 * n + 9).tobytes() + struct.pack("i", 1) + b" "
def read(size):
    data = b""
    while len(data) < size:
        data += end.recv(size - len(data)) or sys.exit()
    return data
state = b"NEEDINIT    "
while (word := read(12).strip()) != b"EXIT":
    if word == b"STATUS":
        end.sendall(state)
    elif word == b"INIT":
        read(struct.unpack("ii", read(8))[1])
        state = b"READY       "
    elif word == b"POSDATA":
        read(148 + 24 * n)
        state = b"HAVEDATA    "
    elif word == b"GETFORCE":
        end.sendall(reply)
        state = b"READY       "
"""
"""A client of i-PI that computes nothing."""


def atoms_of(n_molecules: int) -> Atoms:
    """A molecule in vacuum, or a box of water."""
    if n_molecules == 1:
        return molecule("H2O", vacuum=10.0)
    box = water(n_molecules)
    return Atoms(box.numbers, box.positions, cell=box.cell, pbc=True)


def seconds(way: str, steps: int, model: str, average: str, atoms: Atoms) -> tuple[float, float, float]:
    """Wall time and CPU time of a run, and the time in the model (NaN where there is no client)."""
    pbc = bool(atoms.pbc.any())
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        ase.io.write(place / "init.extxyz", atoms)
        if way == "in process":
            command = [sys.executable, "-m", "ipi_driver", "pes-path"]
            path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
            field = DIRECT.format(path=path, model=model, average=average, pbc=pbc)
        else:
            field = SOCKET.format(mode="unix" if way == "nothing" else way, pbc=pbc)
        (place / "input.xml").write_text(INPUT.format(steps=steps, field=field))
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        ipi = subprocess.Popen(
            ["i-pi", "input.xml"], cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        client = None
        if way == "nothing":
            client = subprocess.Popen([sys.executable, "-c", NOTHING, str(len(atoms))])
        elif way != "in process":
            command = [
                sys.executable,
                "-m",
                "ipi_driver",
                "serve",
                model,
                f"--{way}",
                f"bench-in-process={average}",
            ]
            command += ["--structure", "init.extxyz", "--quiet", "--stats", "stats.json"]
            client = subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL)
        failed = 0
        if client is not None and (failed := client.wait(timeout=600)):
            ipi.kill()
        failed = ipi.wait(timeout=600) or failed
        if failed:
            raise SystemExit(f"{way}: ended with status {failed}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        wall = time.perf_counter() - start
        stats = place / "stats.json"
        model_time = json.loads(stats.read_text())["model_seconds"] if stats.exists() else np.nan
        return wall, cpu, model_time


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="pet-water-s")
    parser.add_argument("--average", default="none")
    parser.add_argument("--molecules", type=int, default=1)
    parser.add_argument("--steps", type=int, nargs=2, default=[200, 4200])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    short, long = args.steps
    atoms = atoms_of(args.molecules)
    ways = ("unix", "shm", "in process", "nothing")
    found: dict[str, list[list[float]]] = {way: [] for way in ways}
    for _ in range(args.repeats):
        for way in ways:
            few, many = (seconds(way, steps, args.model, args.average, atoms) for steps in (short, long))
            found[way].append([1e3 * (b - a) / (long - short) for a, b in zip(few, many, strict=True)])
    print("| the model answers through | wall, ms a step | CPU, ms a step | in the model, ms | outside, ms |")
    print("|---|---|---|---|---|")
    for way in ways:
        cpu = min(run[1] for run in found[way])
        wall, _, inside = min(found[way])
        print(f"| {way} | {wall:.2f} | {cpu:.2f} | {inside:.2f} | {wall - inside:.2f} |".replace("nan", "-"))


if __name__ == "__main__":
    main()
