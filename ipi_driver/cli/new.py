"""``ipi-driver new TEMPLATE DIR``."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from ipi_driver.cli.printing import add_printing, set_result
from ipi_driver.errors import UserError
from ipi_driver.shipped import find_shipped, shipped_names

EPILOG = """\
examples:
  ipi-driver new liquid-nvt my-liquid      # then edit my-liquid/input.xml and driver.yaml
  ipi-driver run my-liquid
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = f"templates: {', '.join(shipped_names('inputs'))}\n\n{EPILOG}"
    parser.add_argument("template", metavar="TEMPLATE", help="a shipped input")
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder to make")
    add_printing(parser)


def main(args: argparse.Namespace) -> int:
    """Copy the template with its subfolders (the cells of a set), and print the next command."""
    source = find_shipped("inputs", args.template)
    if not (source / "input.xml").is_file():
        raise UserError(f"{source} is no input: expected a folder with input.xml; see ipi-driver new --help")
    if args.folder.exists() and any(args.folder.iterdir()):
        raise UserError(f"{args.folder} exists and is not empty; give another folder")
    # listed before the folder is made, which may be inside the template
    found = [path.relative_to(source) for path in sorted(source.rglob("*")) if path.is_file()]
    args.folder.mkdir(parents=True, exist_ok=True)
    for path in found:
        if "__pycache__" not in path.parts:
            (args.folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / path, args.folder / path)
    print(f"{args.folder}: edit input.xml and driver.yaml, then `ipi-driver run {args.folder}`")
    set_result(args, {"files": [str(path) for path in found]}, args.folder)
    return 0
