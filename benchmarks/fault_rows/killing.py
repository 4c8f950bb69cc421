"""Rows 1 to 13: the client, i-PI or the launcher is killed."""

from __future__ import annotations

import os
import signal
import stat
import time
from pathlib import Path

from fault_rows.place import MODEL, Place, process_of, processes, rows, said, same_outputs, wait_for
from fault_rows.table import SHARED, row, together

STEPS = 300
WORDS = ("gas-nve", "--model", "ase:faulty.Water?delay=0.005", "--average", "random", "--steps", STEPS)


def _whole() -> Path:
    """The undisturbed run."""

    def make(place: Place) -> None:
        status, output = place.run("run", *WORDS, "--output", "run")
        if status != 0:
            raise RuntimeError(f"the undisturbed run ended with status {status}: {output}")

    return SHARED.get("whole", make) / "run"


def _same(place: Place) -> bool:
    return same_outputs(place.folder / "run", _whole()) and len(rows(place.folder / "run")) == STEPS // 10 + 1


def _killed(place: Place, number: signal.Signals, name: str) -> tuple[str, bool]:
    """It goes on by itself."""
    process = place.start("run", *WORDS, "--output", "run")
    wait_for(lambda: len(rows(place.folder / "run")) > 13)
    os.kill(process_of(place.folder / "run", name), number)
    output, _ = process.communicate(timeout=900)
    same = _same(place)
    sentence = said(
        output, rf"(the client|i-PI) was \w+ by SIG\w+ at step \d+ of {STEPS}; started again from step \d+"
    )
    return (
        f"{sentence}; status {process.returncode}; files bit-identical to the undisturbed run: {same}",
        process.returncode == 0 and same and bool(sentence),
    )


for _number, _name, _signal in (
    ("1", "client", signal.SIGKILL),
    ("3", "client", signal.SIGSEGV),
    ("4", "client", signal.SIGTERM),
    ("6", "i-PI", signal.SIGKILL),
):
    row(_number, f"{_name} {_signal.name} in the middle of a run", "goes on by itself, same files")(
        lambda place, number=_signal, name=_name: _killed(place, number, name)
    )


@row(
    "2", "client kill -9 in an evaluation of 36 rotations, no checkpoint yet", "goes on by itself, same files"
)
def _(place: Place) -> tuple[str, bool]:
    place.mine(edit=lambda text: text.replace("stride='10'", "stride='1'"))
    words = ("run", "mine", "--model", "ase:faulty.Water?delay=0.005", "--average", "2i", "--steps", 14)
    whole = place.run(*words, "--output", "whole")[0]
    process = place.start(*words, "--output", "run")
    wait_for(lambda: len(rows(place.folder / "run")) > 5)
    os.kill(process_of(place.folder / "run", "client"), signal.SIGKILL)
    output, _ = process.communicate(timeout=900)
    sentence = said(output, r"the client was killed by SIGKILL[^\n]*started again from step \d+")
    same, number = place.same_outputs("run", "whole"), len(place.steps())
    return (
        f"{sentence}; status {process.returncode}, {number} of 15 rows, identical: {same}",
        whole == process.returncode == 0 and same and number == 15,
    )


@row("5", "client SIGSTOP for 8 s, then SIGCONT", "waits, goes on")
def _(place: Place) -> tuple[str, bool]:
    process = place.start("run", *WORDS, "--output", "run")
    wait_for(lambda: len(rows(place.folder / "run")) > 13)
    client = process_of(place.folder / "run", "client")
    os.kill(client, signal.SIGSTOP)
    time.sleep(1)
    before = len(rows(place.folder / "run"))
    time.sleep(7)
    stood = len(rows(place.folder / "run")) == before
    os.kill(client, signal.SIGCONT)
    process.communicate(timeout=900)
    same = _same(place)
    return (
        f"stood still: {stood}; status {process.returncode}; identical: {same}",
        process.returncode == 0 and same,
    )


@row("7", "i-PI SIGTERM", "stops with a RESTART, goes on with --resume")
def _(place: Place) -> tuple[str, bool]:
    process = place.start("run", *WORDS, "--output", "run")
    wait_for(lambda: len(rows(place.folder / "run")) > 13)
    os.kill(process_of(place.folder / "run", "i-PI"), signal.SIGTERM)
    output, _ = process.communicate(timeout=900)
    restart = (place.folder / "run" / "RESTART").is_file()
    sentence = said(output, r"stopped at step \d+ of \d+: [^;\n]*")
    resumed, _ = place.run("run", "gas-nve", "--output", "run", "--resume")
    same = _same(place)
    return (
        f"status {process.returncode}: {sentence}; RESTART: {restart}; resumed: status {resumed}, identical: {same}",
        process.returncode == 1 and restart and resumed == 0 and same,
    )


@row("9 to 13", "launcher SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGTERM to its process group, one after the other, "
     "with --resume between them", "RESTART and status 130 at each, same files in the end")  # fmt: skip
def _(place: Place) -> tuple[str, bool]:
    found = []
    slow = tuple(
        str(word).replace("delay=0.005", "delay=0.06") for word in WORDS
    )  # rows last longer than a look
    for part, number in enumerate(
        (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM), start=1
    ):
        words = slow if part == 1 else ("gas-nve", "--resume")
        before = len(rows(place.folder / "run"))
        process = place.start("run", *words, "--output", "run", session=part == 5)
        wait_for(lambda n=before + 2: len(rows(place.folder / "run")) > n)
        send = os.killpg if part == 5 else os.kill
        send(process.pid, number)
        process.communicate(timeout=900)
        left = processes(place.folder / "run")
        found.append((f"{number.name} {process.returncode}", process.returncode == 130 and not left))
    resumed, _ = place.run("run", "gas-nve", "--output", "run", "--resume")
    same = _same(place)
    return together([*found, (f"in the end status {resumed}, identical: {same}", resumed == 0 and same)])


@row("8", "launcher kill -9", "both processes end, nothing stays in /tmp")
def _(place: Place) -> tuple[str, bool]:
    folder = place.folder / "run"
    process = place.start("run", "gas-nve", "--model", MODEL, "--steps", 10**6, "--output", "run")
    wait_for(lambda: len(rows(folder)) > 2)
    words = Path(f"/proc/{process_of(folder, 'client')}/cmdline").read_bytes().split(b"\0")
    sockets = Path(words[words.index(b"-S") + 1].decode())
    mode = stat.S_IMODE(sockets.stat().st_mode)
    process.kill()
    process.communicate()
    wait_for(lambda: not processes(folder), 60)
    left = sockets.exists()
    os.utime(sockets, (0, 0))  # a folder of the last minute is left alone
    place.run("run", "gas-nve", "--model", MODEL, "--steps", 1, "--output", "next")
    return (
        f"no process is left; folder of sockets (mode {mode:o}) left behind: {left}; after the next run: "
        f"{sockets.exists()}",
        not sockets.exists() and mode == 0o700,
    )
