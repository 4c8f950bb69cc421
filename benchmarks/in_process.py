"""What a step costs beyond the model: through a unix socket, through shared memory, and within i-PI (`<ffdirect>`).

    python benchmarks/in_process.py --model pet-water-s2
    python benchmarks/in_process.py --model pet-water-s2 --molecules 64 --steps 300
    python benchmarks/in_process.py --model published --molecules 64 --steps 20 --ways unix

Prints the mean wall time of a step, from one answer to the next, and what of it the model took, over the last four
fifths of the steps; the smallest of the repetitions, which take turns. "waiting" is i-PI with a client that computes
nothing and answers after as long as the model took through the unix socket: what is outside is i-PI's own, after caches
and cores have had other things to do. "nothing" answers at once. `published` is PET of the published size with random
weights.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import molecule
from engines import water

from ipi_driver.networks.baseline import Baseline
from ipi_driver.networks.pet import PetConfig, PetNetwork
from ipi_driver.networks.storage import save_model
from ipi_driver.structure import FloatArray

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


CLIENT = """
import json, sys, time
from ipi_driver.cli import main
from ipi_driver.client.evaluator import SharedEvaluator
from ipi_driver.client.protocol import Session

ends, model, predict, send = [], [], SharedEvaluator._evaluate, Session._send_replies

def evaluate(*arguments):
    start = time.perf_counter()
    found = predict(*arguments)
    model.append(time.perf_counter() - start)
    return found

def answer(*arguments):
    send(*arguments)
    ends.append(time.perf_counter())

SharedEvaluator._evaluate, Session._send_replies = staticmethod(evaluate), answer
status = main(sys.argv[1:])
json.dump([ends, model], open("times.json", "w"))
sys.exit(status)
"""
"""`ipi-driver` with a clock."""

IN_PROCESS = """
import json, time
from ipi_driver.client.ipi_plugin import InProcessDriver

__DRIVER_NAME__, __DRIVER_CLASS__ = "clock", "Clock"
ends, model = [], []

class Clock(InProcessDriver):
    def __call__(self, cell, pos):
        before = self._potential.counts.model_seconds
        found = super().__call__(cell, pos)
        ends.append(time.perf_counter())
        model.append(self._potential.counts.model_seconds - before)
        if len(ends) == {steps} + 1:  # the start is an evaluation, too
            json.dump([ends, model], open("times.json", "w"))
        return found
"""
"""The plugin of this package with a clock."""

NOTHING = """
import json, socket, struct, sys, time
import numpy as np

end, n, pause = socket.socket(socket.AF_UNIX), int(sys.argv[1]), float(sys.argv[2])
while end.connect_ex("/tmp/ipi_bench-in-process"):
    time.sleep(0.05)
reply = b"FORCEREADY  " + struct.pack("di", 0.0, n) + np.zeros(3 * n + 9).tobytes() + struct.pack("i", 1) + b" "
def read(size):
    data = b""
    while len(data) < size:
        data += end.recv(size - len(data)) or sys.exit()
    return data
state, ends, model = b"NEEDINIT    ", [], []
while (word := read(12).strip()) != b"EXIT":
    if word == b"STATUS":
        end.sendall(state)
    elif word == b"INIT":
        read(struct.unpack("ii", read(8))[1])
        state = b"READY       "
    elif word == b"POSDATA":
        read(148 + 24 * n)
        start = time.perf_counter()
        if pause:
            time.sleep(pause)
        model.append(time.perf_counter() - start)
        state = b"HAVEDATA    "
    elif word == b"GETFORCE":
        end.sendall(reply)
        ends.append(time.perf_counter())
        state = b"READY       "
json.dump([ends, model], open("times.json", "w"))
"""
"""A client of i-PI that computes nothing, and may wait before it answers."""


def published(folder: Path) -> str:
    """A model folder of the published size with random weights."""
    network = PetNetwork(PetConfig(species=(1, 8)))
    save_model(folder, network, Baseline((1, 8), np.zeros(2), network.config.cutoff))
    return str(folder)


WAYS = ("unix", "shm", "in process", "waiting", "nothing")


def atoms_of(n_molecules: int) -> Atoms:
    """A molecule in vacuum, or a box of water."""
    if n_molecules == 1:
        return molecule("H2O", vacuum=10.0)
    box = water(n_molecules)
    return Atoms(box.numbers, box.positions, cell=box.cell, pbc=True)


def milliseconds(way: str, steps: int, model: str, average: str, atoms: Atoms, pause: float) -> FloatArray:
    """Wall time of a step, and what of it the model took (of a waiting client ``pause``)."""
    pbc = bool(atoms.pbc.any())
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        ase.io.write(place / "init.extxyz", atoms)
        if way == "in process":
            path = place / "plugin.py"
            path.write_text(IN_PROCESS.format(steps=steps))
            field = DIRECT.format(path=path, model=model, average=average, pbc=pbc)
        else:
            field = SOCKET.format(mode=way if way == "shm" else "unix", pbc=pbc)
        (place / "input.xml").write_text(INPUT.format(steps=steps, field=field))
        with (place / "i-pi.log").open("w") as log:
            ipi = subprocess.Popen(["i-pi", "input.xml"], cwd=place, stdout=log, stderr=log)
            failed = 0
            if way != "in process":
                client = [
                    sys.executable,
                    "-c",
                    CLIENT,
                    "serve",
                    model,
                    f"--{way}",
                    f"bench-in-process={average}",
                ]
                client += ["--structure", "init.extxyz", "--quiet"]
                if way in ("nothing", "waiting"):
                    client = [
                        sys.executable,
                        "-c",
                        NOTHING,
                        str(len(atoms)),
                        str(pause if way == "waiting" else 0.0),
                    ]
                if failed := subprocess.run(client, cwd=place, timeout=1200, check=False).returncode:
                    ipi.kill()
            failed = ipi.wait(timeout=1200) or failed
        if failed:
            raise SystemExit(f"{way}: ended with status {failed}: {(place / 'i-pi.log').read_text()[-2000:]}")
        ends, inside = (np.array(times) for times in json.loads((place / "times.json").read_text()))
    first = len(ends) // 5
    return 1e3 * np.array([np.diff(ends)[first:].mean(), inside[first + 1 :].mean()])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="pet-water-s2")
    parser.add_argument("--average", default="none")
    parser.add_argument("--molecules", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="(default: all)")
    args = parser.parse_args()
    atoms = atoms_of(args.molecules)
    found: dict[str, list[FloatArray]] = {way: [] for way in args.ways}
    with tempfile.TemporaryDirectory() as name:
        model = published(Path(name) / "published") if args.model == "published" else args.model
        for _ in range(args.repeats):
            pause = 0.0
            for way in args.ways:
                found[way].append(milliseconds(way, args.steps, model, args.average, atoms, pause))
                if way == "unix":
                    pause = 1e-3 * float(found[way][-1][1])
    print("| the model answers through | step, ms | in the model, ms | outside, ms | of the model |")
    print("|---|---|---|---|---|")
    for way in args.ways:
        step, inside = min(found[way], key=lambda times: times[0] - times[1])
        share = "-" if way == "nothing" else f"{100 * (step - inside) / inside:.1f} %"
        print(f"| {way} | {step:.2f} | {inside:.2f} | {step - inside:.2f} | {share} |")


if __name__ == "__main__":
    main()
