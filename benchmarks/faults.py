"""Faults injected into real runs of i-PI, and what became of each: the table in faults.md.

    python benchmarks/faults.py                     # all rows, some minutes on an idle machine
    python benchmarks/faults.py 58 63 --output /dev/stdout

Each row is a fault, what a user expects, what happened, and the verdict that this script gives. Runs are short (a water
molecule with springs or the analytic model); everything happens in a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ase
import ase.io
import numpy as np

MODEL = "anisotropic?l=2&amplitude=0.05"
PROGRAM = [sys.executable, "-m", "ipi_driver"]
CALCULATORS = '''
import os, sys, time
import numpy as np
from ase.calculators.calculator import Calculator
class Water(Calculator):
    """Springs between all atoms, one of them along z; at its call number `at` it does what `how` says."""
    implemented_properties = ["energy", "forces"]
    def __init__(self, at=10**9, how="", delay=0.0):
        super().__init__()
        self.at, self.how, self.delay, self.calls = at, how, float(delay), 0
    def calculate(self, atoms, properties, changes):
        super().calculate(atoms, properties, changes)
        self.calls += 1
        time.sleep(self.delay)
        x, energy, forces = atoms.positions, 0.0, np.zeros((3, 3))
        for i, j, length, k in ((0, 1, 0.957, 40.0), (0, 2, 0.957, 40.0), (1, 2, 1.51, 10.0)):
            d = x[j] - x[i]
            r = np.linalg.norm(d)
            f = k * (r - length) * d / r + 0.2 * d * [0, 0, 1]
            energy += 0.5 * k * (r - length) ** 2 + 0.1 * d[2] ** 2
            forces[i] += f
            forces[j] -= f
        if self.goes_wrong():
            energy, forces = self.act(energy, forces)
        self.results = {"energy": energy, "forces": forces}
    def goes_wrong(self):
        """At the call number `at`, and in every process again at that configuration."""
        if self.calls == self.at and not os.path.exists("bad.npy"):
            np.save("bad.npy", self.atoms.positions)
        return os.path.exists("bad.npy") and np.allclose(np.load("bad.npy"), self.atoms.positions, atol=1e-7)
    def act(self, energy, forces):
        first = not os.path.exists("once")
        open("once", "w").close()
        if self.how == "cuda" and first:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if self.how == "crash" or (self.how == "segfault" and first):
            os.kill(os.getpid(), 11)
        if self.how == "shape":
            forces = np.zeros((2, 3))
        if self.how == "complex":
            forces = forces * (1 + 0.1j)
        if self.how == "exit":
            sys.exit(3)
        if self.how == "interrupt":
            raise KeyboardInterrupt
        if self.how == "leave":
            os._exit(0)
        if self.how == "fork" and first:
            os.fork()
        return energy, forces
def make():
    return Water()
'''


@dataclass
class Place:
    """A folder for one row."""

    folder: Path

    def run(self, *words: object, seconds: float = 240.0) -> tuple[int, str]:
        """Exit status, and all that was printed; 124 where it did not end in time."""
        process = self.start(*words)
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
            output, _ = process.communicate()
            return 124, output
        return process.returncode, output

    def start(self, *words: object) -> subprocess.Popen[str]:
        (self.folder / "faulty.py").write_text(CALCULATORS)
        return subprocess.Popen(
            [*PROGRAM, *map(str, words)],
            cwd=self.folder,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path_with(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def nve(self, *words: object, how: str = "", at: int = 50, steps: int = 100) -> tuple[int, str]:
        """`gas-nve` into ``run`` with a calculator that goes wrong."""
        model = f"ase:faulty.Water?how={how}&at={at}" if how else MODEL
        return self.run("run", "gas-nve", "--model", model, "--steps", steps, "--output", "run", *words)

    def steps(self, name: str = "run") -> list[int]:
        """Steps of the rows of a run."""
        return [int(float(line.split()[0])) for line in rows(self.folder / name)]

    def client(self, name: str = "run") -> int:
        """Process of the client of a run."""
        return self._process(name, b"serve")

    def _process(self, name: str, word: bytes) -> int:
        here = (self.folder / name).resolve()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if (entry / "cwd").resolve() == here and word in (entry / "cmdline").read_bytes().split(
                    b"\0"
                ):
                    return int(entry.name)
            except OSError:
                continue
        raise RuntimeError(f"no process {word!r} in {here}")


def path_with(folder: Path) -> str:
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


def rows(folder: Path) -> list[str]:
    path = folder / "simulation.out"
    return [x for x in path.read_text().splitlines() if not x.startswith("#")] if path.is_file() else []


def wait_for(condition: Callable[[], bool], seconds: float = 400.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError("waited in vain")
        time.sleep(0.05)


def said(output: str, pattern: str) -> str:
    """The sentence that matches, or nothing."""
    found = re.search(pattern, output)
    return found[0] if found else ""


Row = Callable[[Place], tuple[str, bool]]
ROWS: dict[str, tuple[str, str, Row]] = {}


def row(number: str, fault: str, expected: str) -> Callable[[Row], Row]:
    def add(function: Row) -> Row:
        ROWS[number] = (fault, expected, function)
        return function

    return add


def _killed(place: Place, number: signal.Signals) -> tuple[str, bool]:
    words = ("gas-nve", "--model", "ase:faulty.Water?delay=0.005", "--average", "random", "--steps", 300)
    whole = place.run("run", *words, "--output", "whole")[0]
    process = place.start("run", *words, "--output", "run")
    wait_for(lambda: len(rows(place.folder / "run")) > 13)
    os.kill(place.client(), number)
    output, _ = process.communicate(timeout=240)
    names = ("simulation.out", "simulation.pos_0.xyz", "simulation.vel_0.xyz", "simulation.for_0.xyz")
    same = all(
        (place.folder / "run" / n).read_bytes() == (place.folder / "whole" / n).read_bytes() for n in names
    )
    sentence = said(output, r"the client was \w+ by SIG\w+ at step \d+ of 300; started again from step \d+")
    return (
        f"{sentence}; status {process.returncode}; files bit-identical to the undisturbed run: {same}",
        whole == process.returncode == 0 and same and bool(sentence),
    )


for _name, _number in (("1", signal.SIGKILL), ("3", signal.SIGSEGV), ("4", signal.SIGTERM)):
    row(_name, f"client {_number.name} in the middle of a run", "goes on by itself, same files")(
        lambda place, number=_number: _killed(place, number)
    )


@row("8", "launcher kill -9", "nothing stays in /tmp")
def _(place: Place) -> tuple[str, bool]:
    process = place.start("run", "gas-nve", "--model", MODEL, "--steps", 10**6, "--output", "run")
    wait_for(lambda: len(rows(place.folder / "run")) > 2)
    words = Path(f"/proc/{place.client()}/cmdline").read_bytes().split(b"\0")
    sockets = Path(words[words.index(b"-S") + 1].decode())
    process.kill()
    process.communicate()
    time.sleep(5)
    left = sockets.exists()
    os.utime(sockets, (0, 0))  # a folder of the last minute is left alone
    place.run("run", "gas-nve", "--model", MODEL, "--steps", 1, "--output", "next")
    return (
        f"folder of sockets left behind: {left}; after the next run: {sockets.exists()}",
        not sockets.exists(),
    )


@row("15", '"CUDA error: illegal memory access", once', "a new process goes on")
def _(place: Place) -> tuple[str, bool]:
    status, output = place.nve(how="cuda")
    sentence = said(output, r"CUDA error[^\n]*started again from step \d+")
    return f"{sentence}; status {status}, {len(place.steps())} of 11 rows", status == 0 and len(
        place.steps()
    ) == 11


def _refused(number: str, fault: str, how: str, expected: str, pattern: str) -> None:
    @row(number, fault, expected)
    def _(place: Place) -> tuple[str, bool]:
        status, output = place.nve(how=how)
        sentence = said(output, pattern)
        clean = "Traceback" not in output
        return f"status {status}: {sentence}", status == 2 and bool(sentence) and clean


_refused("17", "forces of wrong shape", "shape", "names the shape", r"gives forces of shape \(2, 3\)[^\n;]*")
_refused("18", "complex forces", "complex", "refused", r"gives forces of numbers of type complex128[^\n;]*")
_refused(
    "23a", "a segmentation fault at each attempt", "crash", "stops", r"the client was killed by SIGSEGV.*"
)
_refused(
    "24", "sys.exit(3) in the model", "exit", "the model is named", r"the model failed: it called[^\n;]*"
)
_refused("25", "KeyboardInterrupt in it", "interrupt", "the same", r"the model failed: KeyboardInterrupt")
_refused("26", "os._exit(0) in the model", "leave", "the same", r"the model has ended its process[^\n;]*")


@row("22", "the model forks and returns in both", "noticed")
def _(place: Place) -> tuple[str, bool]:
    status, _ = place.nve(how="fork")
    log = (place.folder / "run" / "client.log").read_text()
    sentence = said(log, r"the model has forked[^\n(]*")
    size = (place.folder / "run" / "i-pi.log").stat().st_size
    return f"status {status}: {sentence}; i-pi.log {size / 1e3:.0f} kB", bool(sentence) and size < 1e6


@row("23", "a segmentation fault, once", "a new process goes on")
def _(place: Place) -> tuple[str, bool]:
    status, output = place.nve(how="segfault")
    sentence = said(output, r"the client was killed by SIGSEGV[^\n]*started again from step \d+")
    return f"{sentence}; status {status}, {len(place.steps())} of 11 rows", status == 0 and len(
        place.steps()
    ) == 11


@row("31", "pet-water-s, 8 fs steps", "not finished, last good checkpoint kept")
def _(place: Place) -> tuple[str, bool]:
    place.run("new", "gas-nve", "mine")
    path = place.folder / "mine" / "input.xml"
    path.write_text(path.read_text().replace("0.5 </timestep>", "8.0 </timestep>"))
    status, output = place.run("run", "mine", "--steps", 3000, "--output", "run")
    sentence = said(output, r"the run has gone wrong: [^\n]*?from before")
    return f"status {status}: {sentence}", status == 2 and bool(sentence)


@row("32", "an atom 10^6 Å away, isolated and in a slab", "no SIGFPE")
def _(place: Place) -> tuple[str, bool]:
    found = []
    for name, pbc in (("isolated", False), ("slab", [True, True, False])):
        positions = [[0, 0, 0], [0.96, 0, 0], [0, 0, 1e6]]
        atoms = ase.Atoms("OH2", positions, cell=[9, 9, 20], pbc=pbc)
        ase.io.write(place.folder / f"{name}.xyz", atoms, format="extxyz")
        found.append(place.run("check", "pet-water-s", f"{name}.xyz", "--output", name)[0])
    return f"check: status {found[0]} and {found[1]}", found == [0, 0]


@row("34", "the last 1000 bytes of the weights are random", "one line")
def _(place: Place) -> tuple[str, bool]:
    from ipi_driver.shipped import find_shipped

    shutil.copytree(find_shipped("models", "pet-water-s"), place.folder / "model")
    weights = place.folder / "model" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000] + os.urandom(1000))
    ase.io.write(place.folder / "a.xyz", ase.Atoms("OH2", np.eye(3)))
    status, output = place.run("check", "./model", "a.xyz")
    sentence = said(output, r"is damaged: it has another checksum")
    return f"status {status}: weights.safetensors {sentence}", status == 2 and bool(sentence)


@row("41", "2>/dev/full, and 2>&1 | head -1", "the run does not end for it")
def _(place: Place) -> tuple[str, bool]:
    (place.folder / "faulty.py").write_text(CALCULATORS)
    program = " ".join(PROGRAM)
    command = f"{program} run gas-nve --model '{MODEL}' --steps 400"
    shell = f"{command} --output a 2>/dev/full; echo $?; {command} --output b 2>&1 | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], cwd=place.folder, capture_output=True, text=True)
    numbers = [len(place.steps(name)) for name in "ab"]
    statuses = re.findall(r"^\d+$", done.stdout, re.MULTILINE)
    return f"statuses {' and '.join(statuses)}, rows {numbers} of 41", numbers == [41, 41] and statuses[
        0
    ] == "0"


@row("45", "a file that is not UTF-8", "names it")
def _(place: Place) -> tuple[str, bool]:
    place.run("new", "gas-nve", "mine")
    path = place.folder / "mine" / "input.xml"
    path.write_bytes(path.read_bytes().replace(b"<simulation", b"<!-- \xe9 --><simulation", 1))
    status, output = place.run("run", "mine", "--model", MODEL)
    sentence = said(output, r"input\.xml is not UTF-8 text")
    return f"status {status}: {sentence}", status == 2 and bool(sentence)


@row("46", "XML cut in the middle; empty", "says that it is not complete")
def _(place: Place) -> tuple[str, bool]:
    place.run("new", "gas-nve", "mine")
    path = place.folder / "mine" / "input.xml"
    text, found = path.read_text(), []
    for cut in (len(text) // 2, 0):
        path.write_text(text[:cut])
        status, output = place.run("run", "mine", "--model", MODEL)
        found.append(status == 2 and "is not complete, well-formed XML" in output)
    return "status 2: input.xml is not complete, well-formed XML: ...", all(found)


@row("48", "a driver.yaml that refers to itself a billion times", "ends with one line")
def _(place: Place) -> tuple[str, bool]:
    place.run("new", "gas-nve", "mine")
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 10)]
    (place.folder / "mine" / "driver.yaml").write_text("\n".join([*lines, "model: *a9"]))
    status, output = place.run("run", "mine", seconds=60)
    return f"status {status}: {output.strip()[:90]} ...", status == 2


@row("54", "sockets removed before the client has connected", "ends at once")
def _(place: Place) -> tuple[str, bool]:
    process = place.start("run", "gas-nve", "--model", MODEL, "--steps", 10**6, "--output", "run")
    began = set(Path("/tmp").glob("ipi-driver-*"))

    def sockets() -> list[Path]:
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes().split(b"\0")
                if b"-S" in words and (entry.parent / "cwd").resolve() == (place.folder / "run").resolve():
                    found.append(Path(words[words.index(b"-S") + 1].decode()))
            except OSError:
                continue
        return [path for path in found if path.is_dir()]

    wait_for(lambda: bool(sockets()))
    del began
    shutil.rmtree(sockets()[0])
    try:
        output, _ = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    sentence = said(output, r"where the sockets of the run are, has been removed")
    return f"status {process.returncode}: {sentence}", process.returncode == 2 and bool(sentence)


@row("55", "random.py in the run folder, --resume", "not imported")
def _(place: Place) -> tuple[str, bool]:
    place.nve(steps=20)
    (place.folder / "run" / "random.py").write_text("raise ImportError('shadowed')")
    status, _ = place.run("run", "gas-nve", "--output", "run", "--resume", "--steps", 40)
    return f"status {status}, {len(place.steps())} of 5 rows", status == 0 and len(place.steps()) == 5


def _base(place: Place) -> Path:
    """A run of 40 steps whose checkpoints are those of step 40 (RESTART) and 20."""
    place.run("new", "gas-nve", "mine")
    path = place.folder / "mine" / "input.xml"
    path.write_text(
        path.read_text().replace("stride='10'", "stride='5'").replace("stride='1000'", "stride='20'")
    )
    place.run("run", "mine", "--model", MODEL, "--steps", 30, "--output", "run")
    return place.folder / "run"


def _resumed(place: Place, steps: int = 50) -> tuple[int, str, bool]:
    status, output = place.run("run", "mine", "--output", "run", "--resume", "--steps", steps)
    return status, output, place.steps() == list(range(0, steps + 1, 5))


CHECKPOINTS = {
    "first block zeroed": lambda text: "\0" * 512 + text[512:],
    "a letter in a number": lambda text: re.sub(r"(<q shape[^[]*\[\s*-?\d\.\d\d)\d", r"\1x", text),
    "<beads> lost": lambda text: re.sub("<beads.*</beads>", "", text, flags=re.DOTALL),
    "a NaN": lambda text: re.sub(r"(<p shape[^[]*\[\s*)[-\d.e+]+", r"\1nan", text),
    "<step> huge": lambda text: re.sub(r"<step>\d+", "<step>99999999999", text),
}


@row("58, 59", "RESTART damaged in five ways, right to its last line", "older checkpoint, nothing deleted")
def _(place: Place) -> tuple[str, bool]:
    base, found = _base(place), []
    keep = shutil.copytree(base, place.folder / "keep")
    for name, damage in CHECKPOINTS.items():
        shutil.rmtree(base)
        shutil.copytree(keep, base)
        (base / "RESTART").write_text(damage((base / "RESTART").read_text()))
        status, output, complete = _resumed(place)
        good = status == 0 and complete and "is damaged" in output and "of step 20" in output
        found.append(f"{name}: {'goes on from step 20, 11 of 11 rows' if good else f'status {status}'}")
    return "; ".join(found), all("11 of 11" in text for text in found)


@row("58b", "a checkpoint that only i-PI finds wrong", "the one before is taken by itself")
def _(place: Place) -> tuple[str, bool]:
    base = _base(place)
    path = base / "RESTART"
    path.write_text(path.read_text().replace("<dynamics", "<dynamics nonsense='1'", 1))
    status, output, complete = _resumed(place)
    sentence = said(output, r"i-PI makes no step from the checkpoint of step \d+")
    return f"{sentence}; status {status}, complete: {complete}", status == 0 and complete and bool(sentence)


@row("61, 62", "simulation.out lost, trajectory cut", "the gap is reported")
def _(place: Place) -> tuple[str, bool]:
    base = _base(place)
    (base / "simulation.out").unlink()
    path = base / "simulation.pos_0.xyz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    status, output, _ = _resumed(place)
    sentences = [
        said(output, r"simulation\.out is not there: its \d+ rows"),
        said(output, r"\d+ frames are missing"),
    ]
    return f"status {status}: {'; '.join(sentences)}", status == 0 and all(sentences)


@row("63, 64", "zero bytes at the end of .xyz and .out", "no frame lost")
def _(place: Place) -> tuple[str, bool]:
    base = _base(place)
    for name in ("simulation.pos_0.xyz", "simulation.out"):
        with (base / name).open("ab") as file:
            file.write(bytes(4096))
    status, _, complete = _resumed(place)
    frames = re.findall(r"Step:\s+(\d+)", (base / "simulation.pos_0.xyz").read_text())
    return f"status {status}, {len(frames)} of 11 frames", status == 0 and complete and len(frames) == 11


@row("65", "a row with a word in .out", "no traceback")
def _(place: Place) -> tuple[str, bool]:
    base = _base(place)
    path = base / "simulation.out"
    lines = path.read_text().splitlines(keepends=True)
    lines[-3] = re.sub(r"\d", "x", lines[-3])
    path.write_text("".join(lines))
    status, output = place.run("run", "mine", "--output", "run", "--resume", "--steps", 50)
    return f"status {status}", status == 0 and "Traceback" not in output


@row(
    "70, 71",
    "POSDATA of 10^8 atoms, INIT of 2 GB, batch_size of 5000 digits",
    "refused before memory is taken",
)
def _(place: Place) -> tuple[str, bool]:
    ase.io.write(place.folder / "a.xyz", ase.Atoms("OH2", np.eye(3)))
    init = b"INIT        " + np.array([0, 0], dtype=np.int32).tobytes()
    text = b"batch_size:" + b"9" * 5000
    messages = [
        init + b"POSDATA     " + bytes(144) + np.int32(10**8).tobytes(),
        b"INIT        " + np.array([0, 2 * 10**9], dtype=np.int32).tobytes(),
        b"INIT        " + np.array([0, len(text)], dtype=np.int32).tobytes() + text,
    ]
    found = []
    for message in messages:
        with socket.socket(socket.AF_UNIX) as listener:
            path = place.folder / "ipi_s"
            path.unlink(missing_ok=True)
            listener.bind(str(path))
            listener.listen()
            process = place.start(
                "serve", MODEL, "--structure", "a.xyz", "-S", f"{place.folder}/ipi_", "--unix", "s"
            )
            connection, _ = listener.accept()
            connection.sendall(message)
            output, _ = process.communicate(timeout=60)
            connection.close()
            found.append((process.returncode, said(output, r"i-PI announces [^\n,]{1,60}")))
    return "; ".join(f"status {status}: {text}" for status, text in found), all(
        status == 2 and text for status, text in found
    )


@row("76", "model ase:subprocess.getoutput?cmd=touch PWNED", "not called")
def _(place: Place) -> tuple[str, bool]:
    status, output = place.run(
        "run", "gas-nve", "--model", "ase:subprocess.getoutput?cmd=touch PWNED", "--output", "run"
    )
    made = list(place.folder.rglob("PWNED"))
    return f"status {status}: {said(output, 'is not an ASE calculator')}; PWNED: {bool(made)}", not made


@row("83", "vibrations (finite differences)", "ends with a summary")
def _(place: Place) -> tuple[str, bool]:
    place.run("new", "gas-nve", "mine")
    path = place.folder / "mine" / "input.xml"
    motion = (
        "<motion mode='vibrations'><vibrations mode='fd'><pos_shift> 0.01 </pos_shift></vibrations></motion>"
    )
    path.write_text(re.sub("<motion.*</motion>", motion, path.read_text(), flags=re.DOTALL))
    status, output = place.run("run", "mine", "--model", MODEL, "--steps", 20, "--output", "run")
    there = (place.folder / "run" / "summary.json").is_file()
    return f"status {status}, summary.json: {there}", status == 0 and there and "Traceback" not in output


@row("84", "<ffcommittee> around an <ffsocket>", "refused at once")
def _(place: Place) -> tuple[str, bool]:
    place.run("new", "gas-nve", "mine")
    path = place.folder / "mine" / "input.xml"
    text = path.read_text().replace("<ffsocket", "<ffcommittee name='both'><ffsocket")
    path.write_text(text.replace("</ffsocket>", "</ffsocket></ffcommittee>"))
    status, output = place.run("run", "mine", "--model", MODEL, seconds=60)
    return f"status {status}: {said(output, r'lies inside <ffcommittee[^,]*')}", status == 2


@row("D1", "a periodic box for gas-nve, a molecule for liquid-nvt-raw", "refused or followed")
def _(place: Place) -> tuple[str, bool]:
    found = []
    for name, pbc in (("gas-nve", True), ("liquid-nvt-raw", False)):
        ase.io.write(
            place.folder / "a.xyz", ase.Atoms("OH2", np.eye(3), cell=[9, 9, 9], pbc=pbc), format="extxyz"
        )
        status, output = place.run("run", name, "--structure", "a.xyz", "--model", MODEL, "--output", "run")
        found.append((status, said(output, r"is (periodic|isolated) \(pbc[^:]*")))
    return "; ".join(f"status {s}: {text}" for s, text in found), all(s == 2 and text for s, text in found)


@row("D2", "ase:mycalc.Toy with mycalc.py in the current folder", "found")
def _(place: Place) -> tuple[str, bool]:
    (place.folder / "here").mkdir()
    (place.folder / "here" / "mycalc.py").write_text(CALCULATORS.replace("class Water", "class Toy", 1))
    done = subprocess.run(
        [*PROGRAM, "run", "gas-nve", "--model", "ase:mycalc.Toy", "--steps", "10", "--output", "run"],
        cwd=place.folder / "here",
        capture_output=True,
        text=True,
    )
    return f"status {done.returncode}", done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", help="numbers of rows (default: all)")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args()
    names = args.rows or list(ROWS)
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    lines, failed, began = [], 0, time.monotonic()
    for name in names:
        fault, expected, function = ROWS[name]
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            try:
                happened, good = function(Place(Path(folder)))
            except Exception as error:
                happened, good = f"{type(error).__name__}: {error}", False
        failed += not good
        happened = happened.replace(folder, "...").replace("|", "\\|")
        lines.append(f"| {name} | {fault} | {expected} | {happened} | {'ok' if good else '**not ok**'} |")
        print(lines[-1], flush=True)
    head = [
        "# Faults injected into runs, and what became of them",
        "",
        f"`python benchmarks/faults.py`: {len(names) - failed} of {len(names)} rows ok.",
        "The numbers are those of the review in which they were found first.",
        "",
        "| # | fault | expected | happened | verdict |",
        "|---|---|---|---|---|",
    ]
    args.output.write_text("\n".join([*head, *lines]) + "\n")
    print(f"{time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
