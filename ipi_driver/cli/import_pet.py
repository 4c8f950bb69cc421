"""``ipi-driver import-pet DIR OUT``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ipi_driver.errors import UserError

EPILOG = """\
examples:
  ipi-driver import-pet my-checkpoint models/my-pet
  ipi-driver check models/my-pet structures.extxyz
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EPILOG
    parser.add_argument(
        "checkpoint",
        type=Path,
        metavar="DIR",
        help="folder with hypers_used.yaml, all_species.npy and the weights",
    )
    parser.add_argument("output", type=Path, metavar="OUT", help="model folder to write")
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")


def main(args: argparse.Namespace) -> int:
    """Convert, and say what was converted."""
    from ipi_driver.networks.pet.original import import_original
    from ipi_driver.networks.storage import save_model

    if (args.output / "model.yaml").exists() and not args.force:
        raise UserError(f"{args.output} holds a model already; choose another folder or add --force")
    network, baseline = import_original(args.checkpoint)
    save_model(
        args.output, network, baseline, {"imported_from": f"original PET checkpoint {args.checkpoint.name}"}
    )
    size = sum(p.numel() for p in network.parameters())
    print(
        f"{args.output}: {size} parameters, {network.config.n_gnn_layers} GNN layers, cutoff {network.config.cutoff} Å"
    )
    return 0
