"""A process that ends with the one that started it, also where that one is killed and cannot stop it.

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
    """The command, which gets SIGTERM when this process dies (on Linux; elsewhere as it is)."""
    if not sys.platform.startswith("linux"):
        return list(command)
    return [sys.executable, "-I", __file__, str(os.getpid()), *command]


def _become(parent: int, command: Sequence[str]) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() == parent:  # else it died before the kernel knew
        os.execvp(command[0], list(command))


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
