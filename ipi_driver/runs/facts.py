"""What a run is of: the first line that `ipi-driver run` prints, and what watches over it need to know."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import ase
import numpy as np

from ipi_driver.client.settings import ServeSettings, make_settings, read_yaml
from ipi_driver.errors import UserError
from ipi_driver.ipi_files import edit as xml
from ipi_driver.ipi_files.endpoints import is_monitor
from ipi_driver.ipi_files.run_folder import INPUT, SETTINGS
from ipi_driver.ipi_files.start import read_start
from ipi_driver.ipi_files.template import read_template
from ipi_driver.runs.watch import PhysicsWatch
from ipi_driver.structure import Structure

_FOLDERS = re.compile(r"(?:^|(?<=[+,:(=]))/(?:[^+,:()?&=]*/)?")
"""Before the name of each file that a model names by its absolute path."""


@dataclass(frozen=True, eq=False)
class RunFacts:
    """Structure and settings of a run folder."""

    structure: Structure
    settings: ServeSettings

    @property
    def text(self) -> str:
        """Formula, atoms, cell, periodic directions, model, averages, device."""
        return f"{describe(self.structure)}; {describe_model(self.settings)}"

    def watch(self, folder: Path) -> PhysicsWatch:
        """The watch over the physics with the limits of ``driver.yaml``."""
        structure = self.structure
        return PhysicsWatch(folder, structure.n_atoms, not structure.periodic, self.settings.watch)


def read_facts(folder: Path) -> RunFacts | None:
    """Facts of a run folder; None where its settings are wrong, which the client reports."""
    try:
        settings = make_settings(read_yaml(folder / SETTINGS), str(folder / SETTINGS))
        source = settings.structure or settings.input or folder / INPUT
        template = read_template(source, settings.pbc)
        return RunFacts(_with_cell(template, folder), settings)
    except UserError:
        return None


def _with_cell(template: Structure, folder: Path) -> Structure:
    """The template with the cell of the file that i-PI starts from, where the template has none."""
    name = xml.start_file((folder / INPUT).read_text())
    if not template.periodic or template.cell.any() or name is None or not (folder / name).is_file():
        return template
    with suppress(UserError):
        return replace(template, cell=np.array(read_start(folder / name, True, whatever=True).cell))
    return template


def describe(structure: Structure) -> str:
    """``H2O, 3 atoms, isolated`` or ``H128O64, 192 atoms, periodic, 12.42 × 12.42 × 12.42 Å``."""
    formula = ase.Atoms(numbers=structure.numbers).get_chemical_formula()
    text = f"{formula}, {structure.n_atoms} atom{'s' if structure.n_atoms != 1 else ''}"
    if not structure.periodic:
        return f"{text}, isolated"
    directions = "".join(axis for axis, periodic in zip("xyz", structure.pbc, strict=True) if periodic)
    cell = ase.cell.Cell(structure.cell)
    if not structure.cell.any():
        return f"{text}, periodic"
    lengths = " × ".join(f"{x:.4g}" for x in cell.lengths())
    angles = "" if np.allclose(cell.angles(), 90.0, atol=1e-3) else _angles(cell)
    return f"{text}, periodic{'' if directions == 'xyz' else f' along {directions}'}, {lengths} Å{angles}"


def _angles(cell: ase.cell.Cell) -> str:
    return " (" + ", ".join(f"{angle:.4g}°" for angle in cell.angles()) + ")"


def describe_model(settings: ServeSettings) -> str:
    """``model pet-water-s2, average 2i (36 rotations) and none, cpu``."""
    own = [endpoint for endpoint in settings.endpoints if not is_monitor(endpoint.model_dump())]
    grids = {grid.name: grid for grid in (endpoint.quadrature for endpoint in own)}
    averages = []
    for grid in sorted(grids.values(), key=lambda grid: grid.name == "none"):
        averages.append(f"{grid.name} ({len(grid)} rotations)" if len(grid) > 1 else grid.name)
    model = _FOLDERS.sub("", settings.model)
    text = f"model {model}, average {' and '.join(averages)}, {settings.device}"
    if settings.dtype is not None:
        text += f", {settings.dtype}"
    monitor = settings.monitor
    return (
        text
        if monitor is None
        else f"{text}; {monitor.average} is evaluated every {monitor.stride} steps beside it"
    )
