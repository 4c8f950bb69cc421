"""``ipi-driver symmetry-breaking MODEL``: what a relaxed network has learned to break."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ipi_driver.cli.printing import add_printing, set_result
from ipi_driver.errors import UserError

EPILOG = """\
Prints the relaxed weights of each layer by irrep (1o: a vector, 1e: a pseudovector, 2e: a quadrupole, ...; components
in the order of e3nn, with y as the axis of its spherical harmonics), their norms, and the largest point group that
leaves them invariant. Writes breaking.json, and signals.png with the scalar and pseudoscalar signal on the sphere.

examples:
  ipi-driver symmetry-breaking my-relaxed-model
  ipi-driver symmetry-breaking my-relaxed-model --tolerance 0.1 --output breaking
  ipi-driver symmetry-breaking my-relaxed-model --field water.extxyz --charges O:-0.82,H:0.41   # in V/Å
  ipi-driver check "my-relaxed-model?theta_scale=0.3" water.extxyz      # what a part of it costs
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.epilog = EPILOG
    parser.add_argument(
        "model", help="folder of a model of kind e3nn with relaxed weights; ?theta_scale=X is allowed"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.02,
        metavar="X",
        help="relative change of the weights that counts as none (default 0.02)",
    )
    parser.add_argument(
        "--field",
        type=Path,
        metavar="FILE",
        help="structures on which the uniform field in the forces is read, with --charges",
    )
    parser.add_argument(
        "--charges", metavar="O:-0.82,H:0.41", help="charge of each element, e: a field acts on them"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="for JSON and PNG (default breaking-MODEL)"
    )
    add_printing(parser)


def main(args: argparse.Namespace) -> int:
    """Print and write."""
    from rich.console import Console
    from rich.table import Table

    from ipi_driver.cli.output_folder import output_folder
    from ipi_driver.networks.e3nn.network import E3nnNetwork
    from ipi_driver.potentials import load_potential
    from ipi_driver.report.figures import save
    from ipi_driver.report.sphere_figures import draw_signals, weights_table
    from ipi_driver.symmetry.breaking import largest_point_group, norm

    if (args.field is None) != (args.charges is None):
        raise UserError("--field FILE and --charges O:-0.82,H:0.41 belong together: give both or none")
    if not args.tolerance > 0:
        raise UserError(f"--tolerance must be positive, got {args.tolerance:g}")
    potential = load_potential(args.model)
    network = getattr(potential, "network", None)
    if not isinstance(network, E3nnNetwork) or not network.relaxed_weights:
        kind = network.config.kind if network is not None else type(potential).__name__
        raise UserError(
            f"{args.model} has no relaxed weights (kind {kind}); expected a model of kind e3nn that was trained with "
            "`architecture: {kind: e3nn, relaxed: {l_max: 2}}`; `ipi-driver check` measures what other models break"
        )
    folder = output_folder(args.output, f"breaking-{Path(potential.name).name}")
    layers = {
        f"layer {k + 1}": {name: w.double().numpy() for name, w in weights.by_irrep().items()}
        for k, weights in enumerate(network.relaxed_weights)
    }
    header, rows = weights_table(layers)
    console = Console()
    table = Table(title=f"relaxed weights of {potential.name}")
    for name in header:
        table.add_column(name, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    content = {}
    for title, weights in layers.items():
        group = largest_point_group(weights, args.tolerance)
        broken = norm({name: w for name, w in weights.items() if name != "0e"})
        axis = ", ".join(f"{x:.3f}" for x in group.axis)
        along = "" if group.name in ("O(3)", "SO(3)", "C1") else f" along ({axis})"
        print(
            f"{title}: norm of what breaks the symmetry {broken:.3g}; largest group that leaves it: {group.name}{along}"
        )
        content[title] = {
            "weights": {name: w.tolist() for name, w in weights.items()},
            "breaking_norm": broken,
            "group": group.name,
            "axis": list(group.axis),
            "deviation": group.deviation,
        }
    result: dict[str, Any] = {"model": potential.name, "layers": content}
    if args.field is not None:
        result["field"] = _field(args)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "breaking.json").write_text(json.dumps(result, indent=1) + "\n")
    save(draw_signals(layers), folder, "signals")
    print(f"Written to {folder}: breaking.json, signals.png, signals.pdf")
    set_result(args, folder / "breaking.json", folder)
    return 0


def _field(args: argparse.Namespace) -> dict[str, Any]:
    """The uniform field in the forces, printed and for the file."""
    from ipi_driver.ipi_files.structures import read_data_set
    from ipi_driver.potentials import load_potential, parse_potential
    from ipi_driver.potentials.field import parse_charges
    from ipi_driver.symmetry.learned_field import learned_field

    spec = parse_potential(args.model)
    scale = float(spec.options.get("theta_scale", "1"))
    ahead, behind = (
        load_potential(spec.with_options({"theta_scale": f"{sign * scale:.17g}"}), dtype="float64")
        for sign in (1.0, -1.0)
    )
    structures = read_data_set(args.field, sample=100).structures
    found = learned_field(ahead, behind, structures, parse_charges(args.charges))
    vector = ", ".join(f"{x:.5f}" for x in found.electric)
    print(
        f"uniform field ({vector}) V/Å, {found.size:.5f} V/Å, from {len(structures)} structures; "
        f"it explains {100 * found.explained:.1f} % of the forces that are odd in the weights"
    )
    return {"electric": found.electric.tolist(), "explained": found.explained, "charges": args.charges}
