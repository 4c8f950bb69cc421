"""Rows 14 to 34: models that go wrong."""

from __future__ import annotations

import os
import shutil
import subprocess

import ase
import ase.io
import numpy as np

from fault_rows.place import PROGRAM, Place, last_line, said
from fault_rows.table import row, together
from fault_rows.wire import FalseIPI, header, init, posdata


def _refused(number: str, fault: str, how: str, expected: str, pattern: str) -> None:
    """A run that ends with status 2 and a sentence."""

    @row(number, fault, expected)
    def _(place: Place) -> tuple[str, bool]:
        status, output = place.nve(how=how)
        sentence = said(output, pattern)
        clean = "Traceback" not in output
        frame = (
            " failed-frame.extxyz is there"
            if (place.folder / "run" / "failed-frame.extxyz").is_file()
            else ""
        )
        return f"status {status}: {sentence};{frame}", status == 2 and bool(sentence) and clean


_refused("14", "raises an error of two lines", "raise", "one line, the configuration",
         r"failed on H2O[^\n]*the model has no answer[^\n]*failed-frame\.extxyz")  # fmt: skip
_refused(
    "16", "NaN energy", "notfinite", "refused, the configuration", r"gave energy[^\n;]*not finite[^\n;]*"
)
_refused("16b", "forces that overflow", "overflow", "the same", r"gave forces[^\n;]*not finite[^\n;]*")
_refused("17", "forces of wrong shape", "shape", "names the shape", r"gives forces of shape \(2, 3\)[^\n;]*")
_refused("18", "complex forces", "complex", "refused", r"gives forces of numbers of type complex128[^\n;]*")
_refused(
    "23a", "a segmentation fault at each attempt", "crash", "stops, the configuration",
    r"the client was killed by SIGSEGV.*failed twice on the same configuration",
)  # fmt: skip
_refused(
    "24", "sys.exit(3) in the model", "exit", "the model is named", r"the model failed: it called[^\n;]*"
)
_refused("25", "KeyboardInterrupt in it", "interrupt", "the same", r"the model failed: KeyboardInterrupt")
_refused("26", "os._exit(0) in the model", "leave", "the same", r"the model has ended its process[^\n;]*")


def _healed(number: str, fault: str, how: str, pattern: str) -> None:
    """A run that goes on with a new process."""

    @row(number, fault, "a new process goes on")
    def _(place: Place) -> tuple[str, bool]:
        status, output = place.nve(how=how)
        sentence = said(output, rf"{pattern}[^\n]*started again from step \d+")
        number = len(place.steps())
        return f"{sentence}; status {status}, {number} of 11 rows", status == 0 and number == 11 and bool(
            sentence
        )


_healed(
    "15", '"CUDA error: illegal memory access", once (raised; there is no GPU here)', "cuda", "CUDA error"
)
_healed("23", "a segmentation fault, once", "segfault", "the client was killed by SIGSEGV")
_healed("23b", "SIGKILL from the kernel (out of memory), once", "oom", "the client was killed by SIGKILL")


def _asked(place: Place, how: str, pattern: str) -> tuple[str, bool]:
    """A client in front of a false i-PI that asks for forces once."""
    peer = FalseIPI(place, f"ase:faulty.Water?how={how}&at=1")
    peer.wire.sendall(init() + posdata() + header("GETFORCE"))
    status, output = peer.end()
    sentence = said(output, pattern)
    (place.folder / "bad.npy").unlink(missing_ok=True)
    (place.folder / "once").unlink(missing_ok=True)
    good = status == 2 and bool(sentence) and "Traceback" not in output
    return f"{how}: status {status}, {sentence or last_line(output)}", good


@row("17b", "forces that are a number, a text, None", "one line that names what they are")
def _(place: Place) -> tuple[str, bool]:
    pattern = r"(gives|gave|has) (no )?forces[^\n;]*"
    return together(_asked(place, how, pattern) for how in ("scalar", "text", "nothing"))


@row("27", "MemoryError, RecursionError", "one line")
def _(place: Place) -> tuple[str, bool]:
    return together(
        [
            _asked(place, "memory", r"failed[^\n;]*"),
            _asked(place, "recursion", r"failed[^\n;]*"),
        ]
    )


@row("29", "closes all file descriptors", "one line")
def _(place: Place) -> tuple[str, bool]:
    return _asked(place, "close", r"(error: |i-PI closed)[^\n;]{0,90}")


