"""Reading files that i-PI wrote, compared with i-PI's own parsers, and files that are broken."""

import gc
import shutil
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from ipi.scripting import read_output, read_trajectory

from ipi_driver.errors import UserError
from ipi_driver.ipi_files import Run, TrajectoryFile, iterate_extras, read_properties
from ipi_driver.ipi_files.fixed_width import parse_fixed_width
from ipi_driver.ipi_files.input import read_input
from ipi_driver.ipi_files.structures import read_data_set
from ipi_driver.units import ATOMIC_TIME, BOHR, ELECTRON_MASS, HARTREE


def copied(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def snapshot_text(values: np.ndarray, step: int, label: str = "H", comment: str = "") -> str:
    cell = "# CELL(abcABC): 9.0 9.0 9.0 90.0 90.0 90.0"
    comment = comment or f"{cell}  Step: {step}  Bead: 0 positions{{angstrom}}  cell{{angstrom}}"
    rows = "".join(f"{label:>8} {row[0]:12.5e} {row[1]:12.5e} {row[2]:12.5e}\n" for row in values)
    return f"{len(values)}\n{comment}\n{rows}"


def test_fixed_width_numbers_are_those_of_float():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(500, 3)) * 10.0 ** rng.integers(-12, 16, size=(500, 3))
    values[0] = [0.0, -0.0, 1.0]
    text = "".join(f"{'O':>8} {row[0]:12.5e} {row[1]:12.5e} {row[2]:12.5e}\n" for row in values)
    expected = np.array([[float(word) for word in line.split()[1:]] for line in text.splitlines()])
    parsed = parse_fixed_width(text.encode(), 500)
    assert parsed is not None
    np.testing.assert_array_equal(parsed, expected)


@pytest.mark.parametrize("bad", [b"nan", b"1.0e-100", b"-1.00000e-100", b"1.0"])
def test_other_layouts_are_left_to_the_general_parser(bad):
    line = b"       O  0.00000e+00  0.00000e+00 " + bad.rjust(12) + b"\n"
    assert parse_fixed_width(line, 1) is None


def test_positions_agree_with_the_parser_of_ipi(ipi_run):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # i-PI leaves the file open
        theirs = read_trajectory(str(ipi_run / "water.x_0.xyz"))
        gc.collect()
    ours = list(TrajectoryFile(ipi_run / "water.x_0.xyz"))
    assert [snapshot.step for snapshot in ours] == list(range(0, 21, 2))
    for snapshot, atoms in zip(ours, theirs, strict=True):
        # i-PI's own constants differ from CODATA 2018 in the eighth digit
        np.testing.assert_allclose(snapshot.values, atoms.positions, rtol=1e-7)
        np.testing.assert_allclose(snapshot.cell, np.array(atoms.cell), rtol=2e-6, atol=2e-5)


def test_momenta_are_masses_times_velocities_and_give_the_temperature(ipi_run):
    run = Run(ipi_run)
    np.testing.assert_allclose(run.masses[:3], [15.9994, 1.00794, 1.00794], rtol=1e-6)
    momenta = {snapshot.step: snapshot.values for snapshot in TrajectoryFile(ipi_run / "water.p_0.xyz")}
    for snapshot in run.snapshots(["positions", "velocities"]):
        np.testing.assert_allclose(
            snapshot.velocities * run.masses[:, None], momenta[snapshot.step], rtol=2e-5, atol=1e-8
        )
        # atomic units again: kinetic energy against i-PI's own temperature column
        p = momenta[snapshot.step] / (ELECTRON_MASS * BOHR / ATOMIC_TIME)
        m = run.masses / ELECTRON_MASS
        kinetic = (p**2 / m[:, None]).sum() / 2 * HARTREE
        # i-PI adds the mean energy of the three removed degrees of freedom at 300 K
        kelvin = (2 * kinetic / 8.617333262e-5 + 3 * 300.0) / 18
        assert kelvin == pytest.approx(run.properties["temperature"][snapshot.step], rel=1e-4)


