"""Inputs that people already have: their own socket names, addresses of other machines, no driver.yaml."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import ase.build
import ase.io
import numpy as np
import pytest

from ipi_driver import Calculator, RotationalAverage, load_potential
from ipi_driver.analysis.dispatch import analyze_folders
from ipi_driver.analysis.result import Options
from ipi_driver.cli import main
from ipi_driver.ipi_files import Run, TrajectoryFile
from ipi_driver.ipi_files.active import active_atoms
from ipi_driver.shipped import shipped_folder

MODEL = "anisotropic?l=2&amplitude=0.05"


def own_input(folder: Path, inet: bool = False) -> Path:
    """An input with multiple time stepping whose sockets have names of their own."""
    text = (shipped_folder("inputs") / "gas-nvt" / "input.xml").read_text()
    text = text.replace("<address>gas-nvt-raw</address>", "<address>driver</address>")
    text = text.replace("<address>gas-nvt-averaged</address>", "<address>driver-aug</address>")
    if inet:
        text = text.replace("<ffsocket name='raw' mode='unix'", "<ffsocket name='raw' mode='inet'")
        text = text.replace("<address>driver</address>", "<address>10.1.2.3</address> <port>31415</port>")
    (folder / "input-mts.xml").write_text(text)
    (folder / "init.xyz").write_text((shipped_folder("inputs") / "gas-nvt" / "init.xyz").read_text())
    return folder / "input-mts.xml"


def test_averages_of_single_sockets(tmp_path: Path) -> None:
    words = [str(own_input(tmp_path)), "--model", MODEL, "--endpoint", "driver-aug=T", "--steps", "4"]
    assert main(["run", *words, "--output", str(tmp_path / "run")]) == 0
    endpoints = json.loads((tmp_path / "run" / "summary.json").read_text())["endpoints"]
    assert endpoints["unix driver"]["average"] == "none"
    assert endpoints["unix driver-aug"]["average"] == "T"


def test_an_address_of_another_machine_is_replaced_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        str(own_input(tmp_path, inet=True)),
        "--model",
        MODEL,
        "--endpoint",
        "driver-aug=T",
        "--steps",
        "2",
    ]
    assert main(["run", *words, "--output", str(tmp_path / "run")]) == 0
    assert "10.1.2.3: not an address of this machine" in capsys.readouterr().err
    text = (tmp_path / "run" / "input.xml").read_text()
    assert "10.1.2.3" not in text
    assert "localhost" in text


REPLAYED = ("i", "2", "2i", "3", "3i")
SNAPSHOTS = 3


def replay_of_six(folder: Path) -> Path:
    """Six sockets at addresses of another machine, `format='ase'` all through, weights of zero."""
    names = ["driver", *(f"driver-aug-{average}" for average in REPLAYED)]
    sockets = "".join(
        f"<ffsocket mode='inet' name='{name}' pbc='false'> <latency> 1.0e-04 </latency> <address> 10.1.2.3 </address> "
        f"<port> {16600 + k} </port> </ffsocket>"
        for k, name in enumerate(names)
    )
    forces = "<force forcefield='driver'></force>" + "".join(
        f"<force forcefield='{name}' weight='0'></force>" for name in names[1:]
    )
    outputs = "".join(
        f"<trajectory stride='1' filename='f-aug-{k}' format='ase'> forces_component_raw({k}) </trajectory>"
        for k in range(6)
    )
    (folder / "replay.xml").write_text(
        f"""<simulation verbosity='high' threading='false' safe_stride='1'>{sockets}
