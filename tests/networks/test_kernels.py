"""The kernels for GPUs, run by Triton's interpreter where there is none, against the separate operations in float64."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

SCRIPT = Path(__file__).parent.parent / "places" / "kernels_interpreted.py"


@pytest.mark.skipif(torch.cuda.is_available(), reason="the tests marked gpu run the compiled kernels")
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_passes_with_the_kernels(norm: str) -> None:
    """In a process of its own: Triton reads the switch when the kernels are defined."""
    found = subprocess.run(
        [sys.executable, str(SCRIPT), norm],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "attention: yes" in found.stdout