def test_forces_are_those_of_the_springs(ipi_run):
    """The pes `harmonic`: F = -k r with k = 0.01 hartree/bohr²."""
    for snapshot in Run(ipi_run).snapshots(["positions", "forces"]):
        assert snapshot.step % 6 == 0
        np.testing.assert_allclose(
            snapshot.forces, -0.01 * HARTREE / BOHR**2 * snapshot.positions, rtol=3e-5, atol=1e-5
        )


def test_properties_agree_with_the_parser_of_ipi(ipi_run):
    theirs, units = read_output(str(ipi_run / "water.log"))
    ours = read_properties(ipi_run / "water.log")
    assert units["time"][0] == "picosecond"
    np.testing.assert_allclose(ours["time"], theirs["time"] * 1000, rtol=1e-7)
    np.testing.assert_allclose(ours["conserved"], theirs["conserved"], rtol=2e-7)
    np.testing.assert_allclose(ours["potential"], theirs["potential"] / 0.036749326)  # i-PI's hartree per eV
    np.testing.assert_allclose(ours["stress_md"], theirs["stress_md"])
    assert ours.steps.tolist() == list(range(21))
    with pytest.raises(UserError, match=r"has no column `dipole`.*add `dipole` to <properties>"):
        ours["dipole"]


def test_run_settings(ipi_run):
    run = Run(ipi_run)
    assert run.timestep == pytest.approx(0.5)
    assert run.settings.temperature == pytest.approx(300.0, rel=1e-5)
    assert (run.settings.motion, run.settings.ensemble, run.settings.forces) == (
        "dynamics",
        "nve",
        (("springs", ""),),
    )
    assert [run.has(name) for name in ("velocities", "forces", "dipole")] == [True, True, False]
    assert run.n_snapshots() == 11
    assert [step for step, _ in iterate_extras(run.extras()[0])] == [0, 4, 8, 12, 16, 20]
    assert [snapshot.step for snapshot in run.snapshots(["positions", "forces"], stride=2)] == [0, 12]


def test_momenta_stand_in_for_velocities(ipi_run, tmp_path):
    folder = copied(ipi_run, tmp_path)
    with_velocities = {
        snapshot.step: snapshot.velocities for snapshot in Run(folder).snapshots(["velocities"])
    }
    (folder / "water.v_0.xyz").unlink()
    from_momenta = {snapshot.step: snapshot.velocities for snapshot in Run(folder).snapshots(["velocities"])}
    assert len(from_momenta) == 21
    for step, velocities in with_velocities.items():
        np.testing.assert_allclose(from_momenta[step], velocities, rtol=2e-5, atol=1e-9)


def test_a_file_whose_name_begins_as_that_of_another(ipi_run, tmp_path):
    folder = copied(ipi_run, tmp_path)
    (folder / "water.x_0.xyz").rename(folder / "water.x.xyz")
    shutil.copyfile(folder / "water.v_0.xyz", folder / "water.x_start_0.xyz")
    assert Run(folder).trajectory("positions").path.name == "water.x.xyz"
    (folder / "water.x.xyz").unlink()
    assert Run(folder).trajectory("positions") is None


def test_the_thermostat_is_not_that_of_the_barostat(tmp_path):
    (tmp_path / "input.xml").write_text(
        "<simulation><system><motion mode='dynamics'><dynamics mode='npt'><barostat mode='isotropic'>"
        "<thermostat mode='langevin'/></barostat><thermostat mode='svr'/></dynamics></motion></system></simulation>"
    )
    assert read_input(tmp_path / "input.xml").thermostat == "svr"


@pytest.mark.parametrize("name", ["dynamics", "constrained_dynamics", "driven_dynamics"])
def test_every_kind_of_dynamics_has_a_time_step(tmp_path, name):
    inside = "<timestep units='femtosecond'> 0.5 </timestep> <thermostat mode='svr'/>"
    motion = f"<motion mode='{name}'><{name} mode='nvt'> {inside} </{name}></motion>"
    (tmp_path / "input.xml").write_text(f"<simulation><system> {motion} </system></simulation>")
    found = read_input(tmp_path / "input.xml")
    assert (found.motion, found.ensemble, found.thermostat) == (name, "nvt", "svr")
    assert found.timestep == pytest.approx(0.5)


