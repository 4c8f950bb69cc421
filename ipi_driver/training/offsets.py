"""Data sets from other settings: their energies differ by a constant per atom that the training finds.

Another basis set, grid or program shifts the energies of a whole set by more than what a model is to learn. With
``offset: fit`` the labels of a set are E - n_atoms * c. The constant c begins as the mean of what the model that the
training starts from (else the baseline) leaves, and follows the mean error of the network with a memory of some
`_MEMORY` structures. Sets with ``offset: 0`` are the zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ipi_driver.structure import FloatArray
from ipi_driver.training.batch import Batch

_MEMORY = 100


class EnergyOffsets:
    """Energy offset of each data set.

    Parameters
    ----------
    fitted
        Whether the offset of each set is found.

    Attributes
    ----------
    values
        (n_sets,) eV per atom.
    """

    def __init__(self, fitted: Sequence[bool]) -> None:
        self.fitted = np.array(fitted, dtype=bool)
        self.values: FloatArray = np.zeros(len(self.fitted))

    def begin(self, groups: Sequence[int], errors: FloatArray) -> None:
        """Take the mean ``errors`` (label less prediction per atom, eV) of the structures of each set."""
        for group in np.flatnonzero(self.fitted):
            chosen = errors[np.array(groups) == group]
            chosen = chosen[np.isfinite(chosen)]
            if len(chosen):
                self.values[group] = chosen.mean()

    def shifted(self, batch: Batch) -> Batch:
        """The batch with the energies that the network is to learn."""
        if batch.energies is None or not self.fitted.any():
            return batch
        values = torch.from_numpy(self.values[batch.groups]).to(batch.energies)
        return replace(batch, energies=batch.energies - values * batch.n_atoms)

    def update(self, batch: Batch, energies: torch.Tensor) -> None:
        """Follow the errors of predicted ``energies`` (n_structures,) on a batch from `shifted`."""
        if batch.energies is None or not self.fitted.any():
            return
        errors = ((batch.energies - energies) / batch.n_atoms).double().cpu().numpy()
        known = batch.energy_weights.cpu().numpy() > 0.0
        for group, error in zip(batch.groups[known], errors[known], strict=True):
            if self.fitted[group]:
                self.values[group] += error / _MEMORY
