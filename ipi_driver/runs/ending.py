"""How a run ended: from the exit states of i-PI and the client, i-PI's log, and its checkpoint."""

from __future__ import annotations

import re
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ipi_driver.errors import UserError
from ipi_driver.ipi_files.run_folder import RunFolder
from ipi_driver.runs.resume import by_hand
from ipi_driver.whole_file import write_whole

# i-PI ends with status 0 whatever the reason; these words of its log are the reason
_STOPS = {
    "EXIT file detected": "an EXIT file was found",
    "clock time": "its <total_time> has passed",
    "wallclock": "its <total_time> has passed",
    "Kill signal received": "i-PI received a signal to stop",
}
_OF_EXTRAS = "; a metatomic model sends further outputs with `extras: [NAME]` in driver.yaml"
_SUCCESS = "I-PI reports success"
_PROBLEM = "I-PI reports a problem"
_CONVERGED = "Geometry optimization converged"
_ALL_STEPS = "Exiting cleanly"
"""Of i-PI that has done all its steps, or was asked to stop."""
_ERROR = re.compile(r"[A-Za-z_][\w.]*(Error|Exception)\b")
_MESSAGE = re.compile(r"Soft exit has been requested with message: '\s*(.*?)'")


@dataclass(frozen=True)
class Statuses:
    """Exit statuses, None of a process that the launcher has stopped itself, and i-PI's log of this run."""

    ipi: int | None
    client: int | None
    log: str


@dataclass(frozen=True)
class Ending:
    """A run that ended without an error.

    Attributes
    ----------
    step
        Steps done.
    finished
        Whether i-PI did all that its input asks for.
    reason
        Why it stopped before.
    """

    step: int
    finished: bool
    reason: str = ""


class RunFailed(UserError):
    """i-PI or the client failed or was killed.

    Attributes
    ----------
    what
        The same as the message without the remedy.
    who
        "i-PI" or "client".
    killed
        Whether it ended by a signal, or in another way without an error message.
    step
        Steps done.
    began
        Whether the run has done a step.
    """

    def __init__(self, what: str, remedy: str, who: str, killed: bool, step: int, began: bool) -> None:
        super().__init__(what + remedy)
        self.what, self.who, self.killed, self.step, self.began = what, who, killed, step, began


def read_ending(folder: Path, statuses: Statuses, last_step: int, total: int) -> Ending:
    """How the run in ``folder`` ended.

    Parameters
    ----------
    folder
        The run folder.
    statuses
        Of both processes.
    last_step
        Last step in the property file, whose stride may not meet the last one.
    total
        Steps that the input asks for.

    Raises
    ------
    RunFailed
        If i-PI or the client failed or was killed; the message names which, the reason and the remedy.
    """
    run = RunFolder(folder)
    found = run.checkpoints() if folder.is_dir() else {}
    step = max(0, last_step, *found)
    began = not run.is_starting
    where = f"at step {step} of {total}" if began else "before the first step"
    remedy = "; continue with --resume" if began else ""

    def failed(what: str, who: str, killed: bool, ending: str = "", hint: str = remedy) -> RunFailed:
        return RunFailed(f"{what} {where}{ending}", hint, who, killed, step, began)

    if statuses.ipi is not None and statuses.ipi < 0:
        what = f"i-PI was killed by {_signal(statuses.ipi)}"
        raise failed(what, "i-PI", True, hint=f"; the client has ended{remedy}")
    if statuses.ipi:
        error = _last_line(statuses.log)
        words = f": {error} (see {folder / 'i-pi.log'})"
        raise failed("i-PI failed", "i-PI", False, words, _OF_EXTRAS if "Extra type" in error else "")
    success = _SUCCESS in statuses.log
    message = _MESSAGE.search(statuses.log)
    # i-PI has ended by itself for it; the client, None, may have been slow to end after its error
    left = (
        statuses.ipi == 0 and not statuses.client and message is not None and "Client shutdown" in message[1]
    )
    done = (success and statuses.ipi == 0) or max(found, default=0) >= total  # it failed after the last step
    if (statuses.client or left) and not done:
        status = 1 if statuses.client is None else statuses.client
        killed = status <= 0 or status > 128
        what = _client_failure(folder, status)
        raise failed(what, "client", killed, hint=f"; i-PI was stopped{remedy}")
    if _PROBLEM in statuses.log:
        raise failed("i-PI stopped", "i-PI", False, f": {message[1] if message else _PROBLEM}", "")
    stop = next((reason for words, reason in _STOPS.items() if words in statuses.log), None)
    if step >= total or (success and stop is None):
        return Ending(step, finished=True)
    reason = stop or (message[1] if message else "i-PI gave no reason")
    return Ending(step, finished=False, reason=reason)


def last_message(folder: Path) -> str:
    """The reason that i-PI gave when it last stopped in ``folder``; empty where it never did."""
    log = folder / "i-pi.log"
    found = _MESSAGE.findall(log.read_text(errors="replace")) if log.is_file() else []
    return str(found[-1]) if found else ""


def has_converged(folder: Path) -> bool:
    """Whether i-PI ended the minimization in ``folder`` because it had met its tolerances."""
    return _CONVERGED in last_message(folder)


def has_ended_by_itself(folder: Path) -> bool:
    """Whether i-PI ended in ``folder`` because nothing was left to do, whatever the number of steps.

    An optimizer that has met its tolerances, vibrations, a replay at the end of its file.
    """
    message = last_message(folder)
    return _SUCCESS in message and _ALL_STEPS not in message


def clean_restart(folder: Path) -> None:
    """Give RESTART the default prefix of sockets, so that it can also be continued by hand.

    Where a full disk does not allow it, RESTART stays as i-PI has written it: it is continued with --resume as before.
    """
    path = folder / "RESTART"
    with suppress(UnicodeDecodeError, OSError):
        if path.is_file():
            write_whole(path, by_hand(path.read_text()))


def _signal(status: int) -> str:
    return signal.Signals(-status).name


def _client_failure(folder: Path, status: int) -> str:
    if status < 0:
        return f"the client was killed by {_signal(status)}"
    if status > 128:
        return f"the client was ended by {_signal(128 - status)}"
    if status == 0:
        return "the client ended without an error message: the model has ended its process (os._exit)"
    log = folder / "client.log"
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    reason = errors[-1] if errors else f"status {status}, {_last_line(chr(10).join(lines))} (see {log})"
    return f"the client failed ({reason})"


def _last_line(text: str) -> str:
    """The last error of a Python program that has ended by itself, else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [
        line for line in lines if _ERROR.match(line)
    ]  # warnings may follow, as of resources that are left
    return (errors or lines or ["no output"])[-1]
