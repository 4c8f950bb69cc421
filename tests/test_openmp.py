"""Workers of OpenMP, counted in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_CODE = """
import os, threading
import torch
from ipi_driver.openmp import release_workers

torch.set_num_threads(3)
x = torch.ones(2000, 1000)

def running():
    (x + x).sum()  # in parallel
    return len(os.listdir("/proc/self/task"))

before = running()
released = release_workers()
after = len(os.listdir("/proc/self/task"))
again = running()
other = []
def elsewhere():
    other.extend((running(), release_workers(), len(os.listdir("/proc/self/task"))))

thread = threading.Thread(target=elsewhere)
thread.start()
thread.join()
print(released, before - after, again - after, other[0] - other[2])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_workers_end_and_come_back() -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "MKL_"))}
    found = subprocess.run(
        [sys.executable, "-c", _CODE], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["True", "2", "2", "2"], found.stdout
