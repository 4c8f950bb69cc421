"""A step of a molecule with the model behind a unix socket, shared memory, and within i-PI (`<ffdirect>`).

    python benchmarks/in_process.py --model pet-water-s

Each is run twice, with few and with many steps; the difference is free of the start. Prints wall time and CPU time (of
i-PI and the client together) of a step, smallest of the repetitions, which take turns.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ase.io
from ase.build import molecule

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
    "<ffsocket name='model' mode='{mode}' pbc='false'> <address>bench-in-process</address> <latency>1e-4</latency> "
    "<exit_on_disconnect>true</exit_on_disconnect> </ffsocket>"
)
DIRECT = (
    "<ffdirect name='model' pbc='false'> <pes>custom</pes> <pes_path>{path}</pes_path> "
    "<parameters>{{model: {model}, structure: init.extxyz, average: {average}}}</parameters> </ffdirect>"
)


def seconds(way: str, steps: int, model: str, average: str) -> tuple[float, float]:
    """Wall and CPU time of a run."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        ase.io.write(place / "init.extxyz", molecule("H2O", vacuum=10.0))
        if way == "in process":
            command = [sys.executable, "-m", "ipi_driver", "pes-path"]
            path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
            field = DIRECT.format(path=path, model=model, average=average)
        else:
            field = SOCKET.format(mode=way)
        (place / "input.xml").write_text(INPUT.format(steps=steps, field=field))
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        ipi = subprocess.Popen(
            ["i-pi", "input.xml"], cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        client = None
        if way != "in process":
            command = [
                sys.executable,
                "-m",
                "ipi_driver",
                "serve",
                model,
                f"--{way}",
                f"bench-in-process={average}",
            ]
            command += ["--structure", "init.extxyz", "--quiet"]
            client = subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL)
        failed = 0
        if client is not None and (failed := client.wait(timeout=600)):
            ipi.kill()
        failed = ipi.wait(timeout=600) or failed
        if failed:
            raise SystemExit(f"{way}: ended with status {failed}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return time.perf_counter() - start, cpu


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="pet-water-s")
    parser.add_argument("--average", default="none")
    parser.add_argument("--steps", type=int, nargs=2, default=[200, 4200])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    short, long = args.steps
    ways = ("unix", "shm", "in process")
    found: dict[str, list[list[float]]] = {way: [[], []] for way in ways}
    for _ in range(args.repeats):
        for way in ways:
            times = [seconds(way, steps, args.model, args.average) for steps in (short, long)]
            for k in range(2):
                found[way][k].append((times[1][k] - times[0][k]) / (long - short))
    print("| the model answers through | wall, ms a step | CPU, ms a step |\n|---|---|---|")
    for way in ways:
        wall, cpu = (1e3 * min(values) for values in found[way])
        print(f"| {way} | {wall:.2f} | {cpu:.2f} |")


if __name__ == "__main__":
    main()
