"""A farm: one input run with many seeds and averages, each member in a folder of its own.

The queue is Slurm's own: an array job, one task for each member, needs no process on the login node and survives every
restart of it, as frameworks that keep a scheduler of their own (dask-jobqueue, parsl) do not; submitit submits pickled
Python calls, while a member here is one command in a folder that continues itself.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ipi_driver.errors import UserError
from ipi_driver.ipi_files.run_folder import RunFolder
from ipi_driver.rotations.quadrature import Quadrature
from ipi_driver.runs.changes import RESUMABLE
from ipi_driver.shipped import shipped_folder
from ipi_driver.whole_file import write_together
from ipi_driver.yaml_file import load_yaml

PLAN = "farm.yaml"
MEMBERS = "members.txt"
SCRIPT = "job.sh"
BODY = "slurm.sh"
CHANGEABLE = (
    *(f"--{name.replace('_', '-')}" for name in RESUMABLE),
    *("--restarts", "--clients", "--launch"),
)
"""Options of ``run`` that a run may be continued with; the job script passes on the same."""
_FLAGS = ("--one-core", "--no-one-core")
"""Such without a value."""


class ClusterSettings(BaseModel):
    """The keys of ``cluster.yaml``: what Slurm gives a member, and how the environment is set up."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    time: str = Field(
        "24:00:00", description="time limit of a job, as Slurm writes it; a run continues in the next job"
    )
    cpus: int = Field(4, ge=1, description="cores for each member")
    gpus: int = Field(0, ge=0, description="GPUs for each member; give --device cuda as well")
    memory: str | None = Field(None, description="memory for each member, such as 8G")
    partition: str | None = Field(None, description="partition of the cluster")
    account: str | None = Field(None, description="account that pays")
    qos: str | None = Field(None, description="quality of service")
    mail: str | None = Field(None, description="address that Slurm writes to when the array ends or fails")
    concurrent: int | None = Field(None, ge=1, description="members that run at the same time; null: all")
    warn: int = Field(120, ge=10, description="seconds before the time limit at which a run is asked to stop")
    requeue: bool = Field(True, description="whether a job may put itself back into the queue")
    chain: int = Field(
        1, ge=1, description="jobs for each member, one after the other, where requeue is not allowed"
    )
    extra: list[str] = Field([], description="further lines for sbatch, such as --constraint=milan")
    setup: list[str] = Field([], description="shell lines before the run, such as module load python")


@dataclass(frozen=True)
class Member:
    """One run of a farm.

    Attributes
    ----------
    name
        Of its folder in the farm.
    words
        Options of ``ipi-driver run`` of this member alone.
    """

    name: str
    words: tuple[str, ...]


