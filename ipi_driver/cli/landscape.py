"""``ipi-driver landscape MODEL DATA``: the loss around a trained minimum."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipi_driver.cli.printing import add_printing, set_result
from ipi_driver.errors import UserError
from ipi_driver.units import MILLI

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipi_driver.training.data import LabelledStructure
    from ipi_driver.training.landscape import Landscape

EPILOG = """\
The loss is the mean squared error of the forces. It is drawn over two random, filter-normalized directions (each row of
each weight matrix as long as that of the model), which makes networks of other kinds comparable, and the largest
eigenvalues of its Hessian in the same scale follow from Lanczos' method. Errors are from other random directions and
start vectors (--seeds). Writes landscape.json and landscape.png.

examples:
  ipi-driver landscape pet-water-s2 water.extxyz
  ipi-driver landscape pet-water-s2 water.extxyz --beside pet-water-noaug my-e3nn-model --max-structures 4
  ipi-driver landscape my-model water.extxyz --points 21 --extent 1 --lanczos 0        # the surface alone, finer
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.epilog = EPILOG
    add = parser.add_argument
    add("model", help="shipped model or model folder (a network)")
    add("data", type=Path, help="extended XYZ, n2p2 input.data or DeePMD folder with forces")
    add("--beside", nargs="+", default=[], metavar="MODEL", help="further models, drawn beside it")
    add(
        "--max-structures",
        type=int,
        default=2,
        metavar="N",
        help="structures of DATA, evenly spaced (default 2)",
    )
    add("--points", type=int, default=11, metavar="N", help="points along each direction, odd (default 11)")
    add(
        "--extent",
        type=float,
        default=0.5,
        metavar="X",
        help="largest distance along each direction (default 0.5)",
    )
    add("--lanczos", type=int, default=12, metavar="N", help="steps of Lanczos' method, 0: none (default 12)")
    add("--eigenvalues", type=int, default=3, metavar="N", help="largest eigenvalues (default 3)")
    add("--seeds", type=int, default=3, metavar="N", help="repetitions, for the errors (default 3)")
    add("--seed", type=int, default=0, help="first seed (default 0)")
    add("--energy-key", default="energy", metavar="KEY", help="name in the comment line (default energy)")
    add("--forces-key", default="forces", metavar="KEY", help="name of the columns (default forces)")
    add(
        "--units",
        choices=("auto", "ev-angstrom", "atomic"),
        default="auto",
        help="of the data (default auto)",
    )
    add("--output", type=Path, metavar="DIR", help="folder for JSON and PNG (default landscape-MODEL)")
    add_printing(parser)


def main(args: argparse.Namespace) -> int:
    """Explore every model, print the table, write the files."""
    from rich.console import Console
    from rich.progress import Progress

    from ipi_driver.cli.output_folder import output_folder
    from ipi_driver.ipi_files.structures import evenly
    from ipi_driver.report.figures import save
    from ipi_driver.report.landscape_figures import draw_landscapes
    from ipi_driver.training.data import read_dataset
    from ipi_driver.training.landscape import work_of

    if args.max_structures < 1:
        raise UserError(f"--max-structures must be at least 1, got {args.max_structures}")
    data = read_dataset([args.data], args.energy_key, args.forces_key, units=args.units, need_energy=False)
    data = [data[k] for k in evenly(len(data), args.max_structures)]
    models = list(dict.fromkeys([args.model, *args.beside]))
    names = [Path(model).name for model in models]
    folder = output_folder(args.output, f"landscape-{Path(args.model).name}")
    found: dict[str, Landscape] = {}
    with Progress(console=Console(stderr=True), transient=True) as bar:
        for model in models:
            task = bar.add_task(model, total=work_of(args.points, args.lanczos, args.seeds))
            name = model if names.count(Path(model).name) > 1 else Path(model).name
            found[name] = _explored(model, data, args, lambda done, task=task: bar.advance(task, done))
    Console().print(_table(found))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "landscape.json"
    path.write_text(json.dumps(_content(found, args), indent=1) + "\n", encoding="utf-8")
    save(draw_landscapes(found), folder, "landscape")
    print(f"Written to {folder}: landscape.json, landscape.png, landscape.pdf")
    set_result(args, path, folder)
    return 0


def _explored(
    model: str, data: Sequence[LabelledStructure], args: argparse.Namespace, progress: Any
) -> Landscape:
    from ipi_driver.potentials import load_potential, parse_potential
    from ipi_driver.potentials.network import NetworkPotential
    from ipi_driver.training.batch import make_sample
    from ipi_driver.training.landscape import explore

    kind = parse_potential(model).kind
    potential = load_potential(model, dtype="float64") if kind == "network" else None
    if not isinstance(potential, NetworkPotential):
        raise UserError(
            f"{model} is of kind {kind}, whose weights are not known here; expected a shipped model or a model folder "
            "(`ipi-driver import-pet` makes one of a PET checkpoint)"
        )
    for item in data:
        potential.check_species(item.structure)
    network = potential.network.requires_grad_(True)
    samples = [
        make_sample(item, network.config.species, network.config.cutoff, potential.baseline) for item in data
    ]
    return explore(
        network,
        samples,
        args.extent,
        args.points,
        args.eigenvalues,
        args.lanczos,
        args.seeds,
        args.seed,
        progress,
    )


def _table(found: dict[str, Landscape]) -> Any:
    import numpy as np
    from rich.table import Table

    from ipi_driver.report.tables import formatted

    some = next(iter(found.values()))
    table = Table(title=f"loss surfaces, {some.n_structures} structures; errors over seeds")
    table.add_column("model")
    for name in ("force error\nmeV/Å", f"rise at {some.radius:g}\n(meV/Å)²", "largest eigenvalues\n(eV/Å)²"):
        table.add_column(name, justify="right")
    for name, item in found.items():
        values = item.eigenvalues
        shown = ", ".join(
            f"{values[:, k].mean():.4g} ± {_error(values[:, k], float(item.residuals[:, k].max())):.1g}"
            for k in range(values.shape[1])
        )
        rise = 1e6 * item.rise
        table.add_row(
            name,
            f"{MILLI * np.sqrt(item.minimum):.1f}",
            formatted(float(rise.mean()), _error(rise, 0.0)),
            shown or "–",
        )
    return table


def _error(values: Any, least: float) -> float:
    """Standard error of the mean over seeds, and at least the bound of the method."""
    import numpy as np

    if len(values) < 2:
        return least if least > 0.0 else float("nan")
    return max(float(np.std(values, ddof=1) / np.sqrt(len(values))), least)


def _content(found: dict[str, Landscape], args: argparse.Namespace) -> dict[str, Any]:
    models = {
        name: {
            "minimum": item.minimum,
            "n_structures": item.n_structures,
            "rise": item.rise.tolist(),
            "eigenvalues": item.eigenvalues.tolist(),
            "residuals": item.residuals.tolist(),
            "steps": item.steps.tolist(),
            "surface": item.surface.tolist(),
        }
        for name, item in found.items()
    }
    return {"units": "(eV/Å)²", "data": str(args.data), "extent": args.extent, "models": models}
