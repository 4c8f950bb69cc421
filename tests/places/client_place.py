"""Real i-PI processes and real clients in a folder of their own; whatever a test leaves running is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ase
import ase.io
import numpy as np

BIN = Path(sys.executable).parent
IPI, PY_DRIVER = BIN / "i-pi", BIN / "i-pi-py_driver"
CLIENT = [sys.executable, "-m", "ipi_driver"]
ANISOTROPIC = "anisotropic?l=4&amplitude=0.1"
EMT = "ase:ase.calculators.emt.EMT"
COLUMNS = "potential{electronvolt}, atom_f{ev/ang}(atom=1), virial_md"


def water() -> ase.Atoms:
    positions = [[0.1, 0.2, 0.3], [1.06, 0.15, 0.35], [-0.15, 1.1, 0.2]]
    return ase.Atoms("OH2", positions, cell=[15, 15, 15], pbc=False)


def copper() -> ase.Atoms:
    """Four atoms, displaced, in a triclinic cell that i-PI takes as it is (h is upper triangular)."""
    cell = [[3.7, 0, 0], [0.5, 3.6, 0], [-0.3, 0.4, 3.8]]
    atoms = ase.Atoms(
        "Cu4", scaled_positions=[[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]], cell=cell, pbc=True
    )
    atoms.positions += np.random.default_rng(0).normal(0, 0.05, (4, 3))
    return atoms


def ffsocket(
    address: str, mode: str = "unix", name: str | None = None, extra: str = "", timeout: float = 60
) -> str:
    host = f"<address>{address}</address>"
    if mode == "inet":
        host = "<address>127.0.0.1</address><port>{}</port>".format(address.rpartition(":")[2])
    return (
        f"<ffsocket mode='{mode}' name='{name or address}' pbc='false'>{host}"
        f"<latency>1e-3</latency><timeout>{timeout}</timeout>{extra}</ffsocket>"
    )


class Workplace:
    """A folder, a private prefix of sockets, and the processes started in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sockets = tempfile.mkdtemp(
            prefix="ipd", dir="/tmp"
        )  # the folder of a test can be too long a path
        self.prefix = f"{self._sockets}/"
        self._processes: list[subprocess.Popen[str]] = []

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        shutil.rmtree(self._sockets)

    def start(self, command: list[str | Path], name: str) -> subprocess.Popen[str]:
        """A process whose output goes to ``name.log``."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(self.folder)}
        with (self.folder / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                cwd=self.folder, stdout=log, stderr=subprocess.STDOUT, text=True, env=environment,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def ipi(self, xml: str = "input.xml") -> subprocess.Popen[str]:
        return self.start([IPI, "-S", self.prefix, xml], "ipi")

    def client(self, *words: str | Path, name: str = "client") -> subprocess.Popen[str]:
        return self.start([*CLIENT, "serve", "-S", self.prefix, *words], name)

    def log(self, name: str = "client") -> str:
        return (self.folder / f"{name}.log").read_text()

    def input(
        self,
        forcefields: list[str],
        atoms: ase.Atoms,
        steps: int = 1,
        forces: str | None = None,
        beads: int = 1,
        columns: str = COLUMNS,
        outputs: str = "",
        motion: str = "<timestep units='femtosecond'>0.5</timestep>",
        name: str = "input.xml",
    ) -> Path:
        """Write an NVE input that starts from ``atoms``, at rest."""
        ase.io.write(self.folder / "init.extxyz", atoms)
        if forces is None:
            names = [text.split("name='")[1].split("'")[0] for text in forcefields]
            forces = "".join(f"<force forcefield='{name}'/>" for name in names)
        path = self.folder / name
        path.write_text(f"""
<simulation verbosity='medium' floatformat='%25.16e'>
<output prefix='sim'><properties stride='1' filename='out'> [{columns}] </properties>{outputs}</output>
<total_steps>{steps}</total_steps><prng><seed>1</seed></prng>
{"".join(forcefields)}
<system><initialize nbeads='{beads}'><file mode='ase'>init.extxyz</file></initialize>
<forces>{forces}</forces>
<motion mode='dynamics'><dynamics mode='nve'>{motion}</dynamics></motion>
<ensemble><temperature units='kelvin'>300</temperature></ensemble></system></simulation>""")
        return path

    def output(self, filename: str = "sim.out") -> np.ndarray:
        """(n_rows, n_columns) of an output of i-PI; row 0 is the starting structure."""
        return np.atleast_2d(np.loadtxt(self.folder / filename))


def wait(process: subprocess.Popen[str], seconds: float = 60.0) -> int:
    """Exit status."""
    return process.wait(timeout=seconds)


def wait_for(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def interrupt(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
