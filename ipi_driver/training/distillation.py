"""Self-distillation: a raw model learns its own rotational average on the structures that a user cares about.

The average over a quadrature is the teacher: E_T(x) = sum_k w_k E(R_k x) and its forces, evaluated once for each
structure. The student begins as the model itself and learns these labels in random orientations; as the labels do not
depend on the orientation, neither does what it learns. No labels are needed, and the student costs what the raw model
costs. A network that is told angles beside x, y and z (`EdgeNetwork.invariant`) forgets x, y and z: its student is
exactly symmetric on any structure, and learns what little that has changed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.networks.base import EdgeNetwork
from ipi_driver.networks.baseline import Baseline
from ipi_driver.networks.storage import load_model, save_model
from ipi_driver.potentials.base import Potential
from ipi_driver.rotations.augmentation import augmentation_rotations
from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.rotations.quadrature import Quadrature, quadrature
from ipi_driver.structure import FloatArray, Prediction, Structure
from ipi_driver.training.batch import Sample, make_sample
from ipi_driver.training.checkpoint import FILE as CHECKPOINT
from ipi_driver.training.config import LossConfig, TrainConfig
from ipi_driver.training.data import LabelledStructure
from ipi_driver.training.data_config import DataConfig
from ipi_driver.training.trainer import Trainer
from ipi_driver.units import MILLI

_STEPS = 100
"""Steps between two looks at the validation structures."""
_VALIDATED = 10
"""Most validation structures of each set, each in two orientations."""


_NEAR = 0.05
"""Of the symmetry error of the model: a deviation from its average that needs no training."""


@dataclass(frozen=True)
class DistillConfig:
    """Settings of a distillation.

    Attributes
    ----------
    average
        Of the teacher.
    minutes
        Time of the training, after the evaluation of the teacher.
    steps
        Train for so many steps instead, a multiple of 100.
    learning_rate
        At its highest.
    batch_atoms
        Structures of one set are batched up to this many atoms.
    held_out
        Fraction of each set, from its end, that is neither trained on nor looked at before the end.
    seed
        Of everything random.
    threads
        Of torch; None takes all cores.
    """

    average: Quadrature = field(default_factory=lambda: quadrature("Th"))
    minutes: float = 10.0
    steps: int | None = None
    learning_rate: float = 2e-4
    batch_atoms: int = 200
    held_out: float = 0.2
    seed: int = 0
    threads: int | None = None


@dataclass(frozen=True, eq=False)
class TeachingSet:
    """Structures of one file with the predictions of the teacher, divided in three.

    Attributes
    ----------
    name
        Of the file.
    structures, taught
        The structures, and the averaged predictions, each with the raw one.
    train, validation, held_out
        Indices.
    """

    name: str
    structures: tuple[Structure, ...]
    taught: tuple[Prediction, ...]
    train: range
    validation: range
    held_out: range

    def labelled(self, index: int, group: int) -> LabelledStructure:
        """One structure with the teacher's energy and forces as labels."""
        found = self.taught[index]
        return LabelledStructure(self.structures[index], found.energy, found.forces, group=group)


@dataclass(frozen=True)
class SetReport:
    """What a distillation did to held-out structures of one set; mean absolute values, meV and meV/Å.

    Attributes
    ----------
    name, n_structures
        Of the set, held out.
    force_before, force_after
        Raw forces less the average of the same model.
    energy_before, energy_after
        The same of energies, per structure.
    force_deviation, energy_deviation
        Raw student less averaged teacher.
    """

    name: str
    n_structures: int
    force_before: float
    force_after: float
    energy_before: float
    energy_after: float
    force_deviation: float
    energy_deviation: float


def teach(
    potential: Potential,
    name: str,
    structures: Sequence[Structure],
    config: DistillConfig,
    progress: Callable[[], None] = lambda: None,
) -> TeachingSet:
    """Evaluate the teacher on the structures of one file; the last of them are held out, those before them validate.

    Raises
    ------
    UserError
        If there are fewer than 5 structures.
    """
    n = len(structures)
    if n < 5:
        raise UserError(
            f"{name} holds {n} structures; expected at least 5: some are held out to measure the result"
        )
    averaged = RotationalAverage(potential, config.average)
    taught = []
    for structure in structures:
        taught.append(averaged.predict(structure))
        progress()
    first_held = n - max(1, round(config.held_out * n))
    first_validation = first_held - max(1, min(_VALIDATED, round(0.1 * n)))
    parts = (range(first_validation), range(first_validation, first_held), range(first_held, n))
    return TeachingSet(name, tuple(structures), tuple(taught), *parts)


