"""The training loop: augmentation, steps, evaluation, checkpoints; everything in it can be stopped and resumed."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
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
from ipi_driver.training.batch import Batch, Sample, collate
from ipi_driver.training.checkpoint import save_checkpoint
from ipi_driver.training.config import TrainConfig
from ipi_driver.training.display import TrainingDisplay
from ipi_driver.training.losses import (
    LossFunction,
    StepResult,
    accumulate_gradients,
    forces_from_gradients,
    joint_loss,
    label_loss,
    structure_energies,
    symmetry_loss,
)
from ipi_driver.training.schedule import MovingAverage, Optimizers, learning_rate_factor

_UNLABELLED_LOOKED_AT = 25
"""Most unlabelled structures whose symmetry error is logged."""


@dataclass
class LogRow:
    """One line of ``log.csv``; errors in meV/Å and meV per structure.

    A step is compared with a forward evaluation of as many structures that records the graph for derivatives.
    The symmetry errors of the validation and of some unlabelled structures, meV/Å, are NaN without a penalty.
    """

    epoch: int
    step: int
    hours: float
    learning_rate: float
    train_loss: float
    train_force_mae: float
    train_energy_mae: float
    val_force_mae: float
    val_force_rmse: float
    val_energy_mae: float
    best_val_force_mae: float
    steps_per_second: float
    forward_evaluations_per_step: float
    val_symmetry_mae: float
    unlabelled_symmetry_mae: float


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
        self.train_samples, self.validation_samples = list(train), list(validation)
        self.unlabelled = list(unlabelled)
        self.rank, self.world_size = rank, world_size
        self.optimizers = Optimizers(network, config)
        self.average = MovingAverage(network, config.ema)
        self.step = 0
        self.epoch = 0
        self.hours = 0.0
        # what is saved: the lowest force error, with a penalty the lowest sum of it and the weighted spread
        self.best = float("inf")
        self.best_force_mae = float("inf")
        self.stale = 0
        self.output = config.output
        self.display = TrainingDisplay(Console(), quiet=True)
        self.data_digest = ""
        self.data_described: list[str] = []
        # eV by element: how far the atomic energies of the model that it starts from were shifted
        self.energy_shifts: dict[str, float] = {}
        self._unlabelled_loss = config.loss.model_copy(
            update={"symmetry": config.loss.symmetry * config.loss.unlabelled}
        )
        self.steps_per_epoch = -(-len(self.train_samples) // (config.batch_size * world_size))

    # ---- steps

    def _gradient(self, samples: Sequence[Sample], rotations: np.ndarray, loss: LossFunction) -> StepResult:
        batch = collate(samples, rotations, self.device, self.dtype)
        displacement = self.config.displacement if self.config.force_gradient == "finite-difference" else None
        value, energies, gradients = accumulate_gradients(self.network, batch, loss, displacement)
        if batch.energies is None or batch.forces is None:
            return StepResult(value, float("nan"), float("nan"))
        forces = forces_from_gradients(gradients, batch)
        return StepResult(
            value,
            float((forces - batch.forces).abs().mean()),
            float((energies - batch.energies).abs().mean()),
        )

    def _in_frames(
        self, samples: Sequence[Sample], generator: np.random.Generator, loss: LossFunction
    ) -> StepResult:
        repeated = [s for _ in range(self.config.loss.symmetry_frames) for s in samples]
        return self._gradient(repeated, augmentation_rotations("o3", len(repeated), generator), loss)

    def _labelled_gradient(self, samples: Sequence[Sample], generator: np.random.Generator) -> StepResult:
        config = self.config
        penalty = config.loss.symmetry > 0 and self.step % config.loss.symmetry_every == 0
        if penalty and config.augmentation == "o3":
            # the frames of the penalty are augmented copies: they serve the labels as well
            return self._in_frames(samples, generator, joint_loss(config.loss))
        rotations = augmentation_rotations(config.augmentation, len(samples), generator)
        result = self._gradient(samples, rotations, label_loss(config.loss))
        if penalty:
            self._in_frames(samples, generator, symmetry_loss(config.loss))
        return result

    def train_step(self, indices: np.ndarray) -> StepResult:
        """One optimiser step on the training samples ``indices`` of this process."""
        config = self.config
        # the step number seeds everything random, so that a resumed training repeats itself
        generator = np.random.default_rng([config.seed, self.step, self.rank])
        result = self._labelled_gradient([self.train_samples[i] for i in indices], generator)
        if config.loss.symmetry and self.unlabelled and self.step % config.loss.unlabelled_every == 0:
            self._in_frames(self._draw_unlabelled(generator), generator, symmetry_loss(self._unlabelled_loss))
        self._average_gradients()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.gradient_clip)
        if not torch.isfinite(norm):
            raise UserError(
                f"the gradient is not finite at step {self.step}; lower `learning_rate` (got {config.learning_rate})"
                " and resume from the last checkpoint"
            )
        factor = learning_rate_factor(
            self.step, self.progress(), config.warmup_steps, config.final_learning_rate
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

    def evaluate(
        self, samples: Sequence[Sample], weights: dict[str, torch.Tensor]
    ) -> tuple[float, float, float]:
        """Force MAE, force RMSE (eV/Å) and energy MAE (eV per structure) with the given weights."""
        absolute = square = count = energy = 0.0
        with self._weights(weights):
            for sample in samples:
                batch, energies, forces = self._predict(sample, np.eye(3))
                assert batch.energies is not None
                assert batch.forces is not None
                error = forces - batch.forces
                absolute += float(error.abs().sum())
                square += float(error.square().sum())
                count += error.numel()
                energy += float((energies - batch.energies).abs().sum())
        return absolute / count, (square / count) ** 0.5, energy / len(samples)

    def symmetry_error(self, samples: Sequence[Sample], weights: dict[str, torch.Tensor]) -> float:
        """Mean absolute deviation (eV/Å) of the forces in four fixed frames of O(3) from their mean.

        Every structure counts the same, so that the molecules of a gas are seen beside a crystal.
        """
        rotations = augmentation_rotations("o3", 4, np.random.default_rng(self.config.seed))
        deviations = []
        with self._weights(weights):
            for sample in samples:
                turned = []
                for rotation in rotations:
                    batch, _, forces = self._predict(sample, rotation)
                    turned.append(forces @ batch.rotations[0])
                frames = torch.stack(turned)
                deviations.append(float((frames - frames.mean(0)).abs().mean()))
        return float(np.mean(deviations))

    @contextmanager
    def _weights(self, weights: dict[str, torch.Tensor]) -> Iterator[None]:
        """The network with other weights for a while."""
        own = {k: v.clone() for k, v in self.network.state_dict().items()}
        self.network.load_state_dict(weights)
        try:
            yield
        finally:
            self.network.load_state_dict(own)

    def _predict(self, sample: Sample, rotation: np.ndarray) -> tuple[Batch, torch.Tensor, torch.Tensor]:
        """A sample in one frame: the batch, its energy (1,) and its forces (n_atoms, 3), both in that frame."""
        batch = collate([sample], rotation[None], self.device, self.dtype)
        leaf = batch.vectors.requires_grad_(True)
        energies = structure_energies(self.network, leaf, batch)
        (gradients,) = torch.autograd.grad(energies.sum(), leaf)
        return batch, energies.detach(), forces_from_gradients(gradients, batch)

    def forward_seconds(self) -> float:
        """Shortest of five forward evaluations of a batch of training structures: what a step is compared with.

        They record the graph for derivatives, as those of a step do; without it they are faster by about a third.
        """
        samples = self.train_samples[: self.config.batch_size]
        batch = collate(samples, np.tile(np.eye(3), (len(samples), 1, 1)), self.device, self.dtype)
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            float(structure_energies(self.network, batch.vectors.requires_grad_(True), batch).sum().detach())
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    # ---- the loop

    def run(self, quiet: bool = False) -> float:
        """Train until the epochs, the time or the patience are used up; returns the best validation force MAE."""
        started, hours_before = time.perf_counter(), self.hours
        total = self.config.epochs * self.steps_per_epoch
        self.display = TrainingDisplay(Console(), quiet or self.rank > 0)
        with self.display:
            while self.step < total and self.progress() < 1.0 and not self._out_of_patience():
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
                if self.epoch % self.config.evaluate_every == 0 or over:
                    self._end_of_interval(results, rate)
        return self.best_force_mae

    def _agree_on_time(self) -> None:
        """All processes follow the clock of the first, so that none stops while another waits for it."""
        if self.world_size > 1 and self.config.max_hours is not None:
            clock = torch.tensor([self.hours], dtype=torch.float64, device=self.device)
            dist.broadcast(clock, 0)
            self.hours = float(clock[0])

    def _out_of_patience(self) -> bool:
        return self.config.patience is not None and self.stale >= self.config.patience

    def _end_of_interval(self, results: list[StepResult], rate: float) -> None:
        force_mae, force_rmse, energy_mae = self.evaluate(self.validation_samples, self.average.weights)
        spread = unlabelled = float("nan")
        score = force_mae
        if self.config.loss.symmetry:
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
        row = LogRow(
            epoch=self.epoch,
            step=self.step,
            hours=round(self.hours, 5),
            learning_rate=self.optimizers.parts[0].param_groups[0]["lr"],
            train_loss=float(np.mean([r.loss for r in results])),
            train_force_mae=1e3 * float(np.mean([r.force_mae for r in results])),
            train_energy_mae=1e3 * float(np.mean([r.energy_mae for r in results])),
            val_force_mae=1e3 * force_mae,
            val_force_rmse=1e3 * force_rmse,
            val_energy_mae=1e3 * energy_mae,
            best_val_force_mae=1e3 * self.best_force_mae,
            steps_per_second=rate,
            forward_evaluations_per_step=1.0 / (rate * self.forward_seconds()),
            val_symmetry_mae=1e3 * spread,
            unlabelled_symmetry_mae=1e3 * unlabelled,
        )
        self._append_log(row)
        if improved:
            self.save_best(asdict(row))
        save_checkpoint(self)

    def _append_log(self, row: LogRow) -> None:
        path = self.output / "log.csv"
        columns = list(asdict(row))
        new = not path.exists()
        if not new:  # a log that an older version began keeps its columns
            columns = path.read_text().partition("\n")[0].strip().split(",")
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=columns, extrasaction="ignore")
            if new:
                writer.writeheader()
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in asdict(row).items()})

    def save_best(self, provenance: dict[str, Any]) -> None:
        """Write the averaged weights as a model folder."""
        best = build_network(self.network.config)
        best.load_state_dict(self.average.weights)
        save_model(self.output, best, self.baseline, {"training": provenance})
