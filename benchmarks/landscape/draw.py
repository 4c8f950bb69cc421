"""One figure and one table from the files of several `ipi-driver landscape` commands.

python draw.py landscape-*/landscape.json --output landscape.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from ipi_driver.report.landscape_figures import draw_landscapes
from ipi_driver.training.landscape import Landscape


def read(path: Path) -> dict[str, Landscape]:
    """Of each model of a file."""
    content = json.loads(path.read_text())
    return {
        name: Landscape(
            *(np.array(m[key]) for key in ("steps", "surface", "eigenvalues", "residuals", "rise")),
            content["extent"],
            m["n_structures"],
        )
        for name, m in content["models"].items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, default=Path("landscape.png"))
    args = parser.parse_args()
    found = {name: item for path in args.files for name, item in read(path).items()}
    print("| model | force error, meV/Å | rise, (meV/Å)² | largest eigenvalue, (eV/Å)² | spread over seeds |")
    print("| --- | --- | --- | --- | --- |")
    for name, m in found.items():
        rise, top = 1e6 * m.rise, m.eigenvalues[:, 0]
        error = max(top.std(ddof=1) / len(top) ** 0.5, m.residuals[:, 0].max())
        print(
            f"| {name} | {1e3 * np.sqrt(m.minimum):.1f} "
            f"| {rise.mean():.3g} ± {rise.std(ddof=1) / len(rise) ** 0.5:.2g} | "
            f"{top.mean():.4g} ± {error:.2g} | {np.ptp(top):.2g} |"
        )
    draw_landscapes(found).savefig(args.output, dpi=200)


if __name__ == "__main__":
    main()
