"""Rotation-averaged forces: all rotations at once, against single evaluations and against i-PI's own rotations.

    python benchmarks/averaged_forces.py                 # the size of the published model, random weights
    python benchmarks/averaged_forces.py --model models/pet-water-s --skip-ipi

Prints ratios measured in one run (medians of interleaved repetitions) and, with ``--output FILE``, writes them as JSON.

- ``36 rotations / raw``: time of the 2i average over the time of one raw evaluation.
- ``loop / 36 rotations``: 36 single evaluations of the rotated structure, each with its neighbor list, over the
  average.
- ``ffrotations / client``: a molecular-dynamics step with i-PI's `<ffrotations>` over the raw model, over the same step
  with the average served by one endpoint.
- ``step beyond the model``: time of a gas-phase step through a unix socket less the model's own time, with i-PI and the
  client started by hand and with ``ipi-driver run``, which keeps both on one core; beside it a step of i-PI with a
  client that answers zeros at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import torch
import yaml
from ase.build import molecule

from ipi_driver.networks.baseline import Baseline
from ipi_driver.networks.pet import PetConfig, PetNetwork
from ipi_driver.networks.storage import save_model
from ipi_driver.potentials import Potential, load_potential
from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.structure import Structure

AVERAGE = "2i"

XML = """<simulation verbosity='quiet' safe_stride='10' threading='False'>
  <total_steps>{steps}</total_steps>
  {forcefield}
  <system>
    <initialize nbeads='1'>
      <file mode='ase'> init.extxyz </file>
      <velocities mode='thermal' units='kelvin'> 300 </velocities>
    </initialize>
    <forces><force forcefield='model'/></forces>
    <ensemble><temperature units='kelvin'> 300 </temperature></ensemble>
    <motion mode='dynamics'>
      <dynamics mode='nve'><timestep units='femtosecond'> 0.5 </timestep></dynamics>
    </motion>
  </system>
