"""The angular momentum and the torque of a molecule, as a report shows them."""

from __future__ import annotations

import numpy as np
import pytest

from ipi_driver.analysis.result import Analysis, Curve, Scalar
from ipi_driver.report.conclusion import conclusion_of
from ipi_driver.report.figures import draw_curves
from ipi_driver.report.layouts import layouts_of


def gas(torque: float, digits: float, momentum: np.ndarray) -> Analysis:
    scalars = {
        "torque": Scalar("torque", torque, 0.01 * torque, "meV"),
        "torque_digits": Scalar("of digits", digits, float("nan"), "meV"),
    }
    times = np.arange(len(momentum), dtype=float)
    curve = Curve(times, momentum, np.full(len(momentum), np.nan), "time / ps", "Lx / ħ")
    return Analysis("run", "gas", "run", "1 H2O", {"average": "none"}, scalars, {"L_x": curve})


def test_a_torque_that_the_digits_explain_is_none() -> None:
    flat = np.full(5, 2.0)
    nothing, something = gas(8.5e-4, 8.4e-4, flat), gas(0.3, 8.4e-4, flat)
    assert conclusion_of([nothing]) == [
        "No torque on the molecule is seen: what there is, the digits of the files explain."
    ]
    for analyses in ([something], [nothing, something]):
        assert "0.3000 ± 0.0030" in conclusion_of(analyses)[0]


@pytest.mark.parametrize("change", [1e-5, 0.5])
def test_what_is_conserved_is_drawn_as_a_line(change: float) -> None:
    found = gas(0.3, 1e-3, -2.38 + change * np.linspace(0.0, 1.0, 20))
    layout = next(layout for layout in layouts_of([found]) if layout.name == "angular-momentum")
    low, high = draw_curves(layout, [found]).axes[0].get_ylim()
    assert (high - low > 10 * change) == (change < 1e-3)
    assert low < -2.38 < -2.38 + change < high
