"""The members of a farm run on this machine, some at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

from ipi_driver.runs.ending import has_ended_by_itself
from ipi_driver.runs.farm import Member


def run_here(
    folder: Path, source: str, members: Sequence[Member], options: Sequence[str], at_once: int
) -> int:
    """Run or continue every member that is not finished; returns the exit status.

    Whether a member is finished is for ``run --continue`` to find, as in the job script; where its summary states it,
    no process is started.

    Parameters
    ----------
    folder
        Of the farm.
    source
        Input, as ``ipi-driver run`` takes it.
    members, options
        As in `ipi_driver.runs.farm.write_farm`.
    at_once
        Members that run at the same time.
    """
    steps = next((int(value) for word, value in pairwise(options) if word == "--steps"), 0)

    def run(member: Member) -> str:
        output = folder / member.name
        if is_finished(output, steps):
            return "finished before"
        command = command_of(source, member, options)
        with (folder / "logs" / f"{member.name}.log").open("ab") as log:
            status = subprocess.run(command, cwd=folder, stdout=log, stderr=log).returncode
        state = {0: "finished", 1: "stopped early", 130: "interrupted"}.get(
            status, f"failed (status {status})"
        )
        print(f"{member.name}: {state}", flush=True)
        return state

    with ThreadPoolExecutor(at_once) as pool:
        states = list(pool.map(run, members))
    done = sum(state.startswith("finished") for state in states)
    print(f"{done} of {len(members)} members finished; logs in {folder / 'logs'}")
    return 0 if done == len(members) else 1


def command_of(source: str, member: Member, options: Sequence[str]) -> list[str]:
    """What begins a member in the folder of the farm, goes on with it, or finds it finished: the same each time."""
    program = [sys.executable, "-m", "ipi_driver", "run", source]
    return [*program, "--output", member.name, "--continue", *options, *member.words]


def is_finished(folder: Path, steps: int = 0) -> bool:
    """Whether the summary of a run states that it has finished, of ``steps`` or more, or had nothing left to do."""
    try:
        summary = json.loads((folder / "summary.json").read_text())
    except (OSError, ValueError):
        return False
    if not isinstance(summary, dict):  # of a set: its cells are looked at one by one
        return False
    long_enough = summary.get("total_steps", steps) >= steps or has_ended_by_itself(folder)
    return bool(summary.get("finished")) and long_enough
