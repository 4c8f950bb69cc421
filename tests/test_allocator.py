"""The allocator's settings, seen in the page faults of a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_CODE = """
import ctypes, resource, threading
from ipi_driver.allocator import keep_freed_memory
print(keep_freed_memory())
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
size = 64 << 20
def steps():
    for step in range(6):
        if step == 1:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(size)))
        libc.memset(block, 1, ctypes.c_size_t(size))
        libc.free(block)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
thread = threading.Thread(target=steps)  # as the client, which evaluates in a thread
thread.start()
thread.join()
steps()
"""


def _faults(**environment: str) -> tuple[str, int]:
    """Whether memory is kept, and the larger number of page faults of a thread and of the main thread."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_"))}
    clean.pop("IPI_DRIVER_ALLOCATOR", None)
    found = subprocess.run(
        [sys.executable, "-c", _CODE], env=clean | environment, capture_output=True, text=True, check=True
    )
    kept, *faults = found.stdout.split()
    return kept, max(map(int, faults))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_memory_is_used_again() -> None:
    kept, faults = _faults()
    assert kept == "True"
    kept, faults_of_the_system = _faults(IPI_DRIVER_ALLOCATOR="system")
    assert kept == "False"
    # 5 × 64 MiB cleared again: 160 huge pages at least
    assert faults < 80 < faults_of_the_system


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_settings_of_the_user_stay() -> None:
    assert _faults(MALLOC_TOP_PAD_="131072")[0] == "False"
    # arenas of the user's: threads map large blocks anew, the main thread does not
    kept, faults = _faults(MALLOC_ARENA_MAX="4")
    assert kept == "True"
    assert faults > 80
