"""Torch devices and precisions by their names."""

from __future__ import annotations

import torch

from ipi_driver.errors import UserError


def torch_device(name: str) -> torch.device:
    """The device, after a tensor was put there.

    Raises
    ------
    UserError
        If there is no such device.
    """
    try:
        device = torch.device(name)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("no CUDA device is available")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"`device` {name!r} cannot be used ({reason}); use --device cpu") from error
    return device


def torch_dtype(name: str) -> torch.dtype:
    """The precision called "float32" or "float64"."""
    return torch.float64 if name == "float64" else torch.float32
