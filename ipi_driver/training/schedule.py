"""Learning rate over the training, optimizers, and the moving average of the weights."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ipi_driver.errors import UserError
from ipi_driver.networks.base import EdgeNetwork
from ipi_driver.training.config import TrainConfig

Tensors = tuple[Tensor, ...] | list[Tensor]


def learning_rate_factor(
    step: int, progress: float, warmup_steps: int, final: float, warmup_fraction: float | None = None
) -> float:
    """Factor on the learning rate: linear warm-up, then half a cosine from 1 to ``final`` as progress goes 0 to 1.

    The warm-up is over after ``warmup_steps`` steps, or after a fraction of the training where that is given.
    """
    if warmup_fraction is not None:
        # the first step of a training that is timed has made no progress
        warmup = min(1.0, max(progress, 1e-4) / warmup_fraction) if warmup_fraction else 1.0
    else:
        warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, max(0.0, progress))))
    return warmup * (final + (1.0 - final) * cosine)


class StackedMuon(torch.optim.Muon if hasattr(torch.optim, "Muon") else object):  # type: ignore[misc]
    """torch's Muon, all matrices of one shape in one call: a network has many small ones.

    On a CPU, where bfloat16 is slow, the iteration runs in float32. The state is that of torch's.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step; ``closure`` is not used."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[p.shape].append(p)
            for shape, matrices in by_shape.items():
                self._step_of_one_shape(group, shape, matrices)

    def _step_of_one_shape(self, group: dict[str, Any], shape: torch.Size, matrices: list[Tensor]) -> None:
        gradients = [p.grad for p in matrices if p.grad is not None]
        buffers = []
        for p in matrices:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            buffers.append(self.state[p]["momentum_buffer"])
        momentum, rate = group["momentum"], group["lr"]
        torch._foreach_lerp_(buffers, gradients, 1.0 - momentum)
        ahead = torch._foreach_lerp(gradients, buffers, momentum) if group["nesterov"] else buffers
        updates = _orthogonalized(
            torch.stack(tuple(ahead)), group["ns_coefficients"], group["ns_steps"], group["eps"]
        )
        factor = 0.2 * math.sqrt(max(shape))  # as long as a step of AdamW
        torch._foreach_mul_(matrices, 1.0 - rate * group["weight_decay"])
        torch._foreach_add_(matrices, list(updates.to(matrices[0].dtype)), alpha=-rate * factor)


def _orthogonalized(
    stack: Tensor, coefficients: tuple[float, float, float], n_steps: int, eps: float
) -> Tensor:
    """Each matrix of a stack (n, rows, columns) with all its singular values near one, by Newton-Schulz iteration."""
    a, b, c = coefficients
    x = stack.float() if stack.device.type == "cpu" else stack.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(n_steps):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Optimizers:
    """AdamW, or Muon for the hidden matrices and AdamW for everything else; one interface for both.

    Muon (K. Jordan et al., 2024) orthogonalizes the momentum of each matrix; its step is scaled to the size of an
    AdamW step, so that one learning rate serves both. In equal time it leaves PET with a third of the error
    (`benchmarks/training`).
    """

    def __init__(self, network: EdgeNetwork, config: TrainConfig) -> None:
        chosen = config.optimizer or (network.config.optimizer if hasattr(torch.optim, "Muon") else "adamw")
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, p in network.named_parameters():
            hidden = p.ndim == 2 and min(p.shape) > 1 and "embedding" not in name
            (matrices if hidden and chosen == "muon" else others).append(p)
        lr, decay = config.learning_rate, config.weight_decay
        self.base_rate = lr
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, lr=lr, weight_decay=decay, betas=(0.9, 0.98))
        ]
        if matrices:
            if not hasattr(torch.optim, "Muon"):
                raise UserError("optimizer: muon needs torch 2.9 or newer; use optimizer: adamw")
            self.parts.append(
                StackedMuon(matrices, lr=lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
            )

    def step(self, factor: float) -> None:
        """One step with the learning rate times ``factor``; clears the gradients."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = self.base_rate * factor
            part.step()
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, object]]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, object]]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


class MovingAverage:
    """Exponential moving average of the weights, with a shorter memory in the first steps.

    Parameters
    ----------
    network
        Its weights begin the average.
    decay
        Weight of what went before at each step, at its largest.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        def mean_of_both(averaged: Tensors, current: Tensors, n_averaged: Tensor | int) -> None:
            steps = int(self._model.n_averaged)  # that on the CPU: `n_averaged` may be on a GPU
            now = min(decay, (1.0 + steps) / (10.0 + steps))
            get_ema_multi_avg_fn(now)(averaged, current, n_averaged)

        self._model = AveragedModel(network, multi_avg_fn=mean_of_both)
        self._model.n_averaged += 1  # the weights at the start count, else the first step would replace them

    @property
    def steps(self) -> int:
        """Steps of the training that have been averaged."""
        return int(self._model.n_averaged) - 1

    @property
    def weights(self) -> dict[str, Tensor]:
        """As the state of the network."""
        return dict(self._model.module.state_dict())

    def update(self, network: nn.Module) -> None:
        """Take in the weights after a step."""
        self._model.update_parameters(network)

    def restore(self, weights: dict[str, Tensor], steps: int) -> None:
        """Go on from the average of a training that was stopped."""
        self._model.module.load_state_dict(weights)
        self._model.n_averaged.fill_(steps + 1)
