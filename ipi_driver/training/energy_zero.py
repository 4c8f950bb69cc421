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
    rest = counts.sum(1) * energy_errors(data, network.to(device, dtype), baseline)
    correction = fit_atomic_energies(counts, rest, elements, 1.0 / np.sqrt(counts.sum(1)))
    energies = np.array(baseline.atomic_energies, dtype=np.float64)
    energies[[baseline.species.index(z) for z in elements]] += correction
    shifts = dict(zip(elements, correction.tolist(), strict=True))
    return replace(baseline, atomic_energies=energies), shifts


def energy_errors(
    data: Sequence[LabelledStructure], network: EdgeNetwork | None, baseline: Baseline
) -> FloatArray:
    """(n_structures,) labels less predictions, eV per atom; NaN without label. No network: those of the baseline."""
    errors = []
    species = baseline.species if network is None else network.config.species
    cutoff = baseline.cutoff if network is None else network.config.cutoff
    for item in data:
        sample = make_sample(item, species, cutoff, baseline)
        assert sample.energy is not None
        predicted = 0.0
        if network is not None:
            weight = next(network.parameters())
            batch = collate([sample], np.eye(3)[None], weight.device, weight.dtype)
            with torch.no_grad():
                predicted = float(structure_energies(network, batch.vectors, batch)[0])
        errors.append((sample.energy - predicted) / sample.n_atoms)
    return np.array(errors)
