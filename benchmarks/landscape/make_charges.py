"""Six charges in free space with exact labels (`ipi_driver.studies.hofgard2024.charges`), for the loss surfaces.

python benchmarks/landscape/make_charges.py --structures 300 --output charges.extxyz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ase.io

from ipi_driver.studies.hofgard2024.charges import charges


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--structures", type=int, default=300)
    parser.add_argument("--charges", type=int, default=6)
    parser.add_argument("--output", type=Path, default=Path("charges.extxyz"))
    args = parser.parse_args()
    ase.io.write(args.output, charges(args.structures, args.charges))


if __name__ == "__main__":
    main()
