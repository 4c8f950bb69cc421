"""Faults injected into real runs of i-PI, and what became of each: the table in faults.md.

    python benchmarks/faults.py                      # all rows, some minutes on an idle machine
    python benchmarks/faults.py 17 31 --jobs 2       # some, two at a time; the others keep their last verdict
    python benchmarks/faults.py --list

Each row is a fault, what a user expects, what happened, and the verdict that this script gives. Runs are short (a water
molecule with springs or the analytic model); everything happens in temporary folders. Rows with a file system of their
own need root. The numbers are those of the review in which the faults were found first.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fault_rows import damaged, files, killing, models, modes, wire  # noqa: F401 - each registers its rows
from fault_rows.place import Place, said
from fault_rows.table import ROWS, SHARED, row

HEAD = "| # | fault | expected | happened | verdict |"


@row(
    "89, 90",
    "half an hour of a run; its client killed in the middle of ten minutes",
    "no growth; the same files",
)
def _(place: Place) -> tuple[str, bool]:
    path = Path(__file__).with_name("soak.md")
    text = path.read_text() if path.is_file() else ""
    good = bool(said(text, "everything as it is to be"))
    return "`soak.md`, by `soak.py`" if text else "not run", good


def order(number: str) -> tuple[int, str]:
    """Of the rows: by their first number, letters last."""
    digits = said(number, r"^\d+")
    return (int(digits) if digits else 1000, number)


def line_of(number: str) -> str:
    """Inject the fault; returns the line of the table."""
    fault = ROWS[number]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
        try:
            happened, good = fault.inject(Place(Path(folder)))
        except Exception as error:
            happened, good = f"{type(error).__name__}: {error}", False
        happened = " ".join(happened.replace(folder, "...").split())
    cells = [number, fault.fault, fault.expected, happened, "ok" if good else "**not ok**"]
    line = f"| {' | '.join(cell.replace('|', chr(92) + '|').strip() for cell in cells)} |"
    print(f"{line} {time.monotonic() - began:.0f} s", flush=True)
    return line


def known_lines(path: Path) -> dict[str, str]:
    """The lines of a table that was written before, by their numbers."""
    text = path.read_text() if path.is_file() else ""
    lines = [line for line in text.splitlines() if line.startswith("| ") and line != HEAD]
    return {line.split(" | ")[0].removeprefix("| "): line for line in lines}


def write(path: Path, lines: dict[str, str]) -> int:
    """Write the table; returns the number of rows that are not ok."""
    ordered = [lines[number] for number in sorted(ROWS, key=order) if number in lines]
    good = sum(line.endswith("| ok |") for line in ordered)
    missing = "" if len(ordered) == len(ROWS) else f" ({len(ROWS) - len(ordered)} not run)"
    head = [
        "# Faults injected into runs, and what became of them",
        "",
        f"`python benchmarks/faults.py`: {good} of {len(ordered)} rows ok{missing}. The numbers are those of the",
        "review in which they were found first; a row that groups several injects each. What only a GPU does, the",
        "model raises by itself.",
        "",
        HEAD,
        "|---|---|---|---|---|",
    ]
    path.write_text("\n".join([*head, *ordered]) + "\n")
    return len(ordered) - good


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", help="numbers of rows (default: all)")
    parser.add_argument("--jobs", type=int, default=1, help="rows at a time (default 1)")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    parser.add_argument("--list", action="store_true", help="print the rows and end")
    args = parser.parse_args()
    names = args.rows or sorted(ROWS, key=order)
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"no row {unknown[0]!r}; there are {'; '.join(sorted(ROWS, key=order))}")
    if args.list:
        print("\n".join(f"{name}: {ROWS[name].fault}" for name in names))
        return 0
    began = time.monotonic()
    lines = known_lines(args.output) if args.rows else {}
    failed = 0
    try:
        with ThreadPoolExecutor(args.jobs) as pool:
            for name, line in zip(names, pool.map(line_of, names), strict=True):
                lines[name] = line
                failed = write(args.output, lines)
    finally:
        SHARED.close()
    print(f"{time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
