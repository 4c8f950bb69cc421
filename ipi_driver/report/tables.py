"""Numbers on disk: CSV of every curve, map and scalar, and all of it as one JSON file."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ipi_driver.analysis.result import Analysis, Scalar


def formatted(value: float, error: float) -> str:
    """A value with two digits of its error, ``1.234 ± 0.056``; four digits where there is no error."""
    if not math.isfinite(value):
        return "–"
    if not math.isfinite(error) or error <= 0.0:
        return f"{value:.4g}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    if digits <= 5:
        return f"{value:.{digits}f} ± {error:.{digits}f}"
    power = math.floor(math.log10(max(abs(value), error)))
    digits = max(0, digits + power)
    return f"({value / 10.0**power:.{digits}f} ± {error / 10.0**power:.{digits}f})e{power}"


def shown_value(key: str, scalar: Scalar) -> str:
    """A number as a table shows it; a drift that is lost in its error is not resolved."""
    lost = (
        key in ("drift", "dissipation")
        and math.isfinite(scalar.error)
        and abs(scalar.value) < 2.0 * scalar.error
    )
    if not lost:
        return formatted(scalar.value, scalar.error)
    return f"not resolved (< {_two_digits(abs(scalar.value) + 2.0 * scalar.error)})"


def _two_digits(value: float) -> str:
    digits = 1 - math.floor(math.log10(value)) if value > 0.0 else 0
    return f"{round(value, digits):g}" if digits > 0 else f"{round(value, digits):.0f}"


def in_one_row(scalars: Sequence[Scalar | None]) -> tuple[str, list[str]]:
    """Label of a quantity in several runs, and what of its own label each run adds to it.

    The label of a fit holds its window in brackets, which follows the length of the run.
    """
    labels = list(dict.fromkeys(scalar.label for scalar in scalars if scalar is not None))
    parts = [label.partition(" (") for label in labels]
    if len(labels) == 1 or len({part[0] for part in parts}) > 1:
        return labels[0], [""] * len(scalars)
    own = ["" if scalar is None else scalar.label.partition(" (")[2].removesuffix(")") for scalar in scalars]
    return parts[0][0], own


def write_tables(analyses: Sequence[Analysis], folder: Path) -> list[Path]:
    """``scalars.csv``, ``curves/KIND-KEY.csv``, ``maps/KIND-KEY.csv`` (one row per point and run) and
    ``analysis.json``.
    """
    written = [_write_scalars(analyses, folder / "scalars.csv")]
    for kind in dict.fromkeys(analysis.kind for analysis in analyses):
        same = [analysis for analysis in analyses if analysis.kind == kind]
        for key in dict.fromkeys(key for analysis in same for key in analysis.curves):
            written.append(_write_curves(same, key, folder / "curves" / f"{kind}-{key}.csv"))
        for key in dict.fromkeys(key for analysis in same for key in analysis.maps):
            written.append(_write_maps(same, key, folder / "maps" / f"{kind}-{key}.csv"))
    path = folder / "analysis.json"
    path.write_text(json.dumps([as_dict(analysis) for analysis in analyses], indent=1) + "\n")
    return [*written, path]


def _rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([" ".join(title.split()) for title in header])  # axes may have two lines
        writer.writerows(rows)
    return path


def _write_scalars(analyses: Sequence[Analysis], path: Path) -> Path:
    header = (
        "run",
        "kind",
        "key",
        "label",
        "value",
        "error",
        "unit",
        "correlation_time_ps",
        "block_length_ps",
        "n_blocks",
    )
    rows = [
        (a.label, a.kind, key, s.label, *map(_number, (s.value, s.error)), s.unit,
         *map(_number, (s.correlation_time, s.block_length)), s.n_blocks)
        for a in analyses
        for key, s in a.scalars.items()
    ]  # fmt: skip
    return _rows(path, header, rows)


def _write_curves(analyses: Sequence[Analysis], key: str, path: Path) -> Path:
    rows: list[Sequence[Any]] = []
    labels = ("x", "y")
    for analysis in analyses:
        if key in analysis.curves:
            curve = analysis.curves[key]
            labels = (curve.x_label, curve.y_label)
            for x, y, error in zip(curve.x, curve.y, curve.error, strict=True):
                rows.append((analysis.label, *map(_number, (x, y, error))))
    return _rows(path, ("run", *labels, "standard error"), rows)


def _write_maps(analyses: Sequence[Analysis], key: str, path: Path) -> Path:
    rows: list[Sequence[Any]] = []
    labels = ("x", "y", "value")
    for analysis in analyses:
        if key in analysis.maps:
            shown = analysis.maps[key]
            labels = (shown.x_label, shown.y_label, shown.label)
            for (i, j), value in np.ndenumerate(shown.values):
                rows.append(
                    (
                        analysis.label,
                        *(_number(float(v)) for v in (shown.x[i], shown.y[j], value, shown.error[i, j])),
                    )
                )
    return _rows(path, ("run", *labels, "standard error"), rows)


def _number(value: float) -> str:
    return f"{value:.10g}" if math.isfinite(value) else ""


def _json_ready(values: np.ndarray) -> list[Any]:
    """Nested lists with null for NaN, which JSON does not have."""
    rounded = np.asarray(values, dtype=np.float64)
    if rounded.ndim > 1:
        return [_json_ready(row) for row in rounded]
    return [float(f"{value:.10g}") if math.isfinite(value) else None for value in rounded]


def as_dict(analysis: Analysis) -> dict[str, Any]:
    """Plain types only; NaN becomes null."""

    def scalar(s: Scalar) -> dict[str, Any]:
        content = {name: getattr(s, name) for name in s.__dataclass_fields__}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in content.items()}

    return {
        "label": analysis.label,
        "kind": analysis.kind,
        "source": analysis.source,
        "system": analysis.system,
        "settings": analysis.settings,
        "notes": analysis.notes,
        "scalars": {key: scalar(s) for key, s in analysis.scalars.items()},
        "curves": {
            key: {
                "x_label": c.x_label,
                "y_label": c.y_label,
                "correlation_time_ps": _json_ready(np.array([c.correlation_time]))[0],
                "block_length_ps": _json_ready(np.array([c.block_length]))[0],
                **{name: _json_ready(getattr(c, name)) for name in ("x", "y", "error")},
            }
            for key, c in analysis.curves.items()
        },
        "maps": {
            key: {
                "x_label": m.x_label,
                "y_label": m.y_label,
                "label": m.label,
                **{name: _json_ready(getattr(m, name)) for name in ("x", "y", "values", "error")},
            }
            for key, m in analysis.maps.items()
        },
    }
