"""``ipi-driver submit INPUT``: one input with many seeds and averages, as a Slurm array or here."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from ipi_driver.cli import run
from ipi_driver.cli.printing import add_printing, set_result
from ipi_driver.errors import UserError

EPILOG = """\
examples:
  ipi-driver submit liquid-nvt --seeds 1-20 --average none 2i random --cluster cluster.yaml --steps 20000
  ipi-driver submit gas-nve --seeds 1-4 --average none Th --local 2      # here, two at a time, without Slurm
  ipi-driver submit liquid-nvt --seeds 1-20 --cluster cluster.yaml --dry-run   # writes the job script, submits nothing
  ipi-driver analyze farms/liquid-nvt --output analysis        # one ensemble for each average

The members run in farms/INPUT/AVERAGE-SEED. The same command again continues those that are not finished. Further
options are those of `ipi-driver run`. The keys of cluster.yaml: time, cpus, gpus, memory, partition, account, qos,
mail, concurrent, warn, requeue, chain, extra, setup (see the documentation).

exit status: 0 submitted, or with --local all finished; 1 a member did not finish; 2 error.
"""

_OWN = (
    "seeds",
    "average",
    "cluster",
    "local",
    "dry_run",
    "output",
    "input",
    "seed",
    "resume",
    "structures",
    "help",
    "quiet",
    "json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``run``, with several seeds and averages in place of one."""
    run.add_arguments(parser)
    parser.epilog = EPILOG
    add = parser.add_argument
    add("--seeds", default="1", metavar="LIST", help="seeds, such as 1-20 or 1,5,9-11 (default 1)")
    add(
        "--average",
        nargs="+",
        default=[],
        metavar="NAME",
        help="averages to run (default: that of the input)",
    )
    add("--cluster", type=Path, metavar="FILE", help="cluster.yaml: partition, time, cores, environment")
    add("--local", type=int, metavar="N", help="run here, N members at a time, without Slurm")
    add("--dry-run", action="store_true", help="write the farm and its job script, and submit nothing")
    add("--output", type=Path, metavar="DIR", help="folder of the farm (default farms/INPUT)")
    add("--seed", type=int, help=argparse.SUPPRESS)
    add("--resume", action="store_true", help=argparse.SUPPRESS)
    add("--continue", dest="resume", action="store_true", help=argparse.SUPPRESS)  # as members always do
    add("--structures", type=Path, help=argparse.SUPPRESS)
    add_printing(parser)


def run_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> list[str]:
    """The words of ``ipi-driver run`` for the options that were given; files by their absolute paths."""
    words: list[str] = []
    for action in parser._actions:
        value = getattr(args, action.dest, None)
        if action.dest in _OWN or value == action.default or value is None:
            continue
        if isinstance(action, argparse.BooleanOptionalAction):
            words.append(action.option_strings[0 if value else 1])
            continue
        if action.nargs == 0:
            words.append(action.option_strings[-1])
            continue
        values = value if isinstance(value, list) else [value]
        given = [str(v.resolve()) if isinstance(v, Path) and v.exists() else str(v) for v in values]
        repeated = action.nargs is None  # such as --endpoint A --endpoint B
        for several in [[word] for word in given] if repeated else [given]:
            words += [action.option_strings[-1], *several]
    return words


def main(args: argparse.Namespace) -> int:
    """Plan the members, write the farm, submit or run it."""
    from ipi_driver.rotations.quadrature import quadrature
    from ipi_driver.runs.changes import Changes
    from ipi_driver.runs.farm import members_of, parse_seeds, read_cluster, submit_farm, write_farm
    from ipi_driver.runs.local_farm import run_here
    from ipi_driver.runs.origin import given_name
    from ipi_driver.runs.prepare import find_source

    for name, remedy in (("seed", "--seeds"), ("resume", "the same command again"), ("structures", "run")):
        if getattr(args, name):
            raise UserError(f"--{name} is not an option of `submit`; use {remedy}")
    if args.local is not None and args.local < 1:
        raise UserError(f"--local must be at least 1, got {args.local}")
    parser = argparse.ArgumentParser(conflict_handler="resolve")
    add_arguments(parser)
    options = _absolute_model(run_options(parser, args))
    given = {k: v for k, v in vars(args).items() if k in Changes.__dataclass_fields__ and k not in _OWN}
    source = find_source(
        args.input, Changes(**given)
    )  # a wrong input or option is reported before anything is written
    members = members_of(parse_seeds(args.seeds), [quadrature(name) for name in args.average])
    cluster = read_cluster(args.cluster)
    folder = args.output or Path("farms") / given_name(Path(args.input))
    named = str(Path(args.input).resolve()) if Path(args.input).exists() else str(args.input)
    write_farm(folder, named, members, options, cluster)
    print(f"{folder}: {len(members)} members of {source.name}: {_short([member.name for member in members])}")
    result = {"members": [member.name for member in members]}
    set_result(args, result, folder)
    if args.dry_run:
        print(f"submit it with: cd {shlex.quote(str(folder))} && sbatch job.sh")
        return 0
    if args.local is not None:
        return run_here(folder, named, members, options, args.local)
    numbers = submit_farm(folder, cluster)
    set_result(args, {**result, "jobs": [str(number) for number in numbers]}, folder)
    print(f"submitted as job {', '.join(numbers)}; watch it with: ipi-driver status {folder}")
    return 0


def _absolute_model(words: Sequence[str]) -> list[str]:
    """The words with absolute paths of what a model names here, files and folders: members run in the farm's folder."""
    from ipi_driver.potentials.registry import located_potential

    found = list(words)
    if "--model" in found:
        at = found.index("--model") + 1
        found[at] = str(located_potential(found[at], Path()))
    return found


def _short(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{names[0]}, {names[1]}, ... {names[-1]}"
