"""`ipi-driver run` of a set: every cell in a folder of its own, failures one by one, only the rest with --resume."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
import yaml
from runs_place import MODEL, children, error_line, rows, wait_for

from ipi_driver.analysis.dispatch import find_runs
from ipi_driver.cli import build_parser, main
from ipi_driver.cli.run import _changes_given
from ipi_driver.errors import UserError
from ipi_driver.ipi_files import Run
from ipi_driver.ipi_files import edit as xml
from ipi_driver.ipi_files.run_folder import STARTING
from ipi_driver.report.run_summary import summarize
from ipi_driver.runs.changes import Changes
from ipi_driver.runs.execute import Outcome
from ipi_driver.runs.origin import ORIGIN
from ipi_driver.runs.sets import find_set, open_set, prepare_cell
from ipi_driver.shipped import shipped_folder

WATER = np.array([[0.0, 0.0, 0.0], [0.9, 0.3, 0.1], [-0.3, 0.9, 0.0]])
SLOWEST = "ase:slow_water.Water?delay=0.3"


def cell(n_molecules: int) -> ase.Atoms:
    """A row of molecules, each turned against the one before."""
    turned = [WATER @ np.diag([(-1.0) ** k, (-1.0) ** k, 1.0]) for k in range(n_molecules)]
    positions = np.concatenate([x + [3.0 * k + 1.0, 3.0, 3.0] for k, x in enumerate(turned)])
    return ase.Atoms(["O", "H", "H"] * n_molecules, positions, cell=[3.0 * n_molecules + 4, 8, 8], pbc=True)


def isolated(n: int) -> ase.Atoms:
    """`cell` for an input without periodic directions."""
    atoms = cell(n)
    atoms.pbc = False
    return atoms


def make_cells(folder: Path, **cells: ase.Atoms) -> Path:
    folder.mkdir()
    for name, atoms in cells.items():
        ase.io.write(folder / f"{name}.xyz", atoms, format="extxyz")
    return folder


def steps_of(folder: Path) -> list[int]:
    return [int(float(row.split()[0])) for row in rows(folder)]


def average_in(folder: Path) -> str:
    return yaml.safe_load((folder / "driver.yaml").read_text())["endpoints"][0]["average"]


def test_a_set_with_a_bad_cell_is_completed_by_resume(place, capsys, monkeypatch) -> None:
    """The good cells are run, the bad one is named; then only what is missing is done, with the same average."""
    mine = place.copy("ice")
    for path in (mine / "cells").iterdir():
        path.unlink()
    (mine / "cells").rmdir()
    make_cells(mine / "cells", a=cell(1), b=ase.Atoms("OH2", WATER), c=cell(2))
    (mine / "cells" / "README.md").touch()
    output = place.folder / "runs" / "my-ice-Th"

    status, table, errors = place.run("my-ice", "--model", MODEL, "--average", "Th", "--steps", 60)
    assert status == 2
    assert error_line(errors).startswith("error: b: ")
    assert "has no cell" in error_line(errors)
    assert "not structures, left out: README.md" in errors
    assert "no summary" not in errors
    assert "2 of 3 cells are finished; continue with: ipi-driver run my-ice --output" in errors
    assert not (output / "b").exists()
    states = {row["cell"]: row for row in json.loads((output / "summary.json").read_text())}
    assert [states[name]["state"] for name in "abc"] == ["converged", "failed", "not converged"]
    assert [states[name].get("n_molecules") for name in "abc"] == [1, None, 2]
    assert "not converged" in table
    assert steps_of(output / "c") == list(range(61))

    summary = json.loads((output / "c" / "summary.json").read_text())
    potential = [float(row.split()[1]) for row in rows(output / "c")]
    last = ase.io.read(output / "c" / "simulation.for_0.xyz")
    assert not summary["converged"]
    assert summary["energy_per_molecule"] == pytest.approx(potential[-1] / 2, rel=1e-6)
    assert summary["relaxation_energy"] == pytest.approx(500 * (potential[-1] - potential[0]), rel=1e-5)
    assert summary["largest_force"] == pytest.approx(1e3 * np.abs(last.positions).max(), rel=1e-5)
    assert (output / "c" / "summary.png").stat().st_size > 10_000

    make_cells(place.folder / "fixed", b=cell(1))
    os.replace(place.folder / "fixed" / "b.xyz", mine / "cells" / "b.xyz")
    status, table, errors = place.run("my-ice", "--resume", "--output", output, "--steps", 70)
    assert status == 0, errors
    assert "a: finished before" in errors
    states = {row["cell"]: row["state"] for row in json.loads((output / "summary.json").read_text())}
    assert states == {"a": "converged", "b": "converged", "c": "not converged"}  # two molecules creep
    assert average_in(output / "b") == average_in(output / "a") == "Th"  # not that of the input
    assert steps_of(output / "c") == list(range(71))  # continued, and no step twice
    assert [run.name for run in find_runs(output)] == ["a", "b", "c"]

    monkeypatch.chdir(place.folder)
    before = (output / "a" / "i-pi.log").stat().st_mtime_ns
    assert main(["run", "my-ice", "--average", "Th", "--resume"]) == 0
    assert "a: finished before" in capsys.readouterr().err
    assert (output / "a" / "i-pi.log").stat().st_mtime_ns == before
    assert main(["run", "my-ice", "--average", "Th"]) == 2
    assert "continue it with --resume" in capsys.readouterr().err
    assert main(["run", "my-ice", "--average", "2i", "--resume", "--output", str(output)]) == 2
    assert "was begun with --average Th, got 2i" in capsys.readouterr().err


def test_the_stride_of_a_set_stays(place) -> None:
    """A cell that was not there is begun with the outer step of the others, and another one is refused."""
    isolated = ase.Atoms("OH2", WATER)
    mine = make_cells(place.folder / "mine", a=isolated)
    words = (
        "gas-nvt",
        "--model",
        MODEL,
        "--average",
        "D2",
        "--structures",
        "mine",
        "--output",
        "set",
        "--steps",
        2,
    )
    assert place.run(*words, "--stride", 4)[0] == 0
    ase.io.write(mine / "b.xyz", isolated, format="extxyz")
    status, _, errors = place.run(*words, "--stride", 5, "--resume")
    assert status == 2
    assert "was begun with --nmts 4, got 5" in error_line(errors)
    assert place.run(*words, "--resume")[0] == 0
    for name in "ab":
        assert Run(place.folder / "set" / name).timestep == pytest.approx(2.0)


def test_an_interrupted_set(place) -> None:
    """Whether before the first step or after, the cells that follow are not begun."""
    make_cells(place.folder / "cells", a=cell(1), b=cell(1))
    mine = place.copy("ice")
    with (mine / "driver.yaml").open("a") as file:
        file.write("virial: nan\n")  # the calculator has none
    words = ("my-ice", "--structures", "cells", "--model", SLOWEST, "--output", "mine")
    process = place.start(*words)
    folder = place.folder / "mine" / "a"
    wait_for(lambda: "client" in children(folder))
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "a: interrupted by SIGTERM before the first step" in errors
    process = place.start(*words)  # nothing was done: it can be begun as if for the first time
    wait_for(lambda: len(rows(folder)) > 2)
    process.send_signal(signal.SIGTERM)
    table, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "continue with: ipi-driver run my-ice --structures cells --output mine --resume" in errors
    assert "a: stopped at step" in errors
    assert "stopped" in table
    assert "not run" in table
    assert not children(folder)
    assert not (place.folder / "mine" / "b").exists()


def test_a_signal_at_the_end_of_a_cell(place) -> None:
    """It ends the set, whether i-PI still runs or not."""
    make_cells(place.folder / "cells", a=isolated(1), b=isolated(1), c=isolated(1))
    words = ("gas-nve", "--structures", "cells", "--model", MODEL, "--output", "set", "--steps", 500)
    process = place.start(*words)
    wait_for(lambda: (place.folder / "set" / "a" / "stats.json").exists())
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "continue with: ipi-driver run gas-nve --structures cells --output set --resume" in errors
    assert "not run" in output


def test_a_cell_without_a_summary_does_not_end_the_set(place) -> None:
    make_cells(place.folder / "cells", a=isolated(1), b=isolated(1))
    words = ("gas-nve", "--structures", "cells", "--output", "set")
    status, _, errors = place.run(*words, "--model", MODEL, "--steps", 10)
    assert status == 0, errors
    first, second = (place.folder / "set" / name for name in "ab")
    (first / "stats.json").write_text("")  # as on a full disk
    (second / "summary.json").unlink()
    (second / "summary.json").mkdir()
    make_cells(place.folder / "more", c=isolated(1))
    (place.folder / "more" / "c.xyz").rename(place.folder / "cells" / "c.xyz")
    status, _, errors = place.run(*words, "--resume", "--steps", 20)
    assert status == 0, errors
    assert "b: no summary: IsADirectoryError: " in errors
    for name in "abc":
        assert steps_of(place.folder / "set" / name) == [0, 10, 20]
    summary = json.loads((first / "summary.json").read_text())
    assert summary["notes"][-1].startswith("stats-to-10.json cannot be read: ")
    assert summary["endpoints"]["unix gas-nve-model"]["evaluations"] == 11


def test_the_seed_of_the_client_does_not_become_that_of_ipi(tmp_path: Path) -> None:
    """In cells that are begun after the set was interrupted."""
    template = tmp_path / "mine"
    shutil.copytree(shipped_folder("inputs") / "gas-nve", template)
    with (template / "driver.yaml").open("a") as file:
        file.write("seed: 7\n")
    cells = make_cells(tmp_path / "cells", a=isolated(1), b=isolated(1))
    changes, output = Changes(model=MODEL), tmp_path / "set"
    runs = find_set(str(template), changes, cells)
    assert runs is not None
    prepare_cell(runs, "a", output / "a", open_set(runs, output, changes, resume=False))
    (output / "a" / STARTING).unlink()
    prepare_cell(runs, "b", output / "b", open_set(runs, output, changes, resume=True))
    seeds = [xml.value((output / name / "input.xml").read_text(), "seed") for name in "ab"]
    assert seeds[0] == seeds[1] != "7"


def test_what_a_set_was_begun_with_holds_for_the_cells_that_are_left(tmp_path: Path) -> None:
    """Charge, spin, boundary conditions, averages of endpoints and monitor; a command that differs is refused."""
    cells = make_cells(tmp_path / "cells", a=cell(1), b=cell(1))
    given = Changes(
        model=MODEL, charge=1.0, spin=2, pbc=True, endpoint=["ice-model=2i"], monitor="Th", steps=5
    )
    output = tmp_path / "set"
    runs = find_set("ice", Changes(), cells)
    assert runs is not None
    prepare_cell(runs, "a", output / "a", open_set(runs, output, given, resume=False))
    (output / "a" / STARTING).unlink()
    prepare_cell(runs, "b", output / "b", open_set(runs, output, Changes(), resume=True))
    one, other = (yaml.safe_load((output / name / "driver.yaml").read_text()) for name in "ab")
    for settings in (one, other):  # of names that each run draws
        settings["endpoints"] = [endpoint.get("average") for endpoint in settings["endpoints"]]
    assert one == other
    assert (one["charge"], one["spin"], one["endpoints"][0]) == (1.0, 2, "2i")

    (output / "b" / STARTING).unlink()
    for name in "ab":  # as finished: nothing of them is run, but the numbers of the set are
        (output / name / "i-pi.log").write_text(
            "Soft exit has been requested with message: 'I-PI reports success'"
        )
    open_set(runs, output, given, resume="same")
    for key, value in (
        ("charge", 2.0),
        ("spin", 1),
        ("pbc", False),
        ("endpoint", ["ice-model=3"]),
        ("monitor", "O"),
    ):
        with pytest.raises(UserError, match=rf"a was begun with --{key}.* give another --output"):
            open_set(runs, output, replace(given, **{key: value}), resume=True)
        with pytest.raises(UserError, match=rf"a was begun with --{key}.* continue this"):
            open_set(runs, output, replace(given, **{key: None}), resume="same")
    record = json.loads((output / "b" / ORIGIN).read_text())
    del record["options"]["charge"]  # as by earlier versions
    (output / "b" / ORIGIN).write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"with --charge 1.0 and .*b without --charge"):
        open_set(runs, output, Changes(), resume=True)


def test_a_cell_without_a_checkpoint_is_begun_again(tmp_path: Path) -> None:
    cells = make_cells(tmp_path / "cells", a=cell(1), b=cell(1))
    changes = Changes(model=MODEL, average="2i", steps=7)
    runs = find_set("ice", changes, cells)
    assert runs is not None
    assert runs.folder(changes) == Path("runs/ice-2i")
    folder = tmp_path / "set" / "a"
    assert prepare_cell(runs, "a", folder, changes) == "input.xml"
    (folder / STARTING).unlink()  # as by the first step
    (folder / "client.log").touch()
    (folder / "simulation.out").write_text("kept")
    again = open_set(runs, tmp_path / "set", Changes(), resume=True)
    assert (again.average, again.steps, again.model) == ("2i", 7, MODEL)
    assert prepare_cell(runs, "a", folder, again) == "input.xml"
    assert not (folder / "simulation.out").exists()
    assert (folder / "#simulation.out#0#").read_text() == "kept"
    assert average_in(folder) == "2i"


def test_a_set_of_which_no_cell_has_a_step_keeps_its_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where all cells failed at their start, and where not even their folders were made: the command names them."""
    cells = make_cells(tmp_path / "cells", a=isolated(1), b=isolated(1))
    changes, output = Changes(model=MODEL, average="2i", steps=7), tmp_path / "set"
    runs = find_set("gas-nve", changes, cells)
    assert runs is not None
    prepare_cell(runs, "a", output / "a", open_set(runs, output, changes, resume=False))
    again = open_set(runs, output, Changes(), resume=True)
    assert (again.average, again.steps, again.model) == ("2i", 7, MODEL)
    assert open_set(runs, output, Changes(average="3"), resume=True).average == "3"

    make_cells(tmp_path / "periodic", a=cell(1))
    words = ["gas-nve", "--structures", str(tmp_path / "periodic"), "--output", str(tmp_path / "other")]
    given = ["--average", "2i", "--model", MODEL, "--seed", "5", "--no-pbc"]
    assert main(["run", *words, *given[:-1]]) == 2
    _, _, remedy = capsys.readouterr().err.partition("continue with: ")
    assert set(given[:-1]) <= {*shlex.split(remedy)}
    args = build_parser("run")[0].parse_args(
        ["run", *words, *given, "--endpoint", "x=2", "--endpoint", "y=3"]
    )
    assert sorted(_changes_given(args)) == sorted([*given, "--endpoint", "x=2", "--endpoint", "y=3"])