def read_cluster(path: Path | None) -> ClusterSettings:
    """The settings in a YAML file; the defaults where there is none.

    Raises
    ------
    UserError
        If the file is missing, or a key is unknown or has a wrong value.
    """
    if path is None:
        return ClusterSettings()
    if not path.is_file():
        raise UserError(
            f"no cluster settings {path}; expected a YAML file with keys such as `partition` and `time`"
        )
    content = load_yaml(path) or {}
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold `key: value` lines, got {type(content).__name__}")
    try:
        return ClusterSettings(**content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        known = ", ".join(ClusterSettings.model_fields)
        raise UserError(f"{path}: `{where}`: {first['msg']}, got {first['input']!r}; keys: {known}") from None


def parse_seeds(text: str) -> list[int]:
    """Seeds from ``1-20`` or ``1,5,9-11``.

    Raises
    ------
    UserError
        If the text is something else, or a seed is named twice.

    Examples
    --------
    >>> parse_seeds("1-3,7")
    [1, 2, 3, 7]
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None or (match[2] is not None and int(match[2]) < int(match[1])):
            raise UserError(f"--seeds must be numbers and ranges such as 1-20 or 1,5,9-11, got {text!r}")
        seeds += range(int(match[1]), int(match[2] or match[1]) + 1)
    if len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds names a seed twice: {text!r}; runs of one seed are equal")
    return seeds


def members_of(seeds: Sequence[int], averages: Sequence[Quadrature]) -> list[Member]:
    """One member for each average and seed, the seeds of one average together."""
    names = [average.name for average in averages]
    if len(set(names)) < len(names):
        raise UserError(f"--average names one twice: {' '.join(names)}")
    width = max(len(str(seed)) for seed in seeds)
    found: list[Member] = []
    chosen: Sequence[str | None] = names or [None]
    for average in chosen:
        for seed in seeds:
            words = ["--seed", str(seed), *(() if average is None else ("--average", average))]
            found.append(Member(f"{average or 'run'}-{seed:0{width}d}", tuple(words)))
    return found


def write_farm(
    folder: Path, source: str, members: Sequence[Member], options: Sequence[str], cluster: ClusterSettings
) -> None:
    """Write plan, list of members and job script.

    Raises
    ------
    UserError
        If the folder holds a farm with other members or options, or anything else.
    """
    plan = {"input": source, "options": list(options), "members": [member.name for member in members]}
    if (folder / PLAN).is_file():
        if _lasting(load_yaml(folder / PLAN)) != _lasting(plan):
            raise UserError(f"{folder} holds a farm with other members or options; give another --output")
    elif folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} exists and is not empty; give another --output")
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    lines = [shlex.join([member.name, *member.words]) for member in members]
    texts = {
        PLAN: yaml.safe_dump(plan, sort_keys=False),
        MEMBERS: "\n".join(lines) + "\n",
        BODY: (shipped_folder("inputs") / BODY).read_text(),
        SCRIPT: job_script(folder.name, source, len(members), options, cluster),
    }
    # new files: the jobs of an earlier submission read theirs, as bash a script that it runs, until they end
    write_together({folder / name: text.encode() for name, text in texts.items()})


def _lasting(plan: dict[str, Any]) -> dict[str, Any]:
    """A plan without the options that may change from one submission to the next."""
    options = [word for word in plan.get("options", []) if word not in _FLAGS]
    for word in CHANGEABLE:
        if word in options:
            at = options.index(word)
            del options[at : at + 2]
    return plan | {"options": options}


def job_script(
    name: str, source: str, n_members: int, options: Sequence[str], cluster: ClusterSettings
) -> str:
    """The text of the array job, to be submitted in the farm's folder."""
    at_once = "" if cluster.concurrent is None else f"%{cluster.concurrent}"
    given: dict[str, Any] = {
        "job-name": name,
        "array": f"1-{n_members}{at_once}",
        "time": cluster.time,
        "cpus-per-task": cluster.cpus,
        "gres": f"gpu:{cluster.gpus}" if cluster.gpus else None,
        "mem": cluster.memory,
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "mail-user": cluster.mail,
        "mail-type": "END,FAIL" if cluster.mail else None,
        "signal": f"B:USR1@{cluster.warn}",
        "open-mode": "append",
        "output": "logs/%a.log",
    }
    lines = ["#!/bin/bash", "# Written by `ipi-driver submit`: one task for each line of members.txt."]
    lines += [f"#SBATCH --{key}={value}" for key, value in given.items() if value is not None]
    lines += ["#SBATCH --requeue" if cluster.requeue else "#SBATCH --no-requeue"]
    lines += [f"#SBATCH {line}" for line in cluster.extra]
    lines += ["", *cluster.setup] if cluster.setup else []
    lines += [
        "",
        'eval "words=($(sed -n "${SLURM_ARRAY_TASK_ID}p" members.txt))"',
        "export IPI_DRIVER_RUN_FOLDER=${words[0]}",
        f"export IPI_DRIVER_REQUEUE={'yes' if cluster.requeue else 'no'}",
        f'exec bash {BODY} {shlex.join([source, *options])} "${{words[@]:1}}"',
    ]
    return "\n".join(lines) + "\n"


def is_farm(folder: Path) -> bool:
    """Whether `write_farm` has made the folder."""
    return (folder / PLAN).is_file()


def ensembles_of(folder: Path) -> dict[str, list[Path]]:
    """Run folders of a farm by average; members that have not begun are left out.

    Raises
    ------
    UserError
        If an average has fewer than two members that have begun.
    """
    groups: dict[str, list[Path]] = {}
    for name in load_yaml(folder / PLAN)["members"]:
        begun = groups.setdefault(name.rpartition("-")[0], [])
        if RunFolder(folder / name).is_begun:
            begun.append(folder / name)
    for name, runs in groups.items():
        if len(runs) < 2:
            raise UserError(
                f"{folder}: {len(runs)} runs of `{name}` have begun, and the statistics of a farm need two; analyze "
                "the folder of a member by itself"
            )
    return groups


def submit_farm(folder: Path, cluster: ClusterSettings) -> list[str]:
    """Give the array to Slurm, as often as the chain is long; returns the job numbers.

    An array of a chain begins when all tasks of the one before have ended, however they did. A dependency on the name
    of the job would hold between the tasks of one array as well, and run one member at a time.

    Raises
    ------
    UserError
        If there is no ``sbatch``, or it refuses the job.
    """
    if shutil.which("sbatch") is None:
        raise UserError("no sbatch on this machine: expected Slurm; run the members here with --local N")
    numbers: list[str] = []
    for _ in range(cluster.chain):
        after = [f"--dependency=afterany:{numbers[-1]}"] if numbers else []
        command = ["sbatch", "--parsable", *after, SCRIPT]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            queued = f"; {', '.join(numbers)} of the chain are in the queue" if numbers else ""
            raise UserError(f"sbatch refused {folder / SCRIPT}: {done.stderr.strip()}{queued}")
        numbers.append(done.stdout.strip().partition(";")[0])
    return numbers
