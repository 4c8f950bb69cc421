"""The client: one process, one model, a thread for each endpoint.

It ends when i-PI has ended all connections, when something fails (`UserError`), or on a signal that asks it to;
in every case i-PI sees an end of connection, and the statistics are written.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import ase
import numpy as np

from ipi_driver.allocator import keep_freed_memory
from ipi_driver.client.endpoint import Endpoint, State
from ipi_driver.client.evaluator import Counts, EvaluationError, SharedEvaluator, ShuttingDown
from ipi_driver.client.protocol import Reply, Request
from ipi_driver.client.record import Recorder
from ipi_driver.client.settings import EndpointSettings, ServeSettings
from ipi_driver.client.signals import signals_handled_by
from ipi_driver.errors import UserError
from ipi_driver.ipi_files.active import active_atoms, part_of
from ipi_driver.ipi_files.conversion import extras_json, results_to_ipi, structure_from_ipi
from ipi_driver.ipi_files.endpoints import is_monitor
from ipi_driver.ipi_files.template import check_not_wrapped, read_template
from ipi_driver.ipi_files.units import BOHR
from ipi_driver.openmp import release_workers
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.distributed import DistributedPotential, local_device, world
from ipi_driver.potentials.registry import load_potential
from ipi_driver.potentials.spec import PotentialSpec
from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.rotations.transmission import physics_removed
from ipi_driver.structure import IntArray, Structure
from ipi_driver.whole_file import write_whole

logger = logging.getLogger(__name__)

WARNING = "warning: "
"""Before what the launcher of a run shows as well."""

_PATIENCE = 3.0
"""Seconds given to the threads at the end; one that is in the model for longer is left behind."""


def serve(settings: ServeSettings) -> int:
    """Serve a potential until i-PI is done.

    Returns
    -------
    int
        0 if i-PI ended the run, 128 + number of the signal if a signal did.

    Raises
    ------
    UserError
        For bad settings, a failing model, an i-PI that does not come or dies.
    """
    if settings.stats is not None and not settings.stats.absolute().parent.is_dir():
        raise UserError(f"--stats {settings.stats}: there is no folder {settings.stats.parent}")
    keep_freed_memory()
    if settings.threads is not None:
        import torch

        torch.set_num_threads(settings.threads)
    if world()[0]:
        return _follow(settings)
    client = Client(settings)
    try:
        return client.run()
    finally:
        client.close_group()


class Client:
    """All endpoints over one model, or a model of their own.

    Parameters
    ----------
    settings
        Validated; the model and the structure are loaded here, before any connection is made.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        for endpoint in settings.endpoints:
            endpoint.unix_path(settings.sockets_prefix)  # a wrong path is reported before the model is loaded
        self.template = _template(settings)
        self._active: dict[str, IntArray] = {}
        if settings.input is not None:
            self._active = active_atoms(settings.input.read_text(), settings.input)
        if settings.modules is not None and str(settings.modules) not in sys.path:
            sys.path.append(str(settings.modules))  # last, so that none of its files hides another module
        self._evaluators: dict[str, SharedEvaluator] = {}
        self._group: DistributedPotential | None = None
        self.recorder = None if settings.record is None else Recorder(settings.record, self.template.n_atoms)
        self.counts: dict[str, Counts] = {}
        self.endpoints = [self._endpoint(endpoint) for endpoint in settings.endpoints]
        release_workers()  # from here on the threads of the endpoints compute
        self._wake = threading.Event()
        self._failing = threading.Lock()
        self._failure: Exception | None = None
        self._signal = 0

    def _endpoint(self, settings: EndpointSettings) -> Endpoint:
        evaluator = self._evaluator(settings)
        average = evaluator.prepare(settings.quadrature)
        counts = self.counts[settings.label] = Counts(average.average)
        rotations = "1 rotation" if average.n_rotations == 1 else f"{average.n_rotations} rotations"
        logger.info("%s: average %s (%s)", settings.label, average.average, rotations)
        lost = physics_removed(evaluator.potential.directions, average.quadrature)
        if lost is not None and not is_monitor(settings.model_dump()):
            logger.warning("%s%s: %s", WARNING, settings.label, lost)

        template = self._template_of(settings)

        def evaluate(requests: Sequence[Request]) -> list[Reply]:
            return self._evaluate(requests, template, evaluator, average, counts)

        return Endpoint(
            settings,
            self.settings.sockets_prefix,
            self.settings.deadline,
            evaluate,
            template.n_atoms,
            self._others_live,
            self._others_begun,
        )

    def _template_of(self, endpoint: EndpointSettings) -> Structure:
        """The atoms that i-PI sends to an endpoint."""
        if (atoms := self._active.get(endpoint.label)) is None:
            return self.template
        return part_of(self.template, atoms, self.settings.input or Path())

    def _evaluator(self, endpoint: EndpointSettings) -> SharedEvaluator:
        """The model of an endpoint, loaded once for all that have the same."""
        spec = self.settings.model_of(endpoint)
        if str(spec) not in self._evaluators:
            potential = _load(spec, device=local_device(self.settings.device), dtype=self.settings.dtype)
            potential.check_species(self._template_of(endpoint))
            potential.check_conditions(self.settings.charge, self.settings.spin)
            if world()[1] > 1:
                potential = self._group = DistributedPotential(potential, self.settings.rotation_batch)
            self._evaluators[str(spec)] = SharedEvaluator(
                potential, self.settings.seed, self.settings.rotation_batch
            )
        return self._evaluators[str(spec)]

    def close_group(self) -> None:
        """End the other processes, where the rotations are divided among several."""
        if self._group is not None:
            self._group.close()

    def _evaluate(
        self,
        requests: Sequence[Request],
        template: Structure,
        evaluator: SharedEvaluator,
        average: RotationalAverage,
        counts: Counts,
    ) -> list[Reply]:
        structures: list[Structure] = []
        replies: list[Reply] = []
        try:
            for request in requests:
                if self.recorder is not None:
                    self.recorder.write(request.h, request.positions)
                structures.append(structure_from_ipi(template, request.h, request.positions))
            for structure, prediction in zip(
                structures, evaluator.predict(structures, average, counts), strict=True
            ):
                results = results_to_ipi(structure, prediction, self.settings.virial)
                replies.append(Reply(*results, extras_json(prediction)))
            return replies
        except ShuttingDown:
            raise
        except Exception as error:
            # Which of the batch: the one the model names, else the first that could not be taken or answered.
            at = len(replies) if len(structures) == len(requests) else len(structures)
            if isinstance(error, EvaluationError):
                at = structures.index(error.structure)
            raise self._fail(error, requests[at], template) from error

    def _fail(self, error: Exception, request: Request, template: Structure) -> Exception:
        """The first failure, with its structure written; two endpoints may fail on the same configuration."""
        with self._failing:
            if self._failure is None:
                self._close()
                try:
                    place = f"is in {_write_structure(request, template, str(error))}"
                except OSError as problem:  # what went wrong first is what matters
                    place = f"could not be written ({problem})"
                self._failure = UserError(f"{error}; the configuration {place}")
            return self._failure

    def _others_live(self, asking: Endpoint) -> bool:
        return any(other.state is State.CONNECTED for other in self.endpoints if other is not asking)

    def _others_begun(self, asking: Endpoint) -> bool:
        return any(other.state is not State.WAITING for other in self.endpoints if other is not asking)

    def _close(self) -> None:
        for evaluator in self._evaluators.values():
            evaluator.close()

    def run(self) -> int:
        """See `serve`."""
        started = time.perf_counter()
        threads = [
            threading.Thread(
                target=self._run_endpoint, args=(endpoint,), name=endpoint.settings.label, daemon=True
            )
            for endpoint in self.endpoints
        ]
        with signals_handled_by(self._on_signal):
            try:
                for thread in threads:
                    thread.start()
                self._wake.wait()
            finally:
                self._close()
                for endpoint in self.endpoints:
                    endpoint.stop()
                end = time.monotonic() + _PATIENCE
                for thread in threads:
                    thread.join(max(0.0, end - time.monotonic()))
        self._write_stats(time.perf_counter() - started)
        try:
            status = self._status()
        except UserError as error:
            if not any(thread.is_alive() for thread in threads):
                raise
            print(f"error: {error}", file=sys.stderr)
            status = 2
        if any(thread.is_alive() for thread in threads):
            # A thread deep in the model: the interpreter's own end would wait for it or crash.
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:  # closed, as by `>&-`
                    stream.flush()
            os._exit(status)
        return status

    def _run_endpoint(self, endpoint: Endpoint) -> None:
        try:
            endpoint.run()
        except ShuttingDown:
            pass  # another endpoint failed, or a signal came
        except Exception as error:  # reported by the main thread
            self._failure = self._failure or error
            self._wake.set()
        finally:
            endpoint.finished = True
            # An endpoint that i-PI never opened does not keep the client alive after the run.
            if all(e.finished or e.state is State.WAITING for e in self.endpoints):
                self._wake.set()

    def _on_signal(self, number: int, stack: FrameType | None) -> None:
        self._signal = number
        self._wake.set()

    def _status(self) -> int:
        """Exit status after the end; raises what went wrong."""
        if self._signal:
            logger.info("stopped by %s", signal.Signals(self._signal).name)
            return 128 + self._signal
        if self._failure is not None:
            if isinstance(self._failure, UserError):
                raise self._failure
            raise UserError(f"{type(self._failure).__name__}: {self._failure}") from self._failure
        if not any(endpoint.state is State.EXIT for endpoint in self.endpoints):
            raise UserError(
                "i-PI closed the connection without EXIT: it was killed or has crashed; see its own output"
            )
        return 0

    def _write_stats(self, seconds: float) -> None:
        for label, counts in self.counts.items():
            logger.info(
                "%s: %d evaluations, %d rotations, %.3f s in the model",
                label, counts.evaluations, counts.rotations, counts.model_seconds,
            )  # fmt: skip
        if self.settings.stats is None:
            return
        summary = {
            "model": self.settings.model,
            "device": self.settings.device,
            "dtype": self.settings.dtype,
            "seconds": seconds,
            "model_seconds": sum(c.model_seconds for c in self.counts.values()),
            "endpoints": {label: counts.as_json() for label, counts in self.counts.items()},
        }
        try:
            write_whole(self.settings.stats, json.dumps(summary, indent=2) + "\n")
        except OSError as error:  # how the run ended matters more
            logger.warning("no statistics: %s", error)


