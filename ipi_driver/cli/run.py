"""``ipi-driver run INPUT``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ipi_driver.rotations.quadrature import known_averages
from ipi_driver.shipped import shipped_names

EPILOG = """\
examples:
  ipi-driver run gas-nvt                                   # into runs/gas-nvt
  ipi-driver run gas-nve --average 2i --output runs/gas-nve-2i
  ipi-driver run liquid-nvt --average Th --steps 4000 --model my-model
  ipi-driver run liquid-nvt --resume --steps 8000          # 4000 more
  ipi-driver run liquid-nvt-raw --structure my-box.xyz --output runs/my-box
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    names = ", ".join(shipped_names("inputs"))
    parser.epilog = f"inputs: {names}\naverages: {known_averages()}\n\n{EPILOG}"
    parser.add_argument(
        "input", metavar="INPUT", help="a shipped input, or a folder with input.xml and driver.yaml"
    )
    parser.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="total number of i-PI steps (with multiple time stepping: outer steps)",
    )
    parser.add_argument(
        "--average", metavar="NAME", help="average of the endpoints that are averaged, or of the only one"
    )
    parser.add_argument("--model", help="shipped model, model folder, exported .pt, ase:MODULE.CALCULATOR")
    parser.add_argument("--output", type=Path, metavar="DIR", help="run folder (default: runs/NAME)")
    parser.add_argument(
        "--structure", type=Path, metavar="FILE", help="starting structure, any file that ASE reads"
    )
    parser.add_argument("--seed", type=int, help="of i-PI and of random frames")
    parser.add_argument("--device", help="torch device of the model")
    parser.add_argument("--dtype", choices=["float32", "float64"], help="precision of the model")
    parser.add_argument("--threads", type=int, help="threads of the model")
    parser.add_argument("--rotation-batch", type=int, metavar="N", help="frames per call of the model")
    parser.add_argument("--resume", action="store_true", help="continue the run from its RESTART")


def main(args: argparse.Namespace) -> int:
    """Prepare, run, summarise."""
    from rich.console import Console

    from ipi_driver.report.run_summary import print_summary, summarise, write_summary
    from ipi_driver.serving.launcher import Interrupted, run_simulation
    from ipi_driver.serving.launcher_prepare import Changes, prepare, prepare_resume

    console = Console(stderr=True)
    changes = Changes(
        steps=args.steps,
        average=args.average,
        model=args.model,
        device=args.device,
        dtype=args.dtype,
        seed=args.seed,
        threads=args.threads,
        rotation_batch=args.rotation_batch,
        structure=args.structure,
    )
    folder = args.output or Path("runs") / Path(args.input).name
    start_file = "input.xml"
    if args.resume:
        start_file = prepare_resume(folder, changes)
    else:
        prepare(args.input, folder, changes)
    try:
        outcome = run_simulation(folder, start_file, console)
    except Interrupted as signal_name:
        console.print(
            f"interrupted ({signal_name}); continue with: ipi-driver run {args.input} --output {folder} --resume"
        )
        return 130
    summary = summarise(folder, outcome)
    write_summary(folder, summary)
    print_summary(folder, summary)
    return 0
