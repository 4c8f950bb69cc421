"""What becomes of an input in a run folder: text, sockets, structures, checkpoints, endings; no processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree

import ase
import ase.io
import numpy as np
import pytest
import yaml
from ipi.engine.atoms import Atoms
from ipi.engine.cell import Cell
from ipi.utils.io import print_file
from runs_place import MODEL

from ipi_driver.analysis.run_statistics import client_counts
from ipi_driver.cli import main
from ipi_driver.client.settings import make_settings
from ipi_driver.errors import UserError
from ipi_driver.ipi_files import edit as xml
from ipi_driver.ipi_files.run_folder import LOCK, STARTING, RunFolder
from ipi_driver.ipi_files.start import read_start, write_start
from ipi_driver.ipi_files.steps import cut_after, cut_swaps_from, last_step
from ipi_driver.ipi_files.template import read_template
from ipi_driver.runs.changes import Changes, changed_settings
from ipi_driver.runs.console import lenient_console
from ipi_driver.runs.ending import Statuses, read_ending
from ipi_driver.runs.events import read_events
from ipi_driver.runs.facts import describe_model, read_facts
from ipi_driver.runs.monitor import Progress, PropertyMonitor
from ipi_driver.runs.origin import ORIGIN
from ipi_driver.runs.prepare import find_source, prepare
from ipi_driver.runs.private import socket_folder
from ipi_driver.runs.progress import ProgressDisplay
from ipi_driver.runs.resume import prepare_resume
from ipi_driver.runs.sockets import with_free_ports
from ipi_driver.shipped import shipped_folder

COMMENTED = """<?xml version='1.0'?>
<!-- <simulation> in <total_steps> 7 </total_steps> words -->
<simulation verbosity='low' sockets_prefix = "/tmp/old_">
  <!-- <total_steps> 10 </total_steps>
       <ffsocket name='no' mode='unix'><address>no</address></ffsocket> -->
  <total_steps> 20 </total_steps> <!-- twenty -->
  <ffsocket name='a' mode='unix'> <address> one </address> </ffsocket>
  <ffsocket name='b' mode = "inet"><address>localhost</address> <port> 4242 </port></ffsocket>
  <ffsocket name='c' mode='inet'><address>node7</address><port>4242</port></ffsocket>
  <ffsocket name='d' mode='shm'><address>two</address></ffsocket>
  <system><initialize nbeads='1'><file mode='pdb'> start.pdb </file></initialize></system>
</simulation>
"""


def test_changes_of_text_see_no_comment_and_lose_none() -> None:
    changed = xml.with_seed(xml.with_total_steps(COMMENTED, 99), 5)
    assert xml.total_steps(changed, Path("x")) == 99
    assert changed.replace("> 99 <", "> 20 <").replace("\n  <prng> <seed> 5 </seed> </prng>", "") == COMMENTED
    assert xml.value(xml.with_seed(changed, 6), "seed") == "6"
    assert "<total_steps> 3 </total_steps>" in xml.with_total_steps("<simulation a='b'></simulation>", 3)
    assert 'sockets_prefix = "/tmp/ipi_"' in xml.with_attribute(
        COMMENTED, "simulation", "sockets_prefix", "/tmp/ipi_"
    )
    assert xml.start_file(COMMENTED) == "start.pdb"
    assert "<file mode='xyz'> init.xyz </file>" in xml.with_start_file(COMMENTED, "init.xyz")
    with pytest.raises(UserError, match="--steps"):
        xml.total_steps("<simulation/>", Path("x"))


STEPS = """<simulation><!-- <timestep> 1.0 </timestep> -->
  <dynamics mode='nve'> <timestep units='femtosecond'> 5.0 </timestep> <nmts> [ 1, 10 ] </nmts> </dynamics>
</simulation>"""


@pytest.mark.parametrize(("count", "outer"), [(8, "4"), (5, "2.5"), (10, "5"), (1, "0.5")])
def test_another_stride_keeps_the_inner_step(count: int, outer: str) -> None:
    assert xml.nmts(STEPS) == 10
    changed = xml.with_nmts(STEPS, count, Path("x"))
    assert xml.nmts(changed) == count
    assert f"<timestep units='femtosecond'> {outer} </timestep>" in changed
    assert "<!-- <timestep> 1.0 </timestep> -->" in changed
    assert f"nmts {count} on the command line" in changed
    ElementTree.fromstring(changed)


def test_another_stride_is_that_of_all_systems() -> None:
    """Each keeps its inner step: 0.5 fs here and 0.25 fs there."""
    dynamics = STEPS[STEPS.index("<dynamics") : STEPS.index("</simulation>")]
    text = f"<simulation>{dynamics}{dynamics.replace('5.0', '2.5')}</simulation>"
    changed = xml.with_nmts(text, 4, Path("x"))
    assert re.findall(r"<nmts>(.*?)</nmts>", changed) == [" [ 1, 4 ] "] * 2
    assert re.findall(r"<timestep .*?>(.*?)</timestep>", changed) == [" 2 ", " 1 "]
    ElementTree.fromstring(changed)
    with pytest.raises(UserError, match=r"--nmts needs .* got no <nmts>"):
        xml.with_nmts(text.replace("<nmts> [ 1, 10 ] </nmts>", "", 1), 4, Path("x"))


@pytest.mark.parametrize(
    "levels", ["", "<nmts> [ 1, 2, 5 ] </nmts>", "<nmts> [ 2, 5 ] </nmts>", "<nmts> 10 </nmts>"]
)
def test_stride_needs_two_levels(levels: str) -> None:
    text = STEPS.replace("<nmts> [ 1, 10 ] </nmts>", levels)
    assert xml.nmts(text) is None
    with pytest.raises(UserError, match=f"--nmts needs .* got {'no <nmts>' if not levels else '<nmts> '}"):
        xml.with_nmts(text, 4, Path("x"))


def test_steps_done_are_not_those_of_a_line_search() -> None:
    search = (
        "<system><motion mode='minimize'><ls_options><step> 1.0e-2 </step></ls_options></motion></system>"
    )
    other = "<system prefix='b'><motion><ls_options><step> 7 </step></ls_options></motion></system>"
    assert xml.steps_done(f"<simulation>{search}{other}</simulation>") == 0
    done = "<!-- <step> 3 </step> --><step> 12 </step>"
    assert xml.steps_done(f"<simulation>{search}{done}{other}</simulation>") == 12


def test_sockets_of_an_input() -> None:
    labels = ["unix one", "inet localhost:4242", "inet node7:4242", "shm two"]
    assert [s.label for s in xml.sockets(COMMENTED)] == labels
    changed = xml.with_port(COMMENTED, xml.sockets(COMMENTED)[1], 1234)
    assert [s.label for s in xml.sockets(changed)] == ["unix one", "inet localhost:1234", *labels[2:]]


@pytest.mark.parametrize(
    "socket", ["<ffsocket mode='unix'/>", "<ffsocket mode='unix'><port>7</port></ffsocket>"]
)
def test_an_address_that_the_input_leaves_out(socket: str) -> None:
    (found,) = xml.sockets(socket)
    assert found.label == "unix localhost"
    assert [s.label for s in xml.sockets(xml.with_name(socket, found, "mine"))] == ["unix mine"]
    assert [s.label for s in xml.sockets(xml.with_inet(socket, found, "node7", 42))] == ["inet node7:42"]


@pytest.mark.parametrize(
    "socket",
    [
        "<ffsocket name='a' mode='inet'><!-- <port>1</port> --><address>localhost</address></ffsocket>",
        "<ffsocket name='a' mode='inet'/>",
    ],
)
def test_a_port_that_the_input_leaves_out(socket: str) -> None:
    """i-PI's default must not stay where the client is told another one."""
    text = f"<simulation>{socket}<ffsocket name='b' mode='unix'><address>b</address></ffsocket></simulation>"
    assert [s.label for s in xml.sockets(text)] == ["inet localhost:65535", "unix b"]
    changed, endpoints = with_free_ports(text, [{"inet": "localhost:65535"}, {"unix": "b"}])
    assert endpoints[0]["inet"] != "localhost:65535"
    assert [s.label for s in xml.sockets(changed)] == [f"inet {endpoints[0]['inet']}", "unix b"]
    port = ElementTree.fromstring(changed).findtext("ffsocket/port")
    assert port is not None
    assert endpoints[0]["inet"] == f"localhost:{port.strip()}"


