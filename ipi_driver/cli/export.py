"""``ipi-driver export MODEL OUT.pt``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ipi_driver.cli.printing import add_printing, set_result
from ipi_driver.errors import UserError

EPILOG = """\
examples:
  ipi-driver export pet-water-s2 pet-water-s2.pt
  ipi-driver export models/my-pet my-pet-Th.pt --average Th
  ipi-driver export pet-water-s2 precise.pt --average 2i --dtype float64
  ipi-driver export 'model.pt?variant=r2scan' averaged.pt --average Th
  ipi-driver check my-pet-Th.pt structures.extxyz

The file is a metatomic model, for LAMMPS, ASE, torch-sim, i-PI's own metatomic driver, and for this package. An average
stays inside: every evaluation costs that many rotations, and the memory of some of them. Needs metatomic
(pip install 'ipi-driver[metatomic]').
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EPILOG
    parser.add_argument("model", metavar="MODEL", help="a shipped model, a model folder, or a .pt")
    parser.add_argument("output", type=Path, metavar="OUT.pt", help="file to write")
    parser.add_argument(
        "--average",
        default="none",
        metavar="NAME",
        help="rotations to average over inside the model: T, Th, O, 2i, ... (default: none)",
    )
    parser.add_argument(
        "--dtype",
        choices=["float32", "float64"],
        help="precision of the exported model and of its total energy, which cannot be changed later (default: "
        "float32; that of a .pt)",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT.pt if it exists")
    add_printing(parser)


def main(args: argparse.Namespace) -> int:
    """Export, and report what was exported."""
    from ipi_driver.export import export_model
    from ipi_driver.potentials import load_potential
    from ipi_driver.potentials.metatomic import MetatomicPotential
    from ipi_driver.potentials.network import NetworkPotential
    from ipi_driver.rotations.quadrature import quadrature

    if args.output.suffix != ".pt":
        raise UserError(f"OUT.pt: metatomic's files end in .pt, got {args.output}")
    if args.output.exists() and not args.force:
        raise UserError(f"{args.output} exists already; choose another file or add --force")
    average = quadrature(args.average)
    potential = load_potential(args.model, dtype=args.dtype)
    if isinstance(potential, MetatomicPotential) and args.average == "none":
        raise UserError(
            f"{args.model} is exported already; give an average that it is to hold (--average Th)"
        )
    if not isinstance(potential, (NetworkPotential, MetatomicPotential)):
        raise UserError(
            f"{args.model}: only networks of this package (a shipped model, a model folder of `train`, `symmetrize` or "
            "`import-pet`) and metatomic models (.pt) can be exported"
        )
    left_out = export_model(potential, args.output, average)
    about = "raw" if args.average == "none" else f"average {average.name}, {len(average)} rotations inside"
    precision = str(potential.dtype).removeprefix("torch.")
    print(f"{args.output}: {potential.name}, {about}, {precision}")
    if left_out:
        print(
            f"warning: not in the file, which holds the energy alone: {', '.join(left_out)}", file=sys.stderr
        )
    set_result(
        args,
        {
            "file": str(args.output),
            "model": potential.name,
            "average": average.name,
            "rotations": len(average),
            "dtype": precision,
            "left_out": left_out,
        },
    )
    print("energies, forces and virials equal those of the model on four test structures")
    return 0
