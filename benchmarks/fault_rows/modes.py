"""Rows 76 to 88: what a foreign file may do, the modes of i-PI, several clients on one socket."""

from __future__ import annotations

import os
import pickle
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import ase
import ase.io
import numpy as np

from fault_rows.models import PICKLE
from fault_rows.place import IPI, MODEL, Place, last_line, rows, said, wait_for
from fault_rows.table import row, together


@row("76", "model ase:subprocess.getoutput?cmd=touch PWNED", "not called")
def _(place: Place) -> tuple[str, bool]:
    model = "ase:subprocess.getoutput?cmd=touch PWNED"
    status, output = place.run("run", "gas-nve", "--model", model, "--output", "run")
    made = list(place.folder.rglob("PWNED"))
    sentence = said(output, "is not an ASE calculator")
    return f"status {status}: {sentence}; PWNED: {bool(made)}", status == 2 and not made and bool(sentence)


@row("77", "pickles called .pt, .npy, .traj; a Python tag in model.yaml", "refused, nothing is run")
def _(place: Place) -> tuple[str, bool]:
    ase.io.write(place.folder / "a.xyz", ase.Atoms("OH2", np.eye(3)))
    for name in ("evil.pt", "evil.npy", "evil.traj"):
        (place.folder / name).write_bytes(PICKLE)
    (place.folder / "evil").mkdir()
    (place.folder / "evil" / "model.yaml").write_text(
        "kind: !!python/object/apply:os.system ['touch PWNED']\n"
    )
    (place.folder / "evil" / "weights.safetensors").write_bytes(pickle.dumps(1))
    found = []
    for model, structure in (
        ("evil.pt", "a.xyz"),
        ("./evil", "a.xyz"),
        (MODEL, "evil.npy"),
        (MODEL, "evil.traj"),
    ):
        status, output = place.run("check", model, structure)
        named = structure if model == MODEL else model
        found.append((f"{named}: status {status}", status == 2 and "Traceback" not in output))
    made = list(place.folder.rglob("PWNED"))
    return together([*found, (f"PWNED: {bool(made)}", not made)])


@row("79", "an exported .pt or a calculator is code", "the documentation says so")
def _(place: Place) -> tuple[str, bool]:
    top = Path(__file__).parents[2]
    texts = [path.read_text() for path in (top / "README.md", *sorted((top / "docs").rglob("*.md")))]
    sentence = next(filter(None, (said(text, r"[^.\n]*\b(is|are) code\b[^.\n]*") for text in texts)), "")
    return sentence.strip("| "), bool(sentence)


def _mode(place: Place, name: str, *words: object) -> tuple[str, bool]:
    status, output = place.run("run", name, "--model", MODEL, "--watch", "off", "--output", name, *words)
    there = (place.folder / name / "summary.json").is_file()
    return (
        f"{name}: status {status}, summary: {there} {'' if status == 0 else last_line(output)}",
        status == 0 and there,
    )


@row(
    "80",
    "constant pressure and path integrals, averaged, with multiple time stepping",
    "finish with a summary",
)
def _(place: Place) -> tuple[str, bool]:
    words = ("--average", "D2", "--steps", 2, "--stride", 2)
    return together([_mode(place, "liquid-npt", *words), _mode(place, "liquid-pimd", *words)])


@row("81", "replica exchange, four systems", "finishes with a summary of each system")
def _(place: Place) -> tuple[str, bool]:
    return _mode(place, "liquid-remd", "--average", "D2", "--steps", 2, "--stride", 2)


def _motion(text: str, motion: str) -> str:
    return re.sub("<motion.*</motion>", motion, text, flags=re.DOTALL)


@row("82, 83", "a minimization; vibrations (finite differences)", "end with a summary")
def _(place: Place) -> tuple[str, bool]:
    motions = {
        "minimization": "<motion mode='minimize'><optimizer mode='bfgs'></optimizer></motion>",
        "vibrations": "<motion mode='vibrations'><vibrations mode='fd'><pos_shift> 0.01 </pos_shift></vibrations>"
        "</motion>",
    }
    found = []
    for name, motion in motions.items():
        place.mine(edit=lambda text, m=motion: _motion(text, m), folder=name)
        output = f"{name}-run"
        status, text = place.run(
            "run", name, "--model", "ase:faulty.Water", "--steps", 20, "--output", output
        )
        there = (place.folder / output / "summary.json").is_file()
        found.append((f"{name}: status {status}, summary: {there} {'' if status == 0 else last_line(text)}",
                      status == 0 and there and "Traceback" not in text))  # fmt: skip
    return together(found)


@row("84", "<ffcommittee> around an <ffsocket>", "runs")
def _(place: Place) -> tuple[str, bool]:
    path = place.mine()
    text = path.read_text().replace(
        "<ffsocket name='model'", "<ffcommittee name='model'><ffsocket name='inside'"
    )
    text = re.sub("<trajectory [^>]*filename='spread'.*?</trajectory>", "", text)
    path.write_text(text.replace("</ffsocket>", "</ffsocket></ffcommittee>"))
    status, output = place.run(
        "run", "mine", "--model", MODEL, "--steps", 20, "--output", "committee", seconds=300
    )
    n_rows = len(rows(place.folder / "committee"))
    return (
        f"status {status}, {n_rows} rows {'' if status == 0 else last_line(output)}",
        status == 0 and n_rows > 0,
    )


