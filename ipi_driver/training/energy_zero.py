"""A model that a training starts from has the energy zero of its own data: another code, functional or pseudopotential
has another one, by up to hundreds of eV per atom. The atomic energies take up that difference before the first step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ipi_driver.networks.base import EdgeNetwork
from ipi_driver.networks.baseline import Baseline
from ipi_driver.structure import FloatArray
from ipi_driver.training.batch import collate, make_sample
from ipi_driver.training.data import LabelledStructure
from ipi_driver.training.fit_baseline import fit_atomic_energies
from ipi_driver.training.losses import structure_energies


def shift_to_data(
    data: Sequence[LabelledStructure],
    network: EdgeNetwork,
    baseline: Baseline,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[Baseline, dict[int, float]]:
    """The baseline with atomic energies corrected by a fit to what the model leaves of the energies of ``data``.

    Elements that the data do not hold keep theirs. On the model's own data the correction is the small mean of its
    errors.

    Parameters
    ----------
    data
        Training structures, of elements that the model knows.
    network, baseline
        The model; the network is moved to ``device`` and ``dtype``.

    Returns
    -------
    The baseline, and the correction in eV of each atomic number in the data.
    """
    elements = tuple(sorted({int(z) for item in data for z in item.structure.numbers}))
    counts = np.array([[np.count_nonzero(d.structure.numbers == z) for z in elements] for d in data], float)
    rest = _energy_errors(data, network.to(device, dtype), baseline)
    correction = fit_atomic_energies(counts, rest, elements, 1.0 / np.sqrt(counts.sum(1)))
    energies = np.array(baseline.atomic_energies, dtype=np.float64)
    energies[[baseline.species.index(z) for z in elements]] += correction
    shifts = dict(zip(elements, correction.tolist(), strict=True))
    return replace(baseline, atomic_energies=energies), shifts


def _energy_errors(data: Sequence[LabelledStructure], network: EdgeNetwork, baseline: Baseline) -> FloatArray:
    """(n_structures,) labels less predictions, eV."""
    weight = next(network.parameters())
    errors = []
    for item in data:
        sample = make_sample(item, network.config.species, network.config.cutoff, baseline)
        batch = collate([sample], np.eye(3)[None], weight.device, weight.dtype)
        with torch.no_grad():
            predicted = structure_energies(network, batch.vectors, batch)
        assert sample.energy is not None
        errors.append(sample.energy - float(predicted[0]))
    return np.array(errors)
