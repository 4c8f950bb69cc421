"""CPU time of a client from its start to its end, where i-PI asks for the forces of one or two steps of a molecule.

    OMP_NUM_THREADS=1 python benchmarks/startup.py [--repeats N] [--model MODEL]

Each client is a process of its own that answers a real i-PI; its time is what the system counts for it (user and
system), the least of the repeats. Beside it stands a Python that imports torch and ends.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
INPUT = Path(__file__).resolve().parent.parent / "inputs" / "gas-nve"


def seconds(command: list[str], folder: Path) -> float:
    """CPU seconds of a process."""
    with (folder / "client.out").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {status}:\n{(folder / 'client.out').read_text()}")
    return used.ru_utime + used.ru_stime


def client(model: str, average: str) -> float:
    """CPU seconds of a client that answers one short run of i-PI."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in INPUT.iterdir():
            shutil.copy(path, folder)
        address = f"startup-{os.getpid()}"
        text = (folder / "input.xml").read_text()
        text = re.sub(r"<address>.*?</address>", f"<address>{address}</address>", text)
        text = re.sub(r"<total_steps>.*?</total_steps>", "<total_steps>1</total_steps>", text)
        (folder / "input.xml").write_text(text)
        with (folder / "i-pi.out").open("w") as log:
            ipi = subprocess.Popen(["i-pi", "input.xml"], cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        serve = [sys.executable, "-m", "ipi_driver", "serve", model, "--structure", "init.xyz"]
        found = seconds([*serve, "--unix", f"{address}={average}"], folder)
        if ipi.wait():
            raise SystemExit((folder / "i-pi.out").read_text())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="pet-water-s2")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        torch = [sys.executable, "-c", "import torch"]
        print(f"import torch   {min(seconds(torch, Path(name)) for _ in range(args.repeats)):.2f} s")
    for average in ("none", "2i"):
        best = min(client(args.model, average) for _ in range(args.repeats))
        print(f"serve, {average:7s} {best:.2f} s", flush=True)


if __name__ == "__main__":
    main()