def _load(model: PotentialSpec, device: str, dtype: str | None) -> Potential:
    """`load_potential`; a model that asks the process to end while it is made is a failure like any other."""
    try:
        return load_potential(model, device=device, dtype=dtype)
    except SystemExit as error:
        raise UserError(f"the model {model} called sys.exit({error.code!r}) while it was loaded") from error


def _follow(settings: ServeSettings) -> int:
    """In every process but the first: evaluate what the first one sends until it ends."""
    models = {
        str(settings.model_of(endpoint)): settings.model_of(endpoint) for endpoint in settings.endpoints
    }
    if len(models) > 1:
        raise UserError(
            f"a group of processes serves one model, got {', '.join(models)}; start one process for several models"
        )
    (model,) = models.values()
    potential = _load(model, device=local_device(settings.device), dtype=settings.dtype)
    DistributedPotential(potential, settings.rotation_batch).follow()
    return 0


def _template(settings: ServeSettings) -> Structure:
    """The structure of the settings, else that of the i-PI input."""
    source = settings.structure or settings.input
    if source is None:
        raise UserError(
            "no structure given, and i-PI does not send the elements; give the file that i-PI starts from "
            "(--structure FILE) or its input (--input input.xml)"
        )
    template = read_template(source, settings.pbc).conditioned(settings.charge, settings.spin)
    if settings.input is not None:
        check_not_wrapped(settings.input.read_text(), template.pbc, settings.input)
    symbols = ase.Atoms(numbers=template.numbers).get_chemical_formula()
    periodic = "periodic" if template.periodic else "isolated"
    if template.charge is not None:
        periodic += f", charge {template.charge:g}"
    if template.spin is not None:
        periodic += f", multiplicity {template.spin}"
    logger.info("%d atoms (%s), %s, from %s", template.n_atoms, symbols, periodic, source)
    return template


def _write_structure(request: Request, template: Structure, reason: str) -> Path:
    """The configuration of ``request`` as extended xyz, Å, under a name that is not taken yet."""
    import ase.io  # takes half a second, which no client should wait for at its start

    known = len(request.positions) == template.n_atoms
    atoms = ase.Atoms(
        numbers=template.numbers if known else np.zeros(len(request.positions), dtype=int),
        positions=request.positions * BOHR,
        cell=request.h.T * BOHR,
        pbc=template.pbc,
    )
    information: dict[str, Any] = {"reason": reason}
    atoms.info.update(information)
    path, number = Path("failed-frame.extxyz"), 1
    while path.exists():
        path, number = Path(f"failed-frame-{number}.extxyz"), number + 1
    ase.io.write(path, atoms, format="extxyz")
    return path
