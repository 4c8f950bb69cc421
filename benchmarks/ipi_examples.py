"""Each example input of i-PI, started by ``ipi-driver run`` for a few steps: the table in ipi_examples.md.

    git clone https://github.com/i-pi/i-pi
    python benchmarks/ipi_examples.py i-pi                     # all, one after the other: about half an hour
    python benchmarks/ipi_examples.py i-pi --only instanton    # with this word in their path; the others keep their row

The potential is the analytic one that breaks rotational symmetry: it takes any elements, and is no physics of them.
What the examples do is not judged, but whether i-PI, the launcher and the client come to their steps. An input runs
from a copy of its folder, with nothing but ``--model`` and ``--steps``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

TABLE = Path(__file__).with_suffix(".md")
MODEL = "anisotropic?l=2&amplitude=0.01"
REASONS = {
    r"Extra type|interpolate_extras|'friction'": "ask for an extra, such as a dipole, that this model does not give",
    r"plumed": "need PLUMED, which is not installed",
    r"must be finite": "get positions from i-PI that are not finite, of a committee whose members here are one model",
    r"not finite": "have atoms on top of each other, as models of one dimension or of a bath do",
    r"muller_brown": "have one atom, and a model of two dimensions: here its forces are zero, which the optimizers of "
    "i-PI do not take",
    r"no attribute 'copy'|unexpected keyword argument": "are broken in this version of i-PI",
    r"no step in": "take longer than the time that they had",
}
"""Why inputs fail that do not fail because of `ipi-driver`, by words in their row."""
_GRACE = 20.0
"""Seconds for a run to end after it has been interrupted."""


def run_one(tree: Path, example: Path, steps: int, timeout: float) -> tuple[str, str]:
    """Verdict (ran, refused, failed) of one input, and what there is to say."""
    with tempfile.TemporaryDirectory(prefix="ipi-examples-", ignore_cleanup_errors=True) as place:
        output, said = Path(place) / "run", Path(place) / "said"
        words = ["run", str(tree / example), "--model", MODEL, "--steps", str(steps), "--output", str(output)]
        words += ["--watch", "off", "--restarts", "0"]
        status = started(words, said, timeout)
        errors = [
            line for line in said.read_text(errors="replace").splitlines() if line.startswith("error: ")
        ]
        message = errors[-1].removeprefix("error: ") if errors else ""
        message = message.replace(f"{tree}/", "").replace(f"{place}/", "").replace(str(example), example.name)
        done = steps_of(output)
        if status == 0:
            return "ran", ""
        if status is None:
            return (
                ("ran", f"{done} steps in {timeout:.0f} s")
                if done
                else ("failed", f"no step in {timeout:.0f} s")
            )
        if not (output / "i-pi.log").is_file() and message:
            return "refused", message
        return "failed", message or f"status {status}"


def started(words: list[str], said: Path, timeout: float) -> int | None:
    """Exit status of ``ipi-driver``, in a process that need not import it again; None where it was stopped."""
    process = os.fork()
    if process == 0:
        os.setsid()
        with said.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        status = 70
        with suppress(BaseException):
            status = main_of(words)
        os._exit(status)
    end, stopped = time.monotonic() + timeout, False
    while True:
        found, code = os.waitpid(process, os.WNOHANG)
        if found:
            return None if stopped else os.waitstatus_to_exitcode(code)
        if time.monotonic() > end:
            os.kill(process, signal.SIGKILL if stopped else signal.SIGINT)
            stopped, end = True, time.monotonic() + _GRACE
        time.sleep(0.1)


def main_of(words: list[str]) -> int:
    from ipi_driver.cli import main

    return main(words)


def steps_of(output: Path) -> int:
    """Steps that a run has done."""
    with suppress(OSError, ValueError):
        return int(json.loads((output / "status.json").read_text())["step"])
    return 0


def examples_of(tree: Path) -> list[Path]:
    """The inputs of i-PI below ``examples``, relative to the tree."""
    found = sorted((tree / "examples").rglob("*.xml"))
    return [path.relative_to(tree) for path in found if "<simulation" in path.read_text(errors="replace")]


def dangling(folder: str, names: list[str]) -> list[str]:
    """Links of a folder that lead nowhere."""
    return [name for name in names if not (Path(folder) / name).exists()]


def rows_before() -> dict[str, str]:
    """The lines of the table by their example."""
    text = TABLE.read_text() if TABLE.is_file() else ""
    return {match[1]: match[0] for match in re.finditer(r"^\| `(.+?)` \|.*$", text, re.MULTILINE)}


def row_of(example: Path, verdict: str, words: str) -> str:
    name = str(example.relative_to("examples"))
    return f"| `{name}` | {verdict} | {' '.join(words.split()).replace('|', chr(92) + '|')} |"


def write(rows: dict[str, str], steps: int) -> None:
    """The table, sorted by example."""
    verdicts = Counter(row.split(" | ")[1] for row in rows.values())
    counts = ", ".join(f"{verdicts[name]} {name}" for name in ("ran", "refused", "failed"))
    failed = [row for row in rows.values() if " | failed | " in row]
    reasons = Counter(
        next((why for words, why in REASONS.items() if re.search(words, row)), "else") for row in failed
    )
    of_these = ";\n".join(f"{count} {why}" for why, count in reasons.most_common())
    head = f"""# i-PI's example inputs under `ipi-driver run`

`python benchmarks/ipi_examples.py I-PI` (the source tree of i-PI 3.3.1): each input below `examples`, as it stands, for
{steps} steps with `--model "{MODEL}"`. Of {len(rows)} inputs {counts}. *Refused*: by `ipi-driver` before
anything is started, with the reason; *failed*: i-PI or the client ended with this message.
Of those that failed {of_these}.

| example | verdict | what is said |
|---|---|---|
"""
    TABLE.write_text(head + "".join(f"{rows[name]}\n" for name in sorted(rows)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tree", type=Path, help="source tree of i-PI")
    parser.add_argument("--only", metavar="WORDS", default="", help="expression that is in the path")
    parser.add_argument("--failed", action="store_true", help="those alone that have failed before")
    parser.add_argument("--new", action="store_true", help="those alone that have no row")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS")
    args = parser.parse_args()
    import ipi_driver.api.simulation
    import ipi_driver.cli
    import ipi_driver.report.run_summary  # noqa: F401 - once, and not in each process

    rows = rows_before()
    tree = args.tree.resolve()
    for example in examples_of(tree):
        name = str(example.relative_to("examples"))
        failed, known = " | failed | " in rows.get(name, ""), name in rows
        if not re.search(args.only, name) or (args.failed and not failed) or (args.new and known):
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="ipi-tree-", ignore_cleanup_errors=True) as place:
            copy = Path(place) / "i-pi"
            copy.mkdir()
            for folder in ("init_files", "hpc_scripts"):
                if (tree / "examples" / folder).is_dir():
                    shutil.copytree(tree / "examples" / folder, copy / "examples" / folder)
            shutil.copytree(
                (tree / example).parent,
                (copy / example).parent,
                dirs_exist_ok=True,
                ignore=dangling,
            )
            verdict, words = run_one(copy, example, args.steps, args.timeout)
        rows[name] = row_of(example, verdict, words)
        print(f"{rows[name]} {time.monotonic() - began:.0f} s", flush=True)
        write(rows, args.steps)


if __name__ == "__main__":
    sys.exit(main())
