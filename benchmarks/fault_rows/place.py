"""A folder in which commands of the package are run, and what the rows of the table ask of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fault_rows.calculators import CALCULATORS

MODEL = "anisotropic?l=2&amplitude=0.05"
PROGRAM = [sys.executable, "-m", "ipi_driver"]
IPI = str(Path(sys.executable).with_name("i-pi"))


@dataclass(frozen=True)
class Place:
    """A folder for one row."""

    folder: Path

    def environment(self, **changes: str) -> dict[str, str]:
        """One thread, the calculators of the row on the path, temporary files (held cores) of its own."""
        path = os.pathsep.join(filter(None, [str(self.folder), os.environ.get("PYTHONPATH")]))
        return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path} | changes

    def start(self, *words: object, session: bool = False, **environment: str) -> subprocess.Popen[str]:
        """A command of the package, its two outputs in one pipe; ``session``: in a process group of its own."""
        self.write_calculators()
        return subprocess.Popen(
            [*PROGRAM, *map(str, words)],
            cwd=self.folder,
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=session,
        )

    def write_calculators(self) -> None:
        (self.folder / "faulty.py").write_text(CALCULATORS)

    def run(self, *words: object, seconds: float = 900.0, **environment: str) -> tuple[int, str]:
        """Exit status, and all that was printed; 124 where it did not end in time."""
        process = self.start(*words, **environment)
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
            output, _ = process.communicate()
            return 124, output
        return process.returncode, output

    def shell(self, script: str, seconds: float = 900.0, **environment: str) -> tuple[int, str]:
        """As `run`, of a bash script in which ``$P`` is the package's command."""
        self.write_calculators()
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environment(P=" ".join(PROGRAM), M=MODEL, **environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            errors="replace",
        )
        return done.returncode, done.stdout

    def nve(self, *words: object, how: str = "", at: int = 50, steps: int = 100) -> tuple[int, str]:
        """`gas-nve` into ``run`` with a calculator that goes wrong."""
        model = f"ase:faulty.Water?how={how}&at={at}" if how else MODEL
        return self.run("run", "gas-nve", "--model", model, "--steps", steps, "--output", "run", *words)

    def mine(self, name: str = "gas-nve", edit: Callable[[str], str] = str, folder: str = "mine") -> Path:
        """A copy of a shipped input with its XML edited; returns the XML file."""
        self.run("new", name, folder)
        path = self.folder / folder / "input.xml"
        path.write_text(edit(path.read_text()))
        return path

    def steps(self, name: str = "run") -> list[int]:
        """Steps of the rows of a run."""
        return [int(float(line.split()[0])) for line in rows(self.folder / name)]

    def log(self, name: str, run: str = "run") -> str:
        path = self.folder / run / f"{name}.log"
        return path.read_text(errors="replace") if path.is_file() else ""

    def same_outputs(self, one: str, other: str) -> bool:
        """Whether two runs have written the same bytes."""
        return same_outputs(self.folder / one, self.folder / other)


def same_outputs(one: Path, other: Path) -> bool:
    """Whether the property file and the trajectories of two run folders are the same, byte for byte."""
    names = [{p.name for p in f.glob("simulation.*") if ".chk" not in p.name} for f in (one, other)]
    return (
        bool(names[0])
        and names[0] == names[1]
        and all((one / n).read_bytes() == (other / n).read_bytes() for n in names[0])
    )


def processes(folder: Path) -> Mapping[str, int]:
    """Process numbers of i-PI and of the client of a run folder."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").resolve() != folder.resolve():
                continue
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"serve" in words:
            found["client"] = int(entry.name)
        elif any(word.endswith(b"i-pi") for word in words):
            found["i-PI"] = int(entry.name)
    return found


def process_of(folder: Path, name: str) -> int:
    """Process number of "i-PI" or "client"."""
    found = processes(folder)
    if name not in found:
        raise RuntimeError(f"{name} does not run in {folder}")
    return found[name]


def rows(folder: Path) -> list[str]:
    """Complete rows of the property file so far."""
    path = folder / "simulation.out"
    if not path.is_file():
        return []
    text = path.read_text(errors="replace")
    return [x for x in text[: text.rfind("\n") + 1].splitlines() if x.strip() and not x.startswith("#")]


def wait_for(condition: Callable[[], bool], seconds: float = 600.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError("waited in vain")
        time.sleep(0.05)


def said(output: str, pattern: str) -> str:
    """The sentence that matches, or nothing."""
    found = re.search(pattern, output)
    return found[0] if found else ""


def last_line(output: str) -> str:
    """The line with the error, else the last one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or ["nothing"])[-1]
