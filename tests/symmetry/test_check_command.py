"""`ipi-driver check` end to end, its files, and bad input."""

from __future__ import annotations

import csv
import json
import tracemalloc
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase.geometry import cellpar_to_cell
from rich.console import Console

from ipi_driver.cli import main
from ipi_driver.errors import UserError
from ipi_driver.ipi_files.structures import read_data_set, spacing_of
from ipi_driver.report.check_tables import _degree_table
from ipi_driver.shipped import shipped_folder
from ipi_driver.symmetry.degrees import Decomposition

MODEL = "anisotropic?l=1,2&amplitude=0.05"


def water(rng: np.random.Generator, periodic: bool) -> ase.Atoms:
    positions = np.array([[0.0, 0.0, 0.0], [0.97, 0.02, 0.1], [-0.24, 0.93, 0.05]])
    positions += 0.03 * rng.standard_normal((3, 3))
    return ase.Atoms("OHH", positions, cell=4 * np.eye(3) if periodic else None, pbc=periodic)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("check")
    rng = np.random.default_rng(0)
    ase.io.write(path / "gas.extxyz", [water(rng, False) for _ in range(4)])
    ase.io.write(path / "ice.extxyz", [water(rng, True) for _ in range(2)])
    from ase.calculators.calculator import Calculator
    from ase.md.verlet import VelocityVerlet

    from ipi_driver.potentials import load_potential
    from ipi_driver.structure import Structure

    class Model(Calculator):  # a short trajectory of the model itself
        implemented_properties = ("energy", "forces")
        potential = load_potential(MODEL)

        def calculate(self, atoms=None, properties=(), system_changes=()) -> None:  # type: ignore[no-untyped-def]
            result = self.potential.predict(Structure.from_atoms(atoms))
            self.results = {"energy": result.energy, "forces": result.forces}

    atoms = water(rng, False)
    atoms.calc = Model()
    snapshots = []
    VelocityVerlet(atoms, 0.5 * ase.units.fs, trajectory=None).run(0)
    dynamics = VelocityVerlet(atoms, 0.5 * ase.units.fs)
    dynamics.attach(lambda: snapshots.append(ase.Atoms(atoms.numbers, atoms.positions.copy())), interval=1)
    dynamics.run(200)
    ase.io.write(path / "md.extxyz", snapshots)
    return path


@pytest.fixture(scope="module")
def checked(folder: Path) -> Path:
    output = folder / "out"
    arguments = [
        "check",
        MODEL,
        str(folder / "gas.extxyz"),
        str(folder / "ice.extxyz"),
        "--output",
        str(output),
    ]
    arguments += [
        "--average",
        "D2",
        "T",
        "2i",
        "--max-structures",
        "3",
        "--max-degree",
        "3",
        "--tolerance",
        "0.5",
    ]
    arguments += ["--trajectory", str(folder / "md.extxyz"), "--spacing", "0.5"]
    assert main(arguments) == 0
    return output


def test_table_in_csv(checked: Path) -> None:
    with (checked / "errors.csv").open() as stream:
        rows = {(r["data_set"], r["average"]): r for r in csv.DictReader(stream)}
    assert set(rows) == {(d, a) for d in ("gas", "ice") for a in ("none", "D2", "T", "2i", "Ih")}
    for data_set in ("gas", "ice"):
        assert float(rows[data_set, "none"]["force_mae"]) > 1e-3
        assert float(rows[data_set, "D2"]["force_mae"]) > 1e-4  # l = 2 is left
        assert float(rows[data_set, "T"]["force_max"]) < 1e-12  # l = 1, 2 are gone
        assert float(rows[data_set, "T"]["seconds"]) > 0
    assert rows["gas", "none"]["n_structures"] == "3"
    assert float(rows["gas", "none"]["torque"]) > 1e-3
    assert rows["ice", "none"]["torque"] == ""
    assert float(rows["ice", "none"]["stress_mae"]) > 0


def test_what_passes_an_average_is_said_of_the_error_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """A seventh of the power of l = 3 passes the tetrahedral group: of the error 38 %."""
    amplitudes = np.zeros((4, 2))
    angles = np.zeros(0)
    found = Decomposition(3, amplitudes, amplitudes, 0.0, 0.0, angles, angles, angles)
    Console(width=120).print(_degree_table("gas", found))
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.split()[:2] == ["3", "odd"]]
    assert row.split()[-6:] == ["0", "38", "38", "0", "0", "0"]


