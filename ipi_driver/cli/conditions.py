"""Options for charge, spin and the precision of a model, the same in all commands that have them."""

from __future__ import annotations

import argparse


def add_conditions(parser: argparse.ArgumentParser) -> None:
    """Add ``--charge`` and ``--spin``."""
    parser.add_argument(
        "--charge",
        type=float,
        help="total charge, for models that depend on it (default: the structure's, else 0)",
    )
    parser.add_argument(
        "--spin",
        type=int,
        help="multiplicity 2S+1, for models that depend on it (default: the structure's, else 1)",
    )


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Add ``--dtype``."""
    parser.add_argument(
        "--dtype",
        choices=("float32", "float64", "tf32"),
        help="precision of the model (default float32); tf32: on a GPU, faster and less precise",
    )