def test_missing_outputs_are_one_clear_line(ipi_run, tmp_path):
    folder = copied(ipi_run, tmp_path)
    (folder / "water.f_0.xyz").unlink()
    with pytest.raises(
        UserError, match="has no forces trajectory: add <trajectory filename='forces'"
    ) as caught:
        next(Run(folder).snapshots(["positions", "forces"]))
    assert "\n" not in str(caught.value)
    (folder / "water.log").unlink()
    with pytest.raises(UserError, match="no property file"):
        _ = Run(folder).properties
    (folder / "input.xml").unlink()
    with pytest.raises(UserError, match="not a run folder"):
        Run(folder)
    with pytest.raises(UserError, match="no run folder"):
        Run(tmp_path / "nowhere")


def test_an_input_of_any_name(ipi_run, tmp_path):
    folder = copied(ipi_run, tmp_path)
    (folder / "input.xml").rename(folder / "my.xml")
    assert Run(folder).timestep == pytest.approx(0.5)
    shutil.copy(folder / "my.xml", folder / "other.xml")
    with pytest.raises(UserError, match=r"several i-PI inputs \(my.xml, other.xml\)"):
        Run(folder)


@pytest.mark.parametrize("lost", [1, 20, 48, 200, 330])
def test_truncated_last_snapshot(ipi_run, tmp_path, lost):
    folder = copied(ipi_run, tmp_path)
    path = folder / "water.x_0.xyz"
    path.write_bytes(path.read_bytes()[:-lost])
    run = Run(folder)
    assert [snapshot.step for snapshot in run.snapshots()] == list(range(0, 19, 2))
    if lost < 300:
        assert run.notes == ["water.x_0.xyz: last snapshot incomplete, used up to step 18"]


def test_truncated_properties(ipi_run, tmp_path):
    folder = copied(ipi_run, tmp_path)
    path = folder / "water.log"
    path.write_bytes(path.read_bytes()[:-30])
    run = Run(folder)
    assert run.properties.steps.tolist() == list(range(20))
    assert run.notes == ["water.log: last row incomplete, dropped"]


def test_restart_that_repeats_steps(tmp_path):
    path = tmp_path / "pos.xyz"
    values = np.arange(6.0).reshape(2, 3)
    path.write_text("".join(snapshot_text(values + s, s) for s in (0, 10, 20, 30, 20, 30, 40)))
    file = TrajectoryFile(path)
    assert [snapshot.step for snapshot in file] == [0, 10, 20, 30, 40]
    assert file.notes == ["pos.xyz: 2 snapshots repeated by a restart were skipped"]
    assert [snapshot.step for snapshot in file] == [0, 10, 20, 30, 40]
    assert len(file.notes) == 1


def test_deuterium(ipi_run, tmp_path):
    folder = copied(ipi_run, tmp_path)
    for path in folder.glob("water.*_0.xyz"):
        path.write_text(path.read_text().replace(" H ", " D "))
    run = Run(folder)
    np.testing.assert_allclose(run.masses[1], 1.00794, rtol=1e-6)  # RESTART knows what was simulated
    (folder / "RESTART").unlink()
    run = Run(folder)
    assert run.numbers.tolist() == [8, 1, 1, 8, 1, 1]
    np.testing.assert_allclose(run.masses[:2], [15.9994, 2.0141], rtol=1e-6)


