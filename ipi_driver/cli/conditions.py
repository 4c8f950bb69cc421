"""The options for the charge and the spin of a structure, the same in every command that evaluates a model."""

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
