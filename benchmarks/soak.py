"""A client killed in the middle of a run of ten minutes, and half an hour in which memory and open files are watched.

    python benchmarks/soak.py                                   # about an hour
    python benchmarks/soak.py --minutes 1 --soak-minutes 2      # a rehearsal

The first part runs a water molecule with an average over a grid (`gas-nve --average 2i`) twice with the same number of
steps: undisturbed, and with SIGKILL to the client when half of them are done. Both are to end by themselves with status
0, all rows, and the same trajectories bit by bit. (A thermostat of i-PI adds rounding of its own after a RESTART.) The
second part runs `gas-nvt --average 2i` for the time given and samples resident memory, open files and threads of i-PI,
the client and the launcher.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fault_rows.place import Place, process_of, processes, rows, said, wait_for

from ipi_driver.ipi_files.properties import read_properties

KILLED = ("run", "gas-nve", "--average", "2i", "--threads", "1")
SOAKED = ("run", "gas-nvt", "--average", "2i", "--threads", "1")
EVERY = 5.0
"""Seconds between two samples."""
WARM = 0.2
"""Share of the soak before memory is compared: what is loaded once is no growth."""
ALLOWED = 1.0
"""MB of resident memory that a process may gain between the warm part and the end."""


@dataclass(frozen=True)
class Sample:
    """One process at one time (s): resident memory (MB), open files, threads."""

    time: float
    memory: float
    files: int
    threads: int


def sample(process: int, began: float) -> Sample | None:
    """None where the process has ended."""
    try:
        status = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{process}/status").read_text().splitlines()
            if ":" in line
        )
        files = len(list(Path(f"/proc/{process}/fd").iterdir()))
        memory = int(status["VmRSS"].split()[0]) / 1024
    except (OSError, KeyError):
        return None
    return Sample(time.monotonic() - began, memory, files, int(status["Threads"]))


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate()
    return process.returncode, output


def last_step(folder: Path) -> int:
    """Of the last row; 0 where there is none."""
    found = rows(folder)
    return int(float(found[-1].split()[0])) if found else 0


def steps_of(place: Place, minutes: float) -> int:
    """Steps of so many minutes, from the speed of a short run; a multiple of 10."""
    process = place.start(*KILLED, "--steps", 10**6, "--output", "speed")
    wait_for(lambda: len(rows(place.folder / "speed")) > 4)
    first, began = last_step(place.folder / "speed"), time.monotonic()
    time.sleep(20.0)
    speed = (last_step(place.folder / "speed") - first) / (time.monotonic() - began)
    process.send_signal(signal.SIGTERM)
    finish(process)
    return max(100, int(speed * minutes * 6) * 10)


def killed_client(place: Place, minutes: float) -> tuple[list[str], bool]:
    """Lines of the report, and whether all is as it is to be."""
    steps = steps_of(place, minutes)
    folder, whole = place.folder / "killed", place.folder / "whole"
    began = time.monotonic()
    process = place.start(*KILLED, "--steps", steps, "--output", "killed")
    wait_for(lambda: last_step(folder) > steps // 2, 8 * 60 * minutes + 200)
    os.kill(process_of(folder, "client"), signal.SIGKILL)
    status, output = finish(process)
    disturbed, began = time.monotonic() - began, time.monotonic()
    status_whole, _ = place.run(
        *KILLED, "--steps", steps, "--output", "whole", seconds=8 * 60 * minutes + 200
    )
    undisturbed = time.monotonic() - began
    numbers = [len(rows(f)) for f in (folder, whole)]
    different, trajectories_same = compared(folder, whole)
    report = said(output, r"the client was killed by SIGKILL[^\n]*started again from step \d+")
    expected = steps // 10 + 1
    good = status == status_whole == 0 and numbers == [expected] * 2 and trajectories_same and bool(report)
    return [
        "## A client killed in the middle of a run",
        "",
        f"`ipi-driver {' '.join(KILLED)} --steps {steps}`, `kill -9` to the client at step {steps // 2}.",
        "",
        "| run | exit status | rows | minutes |",
        "|---|---|---|---|",
        f"| client killed | {status} | {numbers[0]} of {expected} | {disturbed / 60:.1f} |",
        f"| undisturbed | {status_whole} | {numbers[1]} of {expected} | {undisturbed / 60:.1f} |",
        "",
        f"The launcher printed: {report or 'nothing'}.",
        f"All trajectories are bit-identical: **{'yes' if trajectories_same else 'NO'}**. Property file: {different}.",
        "",
    ], good


def compared(one: Path, other: Path) -> tuple[str, bool]:
    """What differs in the property file, and whether all trajectories are the same byte for byte."""
    names = sorted(path.name for path in one.glob("simulation.*_0.xyz"))
    names += ["simulation.spread"] if (one / "simulation.spread").exists() else []
    same = all((one / name).read_bytes() == (other / name).read_bytes() for name in names)
    if (one / "simulation.out").read_bytes() == (other / "simulation.out").read_bytes():
        return "bit-identical", same and bool(names)
    tables = [read_properties(folder / "simulation.out") for folder in (one, other)]
    parts = []
    for name, values in tables[0].columns.items():
        change = np.abs(values - tables[1].columns[name])
        if change.any():
            parts.append(f"{name} from row {int(np.flatnonzero(change)[0])} on by at most {change.max():.1e}")
    return ", ".join(parts), same and bool(names)


def soak(place: Place, minutes: float) -> tuple[list[str], bool]:
    """Lines of the report, and whether nothing grows."""
    folder = place.folder / "soak"
    process = place.start(*SOAKED, "--steps", 10**7, "--output", "soak")
    wait_for(lambda: len(rows(folder)) > 2)
    known = {**processes(folder), "launcher": process.pid}
    samples: dict[str, list[Sample]] = {name: [] for name in known}
    began = time.monotonic()
    while time.monotonic() - began < 60 * minutes and process.poll() is None:
        for name, number in known.items():
            if (taken := sample(number, began)) is not None:
                samples[name].append(taken)
        time.sleep(EVERY if minutes > 5 else 1.0)
    process.send_signal(signal.SIGTERM)
    status, _ = finish(process)
    steps = [int(float(row.split()[0])) for row in rows(folder)]
    regular = steps == list(range(len(steps)))
    lines = [
        f"## {minutes:g} minutes of a run",
        "",
        f"`ipi-driver {' '.join(SOAKED)}`, {len(steps) - 1} steps, ended by SIGTERM with status {status}; rows "
        f"without a gap: {'yes' if regular else 'NO'}. A sample every {EVERY if minutes > 5 else 1.0:g} s; growth from "
        "the mean of the second fifth to that of the last fifth; slope of a line through all but the first.",
        "",
        "| process | samples | memory / MB: first, after a fifth, last, highest | growth / MB | slope / MB per hour | "
        "open files | threads |",
        "|---|---|---|---|---|---|---|",
    ]
    good = regular and status == 130
    for name, taken in samples.items():
        row, fine = growth_of(name, taken)
        lines.append(row)
        good = good and fine
    return [*lines, ""], good


def growth_of(name: str, taken: list[Sample]) -> tuple[str, bool]:
    """A row of the table, and whether the process has not grown."""
    n = max(1, int(WARM * len(taken)))
    memory = np.array([s.memory for s in taken])
    hours = np.array([s.time for s in taken]) / 3600
    growth = float(memory[-n:].mean() - memory[n : 2 * n].mean())
    slope = float(np.polyfit(hours[n:], memory[n:], 1)[0])
    files, threads = [[s.files for s in taken[n:]], [s.threads for s in taken[n:]]]
    row = (
        f"| {name} | {len(taken)} | {memory[0]:.1f}, {memory[n]:.1f}, {memory[-1]:.1f}, {memory.max():.1f} | "
        f"{growth:+.2f} | {slope:+.2f} | {min(files)} to {max(files)} | {min(threads)} to {max(threads)} |"
    )
    return row, growth < ALLOWED and files[-1] <= max(files[:n]) and threads[-1] <= max(threads[:n])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--minutes", type=float, default=10.0, help="of the run whose client is killed; 0: without it")
    add("--soak-minutes", type=float, default=30.0, help="of the soak; 0: without it")
    add("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args()
    lines, good = [], True
    for function, minutes in ((killed_client, args.minutes), (soak, args.soak_minutes)):
        if minutes:
            with tempfile.TemporaryDirectory(prefix="soak-") as folder:
                part, fine = function(Place(Path(folder)), minutes)
            print("\n".join(part), flush=True)
            lines, good = [*lines, *part], good and fine
    verdict = "everything as it is to be" if good else "**not** as it is to be"
    head = [
        "# Long runs",
        "",
        f"`python benchmarks/soak.py`, Python {platform.python_version()}: {verdict}.",
        "",
    ]
    args.output.write_text("\n".join([*head, *lines]).rstrip() + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
