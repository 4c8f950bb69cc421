"""Products of low precision in training need a gradient that is not a difference."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ipi_driver.training.config import TrainConfig


def test_tf32_needs_the_exact_force_gradient() -> None:
    base = {"data": {"files": ["water.extxyz"]}, "output": "out", "tf32": True}
    with pytest.raises(ValidationError, match="tf32 needs `force_gradient: exact`"):
        TrainConfig.model_validate(base)
    assert TrainConfig.model_validate(base | {"force_gradient": "exact"}).tf32
