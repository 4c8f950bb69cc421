"""Forces of the inner step that are those of another potential, or no derivatives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule

from ipi_driver.errors import UserError
from ipi_driver.export.write import export_model
from ipi_driver.ipi_files.structures import DataSet
from ipi_driver.potentials import load_potential
from ipi_driver.potentials.anisotropic import AnisotropicPotential, Term
from ipi_driver.report.check_sentences import inner_text, stride_text
from ipi_driver.report.check_tables import as_dictionary
from ipi_driver.rotations import RotationalAverage, quadrature, quadratures
from ipi_driver.structure import Structure
from ipi_driver.symmetry.check import CheckSettings, run_check
from ipi_driver.symmetry.inner_forces import compare_inner
from ipi_driver.symmetry.outer_step import correction_series

WATER = Structure.from_atoms(molecule("H2O"))
CELL = 5.0 * np.eye(3)


def anisotropic(amplitude: float) -> AnisotropicPotential:
    return AnisotropicPotential([Term.parse("2", amplitude)], cutoff=3.5)


def snapshots(n: int = 48) -> tuple[Structure, ...]:
    """A molecule that vibrates in a periodic cell, 0.5 fs between the snapshots."""
    waves = np.sin(2.0 * np.pi * 0.5 * np.arange(n) / 10.0)
    amplitude = 0.05 * np.random.default_rng(0).normal(size=(3, 3))
    numbers, pbc = WATER.numbers, np.full(3, True)
    return tuple(Structure(numbers, WATER.positions + w * amplitude, CELL, pbc) for w in waves)


def test_differences_are_those_of_the_forces() -> None:
    outer, inner = anisotropic(0.2), anisotropic(0.1)
    structures = snapshots()[:3]
    found = compare_inner(outer, inner, structures)
    pairs = [(outer.predict(s).forces, inner.predict(s).forces) for s in structures]
    difference = np.array([b - a for a, b in pairs])
    assert found.mae == pytest.approx(np.abs(difference).mean())
    assert found.largest == pytest.approx(np.abs(difference).max())
    assert found.rmse == pytest.approx(np.sqrt((difference**2).mean()))
    assert found.scale == pytest.approx(np.sqrt(np.mean([a**2 for a, _ in pairs])))
    assert found.n_structures == 3
    assert found.jacobian_asymmetry < 1e-4


def test_the_correction_is_the_averaged_outer_minus_the_raw_inner_force() -> None:
    outer, inner = anisotropic(0.2), anisotropic(0.1)
    structures = snapshots()[:2]
    corrections, raws = correction_series(outer, structures, quadrature("T"), inner=inner)
    for structure, correction, raw in zip(structures, corrections, raws, strict=True):
        expected = inner.predict(structure).forces
        averaged = RotationalAverage(outer, "T").predict(structure).forces
        assert raw == pytest.approx(expected)
        assert correction == pytest.approx(averaged - expected)


def test_a_check_with_an_inner_potential_gives_the_outer_step_also_where_no_average_is_needed() -> None:
    structures = snapshots()
    settings = CheckSettings(averages=quadratures(["T"]), max_degree=1, tolerance=1e3)
    trajectory = (DataSet("run", structures), 0.5)
    plain = run_check(anisotropic(0.2), [DataSet("gas", (WATER,))], settings, trajectory)
    assert plain.recommendation.average == "none"
    assert plain.stride is None
    total = {}
    for amplitude in (0.0, 0.1):  # the forces are linear in the amplitude: half of the difference is left
        inner = anisotropic(amplitude)
        found = run_check(anisotropic(0.2), [DataSet("gas", (WATER,))], settings, trajectory, inner=inner)
        assert found.stride is not None
        total[amplitude] = found.stride.total
        assert f"with {inner.name} inside: correct every" in stride_text(found)
    assert total[0.1] > 1e-3
    assert total[0.0] == pytest.approx(2.0 * total[0.1])
    assert as_dictionary(found)["inner_forces"]["gas"]["mae"] == found.inner["gas"].mae > 0


@pytest.mark.filterwarnings("ignore:model")  # the model warns at its first call, on purpose
def test_direct_forces_of_a_metatomic_model_are_compared_with_its_derivatives(tmp_path: Path) -> None:
    """The model of the tests, energy z² and direct forces -z, half of what the derivatives are."""
    pytest.importorskip("metatomic.torch")
    from metatomic.torch import ModelOutput
    from metatomic_outputs import save

    outputs = {
        "energy/hard": ModelOutput(unit="eV"),
        "non_conservative_force": ModelOutput(unit="eV/A", sample_kind="atom"),
    }
    save(tmp_path / "model.pt", outputs)
    direct = load_potential(f"{tmp_path / 'model.pt'}?variant=hard&non_conservative=forces")
    conservative = direct.with_derivatives()
    assert conservative is not None
    assert conservative.with_derivatives() is None
    assert load_potential(f"{tmp_path / 'model.pt'}?variant=hard").with_derivatives() is None
    assert (direct.name, conservative.name) == ("model-direct", "model")
    both = load_potential(f"sum:{tmp_path / 'model.pt'}?variant=hard&non_conservative=forces+anisotropic?l=2")
    derived = both.with_derivatives()
    assert derived is not None
    assert derived.name == both.name.replace("model-direct", "model")
    assert load_potential("sum:anisotropic?l=2+anisotropic?l=3").with_derivatives() is None
    with pytest.raises(UserError, match="leave `non_conservative` out"):
        export_model(direct, tmp_path / "exported.pt", quadrature("T"))
    settings = CheckSettings(averages=quadratures(["T"]), max_degree=1)
    found = run_check(direct, [DataSet("gas", (WATER,))], settings)
    assert not found.consistency["gas"].conservative
    z = WATER.positions[:, 2] - WATER.positions[:, 2].mean()
    assert found.inner["gas"].mae == pytest.approx(np.abs(z).mean() / 3)
    assert found.inner["gas"].largest == pytest.approx(np.abs(z).max())
    assert "The inner forces (model-direct) differ from those of model by" in inner_text(found.inner["gas"])
    waves = [Structure(WATER.numbers, WATER.positions + 0.05 * np.sin(0.3 * k)) for k in range(48)]
    found = run_check(direct, [DataSet("gas", (WATER,))], settings, (DataSet("run", waves), 0.5))
    assert "chosen by the errors of model-direct; those of model" in stride_text(found)