<total_steps>200000</total_steps>
<output prefix='test-multi'>
<trajectory stride='1' filename='pos' format='ase'> positions </trajectory>
<trajectory stride='1' filename='for' format='ase'> forces </trajectory>
<properties stride='1'> [ step, time, conserved, temperature{{kelvin}}, potential, pressure_md ] </properties>
<properties stride='1' filename='delta'> [ step, {", ".join(f"pot_component_raw({k})" for k in range(6))} ]
</properties>{outputs}</output>
<prng><seed>32123</seed></prng>
<system><forces>{forces}</forces>
<initialize nbeads='1'><file mode='ase'> init.xyz </file></initialize>
<motion mode='replay'><file mode='ase'> selected.xyz </file></motion></system></simulation>"""
    )
    water = ase.build.molecule("H2O", cell=[25.0] * 3, pbc=True)
    snapshots = []
    for k in range(SNAPSHOTS):
        snapshots.append(water.copy())
        snapshots[-1].rattle(0.05, seed=k)
    ase.io.write(folder / "init.xyz", water, format="extxyz")
    ase.io.write(folder / "selected.xyz", snapshots, format="extxyz")
    return folder / "replay.xml"


def test_a_replay_through_six_averages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sockets are called by the names of their <ffsocket>; every component is that of its average."""
    model = "anisotropic?l=2,3,4&amplitude=0.05"
    words = [word for name in REPLAYED for word in ("--endpoint", f"driver-aug-{name}={name}")]
    output = tmp_path / "run"
    assert main(["run", str(replay_of_six(tmp_path)), "--model", model, *words, "--output", str(output)]) == 0
    captured = capsys.readouterr()
    assert "10.1.2.3: not an address of this machine" in captured.err
    assert " left" not in captured.err
    potential = load_potential(model)
    averages = [potential, *(RotationalAverage(potential, name) for name in REPLAYED)]
    raw, errors = [], {}
    replayed = list(TrajectoryFile(output / "test-multi.pos_0.extxyz"))[1:]
    assert len(replayed) == SNAPSHOTS
    for k, average in enumerate(averages):
        found = list(TrajectoryFile(output / f"test-multi.f-aug-{k}.extxyz"))[1:]
        atoms = ase.build.molecule("H2O", cell=[25.0] * 3, pbc=True)
        mean = []
        for positions, snapshot in zip(replayed, found, strict=True):
            atoms.positions = positions.values
            expected = Calculator(average).get_forces(atoms)
            np.testing.assert_allclose(snapshot.values, expected, atol=2e-5)
            raw += [expected] if k == 0 else []
            mean.append(np.abs(expected - raw[len(mean)]).mean())
        errors[k] = 1e3 * np.mean(mean)
    (analysis,) = analyze_folders([output], Options())
    assert errors[2] > 1.0
    for k in range(1, 6):
        scalar = analysis.scalars["replay_forces" if k == 1 else f"replay_forces_{k}"]
        assert scalar.label == f"forces, MAE against driver-aug-{REPLAYED[k - 1]}"
        assert scalar.value == pytest.approx(errors[k], rel=1e-3)


def test_a_committee_of_sockets(tmp_path: Path) -> None:
    """i-PI opens sockets inside another force field elsewhere; two runs at once never meet, nothing is left there."""
    text = (shipped_folder("inputs") / "gas-nve" / "input.xml").read_text()
    socket = text[text.index("<ffsocket") : text.index("</ffsocket>") + 11]
    both = "".join(
        socket.replace("name='model'", f"name='{name}'").replace("gas-nve-model", name)
        for name in ("member-raw", "member-averaged")
    )
    text = text.replace(socket, f"<ffcommittee name='model'> {both} </ffcommittee>")
    text = re.sub(r"<trajectory [^>]*filename='spread'.*?</trajectory>", "", text).replace(
        "stride='10'", "stride='1'"
    )
    (tmp_path / "input.xml").write_text(text.replace("checkpoint stride='1000'", "checkpoint stride='2'"))
    shutil.copyfile(shipped_folder("inputs") / "gas-nve" / "init.xyz", tmp_path / "init.xyz")
    words = [
        "run",
        str(tmp_path / "input.xml"),
        "--model",
        MODEL,
        "--no-pbc",
        "--endpoint",
        "member-averaged=D2",
    ]
    before = set(Path("/tmp").glob("ipi_member-*"))
    folder = tmp_path / "run"
    assert main([*words, "--steps", "2", "--output", str(folder)]) == 0
    (folder / "RESTART").unlink()
    assert main(["run", str(folder), "--resume", "--steps", "4"]) == 0
    assert set(Path("/tmp").glob("ipi_member-*")) == before
    forces, positions = (list(TrajectoryFile(folder / f"simulation.{name}_0.xyz")) for name in ("for", "pos"))
    assert [snapshot.step for snapshot in forces] == [0, 1, 2, 3, 4]
    potential = load_potential(MODEL)
    atoms = ase.build.molecule("H2O")
    for found, at in zip(forces, positions, strict=True):
        atoms.positions = at.values
        raw, averaged = (
            Calculator(p).get_forces(atoms) for p in (potential, RotationalAverage(potential, "D2"))
        )
        np.testing.assert_allclose(found.values, (raw + averaged) / 2, atol=5e-5)


