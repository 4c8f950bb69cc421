"""``ipi-driver run INPUT``."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ipi_driver.cli.conditions import add_conditions, add_precision
from ipi_driver.rotations.quadrature import known_averages
from ipi_driver.shipped import shipped_names

if TYPE_CHECKING:
    from ipi_driver.api.simulation import SetRun

EPILOG = """\
examples:
  ipi-driver run gas-nvt                                   # into runs/gas-nvt
  ipi-driver run gas-nve --average 2i --output runs/gas-nve-2i
  ipi-driver run liquid-nvt --average Th --steps 4000 --model my-model
  ipi-driver run liquid-nvt --resume --steps 8000          # 4000 more
  ipi-driver run liquid-nvt --seed 7 --output runs/7 --continue    # begins it, or goes on: the same command each time
  ipi-driver run liquid-nvt --nmts 8 --output runs/4fs   # corrected every 4 instead of 5 fs
  ipi-driver run liquid-nvt-raw --structure my-box.xyz --output runs/my-box
  ipi-driver run ice                                       # a set: its nine cells, raw, into runs/ice-none
  ipi-driver run ice --average 2i                          # the same averaged, into runs/ice-2i
  ipi-driver analyze runs/ice-none runs/ice-2i             # compares the two, cell by cell
  ipi-driver run ice --average 2i --resume                 # cells that are not finished
  ipi-driver run ice --structures my-cells --output runs/mine-none
  ipi-driver run my-input.xml --model my-model.pt          # raw forces, if it has no driver.yaml
  ipi-driver run input-mts.xml --model my-model.pt --endpoint driver-aug=2i
  ipi-driver run replay.xml --model my-model.pt --endpoint driver-aug-2=2 --endpoint driver-aug-2i=2i
  ipi-driver run liquid-nvt-raw --monitor Th --monitor-stride 200    # how large is the symmetry error on the way?
  ipi-driver run liquid-pimd --clients 4 --address node01 --launch 'srun --nodes 1 --ntasks 1 --exact'   # several nodes
  ipi-driver run gas-nvt --watch temperature=20,distance=off    # hotter than usual, and it may dissociate

A client that dies is started again with i-PI from the last checkpoint (--restarts), and a run whose physics is wrong
ends with status 2 and its last good checkpoint (--watch). What happened stands in events.jsonl of the run folder.

An input folder with a folder cells/ is a set: every cell is run in a folder of its own, OUTPUT/CELL, one after the
other; a cell that fails is reported and does not stop the others. --structure runs one structure only.

exit status: 0 finished; 1 stopped early as asked (file EXIT, <total_time>); 2 error; 130 interrupted
(SIGINT, SIGTERM, SIGHUP, and SIGUSR1 or SIGUSR2, as queues send them). All but 0 can be continued with --resume,
which begins anew where there is no checkpoint yet.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = f"inputs: {', '.join(shipped_names('inputs'))}\naverages: {known_averages()}\n\n{EPILOG}"
    add = parser.add_argument
    add(
        "input",
        metavar="INPUT",
        help="a shipped input, a folder with input.xml and driver.yaml, or an XML file",
    )
    add(
        "--steps",
        type=int,
        metavar="N",
        help="total number of i-PI steps (with multiple time stepping: outer steps)",
    )
    add(
        "--nmts",
        "--stride",
        dest="nmts",
        type=int,
        metavar="N",
        help="inner steps per outer step of multiple time stepping, as `ipi-driver check` recommends; "
        "the inner step stays",
    )
    add("--average", metavar="NAME", help="average of the averaged endpoints, or of the only endpoint")
    add(
        "--endpoint",
        action="append",
        metavar="ADDRESS=AVERAGE",
        help="average of one socket of the input, by its address or the name of its <ffsocket>; may be given several "
        "times",
    )
    add("--model", help="shipped model, model folder, exported .pt, ase:MODULE.CALCULATOR")
    add(
        "--output",
        type=Path,
        metavar="DIR",
        help="run folder (default: runs/NAME; of a set: runs/NAME-AVERAGE)",
    )
    add(
        "--structure",
        type=Path,
        metavar="FILE",
        help="starting structure: the last snapshot of any file that ASE reads, or one of the input's own (replay: the "
        "trajectory, of which all snapshots are used)",
    )
    add(
        "--structures",
        type=Path,
        metavar="DIR",
        help="run every structure file of a folder (the last snapshot of each; default: cells/ of the input, if any)",
    )
    add(
        "--pbc",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="periodic or isolated, whatever the file of the structure states (default: as the file; an input for the "
        "other kind is refused)",
    )
    add("--seed", type=int, help="seed of i-PI and of random rotations")
    add_conditions(parser)
    add("--device", help="torch device of the model")
    add_precision(parser)
    add("--threads", type=int, help="threads of the model")
    add("--rotation-batch", type=int, metavar="N", help="rotations per call of the model")
    add(
        "--one-core",
        action=argparse.BooleanOptionalAction,
        help="keep i-PI and the client together on one core that no other run holds, the model with one thread "
        "(default: for at most 12 atoms with one rotation per evaluation, where a step is shorter so)",
    )
    add(
        "--clients",
        type=_positive,
        default=1,
        metavar="N",
        help="clients that answer the sockets; i-PI hands out beads and replicas to them (default 1)",
    )
    add(
        "--address",
        metavar="HOST",
        help="name or address of this machine on which i-PI listens, for clients on other nodes (default: sockets of "
        "this machine alone)",
    )
    add(
        "--launch",
        type=_command,
        default="",
        metavar="WORDS",
        help="words before the command of each client, such as 'srun --nodes 1 --ntasks 1 --exact'",
    )
    add(
        "--restarts",
        type=_restarts,
        default=3,
        metavar="N",
        help="start again from the last checkpoint when the client dies, at most N times in a row without a new "
        "checkpoint (default 3; 0: never)",
    )
    add(
        "--watch",
        metavar="LIMITS",
        help="off, or temperature=X (times that of the thermostat or the start, default 10; more for few atoms), "
        "conserved=X (eV per atom and ps, default 0.1), distance=X (Å of an atom of an isolated structure from all "
        "others, default 50), separated by commas, each of which may be off: beyond them the run ends with status 2; "
        "also `watch:` in driver.yaml",
    )
    add(
        "--monitor",
        metavar="NAME",
        help="in a raw run, evaluate this average beside the dynamics now and then, and write the standard deviation "
        "of the forces over its rotations to simulation.monitor, as a check of the symmetry error on the way",
    )
    add("--monitor-stride", type=int, metavar="N", help="steps between two evaluations (default 200)")
    add(
        "--tolerance",
        type=float,
        metavar="MEV",
        help="warn where the monitor finds more, meV/Å (default 50)",
    )
    add("--quiet", "-q", action="store_true", help="print errors and, with --json, the summary alone")
    add("--json", action="store_true", help="print the summary as JSON on standard output")
    add(
        "--resume",
        action="store_true",
        help="continue from RESTART or the newest checkpoint, or begin anew where there is none yet",
    )
    add(
        "--continue",
        dest="resume",
        action="store_const",
        const="same",
        help="go on with the run that the same command has begun, or begin it: a command to be given until the run is "
        "finished, as jobs do; a run that was begun with another seed, structure, average, ... is refused",
    )


