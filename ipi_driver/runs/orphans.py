"""How the launcher starts i-PI and the client.

i-PI ends with the launcher, also if the launcher is killed and cannot stop it. Both ignore the signals of a queue,
which may send them to all processes of a job; the launcher alone handles them.

Run as a script it asks the kernel for that, and becomes the command that it is given. (A ``preexec_fn`` would do the
same between fork and exec, where a process with threads must not run Python.)
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def ending_with_parent(command: Sequence[str]) -> list[str]:
    """The command, which gets SIGTERM when this process dies (on Linux), and ignores SIGUSR1 and SIGUSR2."""
    return [sys.executable, "-I", __file__, str(os.getpid()), *command]


def ignoring_queue_signals(command: Sequence[str]) -> list[str]:
    """The command with SIGUSR1 and SIGUSR2 ignored: the launcher handles them, and ends the process itself."""
    return [sys.executable, "-I", __file__, "0", *command]


def _become(parent: int, command: Sequence[str]) -> None:
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    if parent and sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if parent in (0, os.getppid()):  # else it died before the request to the kernel
        os.execvp(command[0], list(command))


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
