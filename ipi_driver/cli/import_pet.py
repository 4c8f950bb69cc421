"""``ipi-driver import-pet CHECKPOINT OUT``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ipi_driver.cli.printing import add_printing, set_result
from ipi_driver.errors import UserError

EPILOG = """\
examples:
  ipi-driver import-pet my-checkpoint models/my-pet
  ipi-driver import-pet pet-mad.ckpt models/pet-mad
  ipi-driver import-pet pet-omat.ckpt models/r2scan --target energy/r2scan
  ipi-driver import-pet pet-mad.ckpt models/pet-mad --kokkos   # for pet-kokkos:models/pet-mad
  ipi-driver check models/pet-mad structures.extxyz

A checkpoint of metatrain (.ckpt) is a pickle, which can run code when it is read: import only what you trust. Reading
it needs metatrain (pip install 'ipi-driver[metatrain]'), using the written folder does not.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EPILOG
    parser.add_argument(
        "checkpoint",
        type=Path,
        metavar="CHECKPOINT",
        help="a .ckpt file of metatrain (PET), or a folder of the original PET code with hypers_used.yaml, "
        "all_species.npy and the weights",
    )
    parser.add_argument("output", type=Path, metavar="OUT", help="model folder to write")
    parser.add_argument(
        "--target",
        metavar="NAME",
        help="energy to import from a metatrain checkpoint that has several, as energy/r2scan (default: energy)",
    )
    parser.add_argument(
        "--charge",
        type=int,
        default=0,
        metavar="Q",
        help="total charge, for a model that depends on it (default: 0); the folder then refuses structures of another",
    )
    parser.add_argument(
        "--spin", type=int, default=1, metavar="M", help="spin multiplicity 2 S + 1, likewise (default: 1)"
    )
    parser.add_argument(
        "--kokkos",
        action="store_true",
        help="write OUT.json and OUT.safetensors for pet-kokkos (pet-kokkos:OUT) in place of a model folder",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    add_printing(parser)


def main(args: argparse.Namespace) -> int:
    """Convert, and report what was converted."""
    from ipi_driver.networks.base import EdgeNetwork
    from ipi_driver.networks.storage import save_model

    if args.kokkos:
        return _write_kokkos(args)
    if (args.output / "model.yaml").exists() and not args.force:
        raise UserError(f"{args.output} holds a model already; choose another folder or add --force")
    network: EdgeNetwork
    notes: tuple[str, ...] = ()
    provenance: dict[str, str]
    if args.checkpoint.is_dir():
        from ipi_driver.networks.pet.original import import_original

        if args.target is not None or (args.charge, args.spin) != (0, 1):
            raise UserError("--target, --charge and --spin are for checkpoints of metatrain")
        network, baseline = import_original(args.checkpoint)
        provenance = {"imported_from": f"original PET checkpoint {args.checkpoint.name}"}
    else:
        from ipi_driver.networks.metatrain_pet.checkpoint import import_checkpoint

        found = import_checkpoint(args.checkpoint, args.target, args.charge, args.spin)
        network, baseline, notes = found.network, found.baseline, found.notes
        provenance = {
            "imported_from": f"metatrain checkpoint {args.checkpoint.name}",
            "target": found.target,
        }
    save_model(args.output, network, baseline, provenance, double=True)
    size = sum(p.numel() for p in network.parameters())
    layers = network.config.model_dump()["n_gnn_layers"]
    print(f"{args.output}: {size} parameters, {layers} GNN layers, cutoff {network.config.cutoff} Å")
    for note in notes:
        print(note)
    found_here = {
        "parameters": size,
        "n_gnn_layers": layers,
        "cutoff": network.config.cutoff,
        "notes": list(notes),
    }
    set_result(args, found_here, args.output)
    return 0


def _write_kokkos(args: argparse.Namespace) -> int:
    from ipi_driver.networks.metatrain_pet.kokkos_files import write_kokkos_files

    if args.checkpoint.is_dir():
        raise UserError("--kokkos is for checkpoints of metatrain")
    if (args.charge, args.spin) != (0, 1):
        raise UserError("pet-kokkos takes charge and spin of each structure: leave out --charge and --spin")
    files = [args.output.with_name(f"{args.output.name}{ending}") for ending in (".json", ".safetensors")]
    for file in files:
        if file.exists() and not args.force:
            raise UserError(f"{file} exists already; choose another name or add --force")
    found = write_kokkos_files(args.checkpoint, args.output, args.target)
    print(f"{files[0]}, {files[1]}: {found.name}; use them as pet-kokkos:{args.output}")
    for note in found.notes:
        print(note)
    names = [str(file) for file in files]
    set_result(args, {"files": names, "target": found.name, "notes": list(found.notes)})
    return 0
