"""The potential for i-PI without a socket; `ipi_driver.client.ipi_plugin` is what i-PI loads."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from ipi_driver.allocator import keep_freed_memory
from ipi_driver.client.evaluator import Counts, SharedEvaluator
from ipi_driver.client.protocol import Reply
from ipi_driver.client.settings import Averaged
from ipi_driver.errors import UserError
from ipi_driver.ipi_files.conversion import extras_json, results_to_ipi, structure_from_ipi
from ipi_driver.ipi_files.template import read_template
from ipi_driver.openmp import release_workers
from ipi_driver.potentials.registry import load_potential, parse_potential, with_options
from ipi_driver.rotations.transmission import physics_removed
from ipi_driver.structure import FloatArray

logger = logging.getLogger(__name__)


class InProcessSettings(Averaged, BaseModel):
    """As in `ipi_driver.client.settings.ServeSettings`, for one average."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    model: str
    structure: Path
    average: str = "none"
    pbc: bool | None = None
    device: str = "cpu"
    dtype: Literal["float32", "float64", "tf32"] | None = None
    rotation_batch: int | None = None
    seed: int = 0
    virial: Literal["required", "nan"] = "required"
    charge: float | None = None
    spin: int | None = None
    extras: str = ""


@cache
def _evaluator(
    model: str, device: str, dtype: str | None, seed: int, rotation_batch: int | None
) -> SharedEvaluator:
    """One model for all force fields of this process that ask for the same."""
    return SharedEvaluator(load_potential(model, device=device, dtype=dtype), seed, rotation_batch)


class InProcess:
    """One force field of i-PI.

    Parameters
    ----------
    settings
        Fields of `InProcessSettings`; ``structure`` may be i-PI's own input file.

    Attributes
    ----------
    counts
        What has been computed for it.

    Raises
    ------
    UserError
        For a parameter that is unknown, missing or wrong.
    """

    def __init__(self, **settings: Any) -> None:
        try:
            self.settings = InProcessSettings.model_validate(settings)
        except ValidationError as error:
            problems = "; ".join(f"`{'.'.join(map(str, p['loc']))}`: {p['msg']}" for p in error.errors())
            known = ", ".join(InProcessSettings.model_fields)
            raise UserError(f"parameters of the force field: {problems} (known: {known})") from None
        keep_freed_memory()
        chosen = self.settings
        template = read_template(chosen.structure, chosen.pbc)
        self._template = template.conditioned(chosen.charge, chosen.spin)
        spec = parse_potential(chosen.model)
        if chosen.extras:
            spec = with_options(spec, {"extras": chosen.extras})
        self._evaluator = _evaluator(
            str(spec), chosen.device, chosen.dtype, chosen.seed, chosen.rotation_batch
        )
        self._evaluator.potential.check_species(self._template)
        self._evaluator.potential.check_conditions(chosen.charge, chosen.spin)
        self._average = self._evaluator.prepare(chosen.quadrature)
        self.counts = Counts(self._average.average)
        release_workers()  # i-PI may evaluate in a thread of its own
        lost = physics_removed(self._evaluator.potential.directions, self._average.quadrature)
        if lost is not None:
            logger.warning("ipi-driver: warning: %s", lost)

    def evaluate(self, cells: Sequence[FloatArray], positions: Sequence[FloatArray]) -> list[Reply]:
        """Results in hartree and bohr for h (3, 3), vectors as columns, and positions (n_atoms, 3), in bohr.

        Raises
        ------
        UserError
            If the model fails, or a result is not finite.
        """
        structures = [
            structure_from_ipi(self._template, np.asarray(h), np.asarray(x))
            for h, x in zip(cells, positions, strict=True)
        ]
        predictions = self._evaluator.predict(structures, self._average, self.counts)
        return [
            Reply(*results_to_ipi(structure, prediction, self.settings.virial), extras_json(prediction))
            for structure, prediction in zip(structures, predictions, strict=True)
        ]