def test_cells_and_units(tmp_path):
    path = tmp_path / "pos.xyz"
    values = np.array([[1.0, 2.0, 3.0]])
    matrix = "# CELL(H): 1.0 2.0 3.0 0.0 4.0 5.0 0.0 0.0 6.0 Step: 3 positions{UNIT}"
    path.write_text(snapshot_text(values, 0, comment=matrix.replace("UNIT", "furlong")))
    with pytest.raises(UserError, match="no unit 'furlong' of length"):
        TrajectoryFile(path)
    path.write_text(snapshot_text(values, 0, comment=matrix.replace("UNIT", "nanometer")))
    np.testing.assert_allclose(next(iter(TrajectoryFile(path))).values, 10 * values, rtol=1e-7)
    path.write_text(snapshot_text(values, 0, comment=matrix.replace("UNIT", "atomic_unit")))
    snapshot = next(iter(TrajectoryFile(path)))
    np.testing.assert_allclose(snapshot.values, values * BOHR)
    np.testing.assert_allclose(snapshot.cell, np.array([[1, 0, 0], [2, 4, 0], [3, 5, 6]]) * BOHR)
    lattice = 'Lattice="5 0 0 1 5 0 0 0 5" Properties=species:S:1:pos:R:3 pbc="T T T"'
    path.write_text(snapshot_text(values, 0, comment=lattice))
    snapshot = next(iter(TrajectoryFile(path)))
    np.testing.assert_allclose(snapshot.values, values)
    np.testing.assert_allclose(snapshot.cell, [[5, 0, 0], [1, 5, 0], [0, 0, 5]])


def test_blank_lines_between_snapshots_do_not_end_a_file(tmp_path):
    """As where files were put together by hand: what follows was lost without a word."""
    path = tmp_path / "a.xyz"
    cell = "# CELL(abcABC): 10 11 12 90 90 90 Step: {} Bead: 0 positions{{angstrom}} cell{{angstrom}}"
    path.write_text("\n\n".join(f"1\n{cell.format(k)}\nO {k}.0 2.0 3.0" for k in range(3)) + "\n\n")
    trajectory = TrajectoryFile(path)
    assert [(s.step, s.values[0, 0]) for s in trajectory] == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert trajectory.notes == []


@pytest.mark.parametrize(
    ("count", "cell", "row", "message"),
    [
        ("2", "10 11 12 90 90 90", "O 0 0 0\n", "malformed, expected `label x y z`"),
        ("1", "10 11 12 90 90 90", "\udcc5 0 0 0", "unknown element"),
        ("1", "10 11 12 10 10 170", "O 0 0 0", "no cell has these lengths and angles"),
        ("0", "10 11 12 90 90 90", "", "expected the number of atoms of the next snapshot, got '0'"),
        ("9" * 12, "10 11 12 90 90 90", "O 0 0 0", "no complete snapshot"),
    ],
)
def test_first_snapshots_that_are_none(tmp_path, count, cell, row, message):
    """No traceback, and no loop over more atoms than there can be."""
    text = f"{count}\n# CELL(abcABC): {cell} Step: 0 Bead: 0 positions{{angstrom}} cell{{angstrom}}\n{row}\n"
    (tmp_path / "a.xyz").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=message):
        read_data_set(tmp_path / "a.xyz")


def test_malformed_files_are_one_clear_line(tmp_path):
    path = tmp_path / "pos.xyz"
    good = snapshot_text(np.ones((2, 3)), 0)
    for text, message in [
        ("", "holds no complete snapshot"),
        (good[:-3], "holds no complete snapshot"),
        (good + "garbage\nline\n", "expected the number of atoms"),
        (good + snapshot_text(np.ones((3, 3)), 1), "snapshot 1 has 3 atoms, the first has 2"),
        (
            good + good.replace("1.00000e+00", "1.0000xe+00").replace("Step: 0", "Step: 1"),
            "snapshot 1 is malformed",
        ),
        (good + good.replace("1.00000e+00", "        nan").replace("Step: 0", "Step: 1"), "not finite"),
        (good.replace("positions{", "isotope_zetatd{"), "not one that can be analyzed"),
    ]:
        path.write_text(text)
        with pytest.raises(UserError, match=message) as caught:
            list(TrajectoryFile(path))
        assert "\n" not in str(caught.value)


