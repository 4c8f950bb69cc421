"""One model behind any number of endpoints.

The model is asked by one thread at a time. The raw (unrotated) result of a configuration is kept, so that an
average that contains the unrotated orientation does not compute it again, and a configuration asked for a second
time (the padding of a batch, a request repeated after a lost connection) costs nothing.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ipi_driver.errors import UserError
from ipi_driver.openmp import release_workers
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.distributed import RankFailed
from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.rotations.quadrature import Quadrature
from ipi_driver.structure import Prediction, Structure

_LONG = 0.005
"""Seconds of an evaluation beside which 0.1 ms for new threads of the model do not count."""
_KEPT = 64
"""Configurations remembered: enough for the beads of a path integral; of larger batches twice as many as they hold."""


class EvaluationError(UserError):
    """The model failed; ``structure`` is where."""

    def __init__(self, message: str, structure: Structure) -> None:
        super().__init__(message)
        self.structure = structure


def _one_line(error: BaseException) -> str:
    """The error of a model in one line; TorchScript gives the cause in the last of many."""
    if isinstance(error, SystemExit):
        return f"the model failed: it called sys.exit({'' if error.code is None else error.code!r})"
    message = " ".join(str(error).split())
    return f"the model failed: {type(error).__name__}{': ' if message else ''}{message}"


@contextmanager
def model_failures(structure: Structure) -> Iterator[None]:
    """Errors of a model become an `EvaluationError`, also where it asks the process to end.

    A model that forks and comes back in both processes leaves two clients on one socket: the copy is ended.
    """
    process = os.getpid()
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        if os.getpid() == process:
            raise EvaluationError(_one_line(error), structure) from error
    finally:
        if os.getpid() != process:
            print(
                "error: the model has forked, and came back in the copy of the client, too; the copy ends "
                f"(process {os.getpid()} of {process})",
                file=sys.stderr,
                flush=True,
            )
            os._exit(70)


class ShuttingDown(Exception):
    """The client is shutting down: it starts no further evaluation."""


@dataclass
class Counts:
    """Numbers of evaluations for one endpoint."""

    average: str
    """Name of its average."""
    evaluations: int = 0
    """Configurations answered."""
    repeated: int = 0
    """Those of them whose result was already known."""
    rotations: int = 0
    """Rotations that the model computed."""
    model_seconds: float = 0.0

    def as_json(self) -> dict[str, str | int | float]:
        """For ``stats.json``, where the rotations have been called ``frames`` from the start."""
        return {{"rotations": "frames"}.get(key, key): value for key, value in vars(self).items()}


@dataclass
class _Known:
    """Results of one configuration."""

    raw: Prediction | None = None
    averaged: dict[str, Prediction] = field(default_factory=dict)


class SharedEvaluator:
    """Averages over one potential, with the results of the last configurations.

    Parameters
    ----------
    potential
        The model, held once.
    seed
        Of random frames.
    rotation_batch
        Rotations per call of the model; None lets the average choose.
    """

    def __init__(self, potential: Potential, seed: int = 0, rotation_batch: int | None = None) -> None:
        self.potential = potential
        self._seed = seed
        self._rotation_batch = rotation_batch
        self._averages: dict[str, RotationalAverage] = {}
        self._kept = _KEPT
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._threads: set[int] = set()
        self._lock = threading.Lock()
        self._closed = False

    def close(self) -> None:
        """Begin no further evaluation: a thread that waits for the model raises instead."""
        self._closed = True

    def prepare(self, average: Quadrature) -> RotationalAverage:
        """The average over the potential, made at the first call and shared by all endpoints that ask for it."""
        with self._lock:
            if average.name not in self._averages:
                self._averages[average.name] = RotationalAverage(
                    self.potential, average, seed=self._seed, rotation_batch=self._rotation_batch
                )
            return self._averages[average.name]

    def predict(
        self, structures: Sequence[Structure], average: RotationalAverage, counts: Counts
    ) -> list[Prediction]:
        """Results of ``structures`` averaged by what `prepare` gave; waits while another thread uses the model.

        Raises
        ------
        RankFailed
            If another process of the group has failed.
        EvaluationError
            If the model fails in any other way, or does not know an element.
        ShuttingDown
            After `close`.
        """
        with self._lock:
            if self._closed:
                raise ShuttingDown
            self._kept = max(self._kept, 2 * len(structures))
            start = time.perf_counter()
            found = self._predict(structures, average, counts)
            self._threads.add(threading.get_ident())
            if len(self._threads) > 1 and time.perf_counter() - start > _LONG:
                release_workers()  # the next evaluation may be another thread's
            return found

    def _predict(
        self, structures: Sequence[Structure], average: RotationalAverage, counts: Counts
    ) -> list[Prediction]:
        name = average.average
        known = [self._remember(structure) for structure in structures]
        # a configuration that stands twice in a batch is evaluated once
        new = {id(k): (k, s) for k, s in zip(known, structures, strict=True) if name not in k.averaged}
        counts.evaluations += len(structures)
        counts.repeated += len(structures) - len(new)
        if new:
            entries, missing = zip(*new.values(), strict=True)
            raws = [entry.raw if average.has_identity else None for entry in entries]
            for entry, raw, result in zip(
                entries, raws, self._evaluate(missing, raws, average, counts), strict=True
            ):
                counts.rotations += result.n_rotations - int(raw is not None)
                entry.averaged[name] = result
                if entry.raw is None and average.has_identity:
                    entry.raw = result.raw or (result if result.n_rotations == 1 else None)
        return [entry.averaged[name] for entry in known]

    @staticmethod
    def _evaluate(
        structures: Sequence[Structure],
        raws: Sequence[Prediction | None],
        average: RotationalAverage,
        counts: Counts,
    ) -> list[Prediction]:
        """Results in one call of the model; if it fails for several, one by one, to know for which."""
        start = time.perf_counter()
        try:
            with model_failures(structures[0]):
                return average.predict_all(structures, raws)
        except RankFailed:
            raise
        except UserError as error:
            if len(structures) == 1:
                if isinstance(error, EvaluationError):
                    raise
                raise EvaluationError(str(error), structures[0]) from error
        finally:
            counts.model_seconds += time.perf_counter() - start
        return [
            SharedEvaluator._evaluate([structure], [raw], average, counts)[0]
            for structure, raw in zip(structures, raws, strict=True)
        ]

    def _remember(self, structure: Structure) -> _Known:
        """The results known of this configuration; those not used for longest are removed."""
        parts = (structure.numbers, structure.positions, structure.cell, structure.pbc)
        key = b"".join(part.tobytes() for part in parts) + f"{structure.charge} {structure.spin}".encode()
        if key in self._known:
            self._known.move_to_end(key)
        else:
            self._known[key] = _Known()
            if len(self._known) > self._kept:
                self._known.popitem(last=False)
        return self._known[key]