</simulation>
"""
SOCKET = """<ffsocket name='{name}' mode='unix' pbc='false'>
    <address>{address}</address><latency>1e-4</latency><timeout>60</timeout>
  </ffsocket>"""
ROTATIONS = """<ffrotations name='model'>
    <grid_order>2</grid_order><grid_mode>legendre</grid_mode><inversion>true</inversion>
    {socket}
  </ffrotations>"""


def structures() -> dict[str, Structure]:
    """One molecule, and 64 on a lattice at the density of water with random orientations."""
    gas = molecule("H2O")
    rng = np.random.default_rng(0)
    edge = (64 * 18.015 / 0.6022 / 0.997) ** (1 / 3)
    numbers, positions = [], []
    for k in range(64):
        site = (np.array([k % 4, k // 4 % 4, k // 16]) + 0.5) * edge / 4
        q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        positions.append((gas.positions - gas.positions[0]) @ q.T + site + rng.normal(scale=0.1, size=3))
        numbers.append(gas.numbers)
    liquid = Structure(np.concatenate(numbers), np.concatenate(positions), np.eye(3) * edge, True)
    return {"1 molecule": Structure(gas.numbers, gas.positions), "64 molecules": liquid}


def published_size(folder: Path) -> Path:
    """A model folder with the published architecture and random weights."""
    torch.manual_seed(0)
    config = PetConfig(species=(1, 8))
    save_model(folder, PetNetwork(config), Baseline((1, 8), np.zeros(2), config.cutoff))
    return folder


def shifted(structure: Structure, rng: np.random.Generator) -> Structure:
    """The next configuration of a trajectory: nothing of the last evaluation can be reused but the neighbor list."""
    moved = structure.positions + rng.normal(scale=1e-3, size=structure.positions.shape)
    return Structure(structure.numbers, moved, structure.cell, structure.pbc)


def interleaved(
    functions: dict[str, Callable[[Structure], object]], structure: Structure, repeats: int
) -> dict[str, float]:
    """Median seconds of each function, called in turn."""
    rng = np.random.default_rng(1)
    times: dict[str, list[float]] = {name: [] for name in functions}
    for k in range(repeats + 1):
        for name, function in functions.items():
            configuration = shifted(structure, rng)
            start = time.perf_counter()
            function(configuration)
            if k:  # the first round warms up
                times[name].append(time.perf_counter() - start)
    return {name: float(np.median(t)) for name, t in times.items()}


def in_process(potential: Potential, structure: Structure, repeats: int) -> dict[str, float]:
    """Times and ratios of one structure without i-PI."""
    average = RotationalAverage(potential, AVERAGE)
    rotations = average.quadrature.rotations

    def loop(configuration: Structure) -> None:
        for rotation in rotations:
            potential.predict(configuration.rotated(rotation))

    t = interleaved({"raw": potential.predict, "average": average.predict, "loop": loop}, structure, repeats)
    return {
        "raw evaluation, ms": 1e3 * t["raw"],
        f"{len(rotations)} rotations, ms": 1e3 * t["average"],
        f"{len(rotations)} rotations / raw": t["average"] / t["raw"],
        f"loop / {len(rotations)} rotations": t["loop"] / t["average"],
    }


def write_structures(folder: Path, structure: Structure) -> None:
    """What the client reads, and what i-PI starts from, which needs a cell."""
    atoms = structure.to_atoms()
    ase.io.write(folder / "structure.extxyz", atoms)
    if not structure.periodic:
        atoms.cell = np.eye(3) * 30.0
    ase.io.write(folder / "init.extxyz", atoms)


def simulation_seconds(model: str, structure: Structure, forcefield: str, steps: int) -> tuple[float, dict]:
    """Wall time of a whole i-PI run, and the client's summary."""
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder = Path(name)
        write_structures(folder, structure)
        address = folder.name
        wire = SOCKET.format(name="socket" if forcefield == "ffrotations" else "model", address=address)
        xml = ROTATIONS.format(socket=wire) if forcefield == "ffrotations" else wire
        (folder / "input.xml").write_text(XML.format(steps=steps, forcefield=xml))
        endpoint = f"{address}={AVERAGE}" if forcefield == "average" else address
        start = time.perf_counter()
        ipi = subprocess.Popen(["i-pi", "input.xml"], cwd=folder, stdout=subprocess.DEVNULL)
        subprocess.run(
            [sys.executable, "-m", "ipi_driver", "serve", model, "--unix", endpoint]
            + ["--structure", "structure.extxyz", "--stats", "stats.json", "--quiet"],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        if ipi.wait(timeout=120):
            raise SystemExit("i-PI failed")
        return time.perf_counter() - start, json.loads((folder / "stats.json").read_text())


def launched_seconds(model: str, structure: Structure, steps: int) -> tuple[float, dict]:
    """As `simulation_seconds` of raw forces, with ``ipi-driver run`` on the same input."""
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder = Path(name)
        write_structures(folder, structure)
        wire = SOCKET.format(name="model", address="model")
        (folder / "input.xml").write_text(XML.format(steps=steps, forcefield=wire))
        settings = {"model": model, "endpoints": [{"unix": "model"}], "structure": "structure.extxyz"}
        (folder / "driver.yaml").write_text(yaml.safe_dump(settings))
        start = time.perf_counter()
        command = [sys.executable, "-m", "ipi_driver", "run", str(folder), "--output", str(folder / "run")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.perf_counter() - start, json.loads((folder / "run" / "stats.json").read_text())


def beyond_the_model(
    seconds: Callable[[int], tuple[float, dict]], counts: tuple[int, int]
) -> tuple[float, float]:
    """Seconds of a step, and of it outside the model, from the difference of a long and a short run."""
    runs = [seconds(n) for n in counts]
    step = (runs[1][0] - runs[0][0]) / (counts[1] - counts[0])
    model = (runs[1][1]["model_seconds"] - runs[0][1]["model_seconds"]) / (counts[1] - counts[0])
    return step, step - model


def answer_nothing(address: str, n_atoms: int) -> None:
    """The least that a client can do: every request is answered with zeros at once."""
    reply = (
        b"FORCEREADY  " + struct.pack("=di", 0.0, n_atoms) + bytes(24 * n_atoms + 72) + struct.pack("=i", 0)
    )
    with socket.socket(socket.AF_UNIX) as wire, contextlib.suppress(ConnectionError):
        while wire.connect_ex(f"/tmp/ipi_{address}"):
            time.sleep(0.05)
        stream = wire.makefile("rb")
        ready = False
        while (word := stream.read(12).rstrip()) and word != b"EXIT":
            if word == b"STATUS":
                wire.sendall(b"READY       " if ready else b"NEEDINIT    ")
            elif word == b"INIT":
                stream.read(struct.unpack("=ii", stream.read(8))[1])
                ready = True
            elif word == b"POSDATA":
                stream.read(148 + 24 * n_atoms)
            elif word == b"GETFORCE":
                wire.sendall(reply)


def empty_step(structure: Structure, short: int, long: int) -> float:
    """Seconds of a step of i-PI with `answer_nothing`: what no client can save."""
    seconds = []
    for steps in (short, long):
        with tempfile.TemporaryDirectory(prefix="bench") as name:
            folder = Path(name)
            write_structures(folder, structure)
            xml = SOCKET.format(name="model", address=folder.name)
            (folder / "input.xml").write_text(XML.format(steps=steps, forcefield=xml))
            start = time.perf_counter()
            ipi = subprocess.Popen(["i-pi", "input.xml"], cwd=folder, stdout=subprocess.DEVNULL)
            answer_nothing(folder.name, structure.n_atoms)
            ipi.wait(timeout=120)
            seconds.append(time.perf_counter() - start)
    return (seconds[1] - seconds[0]) / (long - short)


def through_ipi(model: str, structure: Structure, short: int, long: int) -> dict[str, float]:
    """Seconds of a step from the difference of a long and a short run, for each way to average."""
    result = {}
    for forcefield in ("raw", "average", "ffrotations"):
        # a raw step is short: many are needed to see it beside the start of the processes
        more = (40 if structure.n_atoms < 10 else 12) if forcefield == "raw" else 1
        counts = (short, more * long)
        step, beyond = beyond_the_model(
            lambda n, how=forcefield: simulation_seconds(model, structure, how, n), counts
        )
        result[f"step {forcefield}, ms"] = 1e3 * step
        if forcefield == "raw":
            result["step beyond the model, ms"] = 1e3 * beyond
    if structure.n_atoms < 10:
        step, beyond = beyond_the_model(
            lambda n: launched_seconds(model, structure, n), (10 * short, 80 * long)
        )
        result["step raw, launched, ms"] = 1e3 * step
        result["launched, beyond the model, ms"] = 1e3 * beyond
        result["step of i-PI, zero forces, ms"] = 1e3 * empty_step(structure, short, 40 * long)
    result["ffrotations / client"] = result["step ffrotations, ms"] / result["step average, ms"]
    return result


def report(label: str, values: dict[str, float]) -> None:
    """Print one system as soon as it is measured."""
    print(label)
    for quantity, value in values.items():
        print(f"  {quantity:32s} {value:10.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", help="model folder or name; default: the published size with random weights"
    )
    parser.add_argument("--skip-ipi", action="store_true")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--systems", nargs="+", choices=list(structures()), default=list(structures()))
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        model = args.model or str(published_size(Path(name) / "pet-published-size"))
        if Path(model).exists():
            model = str(Path(model).resolve())
        potential = load_potential(model)
        results: dict[str, dict[str, float]] = {}
        print(f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}")
        for label in args.systems:
            structure = structures()[label]
            small = structure.n_atoms < 10
            results[label] = in_process(
                potential, structure, args.repeats if small else max(3, args.repeats // 5)
            )
            if not args.skip_ipi:
                steps = (20, 100) if small else (1, 2)
                results[label] |= through_ipi(model, structure, *steps)
            report(label, results[label])
    if args.output:
        args.output.write_text(
            json.dumps({"model": args.model or "published size", **results}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