def test_everything_in_json(checked: Path) -> None:
    content = json.loads((checked / "check.json").read_text())
    assert content["recommendation"]["average"] == "T"
    assert content["recommendation"]["sufficient"]
    amplitudes = {(r["data_set"], str(r["l"]), r["parity"]): r["force"] for r in content["degrees"]}
    assert amplitudes["gas", "1", "odd"] > 1e-3
    assert amplitudes["gas", "2", "even"] > 1e-3
    assert amplitudes["gas", "3", "odd"] < 1e-9
    assert content["stride"]["recommended"] >= 1
    assert content["consistency"]["ice"]["force_deviation"] < 1e-5
    walk = content["rotation_walks"]["gas"]
    assert 0.0 < walk["energy_mean"] < walk["energy_max"]
    assert 0.0 < walk["force_mean"] < walk["force_max"]
    assert len(walk["steps"]) == 114
    assert len(content["angles"]) > 10


def test_heating_by_the_outer_step_is_said_of_periodic_trajectories(
    checked: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    isolated = json.loads((checked / "check.json").read_text())["stride"]
    assert all(row["heating"] is None for row in isolated["table"])
    snapshots = [
        ase.Atoms(a.numbers, a.positions, cell=8 * np.eye(3), pbc=True) for a in read_snapshots(folder)
    ]
    ase.io.write(folder / "liquid.extxyz", snapshots)
    arguments = ["check", MODEL, str(folder / "ice.extxyz"), "--average", "T", "--max-structures", "1"]
    arguments += ["--max-degree", "1", "--tolerance", "0.5", "--output", str(folder / "heating")]
    arguments += ["--trajectory", str(folder / "liquid.extxyz"), "--spacing", "0.5"]
    assert main(arguments) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "meV/atom/ns" in printed
    assert "meV per atom and ns with it" in printed
    rows = json.loads((folder / "heating" / "check.json").read_text())["stride"]["table"]
    # 1/τ of the smallest step is beyond the band of snapshots as far apart
    assert rows[0]["heating"] is None
    assert all(row["heating"] > 0 for row in rows[2:])
    assert (folder / "heating" / "stride.png").is_file()
    # no average is needed: nothing to correct, and the stride of the check before is not left beside it
    arguments[arguments.index("--tolerance") + 1] = "1e6"
    assert main(arguments) == 0
    assert "Multiple time stepping: of no use, as no average is needed." in capsys.readouterr().out
    assert not list((folder / "heating").glob("stride.*"))


def test_snapshots_left_out_at_the_start(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Snapshots of a whole trajectory, without its beginning, are those of a file that holds no more."""
    snapshots = read_snapshots(folder)
    ase.io.write(folder / "late.extxyz", snapshots[20:100])
    spectra = []
    for name, more in (("md", ["--skip-frames", "20", "--max-frames", "80"]), ("late", [])):
        arguments = ["check", MODEL, str(folder / "ice.extxyz"), "--average", "D2", "--max-structures", "1"]
        arguments += ["--max-degree", "1", "--output", str(folder / name), "--spacing", "0.5"]
        assert main([*arguments, "--trajectory", str(folder / f"{name}.extxyz"), *more]) == 0
        spectra.append(json.loads((folder / name / "check.json").read_text())["stride"]["table"])
    assert spectra[0] == spectra[1]
    capsys.readouterr()
    assert main([*arguments, "--trajectory", str(folder / "md.extxyz"), "--skip-frames", "5000"]) == 2
    assert "md.extxyz after the first 5000" in capsys.readouterr().err


def read_snapshots(folder: Path) -> list[ase.Atoms]:
    return list(ase.io.iread(folder / "md.extxyz"))


def test_figures(checked: Path) -> None:
    for name in ("convergence", "degrees", "angles", "stride"):
        assert (checked / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["check", "ase:ase.calculators.lj.LennardJones?sigma=1.0&rc=5.0", str(folder / "gas.extxyz")]
    arguments += [
        "--average",
        "T",
        "--max-degree",
        "1",
        "--max-structures",
        "1",
        "--output",
        str(folder / "lj"),
    ]
    assert main(arguments) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "No average is needed" in printed
    assert "Forces are derivatives of the energy" in printed
    assert "turns atoms and cell together" in printed
    assert "Written to" in printed


@pytest.mark.parametrize(
    ("model", "said"), [("pet-water-s3", True), ("pet-water-sym3", False), ("pet-water-noaug", False)]
)
def test_what_makes_a_model_invariant_is_said(
    model: str, said: bool, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a model that is told angles beside x, y and z and has an error."""
    command = ["check", model, str(folder / "gas.extxyz"), "--average", "D2", "--reference", "T"]
    assert main([*command, "--tolerance", "0.05", "--output", str(tmp_path / "out")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert ("ipi-driver symmetrize pet-water-s3" in shown) == said
    assert ("No average is needed" in shown) == (model == "pet-water-sym3")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--average", "T2"], "unknown average 'T2'"),
        (["--reference", "random"], "--reference must be a fixed grid"),
        (["--reference", "ecse"], "--reference must be a fixed grid"),
        (["--temperature", "0"], "--temperature must be positive"),
        (["--tolerance", "nan"], "--tolerance must be positive"),
        (["none.extxyz"], "none holds a structure without atoms"),
        (["--tolerance", "0"], "--tolerance must be positive"),
        (["--max-degree", "0"], "--max-degree must be 1 to 10"),
        (["--max-structures", "0"], "--max-structures must be at least 1"),
        (["--skip-frames", "-1"], "--skip-snapshots must be at least 0"),
        (["--trajectory", "md.extxyz"], "give --spacing"),
        (["--trajectory", "none.xyz"], "none.xyz is not a file"),
        (["--pbc"], "have no cell"),
    ],
)
def test_bad_input_is_one_line(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    extra: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    Path("none.extxyz").write_text("0\nProperties=species:S:1:pos:R:3\n")
    assert main(["check", MODEL, "gas.extxyz", *extra]) == 2
    printed = capsys.readouterr().err.strip()
    assert printed.startswith("error: ")
    assert message in printed
    assert "\n" not in printed


def test_unreadable_structures(folder: Path) -> None:
    with pytest.raises(UserError, match="is not a file"):
        read_data_set(folder / "missing.xyz")
    broken = folder / "broken.extxyz"
    broken.write_text("3\nnonsense\nO 0 0\n")
    with pytest.raises(UserError, match="cannot be read as structures"):
        read_data_set(broken)


def test_ipi_trajectory_with_its_units_and_steps(folder: Path) -> None:
    lines = []
    for step in (0, 4, 8):
        lines += [
            "3",
            f"# CELL(abcABC): 20 20 20 90 90 90 Step: {step} Bead: 0 positions{{atomic_unit}}  cell{{atomic_unit}}",
        ]
        lines += ["O 0.0 0.0 0.0", "H 1.8 0.0 0.0", "D -0.5 1.7 0.0"]
    path = folder / "simulation.pos_0.xyz"
    path.write_text("\n".join(lines) + "\n")
    data = read_data_set(path)
    assert data.structures[0].positions[1, 0] == pytest.approx(1.8 * 0.529177210903)
    assert data.structures[0].cell[0, 0] == pytest.approx(20 * 0.529177210903)
    assert data.structures[0].numbers.tolist() == [8, 1, 1]
    assert spacing_of(data, path, 3.0) == 3.0
    with pytest.raises(
        UserError, match=r"no input\.xml with their <timestep> lies beside it: give --spacing FS"
    ):
        spacing_of(data, path, None)
    # an outer step of 5 fs: what i-PI counts
    (folder / "input.xml").write_text((shipped_folder("inputs") / "liquid-nvt" / "input.xml").read_text())
    assert spacing_of(data, path, None) == pytest.approx(20.0)
    (folder / "input.xml").write_text((shipped_folder("inputs") / "liquid-nvt-raw" / "input.xml").read_text())
    assert spacing_of(data, path, None) == pytest.approx(2.0)
    # the run beside it is of a molecule: the cell is the one that i-PI was given around it
    (folder / "driver.yaml").write_text("model: m\nendpoints: [{unix: a}]\npbc: false\n")
    assert not read_data_set(path).structures[0].periodic
    assert read_data_set(path, pbc=True).structures[0].periodic
    isolated = read_data_set(path, pbc=False).structures[0]
    assert not isolated.periodic
    assert isolated.volume == 0.0


@pytest.mark.parametrize("name", ["ice/cells/096-a.xyz", "liquid-nvt/init.xyz"])
def test_shipped_structures_are_read_with_their_cells(name: str) -> None:
    """i-PI's xyz without a step; a molecule in ice or water needs its neighbors."""
    path = shipped_folder("inputs") / name
    (structure,) = read_data_set(path).structures
    assert structure.periodic
    words = path.read_text().splitlines()[1].split("CELL(abcABC):")[1].split()
    np.testing.assert_allclose(structure.cell, cellpar_to_cell([float(w) for w in words[:6]]), atol=1e-9)
    assert 28.0 < structure.volume / (structure.n_atoms // 3) < 33.5  # Å³ per molecule of water or ice
    with pytest.raises(UserError, match="give --spacing"):
        spacing_of(read_data_set(path), path, None)


def write_ipi(path: Path, n_snapshots: int, n_molecules: int = 1, hydrogen: str = "H") -> Path:
    rng = np.random.default_rng(0)
    labels = ["O", hydrogen, hydrogen] * n_molecules
    with path.open("w") as stream:
        for step in range(n_snapshots):
            stream.write(
                f"{len(labels)}\n# CELL(abcABC): 9.0 9.0 9.0 90.0 90.0 90.0  Step: {step:10d}  Bead: 0 "
            )
            stream.write("positions{angstrom}  cell{angstrom}\n")
            for label, row in zip(labels, rng.normal(size=(len(labels), 3)), strict=True):
                stream.write(f"{label:>8} {row[0]:12.5e} {row[1]:12.5e} {row[2]:12.5e}\n")
    return path


def test_a_trajectory_is_read_as_far_as_it_is_used(tmp_path: Path) -> None:
    """Ten of a long trajectory take no more memory than ten of a short one."""
    peaks = []
    for n_snapshots in (50, 500):
        path = write_ipi(tmp_path / "pos.xyz", n_snapshots, 64)
        tracemalloc.start()
        found = read_data_set(path, sample=10)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        whole = read_data_set(path)
        assert whole.steps == tuple(range(n_snapshots))
        expected = [
            whole.structures[k].positions for k in np.linspace(0, n_snapshots - 1, 10).round().astype(int)
        ]
        np.testing.assert_array_equal([s.positions for s in found.structures], expected)
    assert peaks[1] < 1.3 * peaks[0]
    part = read_data_set(path, part=slice(20, 23))
    assert part.steps == (20, 21, 22)
    with pytest.raises(UserError, match="after the first 500"):
        read_data_set(path, part=slice(500, 600))


def test_a_long_file_of_another_program_is_thinned_while_it_is_read(tmp_path: Path) -> None:
    """Ten of 2000 snapshots take no more memory than ten of 400, and are evenly spaced within an eighth."""
    peaks = []
    for n_snapshots in (400, 2000):
        path = tmp_path / f"{n_snapshots}.extxyz"
        snapshot = "3\nProperties=species:S:1:pos:R:3\nO 0 0 {}\nH 1 0 0\nH 0 1 0\n"
        path.write_text("".join(snapshot.format(k) for k in range(n_snapshots)))
        tracemalloc.start()
        found = read_data_set(path, sample=10)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        chosen = [s.positions[0, 2] for s in found.structures]
        assert len(chosen) == 10
        assert np.diff(chosen) == pytest.approx(n_snapshots / 9.5, rel=1 / 8)
    assert peaks[1] < 1.5 * peaks[0]
    few = tmp_path / "few.extxyz"
    few.write_text("".join(snapshot.format(k) for k in range(100)))
    chosen = [s.positions[0, 2] for s in read_data_set(few, sample=10).structures]
    assert chosen == list(range(0, 100, 11))


def test_isotopes_keep_their_mass(tmp_path: Path) -> None:
    data = read_data_set(write_ipi(tmp_path / "heavy.xyz", 2, hydrogen="D"))
    assert data.structures[0].numbers.tolist() == [8, 1, 1]
    assert data.masses is not None
    assert data.masses[0] == pytest.approx([15.999, 2.014, 2.014], abs=2e-3)


def test_a_short_trajectory_is_refused_before_the_work(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = folder / "none"
    words = ("--max-frames", "35", "--spacing", "0.5", "--output", str(output))
    gas, trajectory = (str(folder / name) for name in ("gas.extxyz", "md.extxyz"))
    assert main(["check", MODEL, gas, "--trajectory", trajectory, *words]) == 2
    assert "expected at least 36 snapshots, got 35" in capsys.readouterr().err
