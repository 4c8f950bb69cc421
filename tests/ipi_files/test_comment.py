"""The same xyz file means the same for every command: what i-PI itself reads from it."""

from __future__ import annotations

import gc
import subprocess
import sys
import warnings
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ipi.utils.io import read_file

from ipi_driver.ipi_files import Run, TrajectoryFile
from ipi_driver.ipi_files.comment import ipi_comment
from ipi_driver.ipi_files.conversion import results_to_ipi, structure_from_ipi
from ipi_driver.ipi_files.start import read_start, write_start
from ipi_driver.ipi_files.structures import read_data_set
from ipi_driver.ipi_files.template import read_template
from ipi_driver.ipi_files.units import ANGSTROM, ELECTRONVOLT, WITHOUT_IPI, ipi_factor
from ipi_driver.structure import Prediction, Structure
from ipi_driver.training.setup import read_unlabelled

LENGTHS = "20 21 22 90 90 90"
MATRIX = "20.0 1.0 2.0 0.0 21.0 3.0 0.0 0.0 22.0"
COMMENTS = {
    "no units": f"# CELL(abcABC): {LENGTHS}",
    "square brackets": f"# CELL[abcABC]: {LENGTHS} positions{{angstrom}} cell{{angstrom}}",
    "curly brackets": f"# CELL{{abcABC}}: {LENGTHS} positions{{angstrom}} cell{{angstrom}}",
    "cell in bohr": f"# CELL(abcABC): {LENGTHS} Step: 7 Bead: 0 positions{{angstrom}}",
    "units before the cell": f"cell{{nanometer}} positions{{angstrom}} # CELL(abcABC): {LENGTHS}",
    "a matrix": f"# CELL[H]: {MATRIX} positions{{angstrom}} cell{{angstrom}}",
    "a matrix in bohr": f"# CELL{{H}}: {MATRIX}",
    "centroids": f"# CELL(abcABC): {LENGTHS} Step: 3 Bead: 0 x_centroid{{nanometer}} cell{{angstrom}}",
    "of this package": f"# CELL(abcABC): {LENGTHS} positions{{angstrom}} cell{{angstrom}}",
}


def write(path: Path, comment: str, labels: str = "O D H", bond: float = 1.8) -> Path:
    rows = [f"{label} {bond * k:.4f} 0.1 0.2" for k, label in enumerate(labels.split())]
    path.write_text("\n".join([str(len(rows)), comment, *rows]) + "\n")
    return path