def test_the_shipped_set() -> None:
    runs = find_set("ice", Changes(), None)
    assert runs is not None
    assert list(runs.structures) == [
        path.stem for path in sorted((shipped_folder("inputs") / "ice/cells").iterdir())
    ]
    assert runs.folder(Changes()) == Path("runs/ice-none")
    assert find_set("ice", Changes(structure=Path("mine.xyz")), None) is None
    assert find_set("liquid-nvt", Changes(), None) is None


def test_a_copy_of_the_shipped_set_is_a_set(tmp_path: Path) -> None:
    """`ipi-driver new ice`: with its cells, without what Python leaves behind."""
    template = tmp_path / "ice"
    shutil.copytree(shipped_folder("inputs") / "ice", template)
    (template / "__pycache__").mkdir(exist_ok=True)
    (template / "__pycache__" / "make_cells.pyc").touch()
    for source, name in (("ice", "mine"), (str(template), "ice/inside")):
        copy = tmp_path / name
        assert main(["new", source, str(copy)]) == 0
        assert not (copy / "__pycache__").exists()
        shipped, runs = find_set("ice", Changes(), None), find_set(str(copy), Changes(), None)
        assert shipped is not None
        assert runs is not None
        assert list(runs.structures) == list(shipped.structures)
        assert not (copy / "inside").exists()