class Distiller(Trainer):
    """A trainer whose batches hold structures of one set, the sets in turn, so that every set counts the same.

    With ``invariant`` the network needs no training to be symmetric: it is kept if training brings it no nearer, and
    not trained where it is much nearer to the teacher than the raw model was (``raw_error``, eV/Å).
    """

    def __init__(
        self,
        config: DistillConfig,
        network: EdgeNetwork,
        baseline: Baseline,
        sets: Sequence[TeachingSet],
        output: Path,
        invariant: bool = False,
    ) -> None:
        species, cutoff = network.config.species, network.config.cutoff
        train: list[Sample] = []
        validation: list[Sample] = []
        generator = np.random.default_rng(config.seed)
        for group, part in enumerate(sets):
            train += [make_sample(part.labelled(k, group), species, cutoff, baseline) for k in part.train]
            for k in part.validation:
                for rotation in augmentation_rotations("o3", 2, generator):
                    turned = _rotated(part.labelled(k, group), rotation)
                    validation.append(make_sample(turned, species, cutoff, baseline))
        super().__init__(_training(config, output), network, baseline, train, validation)
        self.sets = tuple(part.name for part in sets)
        self.invariant = invariant
        looked_at = [part.taught[k] for part in sets for k in part.validation]
        self.raw_error = float(
            np.mean([np.abs(p.raw.forces - p.forces).mean() for p in looked_at if p.raw is not None])
        )
        self.steps_per_epoch = _STEPS
        groups = np.array([sample.group for sample in train])
        self._members = [np.flatnonzero(groups == group) for group in range(len(sets))]
        self._atoms = np.array([sample.n_atoms for sample in train])
        self._batch_atoms = config.batch_atoms

    def run(self, quiet: bool = False) -> float:
        """Train; what is kept is nearer to the teacher than the model was.

        Raises
        ------
        UserError
            If the training has not come nearer, and the student is not invariant as it is.
        """
        errors = self.evaluate(self.validation_samples, self.network.state_dict())
        self.best, self.best_force_mae = self.score(errors), errors.force_mae
        before = self.best
        if self.invariant:
            self.save_best({"step": 0})
            if errors.force_mae < _NEAR * self.raw_error:
                return self.best_force_mae
        super().run(quiet)
        if not (self.invariant or self.best < before):
            raise UserError(
                f"after {self.step} steps the model is no nearer to its average (force MAE "
                f"{MILLI * errors.force_mae:.3g} meV/Å); give more --minutes, or lower --learning-rate "
                f"(got {self.config.learning_rate:g})"
            )
        return self.best_force_mae

    def epoch_indices(self) -> list[np.ndarray]:
        """Batches of one set each, drawn until they hold enough atoms."""
        generator = np.random.default_rng([self.config.seed, 1_000_003, self.epoch])
        batches = []
        for step in range(_STEPS):
            members = self._members[(self.epoch * _STEPS + step) % len(self._members)]
            order = generator.permutation(members)
            total = np.cumsum(self._atoms[order])
            batches.append(order[: max(1, int(np.searchsorted(total, self._batch_atoms, side="right")))])
        return batches


def _rotated(item: LabelledStructure, rotation: FloatArray) -> LabelledStructure:
    return LabelledStructure(
        item.structure.rotated(rotation), item.energy, item.forces @ rotation.T, group=item.group
    )


def _training(config: DistillConfig, output: Path) -> TrainConfig:
    """Settings that follow labels without noise down to a fraction of a meV/Å."""
    return TrainConfig(
        data=DataConfig(files=[Path("the structures given")]),
        output=output,
        loss=LossConfig(energy=1.0, smoothing=2e-4),
        learning_rate=config.learning_rate,
        final_learning_rate=0.0,
        weight_decay=0.0,
        warmup=0.03,
        ema=0.995,
        displacement=0.001,
        epochs=10**6 if config.steps is None else -(-config.steps // _STEPS),
        max_hours=config.minutes / 60.0 if config.steps is None else None,
        evaluate_every=1,
        score_energy=1.0,
        seed=config.seed,
        threads=config.threads,
    )


def report_set(student: Potential, part: TeachingSet, average: Quadrature) -> SetReport:
    """Compare the student with its own average and with the teacher on held-out structures."""
    averaged = RotationalAverage(student, average)
    rows = []
    for k in part.held_out:
        structure, teacher = part.structures[k], part.taught[k]
        raw = teacher.raw
        mean = averaged.predict(structure)
        assert raw is not None
        assert mean.raw is not None
        rows.append(
            [
                np.abs(raw.forces - teacher.forces).mean(),
                np.abs(mean.raw.forces - mean.forces).mean(),
                abs(raw.energy - teacher.energy),
                abs(mean.raw.energy - mean.energy),
                np.abs(mean.raw.forces - teacher.forces).mean(),
                abs(mean.raw.energy - teacher.energy),
            ]
        )
    return SetReport(part.name, len(rows), *(MILLI * np.array(rows).mean(0)).tolist())


def finish(
    output: Path,
    parent: str,
    config: DistillConfig,
    reports: Sequence[SetReport],
    errors: Mapping[str, Mapping[str, object]],
) -> None:
    """Write where the model comes from into ``model.yaml``, and the measurements as ``symmetrize.json``."""
    found = {
        "parent": parent,
        "average": config.average.name,
        "units": {"energy": "meV", "force": "meV/Å"},
        "held_out": [asdict(report) for report in reports],
    }
    labelled = {"labelled_in_eV": {name: dict(row) for name, row in errors.items()}} if errors else {}
    text = json.dumps(found | labelled, indent=1, ensure_ascii=False)
    (output / "symmetrize.json").write_text(text + "\n", encoding="utf-8")
    save_model(output, *load_model(output), {"symmetrized": found | {"learning_rate": config.learning_rate}})
    (output / CHECKPOINT).unlink(missing_ok=True)  # `train --resume` does not know this kind of training
