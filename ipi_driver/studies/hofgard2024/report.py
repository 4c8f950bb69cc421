"""Table and figure of the study: published values beside those found here."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ipi_driver.report.figures import save
from ipi_driver.report.sphere_figures import draw_signals
from ipi_driver.structure import FloatArray
from ipi_driver.studies.hofgard2024.deformation import Deformation
from ipi_driver.studies.hofgard2024.particle import ELECTRIC, MAGNETIC, ParticleResult
from ipi_driver.symmetry.breaking import Weights, largest_point_group, norm

# components of 2e in e3nn's order that make 2z² - x² - y²: those of 2y² - z² - x² and of z² - x²
_PRISM = (2, 4)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    quantity: str
    published: str
    here: str


def table(deformations: Sequence[Deformation], particles: Sequence[ParticleResult]) -> list[Row]:
    """Published values, of Hofgard et al. (2024), and those of these trainings."""
    found = {d.target: d for d in deformations}
    rows = []
    if (cube := found.get("cube")) is not None:
        largest = max(norm(_broken(layer)) for layer in cube.layers)
        rows.append(Row("cube to cube: largest norm of non-scalar weights", "0", f"{largest:.1e}"))
    if (prism := found.get("prism")) is not None:
        published = "(0.0031, -0.0054), (0.33, -0.57)"
        for k, layer in enumerate(prism.layers):
            a, b = (float(layer["2e"][i]) for i in _PRISM)
            group = largest_point_group(layer)
            rows.append(Row(f"cube to prism: 2e, layer {k + 1}", published, f"({a:.4f}, {b:.4f})"))
            rows.append(Row(f"cube to prism: their ratio, layer {k + 1}", "-1.732", f"{b / a:.4f}"))
            others = norm(_broken(layer) | {"2e": np.delete(layer["2e"], _PRISM)})
            rows.append(Row(f"cube to prism: all other weights, layer {k + 1}", "0", f"{others:.1e}"))
            rows.append(Row(f"cube to prism: group, layer {k + 1}", "contains D4h", group.name))
    if (anything := found.get("random")) is not None:
        groups = "; ".join(largest_point_group(layer).name for layer in anything.layers)
        rows.append(Row("cube to random: groups of the layers", "C1; C1", groups))
    rows += [Row(f"{target}: mean squared error", "", f"{d.loss:.1e}") for target, d in found.items()]
    for particle in particles:
        name = "relaxed" if particle.relaxed else "equivariant"
        rows.append(
            Row(
                f"charged particle: error, {name}",
                "1e-6" if particle.relaxed else "0.07",
                f"{particle.error:.1e}",
            )
        )
        for field, direction, true in (
            ("E", particle.electric, ELECTRIC),
            ("B", particle.magnetic, MAGNETIC),
        ):
            if direction is not None:
                unit = true / np.linalg.norm(true)
                rows.append(
                    Row(
                        f"charged particle: direction of {field} {_vector(unit)}, largest error",
                        "0.001 to 0.01",
                        f"{_vector(direction)}, {np.abs(direction - unit).max():.1e}",
                    )
                )
    return rows


def _broken(weights: Weights) -> Weights:
    return {name: values for name, values in weights.items() if name != "0e"}


def _vector(vector: FloatArray) -> str:
    return "(" + ", ".join(f"{x:.3f}" for x in vector + 0.0) + ")"


def write_study(
    deformations: Sequence[Deformation], particles: Sequence[ParticleResult], command: str, folder: Path
) -> list[Row]:
    """Write ``table.csv``, ``weights.json``, ``signals.png`` and ``README.md``; the rows of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = table(deformations, particles)
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["quantity", "published", "here"])
        writer.writerows([row.quantity, row.published, row.here] for row in rows)
    content = {
        d.target: {
            "loss": d.loss,
            "layers": [{k: v.tolist() for k, v in layer.items()} for layer in d.layers],
        }
        for d in deformations
    }
    (folder / "weights.json").write_text(json.dumps(content, indent=1) + "\n")
    shown = {
        f"cube to {d.target}, layer {k + 1}": layer for d in deformations for k, layer in enumerate(d.layers)
    }
    save(draw_signals(shown), folder, "signals")
    lines = [
        "# Relaxed equivariant networks: the tests of Hofgard et al. (2024)",
        "",
        f"Made by `{command}`. Published: arXiv 2407.20471. A published 0 is exact by symmetry; values without a",
        "published one are for orientation. The sizes of 2e depend on the optimizer and the random numbers, their",
        "ratio and what is zero do not. The force on the particle is q (E + v x B), its error in units of force².",
        "",
        "| quantity | published | here |",
        "|---|---|---|",
        *(f"| {row.quantity} | {row.published} | {row.here} |" for row in rows),
        "",
        "![signals of the non-scalar relaxed weights](signals.png)",
        "",
    ]
    (folder / "README.md").write_text("\n".join(lines))
    return rows