def test_a_run_killed_at_any_byte_and_continued_by_ipi(ipi_run, tmp_path):
    """i-PI appends to what was written, from an earlier step on: no snapshot and no row is lost or made up."""
    text = (ipi_run / "water.x_0.xyz").read_bytes()
    whole = list(TrajectoryFile(ipi_run / "water.x_0.xyz"))
    per_snapshot = len(text) // len(whole)
    assert len(text) == per_snapshot * len(whole)
    path = tmp_path / "cut.xyz"
    for cut in range(4 * per_snapshot + 1, 5 * per_snapshot):
        path.write_bytes(text[:cut] + text[3 * per_snapshot :])
        file = TrajectoryFile(path)
        found = list(file)
        assert [snapshot.step for snapshot in found] == [snapshot.step for snapshot in whole], cut
        for one, other in zip(found, whole, strict=True):
            np.testing.assert_array_equal(one.values, other.values)
        assert any("snapshots cut short" in note or "5 snapshots repeated" in note for note in file.notes), (
            cut
        )

    text = (ipi_run / "water.log").read_bytes()
    expected = read_properties(ipi_run / "water.log")
    *_, start, middle, end = (at for at in range(len(text)) if text[at - 1 : at] == b"\n")
    path = tmp_path / "cut.log"
    for cut in range(middle + 1, end):
        path.write_bytes(text[:cut] + text[start:])
        found = read_properties(path)
        for name, values in expected.columns.items():
            np.testing.assert_array_equal(found[name], values)
        assert any("repeated" in note or "malformed" in note for note in found.notes), cut


def test_memory_does_not_grow_with_the_trajectory(tmp_path):
    path = tmp_path / "pos.xyz"
    values = np.random.default_rng(0).normal(size=(300, 3))
    peaks = []
    for n_snapshots in (20, 400):
        with path.open("w") as stream:
            for step in range(n_snapshots):
                stream.write(snapshot_text(values, step))
        tracemalloc.start()
        assert sum(1 for _ in TrajectoryFile(path)) == n_snapshots
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert path.stat().st_size > 5e6
    assert peaks[1] < 1.3 * peaks[0]


def test_extras_json_numbers_and_text(tmp_path):
    path = tmp_path / "extras"
    path.write_text(
        ' #EXTRAS(raw)# Step:           0 \n{"a": 1.5, "b": [1, 2]}\n'
        " #EXTRAS(raw)# Step:           1 \n{'raw': ['{}'], 'a': [2.5]}\n"
        " #EXTRAS(dipole)# Step:           2 \n 1.0 2.0 3.0\n"
        " #EXTRAS(raw)# Step:           3 \nnothing\n"
        ' #EXTRAS(raw)# Step:           4 \n{"a": 1.'
    )
    content = list(iterate_extras(path))
    assert [step for step, _ in content] == [0, 1, 2, 3]
    assert content[0][1] == {"a": 1.5, "b": [1, 2]}
    assert content[1][1] == {"a": 2.5}
    np.testing.assert_array_equal(content[2][1], [1, 2, 3])
    assert content[3][1] == "nothing"
    path.write_text("hello\n")
    with pytest.raises(UserError, match="expected `#EXTRAS"):
        list(iterate_extras(path))


def test_inputs_that_are_not_inputs(tmp_path):
    path = tmp_path / "input.xml"
    path.write_text("<simulation>")
    with pytest.raises(UserError, match="not well-formed XML"):
        read_input(path)
    path.write_text("<molecule/>")
    with pytest.raises(UserError, match="expected <simulation>, got <molecule>"):
        read_input(path)


def test_masses_set_in_the_input(tmp_path):
    path = tmp_path / "input.xml"
    path.write_text(
        "<simulation><system><initialize nbeads='4'>"
        "<masses mode='manual' units='dalton'> [16.0, 2.0, 2.0] </masses></initialize></system></simulation>"
    )
    settings = read_input(path)
    np.testing.assert_allclose(settings.masses, [16, 2, 2], rtol=1e-6)
    assert settings.n_beads == 4
    assert settings.timestep is None
    path.write_text(
        "<simulation><system><initialize nbeads='8'><beads mode='chk'> RESTART </beads></initialize></system>"
        "</simulation>"
    )
    assert read_input(path).n_beads == 8
    path.write_text("<simulation><system><beads nbeads='6' natoms='1'/></system></simulation>")
    assert read_input(path).n_beads == 6
