"""One page on a model for people who decide whether to use it: verdicts, numbers, figures; readable on a phone."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path

from jinja2 import Environment
from matplotlib import rc_context

from ipi_driver import __version__
from ipi_driver.report.check_figures import card_figure
from ipi_driver.report.check_sentences import (
    further_texts,
    number,
    reference_text,
    stride_text,
)
from ipi_driver.report.style import STYLE
from ipi_driver.report.tables import formatted
from ipi_driver.symmetry.check import CheckResult
from ipi_driver.units import MILLI

_STYLE = STYLE | {"font.size": 7.5, "savefig.dpi": 220}


@dataclass(frozen=True)
class CardRow:
    """A line of the card's table.

    Attributes
    ----------
    name
        What was measured.
    value
        With its unit.
    verdict
        "good", "bad", or "" where the number is neither.
    """

    name: str
    value: str
    verdict: str = ""

    @property
    def mark(self) -> str:
        """The verdict as a sign, which does not need colors."""
        return {"good": "✓", "bad": "✗"}.get(self.verdict, "")


def write_card(result: CheckResult, path: Path, command: str = "") -> Path:
    """Write the card, an HTML file that needs no other.

    Parameters
    ----------
    result
        Of `run_check`.
    path
        Of the file; its folder is made where it is missing.
    command
        The command that repeats the check.
    """
    template = resources.files("ipi_driver.report").joinpath("templates/card.html.j2").read_text("utf-8")
    page = Environment(autoescape=True).from_string(template)
    text = page.render(
        model=result.model,
        verdicts=_verdicts(result),
        sets=[
            (name, card_rows(result, name), [*further_texts(result, name), reference_text(result, name)])
            for name in result.decompositions
        ],
        figure=_figure(result),
        command=command,
        version=__version__,
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def card_rows(result: CheckResult, data_set: str) -> list[CardRow]:
    """The numbers of one data set, each with its verdict where there is a limit."""
    raw = next(row for row in result.errors if row.data_set == data_set and row.average == "none")
    found, walk = result.consistency[data_set], result.walks.get(data_set)
    tolerance, chosen = result.settings.tolerance, result.recommendation.average
    rows = [
        CardRow(
            "forces − derivative of the energy",
            f"{number(MILLI * found.force_deviation)} of {number(MILLI * found.force_scale)} meV/Å",
            _good(found.conservative),
        ),
        CardRow(
            "antisymmetric part of the Jacobian",
            f"{number(100.0 * found.jacobian_asymmetry)} %",
            _good(found.conservative),
        ),
    ]
    if found.virial_consistent is not None:
        deviation, scale = (MILLI * (x or 0.0) for x in (found.virial_deviation, found.virial_scale))
        value = f"{number(deviation)} of {number(scale)} meV"
        rows.append(CardRow("virial − derivative by strain", value, _good(found.virial_consistent)))
    rows.append(CardRow("atoms and cell turn together", "", _good(found.rotations_turn_everything)))
    judged = not result.recommendation.directions
    rows.append(
        CardRow(
            "symmetry error of the forces, raw",
            f"{number(MILLI * raw.force_mae)} meV/Å, largest {number(MILLI * raw.force_max)}",
            _good(raw.force_mae <= tolerance) if judged else "",
        )
    )
    if chosen != "none":
        best = next(row for row in result.errors if row.data_set == data_set and row.average == chosen)
        value = f"{number(MILLI * best.force_mae)} meV/Å ({best.n_rotations} evaluations)"
        # one average is judged for all data sets; it may be good enough for this one
        enough = result.recommendation.sufficient
        rows.append(
            CardRow(f"with {chosen}", value, _good(enough) if enough or best.force_mae > tolerance else "")
        )
    if walk is not None:
        energies, forces = MILLI * walk.energies, MILLI * walk.forces
        rows += [
            CardRow(
                "ML-PEG rotations, energy per atom",
                f"{number(energies.mean())} meV, largest {number(energies.max())}",
            ),
            CardRow("ML-PEG rotations, forces", f"{number(forces.mean())} meV/Å"),
        ]
    if (drift := result.drifts.get(data_set)) is not None:
        value = "the run breaks"
        if not drift.broken:
            value = f"{formatted(MILLI * drift.rate, MILLI * drift.error)} meV/atom/ps"
        rows.append(CardRow("drift at constant energy", value, _good(drift.acceptable)))
    if (inner := result.inner.get(data_set)) is not None:
        value = f"{number(MILLI * inner.mae)} meV/Å, largest {number(MILLI * inner.largest)}"
        rows.append(CardRow(f"inner forces ({inner.inner}) − {inner.outer}", value))
    return rows


def _good(passed: bool) -> str:
    return "good" if passed else "bad"


def _verdicts(result: CheckResult) -> list[str]:
    texts = [result.recommendation.text]
    if result.has_trajectory:
        texts.append(stride_text(result))
    return texts


def _figure(result: CheckResult) -> str:
    """All figures one below the other as one PNG, as a data URL."""
    with rc_context(_STYLE):
        stream = io.BytesIO()
        card_figure(result).savefig(stream, format="png")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
