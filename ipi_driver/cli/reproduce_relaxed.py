"""``ipi-driver reproduce hofgard2024``: relaxed equivariant networks, in minutes."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from functools import partial
from pathlib import Path

from ipi_driver.cli.printing import set_result
from ipi_driver.errors import UserError

STUDY = "hofgard2024"


def check_options(args: argparse.Namespace, defaults: argparse.Namespace) -> None:
    """`UserError` for an option that this study does not have."""
    own = {"systems", "output", "fraction", "quiet", "json"}
    for name, default in vars(defaults).items():
        if name not in own and getattr(args, name, default) != default:
            option = {"others": "with", "stride": "nmts"}.get(name, name).replace("_", "-")
            raise UserError(f"{STUDY} has no --{option}: of the options it takes --output and --fraction")


def main(args: argparse.Namespace, command: str) -> int:
    """Train, write the table and the figure, print the table."""
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from ipi_driver.cli.output_folder import output_folder
    from ipi_driver.studies.hofgard2024.deformation import TARGETS, learn_deformation
    from ipi_driver.studies.hofgard2024.particle import learn_fields
    from ipi_driver.studies.hofgard2024.report import write_study

    folder = output_folder(args.output, Path(f"reproduction-{STUDY}").name)
    steps = max(1, round(2500 * args.fraction))
    with Progress(console=Console(stderr=True)) as bar:
        particles = [
            learn_fields(relaxed, max(1, round(600 * min(1.0, args.fraction)))) for relaxed in (False, True)
        ]
        deformations = []
        for target in TARGETS:
            task = bar.add_task(f"cube to {target}", total=steps)
            deformations.append(learn_deformation(target, steps, progress=partial(bar.advance, task)))
    rows = write_study(deformations, particles, command, folder)
    table = Table(title="Hofgard et al. (2024)")
    for name in ("quantity", "published", "here"):
        table.add_column(name)
    for row in rows:
        table.add_row(row.quantity, row.published, row.here)
    console = Console()
    if not console.is_terminal:  # a log file has no width of its own
        console = Console(width=140)
    console.print(table)
    set_result(args, {"rows": [asdict(row) for row in rows]}, folder)
    print(f"Written to {folder}: README.md, table.csv, weights.json, signals.png, signals.pdf")
    return 0
