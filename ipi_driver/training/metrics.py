"""Errors and symmetry errors of a network during its training, with the weights that would be saved."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch

from ipi_driver.networks.base import EdgeNetwork
from ipi_driver.rotations.augmentation import augmentation_rotations
from ipi_driver.structure import FloatArray
from ipi_driver.training.batch import Batch, Sample, collate
from ipi_driver.training.losses import forces_from_gradients, structure_energies
from ipi_driver.training.offsets import EnergyOffsets


class Errors(NamedTuple):
    """Errors on some structures.

    Attributes
    ----------
    force_mae, force_rmse
        Over components, eV/Å.
    energy_mae
        Per structure, eV; NaN without energies.
    energy_mae_per_atom
        eV; NaN without energies.
    """

    force_mae: float
    force_rmse: float
    energy_mae: float
    energy_mae_per_atom: float


@contextmanager
def weights_for_a_while(network: EdgeNetwork, weights: dict[str, torch.Tensor]) -> Iterator[None]:
    """The network with other weights inside of a ``with`` block."""
    own = {k: v.clone() for k, v in network.state_dict().items()}
    network.load_state_dict(weights)
    try:
        yield
    finally:
        network.load_state_dict(own)


def predict(
    network: EdgeNetwork, sample: Sample, rotation: FloatArray
) -> tuple[Batch, torch.Tensor, torch.Tensor]:
    """A sample in one rotation: the batch, its energy (1,) and its forces (n_atoms, 3), both rotated."""
    weight = next(network.parameters())
    batch = collate([sample], rotation[None], weight.device, weight.dtype)
    leaf = batch.vectors.requires_grad_(True)
    energies = structure_energies(network, leaf, batch)
    (gradients,) = torch.autograd.grad(energies.sum(), leaf)
    return batch, energies.detach(), forces_from_gradients(gradients, batch)


def errors_by_group(
    network: EdgeNetwork, samples: Sequence[Sample], offsets: EnergyOffsets
) -> tuple[Errors, dict[int, Errors]]:
    """Errors on all samples, and on those of each data set."""
    rows: dict[int, list[tuple[float, ...]]] = defaultdict(list)
    for sample in samples:
        batch, energies, forces = predict(network, sample, np.eye(3))
        batch = offsets.shifted(batch)
        assert batch.energies is not None
        assert batch.forces is not None
        error = forces - batch.forces
        energy = float((energies - batch.energies).abs().sum()) if sample.energy_known else float("nan")
        square = float(error.square().sum())
        rows[sample.group].append(
            (float(error.abs().sum()), square, error.numel(), energy, energy / sample.n_atoms)
        )
    every = [row for group in rows.values() for row in group]
    return _errors(every), {group: _errors(found) for group, found in rows.items()}


def _errors(rows: list[tuple[float, ...]]) -> Errors:
    absolute, square, count, energy, per_atom = np.array(rows).T
    known = np.isfinite(energy)
    nothing = float("nan")
    return Errors(
        float(absolute.sum() / count.sum()),
        float(np.sqrt(square.sum() / count.sum())),
        float(energy[known].mean()) if known.any() else nothing,
        float(per_atom[known].mean()) if known.any() else nothing,
    )


def symmetry_error(network: EdgeNetwork, samples: Sequence[Sample], seed: int) -> float:
    """Mean absolute deviation (eV/Å) of the forces under four fixed rotations of O(3) from their mean.

    Every structure counts the same, so that the molecules of a gas are seen beside a crystal.
    """
    rotations = augmentation_rotations("o3", 4, np.random.default_rng(seed))
    deviations = []
    for sample in samples:
        turned = []
        for rotation in rotations:
            batch, _, forces = predict(network, sample, rotation)
            turned.append(forces @ batch.rotations[0])
        found = torch.stack(turned)
        deviations.append(float((found - found.mean(0)).abs().mean()))
    return float(np.mean(deviations))


def forward_seconds(network: EdgeNetwork, samples: Sequence[Sample]) -> float:
    """Shortest of five forward evaluations of a batch: what a training step is compared with.

    They record the graph for derivatives, as those of a step do; without it they are faster by about a third.
    """
    weight = next(network.parameters())
    batch = collate(samples, np.tile(np.eye(3), (len(samples), 1, 1)), weight.device, weight.dtype)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        float(structure_energies(network, batch.vectors.requires_grad_(True), batch).sum().detach())
        seconds.append(time.perf_counter() - start)
    return min(seconds)