def of_ipi(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Positions and cell rows, Å, as i-PI's own reader understands the file."""
    with path.open() as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        found = read_file("xyz", stream, dimension="length")
        gc.collect()
    return found["atoms"].q.reshape(-1, 3) / ANGSTROM, found["cell"].h.T / ANGSTROM


@pytest.mark.parametrize("what", COMMENTS)
def test_every_command_reads_what_ipi_reads(what: str, tmp_path: Path) -> None:
    comment = COMMENTS[what]
    unit = 10.0 if "centroid{nano" in comment else 1.0 if "positions{ang" in comment else 1 / ANGSTROM  # Å
    path = write(tmp_path / "a.xyz", comment, bond=0.96 / unit)
    positions, cell = of_ipi(path)
    found = {
        "check": read_data_set(path).structures[0],
        "train": read_unlabelled([path])[0],
        "run --structure": Structure.from_atoms(read_start(path, periodic=True)),
    }
    for command, structure in found.items():
        np.testing.assert_allclose(structure.positions, positions, rtol=1e-12, atol=1e-12, err_msg=command)
        np.testing.assert_allclose(structure.cell, cell, rtol=1e-12, atol=1e-9, err_msg=command)
        assert structure.pbc.all(), command
    (snapshot,) = TrajectoryFile(path)  # analyze
    np.testing.assert_allclose(snapshot.values, positions, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(snapshot.cell, cell, rtol=1e-12, atol=1e-9)
    template = read_template(path)  # serve
    assert template.pbc.all()
    assert template.numbers.tolist() == [8, 1, 1] == found["check"].numbers.tolist()


def test_a_general_cell_has_its_vectors_as_rows(tmp_path: Path) -> None:
    """i-PI turns atoms and cell to its own orientation: distances across the boundary are the same."""
    comment = "# CELL(GENH): 9.0 0.5 0.2 -1.0 8.0 0.3 0.4 0.6 10.0 positions{angstrom} cell{angstrom}"
    path = write(tmp_path / "a.xyz", comment)
    found = read_data_set(path).structures[0]
    np.testing.assert_allclose(found.cell[1], [-1.0, 8.0, 0.3])
    positions, cell = of_ipi(path)
    theirs = ase.Atoms("OH2", positions, cell=cell, pbc=True)
    ours = found.to_atoms()
    np.testing.assert_allclose(
        ours.get_all_distances(mic=True), theirs.get_all_distances(mic=True), rtol=1e-9, atol=1e-9
    )
    np.testing.assert_allclose(ours.cell.cellpar(), theirs.cell.cellpar(), rtol=1e-9)


def test_isolated_for_every_command(tmp_path: Path) -> None:
    for name, comment in {
        "marked": f'# CELL(abcABC): {LENGTHS} positions{{angstrom}} cell{{angstrom}} pbc="F F F"',
        "no cell": "positions{angstrom}",
        "no cell, written by i-PI": "# CELL(abcABC): -1 -1 -1 90 90 90 positions{angstrom} cell{angstrom}",
    }.items():
        path = write(tmp_path / "a.xyz", comment)
        (structure,), template = read_data_set(path).structures, read_template(path)
        assert not structure.periodic, name
        assert not template.periodic, name
        np.testing.assert_allclose(structure.positions[1], [1.8, 0.1, 0.2], rtol=1e-12)


def test_files_of_others_are_left_to_ase(tmp_path: Path) -> None:
    for comment in (
        "",
        "water",
        "CELL of water",
        'Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3',
    ):
        path = write(tmp_path / "a.xyz", comment, "O H H")
        assert ipi_comment(path) is None
        (structure,) = read_data_set(path).structures
        np.testing.assert_allclose(structure.positions[1], [1.8, 0.1, 0.2], rtol=1e-12)
        assert structure.periodic == ("Lattice" in comment)


def test_isotopes_of_a_starting_structure_stay(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xyz", COMMENTS["of this package"])
    write_start(read_start(path, periodic=True), tmp_path / "b.xyz")
    assert TrajectoryFile(tmp_path / "b.xyz").symbols == ("O", "D", "H")


def test_the_constants_are_those_of_the_ipi_installed() -> None:
    from ipi.utils.units import unit_to_internal

    assert unit_to_internal("length", "angstrom", 1.0) == ANGSTROM
    assert unit_to_internal("energy", "electronvolt", 1.0) == ELECTRONVOLT
    for (dimension, unit), factor in WITHOUT_IPI.items():
        assert unit_to_internal(dimension, unit, 1.0) == factor
    for dimension, unit in (
        ("length", "angstrom"), ("energy", "electronvolt"), ("time", "femtosecond"), ("mass", "dalton"),
        ("temperature", "kelvin"),
    ):  # fmt: skip
        assert ipi_factor(dimension, unit) == 1.0
    assert ipi_factor("force", "") == pytest.approx(ANGSTROM / ELECTRONVOLT, rel=1e-14)
    assert ipi_factor("velocity", "") == pytest.approx(1 / ANGSTROM * 41.341373, rel=1e-12)


def test_numbers_survive_the_way_to_ipi_and_back() -> None:
    """1.8 Å that i-PI reads is 1.8 Å for the model, and an energy in eV is printed as it was."""
    template = Structure(np.array([8, 1]), np.zeros((2, 3)), 9.3 * np.eye(3), np.ones(3, dtype=bool))
    sent = np.array([[0.0, 0.0, 0.0], [1.8, 0.1, 7.3]]) * ANGSTROM
    structure = structure_from_ipi(template, 9.3 * ANGSTROM * np.eye(3), sent)
    np.testing.assert_allclose(structure.positions[1], [1.8, 0.1, 7.3], rtol=3e-16)
    prediction = Prediction(energy=-470.123456789, forces=np.ones((2, 3)), virial=np.eye(3), n_rotations=1)
    energy, forces, virial = results_to_ipi(structure, prediction)
    assert energy / ELECTRONVOLT == pytest.approx(-470.123456789, rel=3e-16)
    np.testing.assert_allclose(virial / ELECTRONVOLT, np.eye(3), rtol=3e-16)
    np.testing.assert_allclose(forces * ipi_factor("force", ""), 1.0, rtol=3e-16)


def test_trajectories_in_the_format_ase(ipi_run: Path, tmp_path: Path) -> None:
    """The same run printed by i-PI as xyz and as extended xyz: positions, velocities, forces, momenta."""
    text = (ipi_run / "input.xml").read_text()
    for unit in ("{angstrom}", "{m/s}", "{ev/ang}"):
        text = text.replace(unit, "")
    text = text.replace("<trajectory ", "<trajectory format='ase' ").replace(
        "<trajectory format='ase' filename='extras'", "<trajectory filename='extras'"
    )
    (tmp_path / "input.xml").write_text(text)
    (tmp_path / "start.xyz").write_text((ipi_run / "start.xyz").read_text())
    program = Path(sys.executable).with_name("i-pi")
    subprocess.run([program, "input.xml"], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    as_xyz, as_ase = Run(ipi_run), Run(tmp_path)
    for quantity in ("positions", "velocities", "forces"):
        expected, found = (list(run.snapshots([quantity])) for run in (as_xyz, as_ase))
        assert [s.step for s in found] == [s.step for s in expected]
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_allclose(b.values[quantity], a.values[quantity], rtol=2e-5, atol=2e-8)
            np.testing.assert_allclose(b.cell, a.cell, rtol=2e-5, atol=2e-4)
    assert as_ase.notes == []
    (tmp_path / "water.v_0.extxyz").unlink()
    from_momenta = {s.step: s.velocities for s in Run(tmp_path).snapshots(["velocities"])}
    for a in as_xyz.snapshots(["velocities"]):
        np.testing.assert_allclose(from_momenta[a.step], a.velocities, rtol=2e-5, atol=2e-8)
    (structure, *_) = read_data_set(tmp_path / "water.x_0.extxyz").structures
    assert structure.pbc.all()
