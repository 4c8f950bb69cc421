"""Stride of multiple time stepping on series with a known spectrum."""

from __future__ import annotations

import numpy as np
import pytest

from ipi_driver.errors import UserError
from ipi_driver.potentials.anisotropic import AnisotropicPotential, Term
from ipi_driver.rotations import RotationalAverage, quadrature
from ipi_driver.structure import Structure
from ipi_driver.symmetry.outer_step import correction_series, stride_table


def wave(period: float, amplitude: float, n: int = 2000, spacing: float = 0.5) -> np.ndarray:
    """(n, 2, 3) forces, all components the same sine (fs, eV/Å)."""
    times = spacing * np.arange(n)
    return np.tile((amplitude * np.sin(2 * np.pi * times / period + 0.3))[:, None, None], (1, 2, 3))


def test_limit_is_half_the_period() -> None:
    """A correction of period 20 fs is resolved by outer steps below 10 fs, and not above."""
    table = stride_table(wave(20.0, 0.01), wave(20.0, 1.0), 0.5, 0.5, tolerance=1e-3)
    outer = table.strides * table.time_step
    assert table.unresolved[outer < 9.0] == pytest.approx(0.0, abs=1e-4)
    assert table.unresolved[outer > 11.0] == pytest.approx(0.01 / np.sqrt(2), rel=0.02)
    assert table.total == pytest.approx(0.01 / np.sqrt(2), rel=0.02)
    assert 7.5 <= table.recommended * 0.5 <= 10.0


def test_fast_parts_below_the_tolerance_do_not_count() -> None:
    fast_and_slow = wave(8.0, 0.0005) + wave(200.0, 0.02)
    table = stride_table(fast_and_slow, fast_and_slow, 0.5, 0.5, tolerance=1e-3)
    assert table.recommended == 50
    assert stride_table(fast_and_slow, fast_and_slow, 0.5, 0.5, tolerance=1e-4).recommended <= 8


def test_spacing_of_the_trajectory_limits() -> None:
    fast = wave(4.4, 0.01, spacing=2.0)
    table = stride_table(fast, fast, 2.0, 0.5, tolerance=1e-3)
    assert table.strides.min() == 4
    assert table.recommended == 4
    assert table.limited_by_spacing
    slow = wave(40.0, 0.01, spacing=2.0)
    assert not stride_table(slow, slow, 2.0, 0.5, tolerance=1e-3).limited_by_spacing


@pytest.mark.parametrize(("fast", "limited"), [(0.003, True), (0.002, False)])
def test_power_at_the_edge_of_the_band_says_that_the_spacing_limits(fast: float, limited: bool) -> None:
    """8 % of the power in the upper fifth of the frequencies, or 4 %, where the tolerance allows any stride."""
    series = wave(40.0, 0.01, spacing=2.0) + wave(4.4, fast, spacing=2.0)
    table = stride_table(series, series, 2.0, 0.5, tolerance=1.0)
    assert table.recommended == 50
    assert table.limited_by_spacing == limited


def test_smallest_stride_that_can_be_judged_where_none_is_fine_enough() -> None:
    noise = 0.01 * np.random.default_rng(0).normal(size=(400, 2, 3))
    table = stride_table(noise, noise, 2.0, 0.5, tolerance=1e-6)
    assert table.unresolved.min() > 1e-6
    assert table.recommended == 4
    assert table.limited_by_spacing


def test_too_short_and_wrong_times() -> None:
    with pytest.raises(UserError, match="expected at least 36 snapshots, got 20"):
        stride_table(wave(20.0, 1.0, n=20), wave(20.0, 1.0, n=20), 0.5, 0.5, 1e-3)
    with pytest.raises(UserError, match="must be positive"):
        stride_table(wave(20.0, 1.0), wave(20.0, 1.0), -1.0, 0.5, 1e-3)


def test_correction_is_averaged_minus_raw() -> None:
    potential = AnisotropicPotential([Term.parse("2", 0.1)])
    rng = np.random.default_rng(0)
    base = np.array([[0.0, 0.0, 0.0], [0.97, 0.02, 0.1], [-0.24, 0.93, 0.05]])
    structures = [Structure(np.array([8, 1, 1]), base + 0.05 * rng.standard_normal((3, 3))) for _ in range(3)]
    corrections, raws = correction_series(potential, structures, quadrature("T"))
    for k, structure in enumerate(structures):
        raw = potential.predict(structure).forces
        assert raws[k] == pytest.approx(raw)
        assert corrections[k] == pytest.approx(
            RotationalAverage(potential, "T").predict(structure).forces - raw
        )
    with pytest.raises(UserError, match="the same atoms, got 3 and 1"):
        correction_series(
            potential, [structures[0], Structure(np.array([8]), np.zeros((1, 3)))], quadrature("T")
        )
    other = Structure(np.array([1, 8, 1]), base)
    with pytest.raises(UserError, match="the same atoms, got others or another order"):
        correction_series(potential, [structures[0], other], quadrature("T"))
