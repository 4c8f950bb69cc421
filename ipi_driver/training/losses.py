"""Losses and the gradient of a loss on forces by the weights.

For a loss L(E, G) of the energies E_s of the structures and the derivatives G = dE/dd by the edge vectors d, with
c_s = dL/dE_s and u = dL/dG,

    dL/dw = d/dw sum_s c_s E_s  +  d/dw (u . grad_d) sum_s E_s

The second term needs second derivatives. Differentiating twice is exact; a directional finite difference,

    dL/dw ~ d/dw [ sum_s (1/h + c_s) E_s(d + h u) - (1/h) sum_s E_s(d) ],

needs two first-order passes and no more, whose relative error is of the order of the displacement h u.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ipi_driver.networks.base import EdgeNetwork
from ipi_driver.training.batch import Batch
from ipi_driver.training.config import LossConfig

LossFunction = Callable[[torch.Tensor, torch.Tensor, Batch], torch.Tensor]


@dataclass
class StepResult:
    """Numbers of one step for the log: loss, mean absolute errors (eV/Å, eV per structure)."""

    loss: float
    force_mae: float
    energy_mae: float


def structure_energies(network: EdgeNetwork, vectors: torch.Tensor, batch: Batch) -> torch.Tensor:
    """(n_structures,) energies of the network, eV, summed in float64."""
    atomic, bonds = network(vectors, batch.graph)
    total = torch.zeros(len(batch.n_atoms), dtype=torch.float64, device=vectors.device)
    total = total.index_add(0, batch.node_structure, atomic.double())
    return total.index_add(0, batch.edge_structure, bonds.double())


def forces_from_gradients(gradients: torch.Tensor, batch: Batch) -> torch.Tensor:
    """(n_nodes, 3) forces from the derivatives (n_edges, 3) of the energy by the edge vectors."""
    net = gradients - gradients[batch.graph.reverse]
    return gradients.new_zeros(batch.graph.n_nodes, 3).index_add(0, batch.graph.centers, net)


def virials_from_gradients(gradients: torch.Tensor, batch: Batch) -> torch.Tensor:
    """(n_structures, 3, 3) virials from the derivatives by the edge vectors."""
    outer = -gradients[:, :, None] * batch.vectors[:, None, :]
    return gradients.new_zeros(len(batch.n_atoms), 3, 3).index_add(0, batch.edge_structure, outer)


def rotation_gradients(gradients: torch.Tensor, batch: Batch) -> torch.Tensor:
    """(n_structures, 3) derivatives of the energies by a rotation of the structure, see `rotation_gradient`."""
    twist = torch.linalg.cross(batch.vectors, gradients)
    return gradients.new_zeros(len(batch.n_atoms), 3).index_add(0, batch.edge_structure, twist)


def _smooth_norm(x: torch.Tensor, scale: float) -> torch.Tensor:
    """``sqrt(x² + scale²) - scale`` of the vectors along the last axis: quadratic below ``scale``, linear above."""
    return (x.square().sum(-1) + scale * scale).sqrt() - scale


def label_loss(config: LossConfig) -> LossFunction:
    """Loss on energies, forces and virials of labelled structures, and on their response to a rotation."""
    turning = rotation_loss(config)

    def loss(energies: torch.Tensor, gradients: torch.Tensor, batch: Batch) -> torch.Tensor:
        assert batch.energies is not None
        assert batch.forces is not None
        force_error = forces_from_gradients(gradients, batch) - batch.forces
        energy_error = (energies - batch.energies) / batch.n_atoms
        # an energy per atom counts as linear from a twentieth of the scale of the forces on
        force_norm = _smooth_norm(force_error, config.smoothing) * batch.weights[batch.node_structure]
        energy_norm = _smooth_norm(energy_error[:, None], 0.05 * config.smoothing) * batch.energy_weights
        total = config.forces * force_norm.mean() + config.energy * energy_norm.mean()
        if config.virial and batch.virials is not None:
            error = (virials_from_gradients(gradients, batch) - batch.virials).flatten(1) / batch.n_atoms[
                :, None
            ]
            total = total + config.virial * (_smooth_norm(error, config.smoothing) * batch.weights).mean()
        if config.rotation_gradient:
            total = total + turning(energies, gradients, batch)
        return total

    return loss


def rotation_loss(config: LossConfig) -> LossFunction:
    """Penalty on the response of the energy to a rotation, whose label is zero, per atom; it needs one rotation."""

    def loss(energies: torch.Tensor, gradients: torch.Tensor, batch: Batch) -> torch.Tensor:
        turn = rotation_gradients(gradients, batch) / batch.n_atoms[:, None]
        return config.rotation_gradient * _smooth_norm(turn, 0.05 * config.symmetry_smoothing).mean()

    return loss


def symmetry_loss(config: LossConfig) -> LossFunction:
    """Spread of energies and forces over ``symmetry_rotations`` rotations; a batch holds each structure as many times.

    The forces are turned back to a common orientation first; each prediction is drawn towards the mean of all.
    """
    n_rotations = config.symmetry_rotations

    def loss(energies: torch.Tensor, gradients: torch.Tensor, batch: Batch) -> torch.Tensor:
        n_structures = len(batch.n_atoms) // n_rotations
        turned = torch.einsum(
            "ni,nij->nj", forces_from_gradients(gradients, batch), batch.rotations[batch.node_structure]
        )
        forces = turned.view(n_rotations, -1, 3)
        spread = _smooth_norm(forces - forces.mean(0), config.symmetry_smoothing).mean()
        per_atom = (energies / batch.n_atoms).view(n_rotations, n_structures)
        energy_spread = _smooth_norm(
            (per_atom - per_atom.mean(0))[..., None], 0.05 * config.symmetry_smoothing
        ).mean()
        return config.symmetry * (config.forces * spread + config.energy * energy_spread)

    return loss


def joint_loss(config: LossConfig) -> LossFunction:
    """Labels and symmetry penalty of the same labelled structures in ``symmetry_rotations`` rotations."""
    labels, symmetry = label_loss(config), symmetry_loss(config)

    def loss(energies: torch.Tensor, gradients: torch.Tensor, batch: Batch) -> torch.Tensor:
        return labels(energies, gradients, batch) + symmetry(energies, gradients, batch)

    return loss


def accumulate_gradients(
    network: EdgeNetwork, batch: Batch, loss: LossFunction, displacement: float | None
) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Add dL/dw to the ``.grad`` of the weights.

    Parameters
    ----------
    displacement
        Largest displacement h |u| in Å of the directional finite difference; None differentiates twice.

    Returns
    -------
    loss, energies, gradients
        The loss, the energies (n_structures,) and the derivatives by the edge vectors (n_edges, 3), detached.
    """
    leaf = batch.vectors.detach().requires_grad_(True)
    energies = structure_energies(network, leaf, batch)
    if displacement is None:
        (gradients,) = torch.autograd.grad(energies.sum(), leaf, create_graph=True)
        value = loss(energies, gradients, batch)
        value.backward()
        return float(value.detach()), energies.detach(), gradients.detach()

    weights = [p for p in network.parameters() if p.requires_grad]
    before = torch.autograd.grad(energies.sum(), [leaf, *weights], allow_unused=True)
    free_energies = energies.detach().requires_grad_(True)
    free_gradients = before[0].detach().requires_grad_(True)
    value = loss(free_energies, free_gradients, batch)
    slope, direction = torch.autograd.grad(value, [free_energies, free_gradients], allow_unused=True)
    if direction is None:
        direction = torch.zeros_like(free_gradients)
    if slope is None:
        slope = torch.zeros_like(free_energies)
    largest = float(direction.norm(dim=1).max()) if len(direction) else 0.0  # a lone atom has no edges
    inverse_h = largest / displacement
    if inverse_h == 0.0:
        inverse_h = 1.0
    moved = structure_energies(network, batch.vectors + direction / inverse_h, batch)
    after = torch.autograd.grad(((inverse_h + slope) * moved).sum(), weights, allow_unused=True)
    for weight, new, old in zip(weights, after, before[1:], strict=True):
        if new is None or old is None:
            continue
        update = new - inverse_h * old
        weight.grad = update if weight.grad is None else weight.grad + update
    return float(value.detach()), free_energies.detach(), free_gradients.detach()
