"""`run`: i-PI and the client as one job, from Python; ``ipi-driver run`` calls the same functions."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ipi_driver.api.refreshing import SummaryProcess
from ipi_driver.errors import UserError
from ipi_driver.ipi_files.run_folder import INPUT, RunFolder
from ipi_driver.runs import run_set as sets
from ipi_driver.runs.changes import Changes
from ipi_driver.runs.console import lenient_console
from ipi_driver.runs.execute import Outcome, run_simulation
from ipi_driver.runs.origin import changes_to_go_on, check_origin, given_name
from ipi_driver.runs.pair import Clients
from ipi_driver.runs.prepare import find_source, prepare
from ipi_driver.runs.restarts import DEFAULT
from ipi_driver.runs.resume import prepare_resume
from ipi_driver.runs.sets import find_set, is_finished
from ipi_driver.runs.sockets import foreign_note

if TYPE_CHECKING:
    from ipi_driver.analysis.result import Analysis


_WHOLE = ("steps", "nmts", "seed", "threads", "rotation_batch", "spin", "monitor_stride")
"""Options that are whole numbers."""


@dataclass(frozen=True)
class Run:
    """A run folder after its run.

    Attributes
    ----------
    folder
        Where input, outputs, checkpoints and logs are.
    outcome
        How the run ended.
    summary
        The content of ``summary.json``; empty where the run has no summary.
    """

    folder: Path
    outcome: Outcome
    summary: dict[str, Any]

    def __repr__(self) -> str:
        state = "finished" if self.outcome.finished else f"stopped ({self.outcome.reason})"
        text = f"Run({str(self.folder)!r}: {state}, {self.outcome.steps} of {self.outcome.total} steps"
        temperature = self.summary.get("temperature")
        if isinstance(temperature, dict):
            text += f", {temperature['value']:.0f} ± {temperature['error']:.0f} K"
        return text + ")"

    def _repr_png_(self) -> bytes | None:
        """The figure of the run, which a notebook shows."""
        path = self.folder / "summary.png"
        return path.read_bytes() if path.is_file() else None

    def analyze(self, **options: Any) -> Analysis:
        """The observables of this run; options as for `ipi_driver.analyze`.

        Raises
        ------
        UserError
            Also if the run has several systems, as replica exchange, and none is named by ``systems``.
        """
        from ipi_driver.api.analyzing import analyze

        found = analyze(self.folder, **options)
        if len(found) > 1:
            raise UserError(
                f"{self.folder} has {len(found)} systems: name one, systems=['PREFIX'], or take "
                "`ipi_driver.analyze`, which gives all"
            )
        return found[0]


@dataclass(frozen=True)
class SetRun:
    """The folder of a set after its runs.

    Attributes
    ----------
    folder
        Where the run folders of the cells are.
    outcome
        How each cell ended.
    rows
        The content of ``summary.json``: the numbers of each cell.
    """

    folder: Path
    outcome: sets.SetOutcome
    rows: list[dict[str, Any]]


def run(
    source: str | Path,
    *,
    output: str | Path | None = None,
    resume: bool | Literal["same"] = False,
    one_core: bool | None = None,
    restarts: int = DEFAULT,
    clients: int = 1,
    launch: Sequence[str] = (),
    refresh: bool = True,
    quiet: bool = False,
    note: Callable[[str], None] = print,
    **changes: Any,
) -> Run:
    """Run i-PI and the client together until the end, as ``ipi-driver run`` does.

    Parameters
    ----------
    source
        A shipped input, a folder with ``input.xml`` and ``driver.yaml``, or an XML file; to resume also a run folder.
    output
        Run folder; None: ``runs/NAME``.
    resume
        Continue from the newest checkpoint. "same": continue what the same call has begun, or begin it; a run that was
        begun with another seed, structure, average, ... is refused.
    one_core
        Keep i-PI and the client on one core; None: where a run is faster so.
    restarts
        Start again from the last checkpoint where the client dies, at most so many times without the steps of a
        checkpoint in between; 0: never.
    clients, launch
        Clients that answer the sockets, to which i-PI hands out beads and replicas; words before the command of each,
        which start it on another node (with ``address``).
    refresh
        Write the summary also while the run goes on, at checkpoints.
    quiet
        Show no progress.
    note
        Called with each remark, a line of text.
    **changes
        What is changed in the input: ``steps``, ``average``, ``model``, ``structure``, ``seed``, ``device``, ``dtype``,
        ``threads``, ... (`ipi_driver.runs.changes.Changes`).

    Returns
    -------
    Run
        Printing it gives its state; a notebook shows its figure.

    Raises
    ------
    UserError
        If the input or a change is wrong, or i-PI or the client fails; what was done stays in the folder.

    Examples
    --------
    >>> import ipi_driver, tempfile
    >>> folder = tempfile.mkdtemp() + "/run"
    >>> ipi_driver.run("gas-nve", output=folder, model="anisotropic", steps=20)  # doctest: +ELLIPSIS
    Run('...run': finished, 20 of 20 steps...)
    """
    wanted = _changes(changes, one_core, restarts)
    if clients < 1:
        raise UserError(f"`clients` must be a number, 1 or more, got {clients}")
    if one_core and clients > 1:
        raise UserError(f"--one-core is for one client, got --clients {clients}; leave out one of them")
    exact = resume == "same"
    if exact:
        folder = Path("runs") / given_name(Path(source)) if output is None else Path(output)
        if (finished := _finished_before(folder, str(source), wanted, note)) is not None:
            return finished
        resume = RunFolder(folder).is_begun
    if resume:
        folder, start_file = _resumed(source, folder if exact else output, wanted, note, exact)
    else:
        found = find_source(source, wanted)
        folder, start_file = Path(output or Path("runs") / found.name), INPUT
        if replaced := foreign_note(found.path.read_text()):
            note(replaced)
        prepare(found, folder, wanted)
    console = lenient_console(sys.stderr, quiet)
    write = SummaryProcess() if refresh else None
    pool = Clients(clients, tuple(shlex.split(launch) if isinstance(launch, str) else launch))
    outcome = run_simulation(folder, start_file, console, one_core, restarts, write, pool)
    if outcome.interrupted and write is not None and write.slow:  # who interrupts it may not wait so long
        note(f"no new summary, which takes a while: `ipi-driver analyze {folder}`, or go on with the run")
        return Run(folder, outcome, {})
    return Run(folder, outcome, _summary(folder, outcome, note))


def run_set(
    source: str | Path,
    *,
    structures: str | Path | None = None,
    output: str | Path | None = None,
    resume: bool | Literal["same"] = False,
    one_core: bool | None = None,
    restarts: int = DEFAULT,
    clients: int = 1,
    launch: Sequence[str] = (),
    quiet: bool = False,
    **changes: Any,
) -> SetRun | None:
    """Run an input for each structure of a set, one after the other; a cell that fails does not stop the others.

    Parameters
    ----------
    source
        As of `run`. It is a set if it is a folder with ``cells/``, or ``structures`` are given.
    structures
        A folder of structures.
    output
        Folder of the set; None: ``runs/NAME-AVERAGE``.
    resume, one_core, restarts, quiet, **changes
        As of `run`.
    clients, launch
        Of single runs: refused for a set.

    Returns
    -------
    SetRun or None
        None where ``source`` is no set, and nothing was run.

    Raises
    ------
    UserError
        If the set cannot be begun or continued.
    """
    wanted = _changes(changes, one_core, restarts)
    if resume and output is not None and (Path(output) / INPUT).is_file():
        return None  # the folder of one run
    found = find_set(str(source), wanted, None if structures is None else Path(structures))
    if found is None:
        return None
    if clients > 1 or launch:
        raise UserError("--clients and --launch are for a single run, and this is a set of runs")
    from ipi_driver.report.set_summary import set_row, write_set

    folder = found.folder(wanted) if output is None else Path(output)
    console = lenient_console(sys.stderr, quiet)
    outcome = sets.run_set(found, folder, wanted, console, resume, one_core, restarts, _write_summary)
    rows = [set_row(name, folder / name, state) for name, state in outcome.states.items()]
    if folder.is_dir():
        write_set(folder, rows)
    return SetRun(folder, outcome, rows)


def _changes(changes: dict[str, Any], one_core: bool | None, restarts: int) -> Changes:
    """The options of `run` as changes of an input, checked."""
    unknown = sorted(set(changes) - set(Changes.__dataclass_fields__))
    if unknown:
        known = ", ".join(Changes.__dataclass_fields__)
        raise UserError(f"`run` has no option {unknown[0]!r}; it has: {known}")
    if one_core and (changes.get("threads") or 1) > 1:
        raise UserError(
            f"--one-core is for one thread, got --threads {changes['threads']}; leave out one of them"
        )
    if restarts < 0:
        raise UserError(f"`restarts` must be a number, 0 or more, got {restarts}")
    return Changes(**{name: _as_on_the_command_line(name, value) for name, value in changes.items()})


def _as_on_the_command_line(name: str, value: Any) -> Any:
    """An option of `Changes` of the type that the command line gives it, also from a path or a number of numpy."""
    if value is None:
        return None
    if name == "pbc":
        return bool(value)
    if name == "structure":
        if not isinstance(value, (str, Path)):
            raise UserError(
                f"`structure` must be a file, got {type(value).__name__}; write it with ase.io.write"
            )
        return Path(value)
    if name in ("average", "model", "monitor"):
        return str(value)
    if name == "endpoint":
        return [value] if isinstance(value, str) else list(value)
    if name in ("charge", "tolerance"):
        return float(value)
    if name in _WHOLE:
        if isinstance(value, str) or int(value) != value:
            raise UserError(f"`{name}` must be a whole number, got {value!r}")
        return int(value)
    return value


def _finished_before(folder: Path, source: str, changes: Changes, note: Callable[[str], None]) -> Run | None:
    """The run in ``folder`` where it was begun with these changes and has nothing left to do."""
    if not (folder / INPUT).is_file() or not is_finished(folder, changes.steps):
        return None
    if found := check_origin(folder, source):
        note(found)
    changes_to_go_on(folder, changes, exact=True)
    note(f"{folder}: finished before")
    run = RunFolder(folder)
    done = max(run.checkpoints(), default=0)
    outcome = Outcome(done, done, run.input.total_steps or done, 0.0, finished=True)
    return Run(folder, outcome, _summary_before(folder, done) or _summary(folder, outcome, note))


def _summary_before(folder: Path, steps: int) -> dict[str, Any]:
    """The summary that a finished run has written; empty where there is none, or that of an earlier, shorter part."""
    with suppress(OSError, ValueError):
        summary = json.loads((folder / "summary.json").read_text())
        if isinstance(summary, dict) and summary.get("finished") and summary.get("steps") == steps:
            return summary
    return {}


def _resumed(
    source: str | Path,
    output: str | Path | None,
    changes: Changes,
    note: Callable[[str], None],
    exact: bool,
) -> tuple[Path, str]:
    """The run folder to go on with, and the file in it that i-PI starts from."""
    given = Path(source)
    if output is None and RunFolder(given).is_run:  # the run folder, not its input
        folder = given
    else:
        folder = Path("runs") / given_name(given) if output is None else Path(output)
    if found := check_origin(folder, str(source)):
        note(found)
    start_file = prepare_resume(folder, changes, exact)
    if start_file == INPUT:
        note(f"{folder} has no checkpoint to go on from: it begins anew from step 0")
    return folder, start_file


def _write_summary(folder: Path, outcome: Outcome) -> dict[str, Any]:
    """Write the summary of a run, which may still go on."""
    from ipi_driver.report.run_summary import summarize, write_summary  # matplotlib

    summary = summarize(folder, outcome)
    write_summary(folder, summary)
    return summary


def _summary(folder: Path, outcome: Outcome, note: Callable[[str], None]) -> dict[str, Any]:
    try:
        if RunFolder(folder).input.motion == "replay":  # snapshots, and no time over which to average
            note(f"replayed; the errors of energies and forces: ipi-driver analyze {folder}")
            return {}
        return _write_summary(folder, outcome)
    except (UserError, OSError) as error:  # few steps, or a full disk: the run itself is good
        note(f"no summary: {error}")
        return {}
