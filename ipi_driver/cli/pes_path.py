"""``ipi-driver pes-path``: the file that i-PI's ``<pes_path>`` and ``i-pi-py_driver -P`` take."""

from __future__ import annotations

import argparse
from pathlib import Path

from ipi_driver.cli.printing import add_printing, set_result

EPILOG = """\
In the input of i-PI:

  <ffdirect name='pet'>
    <pes>custom</pes>
    <pes_path> (what this command prints) </pes_path>
    <parameters>{model: pet-water-s2, structure: init.xyz, average: 2i}</parameters>
  </ffdirect>

or in a shell:

  i-pi-py_driver -u -a driver -m custom -P $(ipi-driver pes-path) -o model=pet-water-s2,structure=init.xyz
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EPILOG
    add_printing(parser, quiet=False)
    parser.set_defaults(quiet=False)


def main(args: argparse.Namespace) -> int:
    """Print the path."""
    from ipi_driver import client

    path = Path(client.__file__).resolve().parent / "ipi_plugin.py"
    print(path)
    set_result(args, {"pes_path": str(path)})
    return 0