@row(
    "85, D1",
    "pbc='true' with a molecule; a periodic box for gas-nve; a molecule for liquid-nvt-raw",
    "refused",
)
def _(place: Place) -> tuple[str, bool]:
    place.mine(edit=lambda text: text.replace("pbc='false'", "pbc='true'"))
    status, output = place.run("run", "mine", "--model", MODEL)
    line = last_line(output)
    found = [(f"status {status}: {line[:90]}", status == 2 and line.startswith("error: "))]
    for name, pbc in (("gas-nve", True), ("liquid-nvt-raw", False)):
        atoms = ase.Atoms("OH2", np.eye(3), cell=[9, 9, 9], pbc=pbc)
        ase.io.write(place.folder / "a.xyz", atoms, format="extxyz")
        status, output = place.run("run", name, "--structure", "a.xyz", "--model", MODEL, "--output", "run")
        sentence = said(output, r"is (periodic|isolated) \(pbc[^:]*")
        found.append((f"status {status}: {sentence}", status == 2 and bool(sentence)))
    return together(found)


class ByHand:
    """i-PI on four beads of a molecule, and clients started one by one on its socket."""

    def __init__(self, place: Place, steps: int) -> None:
        path = place.mine(edit=lambda text: text.replace("nbeads='1'", "nbeads='4'"))
        text = re.sub(r"<exit_on_disconnect>.*?</exit_on_disconnect>", "", path.read_text(), flags=re.DOTALL)
        path.write_text(
            re.sub(r"<total_steps>.*?</total_steps>", f"<total_steps>{steps}</total_steps>", text)
        )
        self.folder, self._place = path.parent, place
        self.address = said(text, r"(?<=<address>)[^<]*").strip()
        self.prefix = f"{place.folder}/ipi_"
        with (self.folder / "i-pi.log").open("w") as log:
            words = [IPI, "-S", self.prefix, "input.xml"]
            self.ipi = subprocess.Popen(
                words, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT, env=place.environment()
            )
        wait_for(lambda: Path(f"{self.prefix}{self.address}").exists())
        self.clients = [self.client(), self.client()]

    def client(self) -> subprocess.Popen[str]:
        """Another client."""
        model = "ase:faulty.Water?delay=0.003"
        words = (
            "serve",
            model,
            "--structure",
            "mine/structure.extxyz",
            "-S",
            self.prefix,
            "--unix",
            self.address,
        )
        return self._place.start(*words)

    def n_rows(self) -> int:
        """Rows of the property file."""
        return len(rows(self.folder))

    def close(self) -> None:
        """End what still runs."""
        for process in (self.ipi, *self.clients):
            if process.poll() is None:
                process.kill()
            process.communicate()


@row(
    "75, 86",
    "two clients on one socket (4 beads), a third that sends garbage",
    "the run ends, both with status 0",
)
def _(place: Place) -> tuple[str, bool]:
    hand = ByHand(place, 60)
    try:
        wait_for(lambda: hand.n_rows() > 1)
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(f"{hand.prefix}{hand.address}")
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" * 20)
            time.sleep(1)
        status = hand.ipi.wait(timeout=900)
        outputs = [client.communicate(timeout=300)[0] for client in hand.clients]
        statuses = [client.returncode for client in hand.clients]
        counts = [said(output, r"\d+ evaluations") for output in outputs]
        number = hand.n_rows()
    finally:
        hand.close()
    return f"i-PI {status}, clients {statuses} ({' and '.join(counts)}), {number} of 7 rows", (
        status == 0 and statuses == [0, 0] and number == 7
    )


@row("87", "one of two clients terminated, a third comes", "i-PI goes on to the end")
def _(place: Place) -> tuple[str, bool]:
    hand = ByHand(place, 200)
    try:
        wait_for(lambda: hand.n_rows() > 2)
        hand.clients[0].terminate()
        hand.clients[0].wait(timeout=300)
        hand.clients.append(hand.client())
        status, number = hand.ipi.wait(timeout=900), hand.n_rows()
    finally:
        hand.close()
    return f"i-PI {status}, {number} of 21 rows", status == 0 and number == 21


@row(
    "88",
    "one of two clients, started by hand, kill -9",
    "i-PI hangs by itself; the documentation gives the remedy",
)
def _(place: Place) -> tuple[str, bool]:
    hand = ByHand(place, 100_000)
    try:
        wait_for(lambda: hand.n_rows() > 2)
        os.kill(hand.clients[0].pid, signal.SIGKILL)
        time.sleep(4)
        before = hand.n_rows()
        time.sleep(4)
        hangs = hand.n_rows() == before
        hand.ipi.terminate()
        try:
            hand.ipi.wait(timeout=40)
            restart = (hand.folder / "RESTART").is_file()
        except subprocess.TimeoutExpired:
            restart = False
    finally:
        hand.close()
    page = Path(__file__).parents[2] / "docs" / "howto" / "cluster.md"
    named = bool(said(page.read_text(), r"kill -9"))
    return (
        f"i-PI hangs: {hangs}; SIGTERM leaves a RESTART: {restart}; docs/howto/cluster.md names it: {named}",
        named and (restart or not hangs),
    )
