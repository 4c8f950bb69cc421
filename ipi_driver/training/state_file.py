"""Nested states (dicts, lists, numbers, texts, tensors) in one safetensors file, the structure as JSON in its header.

In the JSON text a tensor stands as ``{"tensor": name}`` with its name in the file. Nothing in the file can execute.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ipi_driver.errors import UserError

_KEY = "state"


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write ``state``, first under another name, so that an interruption leaves the old file whole."""
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(_without_tensors(state, "", tensors))
    partial = path.with_suffix(".partial")
    partial.write_bytes(save(tensors, {_KEY: text}))
    partial.replace(path)


def read_state(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read what `write_state` wrote; tuples come back as lists.

    Raises
    ------
    UserError
        If the file is not such a file.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            content = json.loads(file.metadata()[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} holds no state of a training: {error}") from error
    state: dict[str, Any] = _with_tensors(content, tensors)
    return state


def _without_tensors(node: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(node, torch.Tensor):
        # a copy: tensors that share memory cannot be written
        tensors[name] = node.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(node, dict):
        return {str(k): _without_tensors(v, f"{name}.{k}".lstrip("."), tensors) for k, v in node.items()}
    if isinstance(node, list | tuple):
        return [_without_tensors(v, f"{name}.{k}".lstrip("."), tensors) for k, v in enumerate(node)]
    return node


def _with_tensors(node: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(node, list):
        return [_with_tensors(v, tensors) for v in node]
    if not isinstance(node, dict):
        return node
    if set(node) == {"tensor"}:
        return tensors[node["tensor"]]
    # the optimizers of torch number their parameters; JSON has no keys but texts
    numbered = bool(node) and all(k.isdigit() for k in node)
    return {(int(k) if numbered else k): _with_tensors(v, tensors) for k, v in node.items()}