def test_summary_of_a_minimization_that_wrote_no_forces(tmp_path: Path) -> None:
    (tmp_path / "input.xml").write_text(
        "<simulation><output prefix='x'><properties stride='1'> [ step, potential{electronvolt} ] </properties>"
        "</output><system><motion mode='minimize'/></system></simulation>"
    )
    header = "# column 1 --> step : steps.\n# column 2 --> potential{electronvolt} : potential.\n"
    (tmp_path / "x.out").write_text(header + "0 -1.0\n1 -2.0\n")
    summary = summarize(tmp_path, Outcome(1, 0, 1, 1.0, True))
    assert (summary["steps"], summary["converged"]) == (1, False)
    assert "largest_force" not in summary
    assert "simulated_ps" not in summary


BAD = {
    "two ways": (["--structure", "a.xyz", "--structures", "cells"], "give one of them"),
    "no folder": (["--structures", "absent"], "no folder absent"),
    "no structures": (["--structures", "empty"], "holds no structure files: expected names ending in .xyz"),
    "same names": (["--structures", "twice"], "rename one of them"),
    "missing model": (["--structures", "cells", "--model", "no-such-model"], "no model 'no-such-model'"),
    "single run": (["--structures", "cells", "--output", "single"], "is the folder of a single run"),
    "file": (["--structures", "cells", "--output", "cells/a.xyz"], "is not a folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str, tmp_path: Path, monkeypatch, capsys) -> None:
    words, message = BAD[case]
    monkeypatch.chdir(tmp_path)
    make_cells(tmp_path / "cells", a=cell(1))
    make_cells(tmp_path / "twice", a=cell(1))
    (tmp_path / "twice" / "a.cif").touch()
    for name in ("empty", "single"):
        (tmp_path / name).mkdir()
    (tmp_path / "single" / "input.xml").touch()
    model = [] if "--model" in words else ["--model", MODEL]
    assert main(["run", "ice", *words, *model]) == 2
    captured = capsys.readouterr().err
    assert message in captured
    assert len(captured.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()
