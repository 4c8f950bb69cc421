"""The stacked Muon takes the step of the published iteration, here by singular value decompositions in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ipi_driver.networks.e3nn.config import E3nnConfig
from ipi_driver.networks.e3nn.network import E3nnNetwork
from ipi_driver.networks.pet import PetConfig, PetNetwork
from ipi_driver.training.config import TrainConfig
from ipi_driver.training.schedule import Optimizers, StackedMuon

pytestmark = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="needs torch 2.9 or newer")

A, B, C = 3.4445, -4.7750, 2.0315
RATE, DECAY, MOMENTUM = 0.01, 0.1, 0.95


def reference(weights: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    """Weights after steps with these gradients."""
    momentum = np.zeros_like(weights)
    for gradient in gradients:
        momentum = MOMENTUM * momentum + (1 - MOMENTUM) * gradient
        ahead = (1 - MOMENTUM) * gradient + MOMENTUM * momentum
        left, values, right = np.linalg.svd(ahead, full_matrices=False)
        values = values / np.linalg.norm(values)
        for _ in range(5):
            values = A * values + B * values**3 + C * values**5
        step = 0.2 * np.sqrt(max(weights.shape)) * (left * values) @ right
        weights = weights * (1 - RATE * DECAY) - RATE * step
    return weights


def test_steps_of_matrices_of_several_shapes() -> None:
    rng = np.random.default_rng(0)
    shapes = [(8, 5), (5, 8), (8, 5), (6, 6)]
    start = [rng.normal(size=shape) for shape in shapes]
    gradients = [[rng.normal(size=shape) for _ in range(3)] for shape in shapes]
    parameters = [torch.nn.Parameter(torch.tensor(w, dtype=torch.float32)) for w in start]
    optimizer = StackedMuon(parameters, lr=RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw")
    unused = torch.nn.Parameter(torch.zeros(4, 4))
    optimizer.add_param_group({"params": [unused]})
    for k in range(3):
        for p, of_one in zip(parameters, gradients, strict=True):
            p.grad = torch.tensor(of_one[k], dtype=torch.float32)
        optimizer.step()
    for p, weights, of_one in zip(parameters, start, gradients, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), reference(weights, of_one), atol=2e-5)
    assert not unused.any()
    # torch's own goes on from its state
    other = torch.optim.Muon(parameters, lr=RATE, adjust_lr_fn="match_rms_adamw")
    other.add_param_group({"params": [unused]})
    other.load_state_dict(optimizer.state_dict())
    other.step()


def test_which_networks_are_trained_with_it() -> None:
    data = {"data": {"files": ["x.extxyz"]}, "output": "x"}
    pet = PetNetwork(PetConfig(species=(1, 8), d_model=16, n_heads=2, d_feedforward=16, d_head=8))
    e3nn = E3nnNetwork(E3nnConfig(species=(1, 8), channels=4, product_channels=2))
    for network, chosen, expected in (
        (pet, {}, 2),
        (pet, {"optimizer": "adamw"}, 1),
        (e3nn, {}, 1),
        (e3nn, {"optimizer": "muon"}, 2),
    ):
        parts = Optimizers(network, TrainConfig.model_validate(data | chosen)).parts
        assert [isinstance(part, StackedMuon) for part in parts] == [False, True][:expected]
        held = [p for part in parts for group in part.param_groups for p in group["params"]]
        assert sorted(map(id, held)) == sorted(map(id, network.parameters()))