def edited(folder: Path, old: str = "", new: str = "", endpoints: list[dict[str, str]] | None = None) -> Path:
    """A copy of gas-nvt with its XML, and perhaps its endpoints, changed."""
    source, copy = shipped_folder("inputs") / "gas-nvt", folder / "mine"
    copy.mkdir(parents=True)
    for path in source.iterdir():
        (copy / path.name).write_text(path.read_text().replace(old, new) if old else path.read_text())
    if endpoints is not None:
        settings = yaml.safe_load((copy / "driver.yaml").read_text()) | {"endpoints": endpoints}
        (copy / "driver.yaml").write_text(yaml.safe_dump(settings))
    return copy


def test_a_socket_that_nobody_answers_is_an_error(tmp_path: Path) -> None:
    """i-PI would wait for ever."""
    changes = Changes(model=MODEL)
    copy = edited(tmp_path, endpoints=[{"unix": "gas-nvt-raw"}])
    with pytest.raises(UserError, match="opens the socket `unix gas-nvt-averaged`"):
        prepare(find_source(copy, changes), tmp_path / "run", changes)
    assert not (tmp_path / "run").exists()
    (copy / "input.xml").write_text(
        (copy / "input.xml").read_text().replace(">gas-nvt-averaged<", ">gas-nvt-raw<")
    )
    (copy / "driver.yaml").write_text(
        "model: a\nendpoints: [{unix: gas-nvt-raw}, {unix: gas-nvt-other, average: 2i}]\nstructure: init.xyz\n"
    )
    with pytest.raises(UserError, match="answers the socket `unix gas-nvt-other`"):
        prepare(find_source(copy, changes), tmp_path / "run", changes)


def test_average_is_that_of_the_averaged_endpoint(tmp_path: Path) -> None:
    prepare(find_source("gas-nvt", Changes()), tmp_path / "run", Changes(model=MODEL, average="Oh"))
    settings = yaml.safe_load((tmp_path / "run" / "driver.yaml").read_text())
    assert [e["average"] for e in settings["endpoints"]] == ["none", "Oh"]
    raw = [{"unix": "gas-nvt-raw"}, {"unix": "gas-nvt-averaged"}]
    copy = edited(tmp_path, endpoints=raw)
    changes = Changes(model=MODEL, average="Oh")
    with pytest.raises(UserError, match="none of the 2 endpoints"):
        prepare(find_source(copy, changes), tmp_path / "other", changes)


def test_a_model_that_no_endpoint_would_take_is_refused() -> None:
    first, second = {"unix": "a", "model": "pet-water-s"}, {"unix": "b"}
    with pytest.raises(UserError, match=r"--model anisotropic: each endpoint in driver\.yaml has a `model`"):
        changed_settings({"endpoints": [first, first]}, Changes(model="anisotropic"))
    for endpoints in ([first, second], [second]):
        changed = changed_settings({"endpoints": endpoints}, Changes(model="anisotropic"))
        assert (changed["model"], changed["endpoints"]) == ("anisotropic", endpoints)


def test_only_what_the_input_names_is_copied(tmp_path: Path) -> None:
    copy = edited(tmp_path)
    (copy / "large.dat").write_text("not named")
    prepare(find_source(copy, Changes()), tmp_path / "run", Changes(model=MODEL))
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"input.xml", "driver.yaml", "init.xyz", "structure.extxyz", STARTING, LOCK, ORIGIN}
    (copy / "init.xyz").unlink()
    with pytest.raises(UserError, match=r"starts from init\.xyz, which is not there"):
        prepare(find_source(copy, Changes()), tmp_path / "other", Changes(model=MODEL))