@row("19 to 21, 28", "an evaluation takes 3 s, prints 600 kB, forks a child that outlives it, changes the working "
     "folder and its atoms", "no effect")  # fmt: skip
def _(place: Place) -> tuple[str, bool]:
    found = []
    for how in ("slow-talk", "child-elsewhere"):
        shutil.rmtree(place.folder / "run", ignore_errors=True)
        status, _ = place.nve(how=how, at=5, steps=20)
        number = len(place.steps())
        found.append((f"{how}: status {status}, {number} of 3 rows", status == 0 and number == 3))
    return together(found)


@row("22", "the model forks and returns in both", "noticed")
def _(place: Place) -> tuple[str, bool]:
    status, _ = place.nve(how="fork")
    sentence = said(place.log("client"), r"the model has forked[^\n(]*")
    size = len(place.log("i-pi"))
    return f"status {status}: {sentence}; i-pi.log {size / 1e3:.0f} kB", bool(sentence) and size < 1e6


@row("30", "`?how=nan` and `?how='none'` in ase:", "texts, as they are written")
def _(place: Place) -> tuple[str, bool]:
    script = (
        "from ipi_driver import load_potential as load\n"
        "print([load(f'ase:faulty.Echo?how={x}').calculator.how for x in ('nan', \"'none'\", 'inf', '1e3')])"
    )
    done = _python(place, script)
    return done.stdout.strip() or last_line(
        done.stderr
    ), done.stdout.strip() == "['nan', 'none', 'inf', 1000.0]"


@row("31", "pet-water-s, 8 fs steps", "not finished, last good checkpoint kept")
def _(place: Place) -> tuple[str, bool]:
    place.mine(edit=lambda text: text.replace("0.5 </timestep>", "8.0 </timestep>"))
    status, output = place.run("run", "mine", "--steps", 3000, "--output", "run", seconds=600)
    sentence = said(output, r"the run has gone wrong: [^\n]*?from before")
    return f"status {status}: {sentence}", status == 2 and bool(sentence)


@row("32", "an atom 10^6 Å away, isolated and in a slab", "no SIGFPE")
def _(place: Place) -> tuple[str, bool]:
    found = []
    for name, pbc in (("isolated", False), ("slab", [True, True, False])):
        atoms = ase.Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [0, 0, 1e6]], cell=[9, 9, 20], pbc=pbc)
        ase.io.write(place.folder / f"{name}.xyz", atoms, format="extxyz")
        status, _ = place.run("check", "pet-water-s", f"{name}.xyz", "--output", name, "--max-degree", 2)
        found.append((f"check, {name}: status {status}", status == 0))
    return together(found)


@row("33", "weights half, empty, garbage, missing, a pickle", "one line each, nothing is run")
def _(place: Place) -> tuple[str, bool]:
    from ipi_driver.shipped import find_shipped

    model = find_shipped("models", "pet-water-s")
    for name in ("half", "empty", "garbage", "missing", "pickle"):
        folder = place.folder / name
        folder.mkdir()
        for path in model.glob("*.yaml"):
            shutil.copyfile(path, folder / path.name)
        weights = (model / "weights.safetensors").read_bytes()
        content = {"half": weights[: len(weights) // 2], "empty": b"", "garbage": os.urandom(5000)}
        if name != "missing":
            (folder / "weights.safetensors").write_bytes(content.get(name, PICKLE))
    script = (
        "from ipi_driver import load_potential\nfrom ipi_driver.errors import UserError\n"
        "for name in ('half', 'empty', 'garbage', 'missing', 'pickle'):\n"
        "    try: load_potential(f'./{name}'); print(name, 'LOADED')\n"
        "    except UserError as error: print(name, 'refused')"
    )
    done = _python(place, script)
    refused = done.stdout.count("refused")
    pwned = (place.folder / "PWNED").exists()
    return (
        f"{refused} of 5 refused with one line {last_line(done.stderr) if done.stderr else ''}; PWNED: {pwned}",
        (refused == 5 and not pwned),
    )


PICKLE = b"cos\nsystem\n(S'touch PWNED'\ntR."
"""Runs a command where it is unpickled."""


def _python(place: Place, script: str) -> subprocess.CompletedProcess[str]:
    place.write_calculators()
    return subprocess.run(
        [PROGRAM[0], "-c", script],
        cwd=place.folder,
        env=place.environment(),
        capture_output=True,
        text=True,
        timeout=900,
    )


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
