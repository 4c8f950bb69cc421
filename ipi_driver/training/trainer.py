"""The training loop: augmentation, steps, evaluation, checkpoints; everything in it can be stopped and resumed."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from rich.console import Console

from ipi_driver.errors import UserError
from ipi_driver.networks.base import EdgeNetwork
from ipi_driver.networks.baseline import Baseline
from ipi_driver.networks.kinds import build_network
from ipi_driver.networks.storage import save_model
from ipi_driver.potentials.torch_device import torch_dtype
from ipi_driver.rotations.augmentation import augmentation_rotations
from ipi_driver.training.batch import Sample, collate
from ipi_driver.training.checkpoint import save_checkpoint
from ipi_driver.training.config import TrainConfig
from ipi_driver.training.display import TrainingDisplay
from ipi_driver.training.log_file import LogRow, append_row
from ipi_driver.training.losses import (
    LossFunction,
    StepResult,
    accumulate_gradients,
    forces_from_gradients,
    joint_loss,
    label_loss,
    rotation_loss,
    symmetry_loss,
)
from ipi_driver.training.metrics import (
    Errors,
    errors_by_group,
    forward_seconds,
    symmetry_error,
    weights_for_a_while,
)
from ipi_driver.training.offsets import EnergyOffsets
from ipi_driver.training.schedule import MovingAverage, Optimizers, learning_rate_factor
from ipi_driver.training.stopping import Stopping
from ipi_driver.units import MILLI

_UNLABELLED_LOOKED_AT = 25
"""Most unlabelled structures whose symmetry error is logged."""
_SAVE_EVERY = 600.0
"""Seconds after which an epoch ends with a checkpoint, whether there is an evaluation or not."""


class Trainer:
    """Trains one network.

    Parameters
    ----------
    config
        The configuration.
    network, baseline
        What is trained, and what has been fitted before.
    train, validation
        Labelled samples.
    unlabelled
        Samples for the symmetry penalty alone.
    rank, world_size
        Position among the processes of ``torchrun``.
    """

    def __init__(
        self,
        config: TrainConfig,
        network: EdgeNetwork,
        baseline: Baseline,
        train: Sequence[Sample],
        validation: Sequence[Sample],
        unlabelled: Sequence[Sample] = (),
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.config = config
        self.device = torch.device(config.device)
        self.dtype = torch_dtype(config.dtype)
        self.network = network.to(self.device, self.dtype)
        self.baseline = baseline
        self.train_samples: Sequence[Sample] = list(train)
        self.validation_samples = list(validation)
        self.unlabelled = list(unlabelled)
        self.rank, self.world_size = rank, world_size
        self.optimizers = Optimizers(network, config)
        self.average = MovingAverage(network, config.ema)
        self.step = 0
        self.epoch = 0
        self.hours = 0.0
        # what is saved: the lowest sum of the force error, the weighted energy error and, with a penalty, the spread
        self.best = float("inf")
        self.best_force_mae = float("inf")
        self.stale = 0
        self.output = config.output
        # signals end the training only where somebody handles them
        self.stopping = Stopping()
        self.stopped = False
        # whether a command goes on from its checkpoint, for messages
        self.resumable = True
        self._saved = time.monotonic()
        self.sets: tuple[str, ...] = ("data",)
        self.offsets = EnergyOffsets([False])
        self.display = TrainingDisplay(Console(), quiet=True)
        self.data_digest = ""
        self.data_described: list[str] = []
        # eV by element: how far the atomic energies of the model that it starts from were shifted
        self.energy_shifts: dict[str, float] = {}
        self._unlabelled_loss = config.loss.model_copy(
            update={
                "symmetry": config.loss.symmetry * config.loss.unlabelled,
                "rotation_gradient": config.loss.rotation_gradient * config.loss.unlabelled,
            }
        )
        self.steps_per_epoch = -(-len(self.train_samples) // (config.batch_size * world_size))

    # ---- steps

    def _gradient(self, samples: Sequence[Sample], rotations: np.ndarray, loss: LossFunction) -> StepResult:
        batch = self.offsets.shifted(collate(samples, rotations, self.device, self.dtype))
        displacement = self.config.displacement if self.config.force_gradient == "finite-difference" else None
        value, energies, gradients = accumulate_gradients(self.network, batch, loss, displacement)
        if batch.energies is None or batch.forces is None:
            return StepResult(value, float("nan"), float("nan"))
        self.offsets.update(batch, energies)
        forces = forces_from_gradients(gradients, batch)
        known = batch.energy_weights > 0
        return StepResult(
            value,
            float((forces - batch.forces).abs().mean()),
            float((energies - batch.energies)[known].abs().mean()),
        )

    def _in_rotations(
        self, samples: Sequence[Sample], generator: np.random.Generator, loss: LossFunction
    ) -> StepResult:
        repeated = [s for _ in range(self.config.loss.symmetry_rotations) for s in samples]
        return self._gradient(repeated, augmentation_rotations("o3", len(repeated), generator), loss)

    def _labelled_gradient(self, samples: Sequence[Sample], generator: np.random.Generator) -> StepResult:
        config = self.config
        penalty = config.loss.symmetry > 0 and self.step % config.loss.symmetry_every == 0
        if penalty and config.augmentation == "o3":
            # the rotations of the penalty are augmented copies: they serve the labels as well
            return self._in_rotations(samples, generator, joint_loss(config.loss))
        rotations = augmentation_rotations(config.augmentation, len(samples), generator)
        result = self._gradient(samples, rotations, label_loss(config.loss))
        if penalty:
            self._in_rotations(samples, generator, symmetry_loss(config.loss))
        return result

    def _unlabelled_gradient(self, generator: np.random.Generator) -> None:
        drawn, loss = self._draw_unlabelled(generator), self._unlabelled_loss
        if loss.symmetry:
            self._in_rotations(drawn, generator, symmetry_loss(loss))
        if loss.rotation_gradient:
            self._gradient(drawn, augmentation_rotations("o3", len(drawn), generator), rotation_loss(loss))

    def train_step(self, indices: np.ndarray) -> StepResult:
        """One optimizer step on the training samples ``indices`` of this process."""
        config = self.config
        # the step number seeds everything random, so that a resumed training repeats itself
        generator = np.random.default_rng([config.seed, self.step, self.rank])
        result = self._labelled_gradient([self.train_samples[i] for i in indices], generator)
        if self.unlabelled and self.step % config.loss.unlabelled_every == 0:
            self._unlabelled_gradient(generator)
        if (penalty := self.network.penalty()) is not None:
            penalty.backward()
        self._average_gradients()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.gradient_clip)
        if not torch.isfinite(norm):
            remedy = "--resume from the last checkpoint" if self.resumable else "begin anew"
            raise UserError(
                f"the gradient is not finite at step {self.step}; lower `learning_rate` (got "
                f"{config.learning_rate}) or `gradient_clip` (got {config.gradient_clip}) and {remedy}"
            )
        factor = learning_rate_factor(
            self.step, self.progress(), config.warmup_steps, config.final_learning_rate, config.warmup
        )
        self.optimizers.step(factor)
        self.average.update(self.network)
        self.step += 1
        return result

    def _draw_unlabelled(self, generator: np.random.Generator) -> list[Sample]:
        chosen: list[Sample] = []
        room = self.config.loss.unlabelled_atoms
        for i in generator.permutation(len(self.unlabelled)):
            sample = self.unlabelled[i]
            if chosen and sample.n_atoms > room:
                break
            chosen.append(sample)
            room -= sample.n_atoms
            if room <= 0:
                break
        return chosen

    def _average_gradients(self) -> None:
        if self.world_size == 1:
            return
        for p in self.network.parameters():
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            dist.all_reduce(p.grad)
            p.grad /= self.world_size
        if self.offsets.fitted.any():
            values = torch.from_numpy(self.offsets.values).to(self.device)
            dist.all_reduce(values)
            self.offsets.values = (values / self.world_size).cpu().numpy()

    def progress(self) -> float:
        """Fraction of the training done, by steps or by time, whichever is further."""
        done = self.step / (self.config.epochs * self.steps_per_epoch)
        if self.config.max_hours is not None:
            done = max(done, self.hours / self.config.max_hours)
        return done

    def epoch_indices(self) -> list[np.ndarray]:
        """Batches of this process in this epoch; the last one is filled up from the start of the permutation."""
        order = np.random.default_rng([self.config.seed, 1_000_003, self.epoch]).permutation(
            len(self.train_samples)
        )
        chunk = self.config.batch_size * self.world_size
        filled = np.resize(order, self.steps_per_epoch * chunk)
        size = self.config.batch_size
        return [filled[k * chunk + self.rank * size :][:size] for k in range(self.steps_per_epoch)]

    # ---- evaluation

    def evaluate(self, samples: Sequence[Sample], weights: dict[str, torch.Tensor]) -> Errors:
        """Errors with the given weights."""
        with weights_for_a_while(self.network, weights):
            return errors_by_group(self.network, samples, self.offsets)[0]

    def symmetry_error(self, samples: Sequence[Sample], weights: dict[str, torch.Tensor]) -> float:
        """Mean deviation of the forces (eV/Å) over rotations with the given weights, see `symmetry_error`."""
        with weights_for_a_while(self.network, weights):
            return symmetry_error(self.network, samples, self.config.seed)

    # ---- the loop

    def run(self, quiet: bool = False) -> float:
        """Train until the epochs, the time or the patience are used up, or a signal asks for the end.

        Returns the best validation force MAE; ``stopped`` is then whether a signal has left epochs undone.
        """
        self.stopped, self._saved = False, time.monotonic()
        started, hours_before = time.perf_counter(), self.hours
        total = self.config.epochs * self.steps_per_epoch
        self.display = TrainingDisplay(Console(), quiet or self.rank > 0)
        with self.display:
            while self._goes_on(total):
                results: list[StepResult] = []
                epoch_start = time.perf_counter()
                for indices in self.epoch_indices():
                    results.append(self.train_step(indices))
                    self.hours = hours_before + (time.perf_counter() - started) / 3600.0
                    self._agree_on_time()
                    self.display.step(
                        self.epoch, self.step, self.progress(), results[-1], self.best_force_mae
                    )
                    if self.progress() >= 1.0:
                        break
                rate = len(results) / (time.perf_counter() - epoch_start)
                self.epoch += 1
                over = self.progress() >= 1.0 or self.step >= total
                due = over or self.epoch % self.config.evaluate_every == 0
                asked = self.stopping.agreed(self.world_size, self.device)
                if asked or (not due and time.monotonic() - self._saved > _SAVE_EVERY):
                    self.save()  # before the evaluation, for which a queue may leave no time
                if due or asked:
                    self.end_of_interval(results, rate)
                if asked:
                    self.stopped = self._goes_on(total)
                    break
        return self.best_force_mae

    def _goes_on(self, total: int) -> bool:
        patient = self.config.patience is None or self.stale < self.config.patience
        return self.step < total and self.progress() < 1.0 and patient

    def _agree_on_time(self) -> None:
        """All processes follow the clock of the first, so that none stops while another waits for it."""
        if self.world_size > 1 and self.config.max_hours is not None:
            clock = torch.tensor([self.hours], dtype=torch.float64, device=self.device)
            dist.broadcast(clock, 0)
            self.hours = float(clock[0])

    def score(self, errors: Errors) -> float:
        """The best model has the lowest, without symmetry errors: force MAE + score_energy x energy MAE per atom.

        Energies that are not trained do not count.
        """
        energy = errors.energy_mae_per_atom
        counts = self.config.loss.energy > 0 and math.isfinite(energy)
        return errors.force_mae + (self.config.score_energy * energy if counts else 0.0)

    def end_of_interval(self, results: list[StepResult], rate: float) -> None:
        with weights_for_a_while(self.network, self.average.weights):
            errors, by_group = errors_by_group(self.network, self.validation_samples, self.offsets)
        force_mae, force_rmse, energy_mae, _ = errors
        spread = unlabelled = float("nan")
        score = self.score(errors)
        if self.config.loss.symmetry or self.config.loss.rotation_gradient:
            weights = self.average.weights
            worst = spread = self.symmetry_error(self.validation_samples, weights)
            if self.unlabelled:
                every = -(-len(self.unlabelled) // _UNLABELLED_LOOKED_AT)
                unlabelled = self.symmetry_error(self.unlabelled[::every], weights)
                worst = max(spread, unlabelled)
            # neither kind of structure may be given up for the other
            score += self.config.loss.symmetry * worst
        improved = score < self.best
        if improved:
            self.best, self.best_force_mae = score, force_mae
        self.stale = 0 if improved else self.stale + 1
        self.display.evaluated(
            self.epoch, self.step, self.progress(), force_mae, energy_mae, self.best_force_mae
        )
        if self.rank > 0:
            return
        forward = forward_seconds(self.network, self.train_samples[: self.config.batch_size])
        row = LogRow(
            epoch=self.epoch,
            step=self.step,
            hours=round(self.hours, 5),
            learning_rate=self.optimizers.parts[0].param_groups[0]["lr"],
            train_loss=float(np.mean([r.loss for r in results])),
            train_force_mae=MILLI * float(np.mean([r.force_mae for r in results])),
            train_energy_mae=MILLI * _mean([r.energy_mae for r in results]),
            val_force_mae=MILLI * force_mae,
            val_force_rmse=MILLI * force_rmse,
            val_energy_mae=MILLI * energy_mae,
            best_val_force_mae=MILLI * self.best_force_mae,
            steps_per_second=rate,
            forward_evaluations_per_step=1.0 / (rate * forward),
            val_symmetry_mae=MILLI * spread,
            unlabelled_symmetry_mae=MILLI * unlabelled,
        )
        parts = {
            f"val_force_mae.{self.sets[k]}": MILLI * part.force_mae for k, part in sorted(by_group.items())
        }
        values = asdict(row) | (parts if len(self.sets) > 1 else {})
        append_row(self.output / "log.csv", values)
        if improved:
            self.save_best(values)
        save_checkpoint(self)
        self._saved = time.monotonic()

    def save(self) -> None:
        """Write a checkpoint; what has no model yet gets one for it, with whose baseline a resumed training goes on."""
        if self.rank > 0:
            return
        if not (self.output / "model.yaml").is_file():
            self.save_best({"epoch": self.epoch, "step": self.step})
        save_checkpoint(self)
        self._saved = time.monotonic()

    def save_best(self, provenance: dict[str, Any]) -> None:
        """Write the averaged weights as a model folder."""
        best = build_network(self.network.config)
        best.load_state_dict(self.average.weights)
        save_model(self.output, best, self.baseline, {"training": provenance})


def _mean(values: Sequence[float]) -> float:
    """Mean of the numbers that are not NaN; NaN where there is none."""
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
