"""Continuing a run folder: the newest checkpoint, with outputs that go on exactly where it stands."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from ipi_driver.client.settings import ServeSettings, read_yaml
from ipi_driver.errors import UserError
from ipi_driver.ipi_files import edit as xml
from ipi_driver.ipi_files.run_folder import (
    CONTINUE,
    INPUT,
    SETTINGS,
    STARTING,
    RunFolder,
    keep_checkpoint,
)
from ipi_driver.ipi_files.steps import cut_after, cut_swaps_from
from ipi_driver.runs.changes import RESUMABLE, Changes, changed_settings, check_settings, write_settings
from ipi_driver.runs.events import EVENTS, add_event
from ipi_driver.runs.gaps import gaps, uncut
from ipi_driver.runs.lock import locked
from ipi_driver.runs.origin import changes_to_go_on
from ipi_driver.runs.prepare import Source, prepare
from ipi_driver.runs.sockets import with_address, with_free_ports
from ipi_driver.whole_file import write_whole


def prepare_resume(output: Path, changes: Changes, exact: bool = False) -> str:
    """Make a run folder ready to go on; returns the name of the file that i-PI starts from.

    Outputs beyond the checkpoint (i-PI was killed after it had written it) are cut off, as i-PI writes them again.
    A run that was killed before its first checkpoint begins anew with the input in its folder, which is the file that
    is returned then; what it had written is set aside.

    Raises
    ------
    UserError
        If there is nothing to continue, another launcher runs in the folder, or a change that is not one of `RESUMABLE`
        differs from what the run was begun with; with ``exact`` also where the run was begun with one that is missing.
    """
    run = RunFolder(output)
    if not run.is_run:
        raise UserError(f"nothing to resume in {output}: it is not a run folder; start it without --resume")
    changes = changes_to_go_on(output, changes, exact)
    with locked(output):  # cutting the outputs of a run that goes on would destroy them
        return go_on(run, changes, lambda text: _report(output, text))


def _report(output: Path, text: str) -> None:
    """Print what was found in a run folder, and keep it for the summary."""
    print(text, file=sys.stderr)
    add_event(output, "resume", text)


def go_on(run: RunFolder, changes: Changes, report: Callable[[str], None]) -> str:
    """As `prepare_resume`, of a run folder that the caller has locked.

    No checkpoint is removed: what i-PI would overwrite gets another name (`keep_checkpoint`) until the run has made a
    step. A damaged checkpoint is left out and reported with the reason, as are rows that the outputs lack.
    """
    output = run.path
    found, damaged = run.checkpoints(), run.damaged_checkpoints()
    done = max(found, default=0)
    goes_on = f"the run goes on from {found[done].name} of step {done}" if done else "no other has a step"
    for path, problem in damaged.items():
        report(f"{path} is damaged ({problem}): {goes_on}")
    if done > 0:
        return _prepare_resume(run, changes, found, report)
    if not run.is_starting:
        run.set_aside()
        (output / STARTING).touch()
    kept = (output / EVENTS, *_keep_stats(output, 0))  # the history of the run is not that of its first part
    source = Source((output / INPUT).resolve(), read_yaml(output / SETTINGS))
    prepare(source, output, changes, lock=False, keep=kept)
    return INPUT


def _prepare_resume(
    run: RunFolder, changes: Changes, found: dict[int, Path], report: Callable[[str], None]
) -> str:
    output, done = run.path, max(found)
    text, input_text = found[done].read_text(), (output / INPUT).read_text()
    steps = changes.steps or xml.total_steps(input_text, output / INPUT)
    if done >= steps:
        raise UserError(
            f"the run in {output} has done {done} of {steps} steps; continue it with a larger --steps"
        )
    used = Changes(**{key: getattr(changes, key) for key in RESUMABLE if key != "steps"})
    settings = changed_settings(read_yaml(output / SETTINGS), used)
    check_settings(settings, str(output / SETTINGS))

    for key in ("structure", "input"):
        if isinstance(settings.get(key), Path) and settings[key].is_relative_to(output.resolve()):
            settings[key] = str(settings[key].relative_to(output.resolve()))
    if settings.get("endpoints"):  # the ports may be another run's by now
        text, settings["endpoints"] = with_free_ports(text, settings["endpoints"])
        for old, new in zip(xml.sockets(input_text), xml.sockets(text), strict=False):
            if old != new and old.mode == new.mode == "inet":
                input_text = xml.with_port(input_text, old, int(new.address.rpartition(":")[2]))
        if changes.address is not None:
            text, settings["endpoints"] = with_address(text, settings["endpoints"], changes.address)
            for old, new in zip(xml.sockets(input_text), xml.sockets(text), strict=False):
                host, _, port = new.address.rpartition(":")
                if old.mode == "inet":
                    input_text = xml.with_port(input_text, old, int(port), host)
                else:
                    input_text = xml.with_inet(input_text, old, host, int(port))
    write_settings(output, settings)
    for path in run.half_copies():
        path.unlink()
        report(f"{path} is removed: the copy of a checkpoint was interrupted")
    _take(run, found[done], by_hand(xml.with_total_steps(text, steps)))
    write_whole(output / INPUT, xml.with_total_steps(input_text, steps))
    for path in run.outputs():
        if not cut_after(path, done):
            report(
                f"{path} holds no numbers of steps and is not cut: it may repeat some after {done}; add `step` to the "
                "properties of the next run"
            )
    for path in run.swap_files():
        cut_swaps_from(path, done)
    for gap in gaps(output, done):
        report(gap)
    for path in uncut(output):
        report(
            f"{path} is not cut: it may repeat what follows step {done}; a copy of it shows where the new part begins"
        )
    (output / STARTING).unlink(missing_ok=True)
    _keep_stats(output, done)
    return CONTINUE


def _keep_stats(output: Path, done: int) -> list[Path]:
    """Give what the clients counted up to a checkpoint names of its own; returns the files of all parts."""
    for stats in sorted(output.glob("stats*.json")):  # of several clients stats-2.json, ...
        if not stats.name.startswith("stats-to-"):
            stats.rename(_kept_stats(output, done, stats.name.removeprefix("stats")))
    return sorted(output.glob("stats-to-*.json"))


def _kept_stats(output: Path, done: int, end: str) -> Path:
    """The name for what a client counted up to a checkpoint; several parts may have begun from the same."""
    numbers = ("", *(f".{k}" for k in range(1, len(list(output.iterdir())) + 1)))
    paths = (output / f"stats-to-{done}{number}{end}" for number in numbers)
    return next(path for path in paths if not path.exists())


def _take(run: RunFolder, chosen: Path, text: str) -> None:
    """Make a checkpoint the one that i-PI starts from; the others, which it would overwrite, get other names."""
    for path, step in run.checkpoint_steps().items():
        # those with a number i-PI leaves as they are
        if path != chosen and not re.search(r"_\d+$", path.name):
            keep_checkpoint(path, step)
    write_whole(run.path / CONTINUE, text)
    # now it is there twice; i-PI would keep its own file as #RESTART#0# and so on
    if chosen.name != CONTINUE and not re.search(r"_\d+$", chosen.name):
        chosen.unlink(missing_ok=True)


def by_hand(text: str) -> str:
    """The checkpoint with the default prefix of sockets instead of that of a run which is over."""
    default = str(ServeSettings.model_fields["sockets_prefix"].default)
    return xml.with_attribute(text, "simulation", "sockets_prefix", default)
