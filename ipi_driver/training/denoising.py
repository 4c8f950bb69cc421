r"""Pre-training on structures without labels: the network learns to undo a random displacement of the atoms.

Atoms are displaced by :math:`\sigma \varepsilon` with normal :math:`\varepsilon`, and the forces of the network at the
displaced positions are to be the springs

.. math:: F = -k \sigma \varepsilon

that pull them back. Where the structures are drawn from a Boltzmann distribution, the best such force is
proportional to the gradient of the logarithm of the distribution smoothed by :math:`\sigma`, which is the true force in
the limit of small :math:`\sigma` (Wang, Xu, Li, Barati Farimani, J. Chem. Theory Comput. 19, 5077 (2023)). The forces
are derivatives of an energy, so that the network that is trained on labels afterwards is the same. What gives energies
from the last features begins at zero then, where the kind of network can do that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import overload

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.networks.base import EdgeNetwork
from ipi_driver.networks.baseline import Baseline
from ipi_driver.structure import Structure
from ipi_driver.training.batch import Sample, make_sample
from ipi_driver.training.config import PretrainConfig, TrainConfig
from ipi_driver.training.data import LabelledStructure
from ipi_driver.training.trainer import Trainer

_VALIDATED = 0.1
"""Fraction of the structures whose displacements are not trained on."""
_FEWEST = 5


class DisplacedStructures(Sequence[Sample]):
    """Structures that are displaced anew each time that they are asked for, with the springs as their forces.

    Parameters
    ----------
    structures
        Without labels.
    network
        Its species and cutoff.
    config
        Size of the displacements and stiffness of the springs.
    seed
        Of the displacements.
    """

    def __init__(
        self, structures: Sequence[Structure], network: EdgeNetwork, config: PretrainConfig, seed: int
    ) -> None:
        self._structures = list(structures)
        self._species, self._cutoff = network.config.species, network.config.cutoff
        self._baseline = Baseline(self._species, np.zeros(len(self._species)), self._cutoff)
        self._sigma, self._stiffness = config.sigma, config.denoise
        self._generator = np.random.default_rng([seed, 7])

    def __len__(self) -> int:
        return len(self._structures)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self._displaced(structure) for structure in self._structures[index]]
        return self._displaced(self._structures[index])

    def __iter__(self) -> Iterator[Sample]:
        return (self._displaced(structure) for structure in self._structures)

    def _displaced(self, structure: Structure) -> Sample:
        step = self._sigma * self._generator.normal(size=structure.positions.shape)
        step -= step.mean(0)  # forces do not move the whole
        moved = Structure(structure.numbers, structure.positions + step, structure.cell, structure.pbc)
        item = LabelledStructure(moved, float("nan"), -self._stiffness * step)
        return make_sample(item, self._species, self._cutoff, self._baseline)


def pretrain(
    config: TrainConfig, network: EdgeNetwork, structures: Sequence[Structure], quiet: bool = False
) -> float:
    """Train ``network`` in place; returns the best validation error relative to that of no force at all.

    The model and the log are written into the folder ``pretrain`` of the output.

    Raises
    ------
    UserError
        If there are too few structures.
    """
    settings = config.pretrain
    assert settings is not None
    if len(structures) < _FEWEST:
        raise UserError(f"`pretrain` needs at least {_FEWEST} structures, got {len(structures)}")
    own = TrainConfig.model_validate(
        config.model_dump()
        | {
            "output": config.output / "pretrain",
            "pretrain": None,
            "loss": {"forces": 1.0, "energy": 0.0, "smoothing": config.loss.smoothing},
            "learning_rate": settings.learning_rate or config.learning_rate,
            "epochs": settings.epochs,
            "max_hours": settings.hours,
            "patience": None,
            # structures in a field stand in it as it wants them: turned copies would hide that
            "augmentation": "none" if network.config.learns_directions else "o3",
            "data": {"files": [str(path) for path in settings.files]},
        }
    )
    order = np.random.default_rng(config.seed).permutation(len(structures))
    n_validation = max(1, round(_VALIDATED * len(structures)))
    validation = [structures[k] for k in order[:n_validation]]
    trainer = Trainer(
        own,
        network,
        Baseline(network.config.species, np.zeros(len(network.config.species)), network.config.cutoff),
        [],
        DisplacedStructures(validation, network, settings, config.seed + 1),
    )
    trainer.train_samples = DisplacedStructures(
        [structures[k] for k in order[n_validation:]], network, settings, config.seed
    )
    trainer.steps_per_epoch = -(-len(trainer.train_samples) // config.batch_size)
    trainer.resumable = False
    own.output.mkdir(parents=True, exist_ok=True)
    (own.output / "log.csv").unlink(missing_ok=True)  # of a pre-training that was stopped
    best = trainer.run(quiet)
    network.load_state_dict(trainer.average.weights)
    with suppress(NotImplementedError):  # else the training begins with the energies that undo displacements
        network.zero_output()
    labels = [np.abs(s.forces).ravel() for s in trainer.validation_samples if s.forces is not None]
    return best / float(np.concatenate(labels).mean())
