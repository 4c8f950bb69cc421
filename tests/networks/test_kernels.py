"""The kernels for GPUs, by Triton's interpreter on a CPU, against the separate operations in float64."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

GPU = torch.cuda.is_available()
SCRIPT = Path(__file__).parent.parent / "places" / "kernels_compared.py"


@pytest.mark.parametrize(
    "interpreted",
    [
        pytest.param(
            False, marks=[pytest.mark.gpu, pytest.mark.skipif(not GPU, reason="needs a CUDA device")]
        ),
        pytest.param(True, marks=pytest.mark.skipif(GPU, reason="compiled here")),
    ],
)
@pytest.mark.parametrize("name", ["pre", "post", "metatrain"])
def test_passes_with_the_kernels(name: str, interpreted: bool) -> None:
    """In a process of its own: Triton reads the switch when the kernels are defined."""
    found = subprocess.run(
        [sys.executable, str(SCRIPT), name],
        env=os.environ | {"TRITON_INTERPRET": str(int(interpreted))},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "attention: yes" in found.stdout