def test_sockets_that_get_some_of_the_atoms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`<activelist>`: each of two molecules has a socket of its own, and no forces from the other."""
    text = (shipped_folder("inputs") / "gas-nve" / "input.xml").read_text()
    socket = text[text.index("<ffsocket") : text.index("</ffsocket>") + 11]
    parts = {"first": [0, 1, 2], "second": [5, 3, 4]}
    made = "".join(
        socket.replace("name='model'", f"name='{name}'")
        .replace("gas-nve-model", name)
        .replace("</ffsocket>", f"<activelist> {atoms} </activelist> </ffsocket>")
        for name, atoms in parts.items()
    )
    text = text.replace(socket, made).replace(
        "<force forcefield='model'/>", "<force forcefield='first'/> <force forcefield='second'/>"
    )
    (tmp_path / "input.xml").write_text(text)
    one = ase.build.molecule("H2O")
    two = one[[1, 2, 0]]  # H H O: another order, too
    two.translate([2.0, 0.5, 0.0])
    atoms = one + two
    lines = "".join(f"{a.symbol} {a.x:.8f} {a.y:.8f} {a.z:.8f}\n" for a in atoms)
    (tmp_path / "init.xyz").write_text(f"6\n# positions{{angstrom}} CELL(abcABC): 50 50 50 90 90 90\n{lines}")
    words = [str(tmp_path / "input.xml"), "--model", MODEL, "--no-pbc", "--endpoint", "second=D2"]
    folder = tmp_path / "run"
    assert main(["run", *words, "--steps", "2", "--output", str(folder)]) == 0
    potential = load_potential(MODEL)
    expected = np.zeros((6, 3))
    for average, indices in ((potential, [0, 1, 2]), (RotationalAverage(potential, "D2"), [5, 3, 4])):
        expected[indices] = Calculator(average).get_forces(atoms[indices])
    found = next(iter(TrajectoryFile(folder / "simulation.for_0.xyz")))
    np.testing.assert_allclose(found.values, expected, atol=2e-5)

    assert active_atoms(text.replace("</simulation>", ""), tmp_path) == {}  # as a checkpoint that is no XML
    (tmp_path / "input.xml").write_text(text.replace("[5, 3, 4]", "[5, 3, 6]"))
    assert main(["run", *words, "--steps", "2", "--output", str(tmp_path / "wrong")]) == 2
    assert "an <activelist> names atoms 3 to 6 of 6" in capsys.readouterr().err


@pytest.mark.parametrize("weight", ["0", "1e-20"])
def test_a_force_of_no_weight_beside_the_dynamics(weight: str, tmp_path: Path) -> None:
    """`format='ase'` trajectories beside xyz, a property file without a name, no driver.yaml."""
    text = own_input(tmp_path).read_text()
    text = re.sub("<mts_weights>.*?</mts_weights>", "", text)
    text = text.replace("<force forcefield='averaged'>", f"<force forcefield='averaged' weight='{weight}'>")
    text = re.sub(r"<nmts>.*?</nmts>", "", text).replace("> 5.0 </timestep>", "> 0.5 </timestep>")
    output = """<output prefix='delta-mol'>
<trajectory stride='4' filename='pos' format='ase'> positions </trajectory>
<trajectory stride='4' filename='mom' format='xyz'> momenta </trajectory>
<trajectory stride='4' filename='f-aug' format='xyz'> forces_component_raw(1) </trajectory>
<properties stride='2'> [ step, time, conserved, temperature{kelvin}, kinetic_md, potential, pressure_md ] </properties>
<properties stride='2' filename='delta'> [ step, pot_component_raw(0), pot_component_raw(1) ] </properties> </output>"""
    text = re.sub(r"<output.*?</output>", output, text, flags=re.DOTALL)
    (tmp_path / "input-mts.xml").write_text(text)
    words = [str(tmp_path / "input-mts.xml"), "--model", MODEL, "--endpoint", "driver-aug=T", "--steps", "48"]
    folder = tmp_path / "run"
    assert main(["run", *words, "--output", str(folder)]) == 0
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == 48
    assert "drift" in summary
    counts = {name: e["evaluations"] for name, e in summary["endpoints"].items()}
    # without weight, at the steps alone at which it is written
    assert counts == {"unix driver": 49, "unix driver-aug": 25 if weight == "0" else 49}
    run = Run(folder)
    table = run.properties_with("pot_component_raw(0)", "pot_component_raw(1)", "potential")
    np.testing.assert_allclose(table["pot_component_raw(0)"], table["potential"], rtol=1e-6)
    assert np.abs(table["pot_component_raw(0)"] - table["pot_component_raw(1)"]).max() > 1e-4
    assert len(list(run.snapshots(["positions", "velocities"]))) == 13


@pytest.mark.parametrize(
    ("word", "message"),
    [("driver-aug", "ADDRESS=AVERAGE"), ("other=T", "it opens: driver, driver-aug"), ("driver=2j", "2j")],
)
def test_wrong_endpoints(tmp_path: Path, word: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        str(own_input(tmp_path)),
        "--model",
        MODEL,
        "--endpoint",
        word,
        "--output",
        str(tmp_path / "run"),
    ]
    assert main(["run", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
