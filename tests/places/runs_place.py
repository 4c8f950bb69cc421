"""Real runs in a folder of their own; whatever a test leaves running is killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ipi_driver.shipped import shipped_folder

MODEL = "anisotropic?l=2&amplitude=0.05"
SLOW = "ase:slow_water.Water?delay=0.01"

# springs between all atoms, and one along z: not invariant, so that a random frame matters
CALCULATOR = """
import time
import numpy as np
from ase.calculators.calculator import Calculator
class Water(Calculator):
    implemented_properties = ["energy", "forces"]
    def __init__(self, delay=0.0):
        super().__init__()
        self.delay = float(delay)
    def calculate(self, atoms, properties, changes):
        super().calculate(atoms, properties, changes)
        time.sleep(self.delay)
        x, energy, forces = atoms.positions, 0.0, np.zeros((3, 3))
        for i, j, length, k in ((0, 1, 0.957, 40.0), (0, 2, 0.957, 40.0), (1, 2, 1.51, 10.0)):
            d = x[j] - x[i]
            r = np.linalg.norm(d)
            f = k * (r - length) * d / r + 0.2 * d * [0, 0, 1]
            energy += 0.5 * k * (r - length) ** 2 + 0.1 * d[2] ** 2
            forces[i] += f
            forces[j] -= f
        self.results = {"energy": energy, "forces": forces}
"""


class Place:
    """A folder, and the commands `ipi-driver run` given in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "slow_water.py").write_text(CALCULATOR)
        self._python_path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
        self._processes: list[subprocess.Popen[str]] = []

    def start(self, *words: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "ipi_driver", "run", *map(str, words)],
            cwd=self.folder,
            # its own temporary files: the cores that other runs of this user hold do not matter here
            env=os.environ
            | {"OMP_NUM_THREADS": "1", "PYTHONPATH": self._python_path, "TMPDIR": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    def run(self, *words: object) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        process = self.start(*words)
        output, errors = process.communicate(timeout=240)
        return process.returncode, output, errors

    def copy(self, name: str, edit: Callable[[str], str] = str) -> Path:
        """A shipped input with its XML edited."""
        folder = self.folder / f"my-{name}"
        shutil.copytree(shipped_folder("inputs") / name, folder)
        (folder / "input.xml").write_text(edit((folder / "input.xml").read_text()))
        return folder

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


def children(folder: Path) -> dict[str, int]:
    """Process ids of i-PI and the client that run in ``folder``."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            here = (entry / "cwd").resolve() == folder.resolve()
        except OSError:
            continue
        if here and any(word.endswith(b"i-pi") for word in words):
            found["i-PI"] = int(entry.name)
        elif here and b"serve" in words:
            found["client"] = int(entry.name)
    return found


def sockets_of(pid: int) -> Path:
    """The folder of the sockets of a process."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return Path(words[words.index(b"-S") + 1].decode())


def rows(folder: Path) -> list[str]:
    """Rows of the property file so far."""
    path = folder / "simulation.out"
    return [x for x in path.read_text().splitlines() if not x.startswith("#")] if path.is_file() else []


def wait_for(condition: Callable[[], bool], seconds: float = 200.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def error_line(errors: str) -> str:
    """The one line that says what went wrong."""
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, errors
    assert "Traceback" not in errors
    return lines[0]
