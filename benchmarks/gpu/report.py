"""What the table of `engines.py` does not hold: memory, the error of TF32, the share of the matrix throughput.

The share is that of the operations of all products with the weights in the time of an evaluation, over the rate of one
large square product in the same precision.

python benchmarks/gpu/report.py --device cuda --molecules 1 64 512
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engines import own_engines, product_operations, water

from ipi_driver.allocator import keep_freed_memory
from ipi_driver.structure import Structure


def synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def seconds(task: object, structure: Structure, device: str, repeats: int = 5) -> float:
    """The smallest of several wall times, after one call that does not count."""
    times = []
    for k in range(repeats + 1):
        synchronize(device)
        start = time.perf_counter()
        task(structure)  # type: ignore[operator]
        synchronize(device)
        if k:
            times.append(time.perf_counter() - start)
    return min(times)


def memory(device: str) -> float:
    """Largest memory so far, GiB: of the card, or of the process."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def largest_rate(device: str) -> float:
    """Operations per second of a large product of float32, in the precision that is set."""
    n = 1024 if device == "cpu" else 8192
    a, b = (torch.randn(n, n, device=device) for _ in range(2))
    return 2.0 * n**3 / seconds(lambda _: a @ b, water(1), device)


def line(n_molecules: int, rotations: bool, device: str) -> str:
    """Time, memory, error of TF32, and share of what the matrix products alone would take."""
    structure = water(n_molecules)
    engine = own_engines(device, "float32")[0]
    task = engine.averaged if rotations else engine.raw
    assert task is not None
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    torch.backends.cuda.matmul.allow_tf32 = False
    exact = task(structure).forces  # type: ignore[attr-defined]
    cells = [f"{n_molecules} H2O, {'36 rotations' if rotations else 'raw'}"]
    n_edges = engine.raw.__self__.edges_hint(structure)  # type: ignore[attr-defined]
    for tf32 in (False, True) if device != "cpu" else (False,):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        taken = seconds(task, structure, device)
        rate = product_operations(n_edges, structure.n_atoms, 36 if rotations else 1) / taken
        error = np.sqrt(np.mean((task(structure).forces - exact) ** 2))  # type: ignore[attr-defined]
        cells.append(
            f"{1e3 * taken:.3g} ms, {rate / 1e12:.3g} Tflop/s ({100 * rate / largest_rate(device):.0f} %), "
            f"force error {1e3 * error:.2g} meV/Å"
        )
    if device == "cpu":
        cells.append("-")
    return "| " + " | ".join([*cells, f"{memory(device):.2f}"]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--molecules", type=int, nargs="+", default=[1, 64, 512])
    args = parser.parse_args()
    keep_freed_memory()
    print("| work | float32 (share of a large product) | TF32 | peak memory, GiB |\n|---|---|---|---|")
    for n in args.molecules:
        for rotations in (False, True):
            print(line(n, rotations, args.device), flush=True)


if __name__ == "__main__":
    main()
