"""`run`: i-PI and the client as one job, from Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipi_driver.errors import UserError
from ipi_driver.ipi_files.run_folder import INPUT
from ipi_driver.runs.changes import Changes
from ipi_driver.runs.execute import Outcome, run_simulation
from ipi_driver.runs.origin import check_origin, given_name
from ipi_driver.runs.prepare import find_source, prepare
from ipi_driver.runs.resume import prepare_resume
from ipi_driver.runs.sockets import foreign_note

if TYPE_CHECKING:
    from ipi_driver.analysis.result import Analysis


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
        """The observables of this run; options as for `ipi_driver.analyze`."""
        from ipi_driver.api.analyzing import analyze

        return analyze(self.folder, **options)[0]


def run(
    source: str | Path,
    *,
    output: str | Path | None = None,
    resume: bool = False,
    one_core: bool | None = None,
    note: Callable[[str], None] = print,
    **changes: Any,
) -> Run:
    """Run i-PI and the client together until the end, as ``ipi-driver run`` does.

    Parameters
    ----------
    source
        A shipped input, a folder with ``input.xml`` and ``driver.yaml``, or an XML file.
    output
        Run folder; None: ``runs/NAME``.
    resume
        Continue from the newest checkpoint.
    one_core
        Keep i-PI and the client on one core; None: where a run is faster so.
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
    unknown = sorted(set(changes) - set(Changes.__dataclass_fields__))
    if unknown:
        known = ", ".join(Changes.__dataclass_fields__)
        raise UserError(f"`run` has no option {unknown[0]!r}; it has: {known}")
    if isinstance(changes.get("structure"), str):
        changes["structure"] = Path(changes["structure"])
    wanted = Changes(**changes)
    if resume:
        folder = Path(output) if output is not None else Path("runs") / given_name(Path(source))
        if found := check_origin(folder, str(source)):
            note(found)
        start_file = prepare_resume(folder, wanted)
        if start_file == INPUT:
            note(f"{folder} has no checkpoint to go on from: it begins anew from step 0")
    else:
        found_source = find_source(source, wanted)
        folder, start_file = Path(output or Path("runs") / found_source.name), INPUT
        if replaced := foreign_note(found_source.path.read_text()):
            note(replaced)
        prepare(found_source, folder, wanted)
    outcome = run_simulation(folder, start_file, None, one_core)
    return Run(folder, outcome, _summary(folder, outcome, note))


def _summary(folder: Path, outcome: Outcome, note: Callable[[str], None]) -> dict[str, Any]:
    from ipi_driver.ipi_files.run_folder import RunFolder
    from ipi_driver.report.run_summary import summarise, write_summary

    if RunFolder(folder).input.motion == "replay":
        return {}
    try:
        write_summary(folder, summarise(folder, outcome))
    except (UserError, OSError) as error:  # few steps, or a full disk: the run itself is good
        note(f"no summary: {error}")
        return {}
    content: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return content
