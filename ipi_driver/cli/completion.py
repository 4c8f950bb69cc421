"""``ipi-driver completion SHELL``: the script with which a shell completes commands, options and names."""

from __future__ import annotations

import argparse
from pathlib import Path

from ipi_driver.errors import UserError

SHELLS = ("bash", "zsh", "tcsh")

EPILOG = """\
examples:
  ipi-driver completion bash > ~/.local/share/bash-completion/completions/ipi-driver
  ipi-driver completion zsh > ~/.zfunc/_ipi-driver        # with `fpath+=~/.zfunc` before compinit in ~/.zshrc

The script is made by shtab (pip install 'ipi-driver[completion]'), and needs nothing to complete.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EPILOG
    parser.add_argument("shell", choices=SHELLS, help="the shell")


def main(args: argparse.Namespace) -> int:
    """Print the script."""
    try:
        import shtab
    except ModuleNotFoundError:
        raise UserError(
            "`ipi-driver completion` needs shtab; install it with pip install 'ipi-driver[completion]'"
        ) from None
    from ipi_driver.cli import build_parser

    parser, commands = build_parser(everything=True)
    for command in (parser, *commands.values()):
        for action in command._actions:
            if action.type is Path or action.dest in ("input", "model", "structure"):
                kind = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE
                action.complete = kind  # type: ignore[attr-defined]
    print(shtab.complete(parser, args.shell))
    return 0
