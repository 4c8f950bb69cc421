"""``ipi-driver train CONFIG.yaml``."""

from __future__ import annotations

import argparse
import shlex
import signal
from pathlib import Path

from ipi_driver.cli.printing import add_printing, set_result
from ipi_driver.errors import UserError
from ipi_driver.units import MILLI

EPILOG = """\
examples:
  ipi-driver train train.yaml
  ipi-driver train train.yaml --max-hours 2
  ipi-driver train train.yaml --resume            # continues exactly from the last checkpoint
  ipi-driver train --keys                         # every key of CONFIG.yaml with its default
  torchrun --nproc-per-node 4 -m ipi_driver train train.yaml

a small configuration:
  data: {files: [water.extxyz], validation: 10, test: 14}
  output: my-model
  architecture: {d_model: 64, n_gnn_layers: 2, n_attention_layers: 1, norm: pre, radial_basis: 20,
                 angular_basis: 4, angular_order: 3, cartesian: false}
  max_hours: 1

`cartesian: false` makes PET exactly invariant: it is told the angles between edges instead of x, y and z.

SIGINT (Ctrl-C), SIGTERM, SIGHUP, SIGUSR1 or SIGUSR2 end the training after the epoch that it is in, with an
evaluation, a checkpoint, and the status 128 + the number of the signal; a second one ends it at once. Checkpoints are
written at every evaluation, after ten minutes at the end of an epoch, and after a pre-training: what is killed loses
what it did since.

architecture has a kind: pet (above, the default), e3nn (equivariant; with `relaxed` it may learn to break the
symmetry), or one of another package; --keys prints the keys of each:
  architecture: {kind: e3nn, l_max: 2, channels: 16}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EPILOG
    parser.add_argument(
        "config", type=Path, nargs="?", help="YAML file; paths in it are relative to its folder"
    )
    parser.add_argument("--keys", action="store_true", help="print every key of the file with its default")
    parser.add_argument("--resume", action="store_true", help="continue from the output folder's checkpoint")
    parser.add_argument(
        "--max-hours", type=float, help="time limit; the learning rate has decayed when it is reached"
    )
    parser.add_argument("--output", type=Path, help="folder of the model (overrides the configuration)")
    parser.add_argument("--device", help="cpu or cuda")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    add_printing(parser, quiet=False)


def main(args: argparse.Namespace) -> int:
    """Train, and print where the model is."""
    from ipi_driver.report.learning_curves import plot_training_log
    from ipi_driver.training.config import changed, describe_keys, load_config
    from ipi_driver.training.lock import held
    from ipi_driver.training.setup import build_trainer
    from ipi_driver.training.stopping import signals_that_stop

    if args.keys:
        print(describe_keys())
        return 0
    if args.config is None:
        raise UserError(
            "which configuration? give a YAML file, as in `ipi-driver train train.yaml`; see --help"
        )
    config = load_config(args.config)
    output = None if args.output is None else args.output.resolve()
    config = changed(config, max_hours=args.max_hours, output=output, device=args.device)
    with held(config.output, args.resume):
        trainer = build_trainer(config, resume=args.resume, quiet=args.quiet)
        if trainer.rank == 0:
            print("\n".join(trainer.data_described), flush=True)
        if trainer.energy_shifts and trainer.rank == 0:
            shifts = ", ".join(f"{symbol} {shift:+.4g}" for symbol, shift in trainer.energy_shifts.items())
            print(
                f"atomic energies of the model shifted to the energy zero of the data: {shifts} eV",
                flush=True,
            )
        with signals_that_stop() as trainer.stopping:
            best = trainer.run(quiet=args.quiet)
    if trainer.rank == 0:
        plot_training_log(config.output / "log.csv", config.output / "learning-curve.png")
        print(f"best validation force MAE {MILLI * best:.1f} meV/Å; the model is in {config.output}")
        if trainer.stopped:
            name = signal.Signals(trainer.stopping.number).name
            print(f"stopped by {name} after epoch {trainer.epoch}; next: {_resuming(args)}")
        else:
            print(f"next: ipi-driver evaluate {config.output} DATA")
        set_result(args, {"model": str(config.output), "best_validation_force_mae": best, "units": "eV/Å"})
    return 128 + trainer.stopping.number if trainer.stopped else 0


def _resuming(args: argparse.Namespace) -> str:
    """The command that goes on, with the options that override the configuration: it is not the same one without."""
    words = ["ipi-driver", "train", str(args.config), "--resume"]
    for name in ("max_hours", "output", "device"):
        if (value := getattr(args, name)) is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)