def test_names_of_files(tmp_path: Path) -> None:
    """With spaces, in lists, and outside the folder, where they keep apart from those inside; not in comments."""
    folder = tmp_path / "mine"
    for path in (folder / "init.xyz", folder / "a b.xyz", tmp_path / "init.xyz", tmp_path / "more/init.xyz"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    text = (
        "<a> ../init.xyz </a><!-- ../init.xyz --><b>[ A, ../more/init.xyz ]</b> <c>a b.xyz</c><d> init.xyz </d>"
        f"<masses> [{'1, ' * 999}] </masses><e>../absent.xyz</e><f>{tmp_path}/init.xyz</f>"
    )
    assert xml.files_named(text, folder) == [Path("a b.xyz"), Path("init.xyz")]
    changed, inside = xml.with_files_inside(text, folder)
    expected = text.replace("<a> ../init", "<a> other-init").replace("../more/init", "other-other-init")
    assert changed == expected
    assert inside == {
        "other-init.xyz": folder / "../init.xyz",
        "other-other-init.xyz": folder / "../more/init.xyz",
    }


def test_a_replay_leaves_the_trajectory_that_its_input_names(tmp_path: Path) -> None:
    """Frames given on the command line are copied to the run folder, not over that file."""
    copy = tmp_path / "mine"
    shutil.copytree(shipped_folder("inputs") / "replay", copy)
    for name, content in (("old.xyz", "old"), ("new.xyz", "new")):
        (tmp_path / name).write_text(f"1\n# CELL(abcABC): 9 9 9 90 90 90 {content}\nO 0 0 0\n")
    text, settings = ((copy / file).read_text() for file in ("input.xml", "driver.yaml"))
    assert " trajectory.xyz" in settings
    for name in (tmp_path / "old.xyz", "../old.xyz", "data/old.xyz"):
        (copy / "input.xml").write_text(text.replace(" trajectory.xyz ", f" {name} "))
        (copy / "driver.yaml").write_text(settings.replace(" trajectory.xyz", f" {name}"))
        changes = Changes(model=MODEL, structure=tmp_path / "new.xyz")
        prepare(find_source(copy, changes), tmp_path / "run", changes)
        assert " old\n" in (tmp_path / "old.xyz").read_text()
        assert " new\n" in (tmp_path / "run" / "old.xyz").read_text()
        assert (tmp_path / "run" / "input.xml").read_text().count("> old.xyz <") == 2
        assert "structure: old.xyz\n" in (tmp_path / "run" / "driver.yaml").read_text()


def test_a_folder_without_a_step_keeps_the_files_of_the_user(tmp_path: Path) -> None:
    """It is used again, also as its own input; what the user has there is neither removed nor overwritten."""
    changes, folder = Changes(model=MODEL), tmp_path / "run"
    prepare(find_source("gas-nvt", changes), folder, changes)
    for name in ("notes.txt", "simulation.out", "RESTART", "client.log"):
        (folder / name).write_text(name)
    (folder / "sub").mkdir()
    (folder / "sub" / "kept").touch()
    prepare(find_source("gas-nvt", changes), folder, changes)
    names = {"input.xml", "driver.yaml", "init.xyz", "structure.extxyz", STARTING, ORIGIN, LOCK}
    names |= {"notes.txt", "sub"}
    assert {path.name for path in folder.iterdir()} == names
    (folder / "init.xyz").write_text((folder / "init.xyz").read_text() + "\n")
    mine = (folder / "init.xyz").read_text()
    for source in (folder, folder / "input.xml"):
        prepare(find_source(source, Changes()), folder, Changes(steps=7))
    assert {path.name for path in folder.iterdir()} == names
    assert (folder / "init.xyz").read_text() == mine
    assert xml.total_steps((folder / "input.xml").read_text(), folder) == 7

    start = Changes(model=MODEL, structure=folder / "init.xyz")
    with pytest.raises(UserError, match=r"--structure .* would be lost"):
        prepare(find_source("gas-nvt", start), folder, start)
    with pytest.raises(UserError, match=r"init\.xyz of the input itself would be overwritten"):
        prepare(find_source(folder, start), folder, start)
    (folder / "other.xml").write_text((folder / "input.xml").read_text())
    with pytest.raises(UserError, match=r"input\.xml of the input itself would be overwritten"):
        prepare(find_source(folder / "other.xml", Changes()), folder, Changes())
    assert {path.name for path in folder.iterdir()} == names | {"other.xml"}
    assert (folder / "init.xyz").read_text() == mine


def test_every_file_of_the_input_must_be_there(tmp_path: Path) -> None:
    copy = edited(tmp_path, "<velocities mode='thermal' units='kelvin'> 300", "<velocities mode='chk'> v.chk")
    changes = Changes(model=MODEL)
    with pytest.raises(UserError, match=r"starts from v\.chk, which is not there"):
        prepare(find_source(copy, changes), tmp_path / "run", changes)
    (copy / "v.chk").touch()
    (copy / "structure.extxyz").unlink()
    with pytest.raises(UserError, match=r"driver\.yaml names structure\.extxyz, which is not there"):
        prepare(find_source(copy, changes), tmp_path / "run", changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["gas-nvt", "liquid-nvt"])
def test_the_last_frame_of_an_own_run_is_a_start(name: str, tmp_path: Path) -> None:
    """In the units of i-PI's file, periodic as the input is."""
    frames = [
        f"1\n# CELL(abcABC): 10 11 12 90 90 90  Step: {k}  Bead: 0 positions{{atomic_unit}} cell{{angstrom}}\n"
        f"  O {k}.0 0.0 0.0\n"
        for k in (1, 2)
    ]
    (tmp_path / "pos.xyz").write_text("".join(frames))
    changes = Changes(model=MODEL, structure=tmp_path / "pos.xyz")
    prepare(find_source(name, changes), tmp_path / "run", changes)
    settings = yaml.safe_load((tmp_path / "run" / "driver.yaml").read_text())
    assert (settings["structure"], settings["pbc"]) == ("init.xyz", name == "liquid-nvt")
    atoms = read_start(tmp_path / "run" / "init.xyz", name == "liquid-nvt")
    assert atoms.positions[0, 0] == pytest.approx(2 * 0.529177210903)
    np.testing.assert_allclose(atoms.cell.lengths(), [10, 11, 12] if name == "liquid-nvt" else [30, 30, 30])


@pytest.mark.parametrize("name", ["liquid-nvt", "replay"])
def test_a_start_from_the_trajectory_of_a_charged_run(tmp_path: Path, name: str) -> None:
    """Its charge and spin, and the open direction of a slab, are those of that run; they were dropped."""
    run = tmp_path / "before"
    run.mkdir()
    (run / "input.xml").write_text("<simulation></simulation>")
    (run / "driver.yaml").write_text("model: m\ncharge: 1\nstructure: slab.extxyz\n")
    (run / "slab.extxyz").write_text(
        '1\nLattice="10 0 0 0 11 0 0 0 12" Properties=species:S:1:pos:R:3 spin=2 pbc="T T F"\nO 0.0 0.0 0.0\n'
    )
    (run / "client.log").touch()
    comment = "# CELL(abcABC): 10 11 12 90 90 90  Step: 0  Bead: 0 positions{angstrom} cell{angstrom}"
    (run / "simulation.pos_0.xyz").write_text(f"1\n{comment}\nO 1.0 0.0 0.0\n")
    changes = Changes(model=MODEL, structure=run / "simulation.pos_0.xyz")
    prepare(find_source(name, changes), tmp_path / "run", changes)
    settings = yaml.safe_load((tmp_path / "run" / "driver.yaml").read_text())
    assert (settings["charge"], settings["spin"]) == (1, 2)
    assert ase.io.read(tmp_path / "run" / settings["structure"]).pbc.tolist() == [True, True, False]
    assert settings.get("pbc") is None
    changes = Changes(model=MODEL, structure=run / "simulation.pos_0.xyz", charge=-1.0)
    prepare(find_source(name, changes), tmp_path / "given", changes)
    assert yaml.safe_load((tmp_path / "given" / "driver.yaml").read_text())["charge"] == -1


@pytest.mark.parametrize(("before", "name"), [("gas-nve", "liquid-nvt-raw"), ("liquid-nvt-raw", "gas-nve")])
def test_a_start_from_a_run_of_the_other_kind(before: str, name: str, tmp_path: Path) -> None:
    """Its files of i-PI have a cell in any case; the run states what it is."""
    run = tmp_path / "before"
    prepare(find_source(before, Changes()), run, Changes(model=MODEL))
    start = run / "simulation.pos_0.xyz"
    start.write_text("1\n# CELL(abcABC): 9 9 9 90 90 90 positions{angstrom} cell{angstrom}\nO 0 0 0\n")
    changes, periodic = Changes(model=MODEL, structure=start), before.startswith("liquid")
    with pytest.raises(UserError, match=f"is {'periodic' if periodic else 'isolated'} .*, and the input is"):
        prepare(find_source(name, changes), tmp_path / "run", changes)
    prepare(find_source(before, changes), tmp_path / "run", changes)
    prepare(find_source("replay", changes), tmp_path / "replay", changes)
    facts = read_facts(tmp_path / "replay")
    assert facts is not None
    assert facts.structure.periodic is periodic
    assert read_start(start, not periodic, whatever=True).pbc.all() != periodic


def test_a_periodic_input_wants_a_cell(tmp_path: Path) -> None:
    (tmp_path / "bare.xyz").write_text("1\nno cell\nO 0 0 0\n")
    with pytest.raises(UserError, match="has no cell"):
        read_start(tmp_path / "bare.xyz", periodic=True)
    assert not read_start(tmp_path / "bare.xyz", periodic=False).pbc.any()


def test_a_structure_brings_its_cell(tmp_path: Path) -> None:
    """i-PI would take the <cell> that follows the file in its place."""
    folder = shipped_folder("inputs") / "liquid-nvt-raw"
    text = (folder / "input.xml").read_text()
    cell = "<cell mode='abc' units='angstrom'> [ 50, 50, 50 ] </cell>"
    for cells in (f"</file> {cell}", f"</file><!-- {cell} --> <cell mode='pdb'> a.pdb </cell> {cell}"):
        changed = xml.with_start_file(text.replace("</file>", cells), "box.xyz")
        assert "<cell" not in xml.masked(changed)
        assert changed.count(cell) == cells.count("<!--")
        assert "<file mode='xyz'> box.xyz </file>" in changed
        ElementTree.fromstring(changed)
    # several systems that start from one file
    system = text[text.index("<system>") : text.index("</system>") + 9]
    changed = xml.with_start_file(text.replace(system, system + system), "box.xyz")
    assert xml.start_files(changed) == ["box.xyz", "box.xyz"]
    assert changed.count("<file mode='xyz'> box.xyz </file>") == 2


def test_a_left_handed_cell_is_not_mirrored(tmp_path: Path) -> None:
    """Four atoms that are no mirror image of themselves keep their handedness."""
    cell = np.array([[0.0, 9.0, 0.5], [8.5, 0.0, 0.0], [1.0, 2.0, 10.0]])
    atoms = ase.Atoms("CHFO", [[4, 4, 4], [5, 4, 4], [4, 5.1, 4], [4, 4, 5.3]], cell=cell, pbc=True)

    def handedness(a: ase.Atoms) -> float:
        return float(np.linalg.det(a.get_distances(0, [1, 2, 3], mic=True, vector=True)))

    write_start(atoms, tmp_path / "out.xyz")
    again = read_start(tmp_path / "out.xyz", periodic=True)
    assert again.cell.handedness == 1
    assert handedness(again) == pytest.approx(handedness(atoms), rel=1e-5)
    np.testing.assert_allclose(
        again.get_all_distances(mic=True), atoms.get_all_distances(mic=True), atol=1e-6
    )


@pytest.mark.parametrize("pbc", [(False, True, True), (True, False, True), (True, True, False)])
def test_a_left_handed_slab_keeps_its_open_direction(pbc: tuple[bool, bool, bool], tmp_path: Path) -> None:
    lengths = np.where(pbc, [3.0, 4.0, 5.0], 20.0)
    cell = np.diag(lengths)[:, [1, 0, 2]]
    assert np.linalg.det(cell) < 0
    write_start(ase.Atoms("O", [[0.0, 0.0, 0.0]], cell=cell, pbc=pbc), tmp_path / "out.xyz")
    again = read_start(tmp_path / "out.xyz", periodic=True)
    assert [length == pytest.approx(20.0) for length in again.cell.lengths()] == [not p for p in pbc]


PROPERTIES = "# column   1     --> time{picosecond} : t\n# column   2     --> step : s\n" + "".join(
    f"  {k / 2e3:.8e} {k:.8e}\n" for k in (0, 5, 10)
)
TRAJECTORY = "".join(f"1\n# CELL(abcABC): 9 9 9 90 90 90  Step: {k}  Bead: 0\nO 0 0 0\n" for k in (0, 5, 10))
EXTRAS = "".join(f" #EXTRAS(raw)# Step:     {k}  \n{{'a': 1}}\n" for k in (0, 5, 10))


@pytest.mark.parametrize(("text", "per_frame"), [(PROPERTIES, 1), (TRAJECTORY, 3), (EXTRAS, 2)])
def test_outputs_are_cut_after_a_step(text: str, per_frame: int, tmp_path: Path) -> None:
    path = tmp_path / "out"
    lines = text.splitlines(keepends=True)
    for step, n_frames in ((10, 3), (9, 2), (5, 2), (0, 1)):
        path.write_text(text)
        cut_after(path, step)
        assert path.read_text() == "".join(lines[: len(lines) - (3 - n_frames) * per_frame])


def test_incomplete_rows_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text(PROPERTIES + "  7.5e-3 1.5")
    cut_after(path, 100)
    assert path.read_text() == PROPERTIES


def frames(path: Path, format: str, steps: range) -> bytes:
    """A trajectory as i-PI itself writes it."""
    atoms, cell = Atoms(2), Cell(10 * np.eye(3))
    atoms.names[:] = ["O", "H"]
    with path.open("w") as file:
        for step in steps:
            title = f"Step:  {step:10d}  Bead:   {0:5d} "
            print_file(format, atoms, cell, file, title=title, key="positions", units="ase", cell_units="ase")
    return path.read_bytes()


@pytest.mark.parametrize("format", ["xyz", "ase", "pdb", "json", "bin"])
def test_trajectories_of_ipi_are_cut_between_frames(format: str, tmp_path: Path) -> None:
    path = tmp_path / "out"
    kept, more = (frames(tmp_path / "kept", format, range(0, end, 10)) for end in (21, 31))
    whole = frames(path, format, range(0, 41, 10))
    for text in (whole, more, more[:-5], more[: len(kept) + 3], kept):  # killed while it wrote a frame
        path.write_bytes(text)
        assert cut_after(path, 20)
        assert path.read_bytes() == kept
        assert last_step(path) == 20


ZEROS = b"\0" * 4096


def test_zero_bytes_at_the_end_cost_no_frame(tmp_path: Path) -> None:
    """A power cut leaves them where a file had been made longer and not been written."""
    path = tmp_path / "out"
    kept = frames(path, "xyz", range(0, 21, 10))
    for rest in (ZEROS, ZEROS * 40, b"2\n# CELL(abcABC): 1" + ZEROS):
        path.write_bytes(kept + rest)
        assert cut_after(path, 20)
        assert path.read_bytes() == kept
    path.write_bytes(PROPERTIES.encode() + ZEROS)
    assert cut_after(path, 10)
    assert path.read_text() == PROPERTIES


def test_a_row_that_cannot_be_read_is_left_between_good_ones(tmp_path: Path) -> None:
    path, lines = tmp_path / "out", PROPERTIES.splitlines(keepends=True)
    lines[3] = " 2.5e-3 what\n"
    for step, n_lines in ((10, 5), (9, 3), (5, 3)):
        path.write_text("".join(lines))
        assert cut_after(path, step)
        assert path.read_text() == "".join(lines[:n_lines])


def test_what_the_outputs_lack_is_reported(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "run"
    prepare(find_source("gas-nvt", Changes()), folder, Changes(model=MODEL, steps=50))
    checkpoint(folder, "RESTART", 40)
    header = "# column   1     --> step : s\n"
    (folder / "simulation.out").write_text(header + "".join(f" {k:.4e}\n" for k in range(31)))
    frames(folder / "simulation.pos_0.xyz", "xyz", range(41))
    frames(folder / "simulation.vel_0.xyz", "xyz", range(21))
    (folder / "simulation.spread").write_text("".join(f" #EXTRAS(a)# Step:  {k}\n 1\n" for k in range(41)))
    (folder / "simulation.omega2").write_text("of the planetary model")
    (folder / "simulation.chk.kept-40.part").touch()  # a full disk
    prepare_resume(folder, Changes())
    said = capsys.readouterr().err
    assert "simulation.omega2 is not cut: it may repeat what follows step 40" in said
    assert "simulation.out ends at step 30, the checkpoint is of step 40: 10 rows are missing" in said
    assert "simulation.vel_0.xyz ends at step 20, the checkpoint is of step 40: 20 frames are missing" in said
    assert "simulation.for is not there: its 41 frames up to step 40 are lost" in said
    assert "simulation.chk.kept-40.part is removed: the copy of a checkpoint was interrupted" in said
    assert len(said.splitlines()) == 5
    assert not (folder / "simulation.chk.kept-40.part").exists()
    assert [event["text"] for event in read_events(folder)] == said.splitlines()


def test_outputs_that_do_not_tell_their_steps_are_left(tmp_path: Path) -> None:
    path = tmp_path / "out"
    for text in (
        b"some\0bytes of another program\n" * 9,
        b"# column   1     --> potential : V\n 1.0\n 2.0\n",
    ):
        path.write_bytes(text)
        assert not cut_after(path, 20)
        assert path.read_bytes() == text


def test_a_damaged_frame_of_a_binary_trajectory_stays_between_good_ones(tmp_path: Path) -> None:
    path = tmp_path / "simulation.bin"
    whole = frames(path, "bin", range(0, 41, 10))
    size = len(whole) // 5
    hole = whole[: size + 8] + bytes(size - 16) + whole[2 * size - 8 :]
    for text, end in ((hole, 3), (whole[: 3 * size] + ZEROS[:size], 3), (hole[: 2 * size], 1)):
        path.write_bytes(text)
        assert cut_after(path, 20)
        assert path.read_bytes() == text[: end * size]


STATE = """<system><motion mode='dynamics'><dynamics mode='nvt'><thermostat><ethermo> -7.49e-03</ethermo></thermostat>
</dynamics></motion><beads natoms='3' nbeads='1'>
<q shape='(1, 9)'>[ 2.92e-02, 3.59e-02, 7.65e-02, 1.03e+00, 7.87e-01, -1.1e+00, -1.49e+00, 8.56e-01, -1.0e-01 ]</q>
<p shape='(1, 9)'>[ -3.43e-01, 1.67, 1.45, 4.56e-01, -1.49, -2.03, -1.12e-01, -1.79e-01, 5.87e-01 ]</p>
<m shape='(3)'> [ 2.9165e+04, 1.8373e+03, 1.8373e+03 ] </m> <names shape='(3)'> [ O, H, H ] </names></beads>
<cell shape='(3, 3)'> [ 56.0, 0.0, 0.0, 0.0, 56.0, 0.0, 0.0, 0.0, 56.0 ] </cell></system>
"""


def checkpoint(folder: Path, name: str, step: int, end: str = "</simulation>\n") -> Path:
    text = f"<!-- i-PI -->\n<simulation>\n<step>{step}</step>\n<total_steps>{max(step, 50)}</total_steps>\n"
    (folder / name).write_text(text + STATE + end)
    return folder / name


def test_what_the_clients_counted_is_kept_of_every_part(tmp_path: Path) -> None:
    """A part that ends before its first checkpoint is followed by another one from the same."""
    folder = tmp_path / "run"
    prepare(find_source("gas-nvt", Changes()), folder, Changes(model=MODEL, steps=50))
    checkpoint(folder, "RESTART", 40)
    for seconds in (1.0, 20.0, 300.0):
        for name, scale in (("stats.json", 1.0), ("stats-2.json", 1000.0)):
            counts = {"model_seconds": scale * seconds, "endpoints": {}}
            (folder / name).write_text(json.dumps(counts))
        prepare_resume(folder, Changes())
    found = client_counts(folder, [])
    assert found["model_seconds"] == 321.0 + 321e3


DAMAGES = {
    "a zeroed block": (lambda text: "\0" * 80 + text[80:], "not well-formed"),
    "a letter in a number": (lambda text: text.replace("1.03e+00", "1.0ee+00"), "1.0ee+00"),
    "a letter in the thermostat": (lambda text: text.replace("-7.49e-03", "-7.4x9e-03"), "-7.4x9e-03"),
    "no beads": (lambda text: re.sub("<beads.*</beads>", "", text, flags=re.DOTALL), "no <beads>"),
    "not a number": (lambda text: text.replace("7.87e-01", "nan"), "<q> has a number that is not finite"),
    "an infinite momentum": (lambda text: text.replace("4.56e-01", "inf"), "<p> has a number that is not"),
    "a number lost": (lambda text: text.replace(" 1.45,", ""), "<p> has 8 entries instead of 9"),
    "other atoms": (lambda text: text.replace("natoms='3'", "natoms='4'"), "<q> has 9 numbers instead of 12"),
    "too many steps": (lambda text: text.replace("<step>40", "<step>99999999"), "beyond its <total_steps>"),
    "steps below zero": (lambda text: text.replace("<step>40", "<step>-40"), "its <step> is '-40'"),
    "cut": (lambda text: text[:-30], "not well-formed"),
    "empty": (lambda text: "", "not well-formed"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_checkpoint_is_left_out_and_none_is_lost(case: str, tmp_path: Path, capsys) -> None:
    """The older one is taken, which is reported with the reason, and stays until i-PI has made a step."""
    folder = tmp_path / "run"
    prepare(find_source("gas-nvt", Changes()), folder, Changes(model=MODEL, steps=50))
    damage, problem = DAMAGES[case]
    newest = checkpoint(folder, "RESTART", 40)
    newest.write_text(damage(newest.read_text()))
    broken = newest.read_text()
    good = checkpoint(folder, "simulation.chk", 20).read_text()
    checkpoint(folder, "continue.xml", 10)
    name = prepare_resume(folder, Changes())
    assert xml.value((folder / name).read_text(), "step") == "20"
    said = capsys.readouterr().err
    assert f"{newest} is damaged (" in said
    assert problem in said
    assert "the run goes on from simulation.chk of step 20" in said
    assert newest.read_text() == broken
    assert (folder / name).read_text().partition("<system")[2] == good.partition("<system")[2]
    assert sorted(RunFolder(folder).checkpoints()) == [10, 20]  # the one of step 10, too


def test_a_launcher_killed_before_it_saw_the_first_step_loses_nothing(tmp_path: Path) -> None:
    """i-PI's checkpoint counts, although the mark of a folder without a step is still there."""
    source, folder = find_source("gas-nvt", Changes()), tmp_path / "run"
    prepare(source, folder, Changes(model=MODEL, steps=50))
    checkpoint(folder, "RESTART", 0)
    prepare(source, folder, Changes(model=MODEL, steps=50))  # no step was done: used again
    assert not (folder / "RESTART").exists()
    checkpoint(folder, "RESTART", 40)
    assert (folder / STARTING).exists()
    with pytest.raises(UserError, match="continue the run with --resume"):
        prepare(source, folder, Changes(model=MODEL, steps=50))
    name = prepare_resume(folder, Changes())
    assert xml.value((folder / name).read_text(), "step") == "40"
    assert not (folder / STARTING).exists()


def test_the_newest_complete_checkpoint_counts(tmp_path: Path) -> None:
    prepare(find_source("gas-nvt", Changes()), tmp_path / "run", Changes(model=MODEL, steps=50))
    folder = tmp_path / "run"
    checkpoint(folder, "RESTART", 0)
    assert prepare_resume(folder, Changes()) == "input.xml"  # no step was done
    assert RunFolder(folder).checkpoints() == {}
    checkpoint(folder, "RESTART", 10)
    checkpoint(folder, "simulation.chk", 30)
    checkpoint(folder, "simulation.chk_4", 40, end="<ffsock")  # killed while it was written
    assert sorted(RunFolder(folder).checkpoints()) == [10, 30]
    with pytest.raises(
        UserError, match=r"was begun with --model anisotropic\?.*, got --model anisotropic; give another"
    ):
        prepare_resume(folder, Changes(model="anisotropic"))
    with pytest.raises(UserError, match="was begun without --seed, got --seed 3; give another"):
        prepare_resume(folder, Changes(model=MODEL, seed=3))
    with pytest.raises(UserError, match="has done 30 of 30 steps"):
        prepare_resume(folder, Changes(steps=30))
    name = prepare_resume(folder, Changes(steps=70, threads=3))
    text = (folder / name).read_text()
    assert (xml.value(text, "step"), xml.value(text, "total_steps")) == ("30", "70")
    assert xml.value((folder / "input.xml").read_text(), "total_steps") == "70"
    settings = yaml.safe_load((folder / "driver.yaml").read_text())
    assert settings["threads"] == 3
    assert settings["structure"] == "structure.extxyz"


def test_a_run_without_a_checkpoint_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """i-PI's first checkpoint has no step; what there is may be more than it seems, and is kept."""
    monkeypatch.chdir(tmp_path)
    folder = Path("run")
    prepare(find_source("gas-nvt", Changes()), folder, Changes(model=MODEL, steps=50))
    for number in range(2):
        (folder / STARTING).unlink()
        (folder / "client.log").touch()
        (folder / "simulation.out").write_text(f"{PROPERTIES}{number}")
        (folder / "simulation.chk").write_text("<simulation></simulation>")
        with pytest.raises(UserError, match="continue the run with --resume"):
            prepare(find_source("gas-nvt", Changes()), folder, Changes(model=MODEL))
        assert prepare_resume(folder, Changes(steps=60 + number, threads=2)) == "input.xml"
        assert (folder / STARTING).exists()
        assert not (folder / "simulation.out").exists()
        assert (folder / f"#simulation.out#{number}#").read_text() == f"{PROPERTIES}{number}"
        assert (folder / f"#simulation.chk#{number}#").exists()
    assert xml.total_steps((folder / "input.xml").read_text(), folder) == 61
    settings = yaml.safe_load((folder / "driver.yaml").read_text())
    assert (settings["threads"], settings["structure"]) == (2, "structure.extxyz")

    copy = edited(tmp_path)
    with pytest.raises(UserError, match="nothing to resume"):
        prepare_resume(copy, Changes())  # an input is no run
    with pytest.raises(UserError, match="is not empty; give another --output"):
        prepare(find_source("gas-nvt", Changes()), copy, Changes(model=MODEL))


def test_a_checkpoint_of_another_run_is_an_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is neither gone on from nor removed, in the input's folder or in that of the run."""
    copy = edited(tmp_path, "<file mode='xyz' units='angstrom'> init.xyz", "<file mode='chk'> init.chk")
    checkpoint(copy, "init.chk", 5000)
    assert RunFolder(copy).checkpoints() == {}
    folder, changes = tmp_path / "run", Changes(model=MODEL, steps=50)
    prepare(find_source(copy, changes), folder, changes)
    assert RunFolder(folder).checkpoints() == {}
    for name in ("other.xml", "simulation.chk.old", "simulation.other"):
        checkpoint(folder, name, 7000)
    checkpoint(folder, "simulation.chk", 20)
    checkpoint(folder, "RESTART", 30)
    assert {step: path.name for step, path in RunFolder(folder).checkpoints().items()} == {
        20: "simulation.chk",
        30: "RESTART",
    }
    name = prepare_resume(folder, Changes())
    assert xml.value((folder / name).read_text(), "step") == "30"
    names = {step: path.name for step, path in RunFolder(folder).checkpoints().items()}
    assert names == {30: "continue.xml", 20: "simulation.chk.kept-20"}
    assert {"init.chk", "other.xml", "simulation.chk.old"} <= {path.name for path in folder.iterdir()}

    monkeypatch.chdir(tmp_path)
    assert main(["run", "mine", "--resume"]) == 2  # runs/mine is meant, which there is not
    assert {path.name for path in copy.iterdir()} >= {"init.chk", "init.xyz", "input.xml"}
    assert xml.total_steps((copy / "input.xml").read_text(), copy) > 50


def test_the_start_is_no_file_that_the_run_writes(tmp_path: Path) -> None:
    for name in ("RESTART", "simulation.chk", "continue.xml"):
        copy = edited(
            tmp_path / name, "<file mode='xyz' units='angstrom'> init.xyz", f"<file mode='chk'> {name}"
        )
        checkpoint(copy, name, 10)
        with pytest.raises(UserError, match=f"starts from {name}, which the run itself writes"):
            prepare(find_source(copy, Changes()), tmp_path / "run", Changes(model=MODEL))


def test_names_of_checkpoints() -> None:
    outputs = (
        "<output{}> <!-- <checkpoint filename='no'/> --> <checkpoint stride='5'{}/> <checkpoint/> </output>"
    )
    text = outputs.format(" prefix='a b'", ' filename=" x "') + outputs.format(" prefix=''", "")
    assert xml.checkpoint_names(text) == ["RESTART", "a b.x", "a b.restart", "restart", "restart"]
    assert xml.checkpoint_names("<simulation/>") == ["RESTART", "i-pi.checkpoint"]
    assert xml.checkpoint_names(outputs.format("", "")) == ["RESTART", "i-pi.restart", "i-pi.restart"]


def test_names_of_swap_files() -> None:
    exchange = "<smotion mode='{}'><remd> <!-- <swapfile>no</swapfile> --> {} </remd></smotion>"
    text = exchange.format("remd", "<swapfile> swaps </swapfile>")
    assert xml.swap_names(text) == ["i-pi.swaps"]
    assert xml.swap_names(f"<output prefix='a'></output>{exchange.format('remd', '')}") == ["a.remd_idx"]
    assert xml.swap_names(f"<output prefix=''></output><smotion mode='multi'>{text}</smotion>") == ["swaps"]
    assert xml.swap_names("<smotion mode='remd'/>") == ["i-pi.remd_idx"]
    assert xml.swap_names(f"<output prefix='a'></output>{exchange.format('metad', '')}") == []


def test_swaps_are_cut_from_the_steps_that_are_done_again(tmp_path: Path) -> None:
    """A row has the number of steps done before; what i-PI was killed in the middle of is cut, too."""
    path = tmp_path / "swaps"
    lines = [f"{step:10d}     1     0\n" for step in (0, 4, 5, 9)]
    for done, n_rows in ((10, 4), (9, 3), (5, 2), (4, 1)):
        path.write_text("".join(lines))
        cut_swaps_from(path, done)
        assert path.read_text() == "".join(lines[:n_rows])
    path.write_text("".join(lines)[:-2])
    cut_swaps_from(path, 10)
    assert path.read_text() == "".join(lines[:3])


def test_swaps_are_files_of_the_run(tmp_path: Path) -> None:
    exchange = "<smotion mode='remd'><remd><swapfile>swaps</swapfile></remd></smotion></simulation>"
    copy, folder, changes = (
        edited(tmp_path, "</simulation>", exchange),
        tmp_path / "run",
        Changes(model=MODEL),
    )
    prepare(find_source(copy, changes), folder, changes)
    (folder / "simulation.swaps").write_text("         0     1     0\n")
    assert folder / "simulation.swaps" in RunFolder(folder).written_files()
    RunFolder(folder).set_aside()
    assert (folder / "#simulation.swaps#0#").exists()


LOG = "!W! Soft exit has been requested with message: '{}'. Cleaning up.\n"
SUCCESS = LOG.format(" @ SIMULATION: Exiting cleanly. I-PI reports success. Restartable as is: NO.")


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (Statuses(0, 0, SUCCESS), True),
        (Statuses(0, 2, SUCCESS), True),  # the client failed after the last step
        (Statuses(0, 0, " @simulation.run: EXIT file detected! Bye bye!\n" + SUCCESS), "EXIT file"),
        (Statuses(0, 0, " @simulation.run: Wall clock time expired! Bye bye!\n" + SUCCESS), "<total_time>"),
        (
            Statuses(0, 0, LOG.format(" @SOFTEXIT: Kill signal received Restartable as is: YES.")),
            "received a signal to stop",
        ),
        (Statuses(0, 0, LOG.format("Something new.")), "Something new"),
        (
            Statuses(1, 0, "Traceback\nKeyError: 'x'\n"),
            UserError("i-PI failed at step 4 of 9: KeyError: 'x'"),
        ),
        (
            Statuses(1, 0, "KeyError: 'x'\ntracker.py:25: UserWarning: left over\n  warnings.warn('...')\n"),
            UserError("i-PI failed at step 4 of 9: KeyError: 'x'"),
        ),
        (Statuses(-9, 2, ""), UserError("i-PI was killed by SIGKILL at step 4 of 9; the client has ended")),
        (
            Statuses(None, -15, ""),
            UserError("the client was killed by SIGTERM at step 4 of 9; i-PI was stopped"),
        ),
        (Statuses(0, 2, LOG.format("Client shutdown.")), UserError("the client failed (no such element)")),
        (
            Statuses(0, 0, LOG.format("Client shutdown.")),
            UserError("the model has ended its process (os._exit)"),
        ),
        (Statuses(0, None, LOG.format("Client shutdown.")), UserError("the client failed (no such element)")),
        (Statuses(0, 143, ""), UserError("the client was ended by SIGTERM at step 4 of 9")),
        (
            Statuses(0, 0, LOG.format("ffdirect: no. I-PI reports a problem.")),
            UserError("i-PI stopped at step 4"),
        ),
    ],
)
def test_endings(statuses: Statuses, expected: object, tmp_path: Path) -> None:
    (tmp_path / "client.log").write_text("ipi-driver: words\nerror: no such element\n")
    if isinstance(expected, UserError):
        with pytest.raises(UserError) as caught:
            read_ending(tmp_path, statuses, 4, 9)
        assert str(expected) in str(caught.value)
        return
    ending = read_ending(tmp_path, statuses, 4, 9)
    assert ending.finished == (expected is True)
    assert expected is True or str(expected) in ending.reason


def test_monitor_reads_what_is_new(tmp_path: Path) -> None:
    (tmp_path / "input.xml").write_text(
        "<simulation><output prefix='s'><properties filename='p'> [step, conserved{electronvolt}] </properties>"
        "</output></simulation>"
    )
    monitor = PropertyMonitor(tmp_path)
    assert monitor.update().step == -1
    path = tmp_path / "s.p"
    header = "# column   1     --> step : s\n# column   2     --> conserved{electronvolt} : c\n"
    path.write_text(header + " 0.0 -3.5\n 1.0 -3.")
    assert (monitor.update().step, monitor.last.conserved) == (0, -3.5)
    with path.open("a") as file:
        file.write("25\n 2.0 -3.0\n")
    assert (monitor.update().step, monitor.last.change) == (2, 0.5)
    assert [row.step for row in monitor.fresh] == [1, 2]
    assert monitor.last.parts == ["conserved +0.5 eV"]


def test_atoms_that_ipi_would_wrap_are_periodic(tmp_path: Path) -> None:
    copy = edited(tmp_path, "pbc='false'", "pbc='true'")
    assert "pbc='true'" in (copy / "input.xml").read_text()
    with pytest.raises(UserError, match="set pbc='false'"):
        prepare(find_source(copy, Changes()), tmp_path / "run", Changes(model=MODEL))
    liquid = tmp_path / "liquid"
    shutil.copytree(shipped_folder("inputs") / "liquid-nvt-raw", liquid)
    text = (liquid / "input.xml").read_text()
    (liquid / "input.xml").write_text(text.replace("pbc='false'", "pbc='true'"))
    assert "pbc='true'" in (liquid / "input.xml").read_text()
    prepare(find_source(liquid, Changes()), tmp_path / "run", Changes(model=MODEL))


def test_one_structure_is_not_the_start_of_different_systems(tmp_path: Path) -> None:
    copy = edited(tmp_path)
    text = (copy / "input.xml").read_text()
    system = text[text.index("<system>") : text.index("</simulation>")]
    other = system.replace("init.xyz", "other.xyz")
    (copy / "input.xml").write_text(text.replace(system, system + other))
    shutil.copyfile(copy / "init.xyz", copy / "other.xyz")
    changes = Changes(model=MODEL, structure=copy / "structure.extxyz")
    with pytest.raises(UserError, match=r"the systems of .* have init\.xyz, other\.xyz; edit the input"):
        prepare(find_source(copy, Changes()), tmp_path / "run", changes)


def test_the_structure_given_takes_the_place_of_all_that_the_input_has_of_one() -> None:
    """Its cell, which i-PI would take from a ``<cell>`` after the file; the same start of each system."""
    cell = "<cell mode='abc' units='angstrom'> [9,9,9] </cell>"
    body = f"<file mode='pdb'> a.pdb </file> <!-- <cell> --> {cell} <velocities/>"
    system = f"<system><initialize nbeads='1'> {body} </initialize></system>"
    other = "<system><initialize><velocities/></initialize><cell>[1,2,3]</cell></system>"
    changed = xml.with_start_file(f"<simulation>{system}{other}{system}</simulation>", "init.xyz")
    new = "<file mode='xyz'> init.xyz </file> <!-- <cell> -->  <velocities/>"
    assert changed == f"<simulation>{system}{other}{system}</simulation>".replace(body, new)
    with pytest.raises(UserError, match="the input has none"):
        xml.with_start_file(f"<simulation>{other}</simulation>", "init.xyz")


def test_a_start_that_is_a_label_of_a_template(tmp_path: Path) -> None:
    """What stands for it is looked for, and no structure takes its place."""
    copy = edited(tmp_path, "init.xyz", "START")
    text = (copy / "input.xml").read_text()
    system = text[text.index("<system>") : text.index("</simulation>")]
    made = f"<labels>[START]</labels><instance>[mine.xyz]</instance><template>{system}</template>"
    (copy / "input.xml").write_text(text.replace(system, f"<system_template>{made}</system_template>"))
    with pytest.raises(UserError, match=r"starts from mine\.xyz, which is not there"):
        prepare(find_source(copy, Changes()), tmp_path / "run", Changes(model=MODEL))
    (copy / "init.xyz").rename(copy / "mine.xyz")
    changes = Changes(model=MODEL, structure=copy / "mine.xyz")
    with pytest.raises(UserError, match="is START, a label of its <system_template>: name the file"):
        prepare(find_source(copy, Changes()), tmp_path / "run", changes)
    prepare(find_source(copy, Changes()), tmp_path / "run", Changes(model=MODEL))
    assert (tmp_path / "run" / "mine.xyz").read_bytes() == (copy / "mine.xyz").read_bytes()


def test_shared_memory_inside_another_force_field_and_cut_inputs_are_refused(tmp_path: Path) -> None:
    copy = edited(tmp_path, "<ffsocket", "<ffcommittee name='both'><ffsocket")
    path = copy / "input.xml"
    whole = path.read_text().replace("</ffsocket>", "</ffsocket></ffcommittee>")
    path.write_text(whole.replace("mode='unix'", "mode='shm'"))
    settings = copy / "driver.yaml"
    settings.write_text(settings.read_text().replace("unix:", "shm:"))
    with pytest.raises(UserError, match=r"`shm gas-nvt-raw` lies inside another force field"):
        prepare(find_source(copy, Changes()), tmp_path / "run", Changes(model=MODEL))
    for text in ("", whole[: len(whole) // 2]):
        path.write_text(text)
        with pytest.raises(UserError, match=r"input.xml is not complete, well-formed XML"):
            prepare(find_source(copy, Changes()), tmp_path / "run", Changes(model=MODEL))
    assert not (tmp_path / "run").exists()


def test_settings_that_refer_to_themselves_a_billion_times(tmp_path: Path) -> None:
    copy = edited(tmp_path)
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 10)]
    (copy / "driver.yaml").write_text("\n".join([*lines, "model: *a9", "endpoints: *a8"]))
    with pytest.raises(UserError, match="unknown key `a0`"):
        prepare(find_source(copy, Changes()), tmp_path / "run", Changes())


def test_masses_of_a_structure_are_those_of_the_run(tmp_path: Path) -> None:
    """As labels of isotopes, for i-PI takes masses by labels."""
    heavy = ase.Atoms("OH2C", np.eye(4, 3), cell=[9, 9, 9], pbc=True, masses=[18.0, 2.014, 1.008, 12.01])
    path, folder = tmp_path / "mine.extxyz", tmp_path / "run"
    ase.io.write(path, heavy, columns=["symbols", "positions", "masses"])
    prepare(find_source("liquid-nvt-raw", Changes()), folder, Changes(model=MODEL, structure=path))
    rows = (folder / "init.xyz").read_text().splitlines()[2:]
    assert [row.split()[0] for row in rows] == ["O18", "D", "H", "C"]
    heavy.set_masses([16.0, 4.0, 1.008, 12.01])
    ase.io.write(path, heavy, columns=["symbols", "positions", "masses"])
    with pytest.raises(UserError, match=r"atom 1 \(H\) has a mass of 4 dalton"):
        read_start(path, periodic=True)


def test_a_file_of_ipi_that_states_to_be_isolated_is_no_start_of_a_box(tmp_path: Path) -> None:
    path, folder = tmp_path / "mine.xyz", tmp_path / "run"
    text = (shipped_folder("inputs") / "gas-nve" / "init.xyz").read_text()
    path.write_text(text.replace("cell{angstrom}", 'cell{angstrom} pbc="F F F"'))
    with pytest.raises(UserError, match="is isolated"):
        prepare(find_source("liquid-nvt-raw", Changes()), folder, Changes(model=MODEL, structure=path))
    prepare(find_source("gas-nve", Changes()), folder, Changes(model=MODEL, structure=path))
    prepare(find_source("liquid-nvt-raw", Changes()), folder, Changes(model=MODEL, structure=path, pbc=True))


@pytest.mark.parametrize(("name", "pbc"), [("gas-nve", True), ("liquid-nvt-raw", False)])
def test_a_structure_keeps_its_boundary_conditions(name: str, pbc: bool, tmp_path: Path) -> None:
    """An input for the other kind is refused, unless the command says which it is."""
    path, folder = tmp_path / "mine.xyz", tmp_path / "run"
    ase.io.write(path, ase.Atoms("OH2", np.eye(3), cell=[9, 9, 9], pbc=pbc), format="extxyz")
    with pytest.raises(UserError, match="is periodic" if pbc else "is isolated"):
        prepare(find_source(name, Changes()), folder, Changes(model=MODEL, structure=path))
    prepare(find_source(name, Changes()), folder, Changes(model=MODEL, structure=path, pbc=not pbc))
    facts = read_facts(folder)
    assert facts is not None
    assert facts.structure.periodic is not pbc
    assert ("isolated" if pbc else "periodic, 9 × 9 × 9 Å") in facts.text


def test_a_file_of_ipi_that_states_that_it_is_isolated(tmp_path: Path) -> None:
    comment = "CELL(abcABC): 9 9 9 90 90 90 positions{angstrom} cell{angstrom}"
    path = tmp_path / "mine.xyz"
    for stated in (' pbc="F F F"', ""):
        path.write_text(f"1\n# {comment}{stated}\nO 0 0 0\n")
        assert not read_start(path, periodic=False).pbc.any()
        assert read_start(path, periodic=True, whatever=True).pbc.all()
        if stated:
            with pytest.raises(UserError, match=r"is isolated \(pbc F F F\), and the input is periodic"):
                read_start(path, periodic=True)
    assert read_start(path, periodic=True).pbc.all()


def test_a_slab_stays_a_slab(tmp_path: Path) -> None:
    path, folder = tmp_path / "mine.xyz", tmp_path / "run"
    ase.io.write(path, ase.Atoms("OH2", np.eye(3), cell=[9, 8, 30], pbc=[True, True, False]), format="extxyz")
    prepare(find_source("liquid-nvt-raw", Changes()), folder, Changes(model=MODEL, structure=path))
    facts = read_facts(folder)
    assert facts is not None
    assert facts.structure.pbc.tolist() == [True, True, False]
    assert facts.text.startswith("H2O, 3 atoms, periodic along xy, 9 × 8 × 30 Å; model anisotropic")


def test_models_are_named_without_their_folders() -> None:
    for model, shown in {
        "pet-water-s2": "pet-water-s2",
        "/a/b/pet": "pet",
        "/pet": "pet",
        "sum:/a/b.pt+mace:/c/d.model": "sum:b.pt+mace:d.model",
        "committee:(/a/b,/a/c)": "committee:(b,c)",
        "/a/b.pt?variant=x/y&file=/e/f": "b.pt?variant=x/y&file=f",
        "ase:module.Class?delay=0.1": "ase:module.Class?delay=0.1",
    }.items():
        settings = make_settings({"model": model, "endpoints": [{"unix": "a"}]})
        assert describe_model(settings) == f"model {shown}, average none, cpu"


def test_what_cannot_be_printed_ends_nothing() -> None:
    full = open("/dev/full", "w")  # noqa: SIM115  closing it fails, too
    console = lenient_console(full)
    console.print("x" * 10_000)
    with ProgressDisplay("name", 0, 10, console) as display:
        display.update(Progress(3), final=True)
    with suppress(OSError):
        full.close()
    lenient_console(full).print("to a stream that is closed")
    lenient_console(None).print("to none")


def test_folders_of_sockets_of_killed_launchers_are_removed() -> None:
    left, new = (Path(tempfile.mkdtemp(prefix="ipi-driver-", dir="/tmp")) for _ in range(2))
    os.utime(left, (0, 0))
    with socket_folder() as held:
        assert not left.exists()
        new.rmdir()
        os.utime(held, (0, 0))
        with socket_folder() as other:
            assert held.is_dir()
            assert other != held
    assert not held.exists()


LABELS = "<labels mode='manual'> [ H, O, H ] </labels><positions mode='manual'> [ 0,0,0, 1,0,0, 2,0,0 ] </positions>"
WHAT_TO_ADAPT = {
    "no socket": (
        r"(?s)<ffsocket.*</ffsocket>",
        "<ffdirect name='model'/>",
        "has no <ffsocket> for a client",
    ),
    "no atoms": (r"<file[^>]*>[^<]*</file>", LABELS.partition("</labels>")[2], "no atoms in"),
    "no element": (r"<file[^>]*>[^<]*</file>", LABELS.replace("O,", "Xq,"), "unknown element 'Xq'"),
}


@pytest.mark.parametrize("case", WHAT_TO_ADAPT)
def test_inputs_that_no_client_can_serve_are_refused_before_the_start(case: str, tmp_path: Path) -> None:
    old, new, message = WHAT_TO_ADAPT[case]
    text = (shipped_folder("inputs") / "gas-nve" / "input.xml").read_text()
    path = tmp_path / "theirs.xml"
    path.write_text(re.sub(old, new, text))
    assert path.read_text() != text
    changes = Changes(model=MODEL)
    with pytest.raises(UserError, match=re.escape(message)):
        prepare(find_source(path, changes), tmp_path / "run", changes)
    assert not (tmp_path / "run").exists()


def test_a_start_without_a_file(tmp_path: Path) -> None:
    text = (shipped_folder("inputs") / "gas-nve" / "input.xml").read_text()
    path = tmp_path / "theirs.xml"
    path.write_text(re.sub(r"<file[^>]*>[^<]*</file>", LABELS, text))
    assert list(read_template(path).numbers) == [1, 8, 1]
    prepare(find_source(path, Changes(model=MODEL)), tmp_path / "run", Changes(model=MODEL))
    assert (tmp_path / "run" / "input.xml").is_file()