def _restarts(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a number, 0 or more, got {text!r}")
    return int(text)


def _command(text: str) -> str:
    try:
        shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected words as of a shell, got {text!r}: {error}") from None
    return text


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number, 1 or more, got {text!r}")
    return int(text)


def main(args: argparse.Namespace) -> int:
    """Run the input, or each structure of a set; print the summary."""
    from ipi_driver.api.simulation import run, run_set
    from ipi_driver.runs.changes import Changes
    from ipi_driver.runs.console import lenient_console

    console = lenient_console(sys.stderr, args.quiet)

    def note(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    options = {name: getattr(args, name) for name in Changes.__dataclass_fields__}
    options |= {name: getattr(args, name) for name in ("output", "resume", "one_core", "restarts", "quiet")}
    options |= {"clients": args.clients, "launch": tuple(shlex.split(args.launch))}
    if (found := run_set(args.input, structures=args.structures, **options)) is not None:
        return _end_of_set(args, found, note)
    result = run(args.input, note=note, **options)
    outcome = result.outcome
    if not outcome.finished:
        words = ["ipi-driver", "run", str(args.input), "--output", str(result.folder), "--resume"]
        stopped = f"stopped at step {outcome.steps} of {outcome.total}: {outcome.reason}"
        note(f"{stopped}; continue with: {shlex.join(words)}")
    if args.json:  # of a replay, which has no summary, how it ended
        ended = {name: getattr(outcome, name) for name in ("steps", "finished", "reason")}
        ended |= {"folder": str(result.folder), "total_steps": outcome.total, **result.summary}
        print(json.dumps(ended, indent=2))
    elif result.summary and not args.quiet:
        from ipi_driver.report.run_summary import print_summary  # matplotlib

        print_summary(result.folder, result.summary)
    if outcome.finished:
        return 0
    return 130 if outcome.interrupted else 1


def _end_of_set(args: argparse.Namespace, found: SetRun, note: Callable[[str], None]) -> int:
    """Print the table of a set; returns the exit status."""
    from ipi_driver.report.set_summary import print_set

    if args.json:
        print(json.dumps(found.rows, indent=2))
    elif not args.quiet:
        print_set(found.folder, found.rows)
    outcome = found.outcome
    if outcome.status:
        option = [] if args.structures is None else ["--structures", str(args.structures)]
        where = ["--output", str(found.folder), "--resume", *_changes_given(args)]
        words = ["ipi-driver", "run", str(args.input), *option, *where]
        note(
            f"{outcome.n_finished} of {len(found.rows)} cells are finished; continue with: {shlex.join(words)}"
        )
    return outcome.status


def _changes_given(args: argparse.Namespace) -> list[str]:
    """The changes of the input as words: where no cell was begun, nothing else holds them."""
    from ipi_driver.runs.changes import Changes

    words: list[str] = []
    for name in Changes.__dataclass_fields__:
        value, option = getattr(args, name), f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-", 1))
        elif value is not None:
            for one in value if isinstance(value, list) else [value]:
                words += [option, str(one)]
    return words
