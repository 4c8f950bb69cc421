"""One potential on several processes: the rotations of an average are divided among them.

Started with ``torchrun --nproc-per-node 4 -m ipi_driver serve ...`` or one task for each device with ``srun``. Rank 0
talks to i-PI; it sends structures and rotations to the others, each evaluates a part with its own copy of the model on
its own device, and rank 0 gathers. What travels is a few numbers for each atom and rotation, so that gloo carries it
also between GPUs.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import timedelta
from typing import Any

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.chunks import RotationChunks
from ipi_driver.structure import FloatArray, RotatedResults, Structure

_FOREVER = timedelta(days=365)
"""i-PI may be idle for long; a process that ends closes its connections, which the others notice at once."""


class RankFailed(UserError):
    """Another process of the group has failed or ended."""


def world() -> tuple[int, int, int]:
    """Rank, number of processes, and rank on this machine, from torchrun or Slurm; (0, 1, 0) where there is one."""
    environment = os.environ
    if "WORLD_SIZE" in environment and "RANK" in environment:
        rank, size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
        return rank, size, int(environment.get("LOCAL_RANK", rank))
    if "SLURM_PROCID" in environment and environment.get("IPI_DRIVER_RANKS") == "slurm":
        rank, size = int(environment["SLURM_PROCID"]), int(environment["SLURM_NTASKS"])
        return rank, size, int(environment.get("SLURM_LOCALID", rank))
    return 0, 1, 0


def local_device(device: str) -> str:
    """The device of this process: of several on one machine each takes a GPU of its own."""
    return f"cuda:{world()[2]}" if device == "cuda" and world()[1] > 1 else device


class DistributedPotential(Potential):
    """A potential whose rotations are evaluated by all processes of a group.

    Parameters
    ----------
    local
        The potential of this process, the same model in every process.
    rotation_batch
        Rotations per call of the model in each process; None chooses.

    Raises
    ------
    UserError
        If the processes cannot find each other.
    """

    def __init__(self, local: Potential, rotation_batch: int | None = None) -> None:
        import torch.distributed as dist

        self.local = local
        self.name, self.cutoff, self.species = local.name, local.cutoff, local.species
        self.directions = local.directions
        self.conditions, self.device, self.warm_up = local.conditions, local.device, local.warm_up
        self._chunks = RotationChunks(local, rotation_batch)
        self.rank, self.size, _ = world()
        if not dist.is_initialized():
            os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
            try:
                dist.init_process_group("gloo", rank=self.rank, world_size=self.size, timeout=_FOREVER)
            except (RuntimeError, ValueError) as error:
                raise UserError(
                    f"the {self.size} processes do not find each other: {str(error).splitlines()[0]}; start them "
                    "with torchrun, or with srun and MASTER_ADDR and MASTER_PORT of the first node"
                ) from error

    def edges_hint(self, structure: Structure) -> int:
        """One: all rotations come here in one call and are divided first."""
        return 1

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        if self.rank:
            raise UserError("only the first process evaluates; the others follow")
        self._send((structures, rotations))
        return _joined(self._part(structures, rotations))

    def follow(self) -> None:
        """In every process but the first: evaluate what rank 0 sends, until it closes."""
        while True:
            task = self._send(None)
            if task is None:
                _leave()
                return
            self._part(*task)

    def close(self) -> None:
        """End the other processes."""
        if self.rank == 0:
            self._send(None)
            _leave()

    def _send(self, task: Any) -> Any:
        import torch.distributed as dist

        box = [task]
        try:
            dist.broadcast_object_list(box, src=0)
        except RuntimeError as error:
            raise RankFailed(_lost(error)) from error
        return box[0]

    def _part(self, structures: list[Structure], rotations: FloatArray) -> list[Any]:
        """Results of every process, in their order, on rank 0; empty elsewhere."""
        import torch.distributed as dist

        mine = np.array_split(rotations, self.size)[self.rank]
        found: Any
        try:
            rows = [self._chunks.evaluate(structure, mine) for structure in structures] if len(mine) else []
            found = rows
        except Exception as error:  # the other processes wait for an answer
            found = f"{type(error).__name__}: {error}"
        gathered: list[Any] | None = [None] * self.size if self.rank == 0 else None
        try:
            dist.gather_object(found, gathered)
        except RuntimeError as error:
            raise RankFailed(_lost(error)) from error
        for rank, other in enumerate(gathered or []):
            if isinstance(other, str):
                raise RankFailed(f"the model failed in process {rank} of {self.size}: {other}")
        return gathered or []


def _leave() -> None:
    """Leave the group together: a process that ends while its group lives may be aborted by a thread of gloo."""
    import torch.distributed as dist

    with suppress(RuntimeError):  # another process has ended already
        dist.barrier()
    dist.destroy_process_group()


def _joined(gathered: list[list[RotatedResults]]) -> RotatedResults:
    parts = [rows for rows in gathered if rows]
    return RotatedResults.joined(
        [RotatedResults.concatenate(list(column)) for column in zip(*parts, strict=True)]
    )


def _lost(error: BaseException) -> str:
    return f"another process of the group has ended ({str(error).splitlines()[0]}); see its messages above"
