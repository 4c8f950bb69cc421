"""What an analysis warns of, refuses and says beside its numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import synthetic
from ase.build import molecule
from scipy.spatial.transform import Rotation

from ipi_driver.analysis.common import add_modulus, vector_text
from ipi_driver.analysis.dispatch import analyze_folders
from ipi_driver.analysis.orientation import add_orientation_result, reorientation_time
from ipi_driver.analysis.pair_curves import add_pairs
from ipi_driver.analysis.result import Analysis, Options
from ipi_driver.errors import UserError
from ipi_driver.observables.molecules import find_molecules
from ipi_driver.observables.orientation import OrientationHistogram
from ipi_driver.observables.pairs import PairDistances
from ipi_driver.observables.spectra import highest_wavenumber, nyquist
from ipi_driver.observables.statistics import block_average
from ipi_driver.report.layouts import layouts_of
from ipi_driver.shipped import shipped_folder
from ipi_driver.structure import Structure
from ipi_driver.studies.langer2024.symmetry import card_errors


def empty() -> Analysis:
    return Analysis("run", "liquid", "run", "64 H2O", {})


@pytest.fixture(scope="module")
def gas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.gas(tmp_path_factory.mktemp("runs") / "gas", 2, 400)


def test_aliased_spectra_are_said(gas: Path) -> None:
    """Rows every 5 fs end at 3336 cm-1, below the O-H stretch and twice that; rows every 1 fs do not."""
    assert nyquist(5.0) == pytest.approx(1e15 / (2 * 5.0 * 2.99792458e10))
    assert highest_wavenumber([8, 1, 1]) > 3700 > highest_wavenumber([8, 6])
    (found,) = analyze_folders([gas], Options())
    (note,) = [note for note in found.notes if "aliased" in note]
    assert "up to 3336 cm⁻¹" in note
    text = (gas / "input.xml").read_text()
    try:
        (gas / "input.xml").write_text(text.replace("> 0.5 <", "> 0.1 <"))
        (found,) = analyze_folders([gas], Options())
    finally:
        (gas / "input.xml").write_text(text)
    assert not [note for note in found.notes if "aliased" in note]
    assert np.trapezoid(found.curves["vdos"].y, found.curves["vdos"].x) == pytest.approx(
        1e3
    )  # now resolved as well


def test_spectra_of_a_run_with_lost_rows(gas: Path, tmp_path: Path) -> None:
    """The second row and one in the middle are gone: the spacing is that of the others, the longest part is used."""
    folder = Path(shutil.copytree(gas, tmp_path / "gas"))
    (whole,) = analyze_folders([folder], Options())
    path = folder / "simulation.out"
    lines = path.read_text().splitlines(keepends=True)
    header = sum(line.startswith("#") for line in lines)
    n = len(lines) - header
    del lines[header + n // 4], lines[header + 1]
    path.write_text("".join(lines))
    (found,) = analyze_folders([folder], Options())
    curve = found.curves["spectrum_potential"]
    assert curve.x[-1] == pytest.approx(
        whole.curves["spectrum_potential"].x[-1], rel=0.05
    )  # of twice the spacing it is half of that
    assert f"{n - n // 4 - 1} of {n - 2} rows" in "".join(found.notes)


def test_orientation_vector_bonds_and_noise_are_said(gas: Path) -> None:
    (found,) = analyze_folders([gas], Options(vector="O->H"))
    assert found.settings["orientation vector"] == "from the mean of the O to that of the H of H2O"
    assert found.scalars["bond_OH"].value == pytest.approx(0.9572, abs=1e-4)
    assert found.scalars["angle_HOH"].value == pytest.approx(104.52, abs=0.02)
    # of 400 independent unit vectors the mean has a modulus of 1 / sqrt(400) by chance
    assert found.scalars["mean_orientation_noise"].value == pytest.approx(0.05, rel=0.5)
    water = find_molecules(Structure(molecule("H2O").numbers, molecule("H2O").positions))
    assert (
        vector_text(water, None)
        == "from O (the first of the heaviest atoms) to the mean of the other atoms (H)"
    )


def test_a_zero_vector_stands_beside_its_noise() -> None:
    """The modulus of the mean of 1000 normal vectors: sqrt(3 / 1000) in the root mean square."""
    rng = np.random.default_rng(5)
    values, noises = [], []
    for _ in range(40):
        analysis = empty()
        add_modulus(analysis, "v", "|<v>|", block_average(rng.normal(size=(1000, 3)), 1.0), "")
        values.append(analysis.scalars["v"].value)
        noises.append(analysis.scalars["v_noise"].value)
    assert np.sqrt(np.mean(np.square(values))) == pytest.approx(np.sqrt(3 / 1000), rel=0.25)
    assert np.sqrt(np.mean(np.square(noises))) == pytest.approx(np.sqrt(3 / 1000), rel=0.15)


def test_a_map_needs_ten_reorientation_times() -> None:
    """Molecules that turn in 4 ps: 3 ps show where they began, not an anisotropy."""
    lags = np.arange(100) * 25.0
    assert reorientation_time(np.exp(-lags / 4000.0), 25.0) == pytest.approx(4000.0, rel=0.01)  # extrapolated
    assert reorientation_time(np.exp(-lags / 400.0), 25.0) == pytest.approx(400.0, rel=0.01)
    histogram = OrientationHistogram()
    rng = np.random.default_rng(0)
    for _ in range(120):
        histogram.add(Rotation.random(64, rng=rng).as_matrix()[:, 2])
    with pytest.raises(
        UserError, match=r"reorientation time of a molecule is 4 ps, a map needs 10 times that, 40 ps,"
    ):
        add_orientation_result(empty(), histogram, 25.0, 4000.0)
    analysis = empty()
    add_orientation_result(analysis, histogram, 25.0, 200.0)
    # never below the time of reorientation, whatever the visits to the cells show
    assert analysis.scalars["roughness"].correlation_time >= 0.2
    assert analysis.maps["orientation"].blocks is not None


def test_neighbors_are_counted() -> None:
    """Simple cubic lattices of O, each with six neighbors, jittered: the integral of g up to its first minimum."""
    rng = np.random.default_rng(1)
    grid = np.array(np.unravel_index(np.arange(64), (4, 4, 4))).T * 3.0
    structure = Structure(np.full(64, 8), grid, np.eye(3) * 12.0, np.full(3, True))
    pairs = PairDistances(structure.numbers, [("O", "O")], 6.0, 120)
    for _ in range(40):
        pairs.add(grid + rng.normal(size=grid.shape) * 0.1, structure.cell)
    analysis = empty()
    add_pairs(analysis, pairs, structure, 1.0)
    assert analysis.scalars["g_OO_coordination"].value == pytest.approx(6.0, abs=0.05)
    assert analysis.scalars["g_OO_place"].value == pytest.approx(3.0, abs=0.1)
    assert analysis.scalars["g_OO_height"].n_blocks >= 4


def test_neighbors_are_counted_at_the_density_of_the_run() -> None:
    """At constant pressure the first snapshot may be denser than all others: six neighbors all the same."""
    rng = np.random.default_rng(1)
    grid = np.array(np.unravel_index(np.arange(64), (4, 4, 4))).T * 1.0
    dense = Structure(np.full(64, 8), 2.8 * grid, np.eye(3) * 11.2, np.full(3, True))
    pairs = PairDistances(dense.numbers, [("O", "O")], 5.5, 110)
    for _ in range(40):
        pairs.add(3.0 * grid + rng.normal(size=grid.shape) * 0.1, np.eye(3) * 12.0)
    analysis = empty()
    add_pairs(analysis, pairs, dense, 1.0)
    assert analysis.scalars["g_OO_coordination"].value == pytest.approx(6.0, abs=0.05)


def test_errors_of_the_card_are_those_of_the_evaluation() -> None:
    stored = json.loads((shipped_folder("models") / "pet-water-s" / "evaluation.json").read_text())
    (raw,) = [row for row in stored["averages"] if row["average"] == "none"]
    found = card_errors("pet-water-s")
    assert found["force_mae"] == pytest.approx(1e3 * raw["force_mae"])
    assert found["energy_mae"] == pytest.approx(1e3 * raw["shifted_energy_mae"])
    assert card_errors("anisotropic?l=2") == {}


def test_orientations_against_an_axis(gas: Path) -> None:
    """Without a field cos θ has the mean 0 and every a is 0, within the errors; in the report they have a figure."""
    (found,) = analyze_folders([gas], Options(axis=(0.0, 3.0, 4.0)))
    for key in ("mean_cosine", "alignment"):
        scalar = found.scalars[key]
        assert abs(scalar.value) < 4.0 * scalar.error
        assert 0.0 < scalar.error < 0.3
    assert len(found.curves["alignment"].x) == 12
    assert "alignment" in [layout.name for layout in layouts_of([found])]
    assert "alignment" not in analyze_folders([gas], Options())[0].curves
