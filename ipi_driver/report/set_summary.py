"""The table at the end of `ipi-driver run` with several structures: one row per cell."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ipi_driver.analysis.run_statistics import energies_and_forces, is_minimization
from ipi_driver.errors import UserError
from ipi_driver.ipi_files.outputs import Run
from ipi_driver.ipi_files.run_folder import RunFolder
from ipi_driver.runs.console import lenient_console
from ipi_driver.runs.ending import has_converged
from ipi_driver.whole_file import write_whole


def set_row(name: str, folder: Path, state: str) -> dict[str, Any]:
    """Numbers of one cell.

    Parameters
    ----------
    name
        Of the cell.
    folder
        Its run folder, which need not exist.
    state
        How the run ended: finished, failed, stopped, not run.

    Returns
    -------
    dict
        ``cell``, ``state``; where the run has a step also ``steps`` and what `energies_and_forces` gives; of a
        minimization that is finished the state is converged or not converged.
    """
    row: dict[str, Any] = {"cell": name, "state": state}
    if not folder.is_dir() or RunFolder(folder).is_starting:
        return row
    try:
        run = Run(folder)
        row["steps"] = int(run.properties.steps[-1])
        row |= energies_and_forces(run, [])
    except UserError:  # what is missing stands as a dash; the reason was reported when the cell was run
        return row
    if state == "finished" and is_minimization(run):
        row["state"] = "converged" if has_converged(folder) else "not converged"
    return row


def write_set(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write ``summary.json`` into the folder of the set."""
    write_whole(folder / "summary.json", json.dumps(rows, indent=2) + "\n")


def print_set(folder: Path, rows: Sequence[dict[str, Any]], console: Console | None = None) -> None:
    """Print the table on standard output."""
    table = Table(title=escape(folder.name), title_justify="left")
    table.add_column("cell", overflow="fold")
    for name in ("molecules", "steps", "energy\neV/molecule", "largest force\nmeV/Å"):
        table.add_column(name, justify="right")
    table.add_column("state")
    for row in rows:
        numbers = [
            layout.format(row[key]) if key in row else "–"
            for key, layout in (
                ("n_molecules", "{}"),
                ("steps", "{}"),
                ("energy_per_molecule", "{:.6f}"),
                ("largest_force", "{:.3g}"),
            )
        ]
        table.add_row(row["cell"], *numbers, row["state"])
    (console or lenient_console(sys.stdout)).print(table)
