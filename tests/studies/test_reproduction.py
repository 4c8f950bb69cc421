"""`ipi-driver reproduce`: real runs at a tiny length, restart, failures; comparisons with known answers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ipi_driver.analysis.dispatch import find_runs
from ipi_driver.cli import main
from ipi_driver.errors import UserError
from ipi_driver.ipi_files import Run
from ipi_driver.ipi_files.run_folder import STARTING, RunFolder
from ipi_driver.shipped import shipped_folder
from ipi_driver.studies.langer2024.plan import Part, Settings, fingerprint, open_plan, parts_of
from ipi_driver.studies.langer2024.published import figure_remarks
from ipi_driver.studies.langer2024.report import _analyze, longer_than_planned
from ipi_driver.studies.langer2024.runner import Runs
from ipi_driver.studies.langer2024.stability import longest_bond
from ipi_driver.studies.langer2024.symmetry import data_sets

MODEL = "anisotropic?l=4&amplitude=0.1"
SETTINGS = Settings(MODEL, fingerprint(MODEL), "small", 1.0, 1)


def reproduce(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return ipi_driver(folder, "reproduce", *arguments)


def ipi_driver(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ipi_driver", *words],
        cwd=folder, capture_output=True, text=True, timeout=240, env=dict(os.environ, OMP_NUM_THREADS="1"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def gas(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("reproduction")
    done = reproduce(
        "gas", "--model", MODEL, "--fraction", "0.0002", "--output", "out", "--no-viewer", "--export", "copy",
        folder=folder,
    )  # fmt: skip
    return folder, done


def test_whole_chain_ends_in_a_report(gas: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = gas
    assert done.returncode == 0, done.stderr
    report = folder / "out" / "report"
    content = json.loads((report / "table.json").read_text())
    torque = {
        row["label"].split()[-1]: row["value"] for row in content["published"] if "torque" in row["label"]
    }
    assert torque["i"] == pytest.approx(torque["none"])  # the term has even parity
    assert torque["none"] > 1.0
    assert torque["3"] < 1e-9  # the grid 3 removes every degree up to 4
    assert [row["whole"] for row in content["stability"]] == [True] * 6
    drifts = {row["run"]: row["drift"] for row in content["stability"]}
    assert drifts["gas-nvt-raw"] is not None  # the others are too short for one
    assert json.loads((folder / "out" / "plan.json").read_text())["runs"]["gas-nve-raw"]["steps"] == 40
    page = (report / "report.html").read_text()
    assert "Published values and this model" in page
    assert "Symmetry error against Ih" in page
    assert "each cut to 0.02 %" in page
    assert {p.name for p in (report / "check").glob("*.png")} >= {
        "convergence.png",
        "degrees.png",
        "angles.png",
    }
    written = [p for p in report.rglob("*") if p.suffix in (".html", ".json", ".csv", ".md")]
    assert not [p.name for p in written if str(folder) in p.read_text()]  # read on other machines
    copied = {p.relative_to(folder / "copy") for p in (folder / "copy").rglob("*")}
    assert copied == {p.relative_to(report) for p in report.rglob("*")}
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_second_call_runs_nothing(gas: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = gas
    before = {p: p.stat().st_mtime_ns for p in (folder / "out" / "runs").rglob("simulation.out")}
    done = reproduce(
        "gas", "--model", MODEL, "--fraction", "0.0002", "--output", "out", "--no-viewer", folder=folder
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(": complete") == 6
    assert before == {p: p.stat().st_mtime_ns for p in (folder / "out" / "runs").rglob("simulation.out")}


def test_a_run_beside_those_of_the_plan(tmp_path: Path) -> None:
    """Another outer step, of which the plan knows nothing, in the tables and figures."""
    settings = Settings(MODEL, fingerprint(MODEL), "small", 0.0003, 31415)
    parts = [part for part in parts_of("small", ["liquid"], 0.0003) if part.name == "liquid-2i"]
    open_plan(tmp_path / "out", settings, parts)
    for words in (("--output", "out/runs/liquid-2i"), ("--stride", "8", "--output", "mine/4fs")):
        done = ipi_driver(
            tmp_path, "run", "liquid-nvt", "--model", MODEL, "--average", "D2", "--steps", "25", *words
        )
        assert done.returncode == 0, done.stderr
    again = ("--only-report", "--model", MODEL, "--fraction", "0.0003", "--output", "out", "--no-viewer")
    done = reproduce(*again, "--with", "mine/4fs", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "out" / "report" / "table.json").read_text())
    (drift,) = [row for row in content["comparisons"] if row["label"].startswith("drift")]
    assert set(drift["values"]) == {"liquid-2i", "4fs"}
    page = (tmp_path / "out" / "report" / "report.html").read_text()
    assert "4fs: a run beside those of the plan" in page
    assert "time step 4.000 fs" in page
    assert str(tmp_path) not in page

    (tmp_path / "mine" / "4fs").rename(tmp_path / "mine" / "liquid-raw")
    done = reproduce(*again, "--with", "mine/liquid-raw", folder=tmp_path)
    assert done.returncode == 2
    assert "there is a run liquid-raw already; rename the folder" in done.stderr


def test_what_cannot_stand_beside_the_liquid(gas: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = gas
    again = ("--only-report", "--model", MODEL, "--fraction", "0.0002", "--output", "out", "--no-viewer")
    done = reproduce(*again, "--with", "absent", folder=folder)
    assert done.returncode == 2
    assert "no run folder absent" in done.stderr
    done = reproduce(*again, "--with", "out/runs/gas-nvt-raw", folder=folder)
    assert done.returncode == 2
    assert "no run of the liquid is complete that it could stand beside" in done.stderr


def test_changed_settings_are_refused(gas: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = gas
    done = reproduce("gas", "--model", MODEL, "--fraction", "0.5", "--output", "out", folder=folder)
    assert done.returncode == 2
    assert "begun with fraction 0.0002, got 0.5" in done.stderr


def test_changed_lengths_are_refused(tmp_path: Path) -> None:
    short, long = (Part("gas-nve-raw", "gas", "gas-nve", "none", steps) for steps in (100, 200))
    other = Part("ice-raw", "ice", "ice", "none", None, ("096-a",))
    open_plan(tmp_path, SETTINGS, [short])
    open_plan(tmp_path, SETTINGS, [other])
    with pytest.raises(UserError, match="was begun with steps of gas-nve-raw 100, got 200"):
        open_plan(tmp_path, SETTINGS, [long])
    assert set(json.loads((tmp_path / "plan.json").read_text())["runs"]) == {"gas-nve-raw", "ice-raw"}


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    done = reproduce("--dry-run", "--scale", "full", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "liquid-2i" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_interrupted_run_is_continued(tmp_path: Path) -> None:
    runs = Runs(tmp_path, SETTINGS, threads=1)
    part = Part("gas-nve-raw", "gas", "gas-nve", "none", 6000)

    def interrupt(running: Sequence[Part]) -> None:
        if any(runs.progress(p)[0] > 0 for p in running):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.execute([part], 1, interrupt)
    assert not runs.complete(part)
    assert "--resume" in runs.command(part)
    assert runs.execute([part], 1, lambda running: None) == []
    assert runs.complete(part)
    assert Run(runs.folder(part)).properties["step"].tolist() == list(range(0, 6001, 10))


def test_what_was_run_beyond_the_plan_is_complete_and_said(tmp_path: Path) -> None:
    runs = Runs(tmp_path, SETTINGS, threads=1)
    planned, longer = (Part("gas-nve-raw", "gas", "gas-nve", "none", steps) for steps in (20, 40))
    assert runs.execute([planned], 1, lambda running: None) == []
    assert longer_than_planned(runs, [planned]) == []
    assert runs.execute([longer], 1, lambda running: None) == []
    assert runs.complete(planned)
    assert longer_than_planned(runs, [planned]) == [
        "gas-nve-raw: continued to 40 steps, beyond the 20 of the plan"
    ]
    cells = Part("ice-raw", "ice", "ice", "none", None, ("096-a",))
    for name in ("096-a", "192-a"):
        (runs.folder(cells) / name).mkdir(parents=True)
    assert longer_than_planned(runs, [cells]) == ["ice-raw: 192-a relaxed beyond 096-a"]


TOY = """import numpy as np
from ase.calculators.calculator import Calculator
class Toy(Calculator):
    implemented_properties = ("energy", "forces")
    def calculate(self, atoms=None, properties=(), system_changes=()):
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}
"""


def test_failure_of_one_run_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model in the folder where the command is given, which is found there."""
    monkeypatch.chdir(tmp_path)
    Path("toy.py").write_text(TOY)
    Path("random.py").write_text("raise SystemExit('no module of the model')")
    runs = Runs(Path("out"), replace(SETTINGS, model="ase:toy.Toy"), threads=1)
    bad = Part("bad", "gas", "gas-nve", "none", 20, ("missing.xyz",))
    good = Part("gas-nve-raw", "gas", "gas-nve", "none", 20)
    (failure,) = runs.execute([bad, good], 1, lambda running: None)
    assert failure.part is bad
    assert failure.status == 2
    assert "missing.xyz" in failure.log.read_text()
    assert runs.complete(good)


@pytest.mark.parametrize("restart", [False, True], ids=["nothing", "a RESTART without a step"])
def test_run_killed_before_its_first_checkpoint_begins_anew(restart: bool, tmp_path: Path) -> None:
    runs = Runs(tmp_path, SETTINGS, threads=1)
    part = Part("gas-nve-raw", "gas", "gas-nve", "none", 20)
    assert runs.execute([part], 1, lambda running: None) == []
    folder = runs.folder(part)
    texts = [path.read_text() for path in RunFolder(folder).checkpoints().values()]
    for path in RunFolder(folder).checkpoints().values():
        path.unlink()
    if restart:
        (folder / "RESTART").write_text(re.sub(r"<step>\d+</step>", "<step>0</step>", texts[0]))
        (folder / STARTING).touch()
        assert list(RunFolder(folder).checkpoints()) == [0]
    assert not runs.complete(part)
    assert runs.execute([part], 1, lambda running: None) == []
    assert runs.complete(part)
    assert (folder / "#simulation.out#0#").exists() != restart  # without a step there was nothing to keep


def test_failures_are_said_where_nothing_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Runs, "command", lambda self, part: [sys.executable, "-c", "raise SystemExit(2)"])
    arguments = ["reproduce", "gas", "--model", MODEL, "--fraction", "0.0002", "-o", str(tmp_path / "out")]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.count("ended with status 2 before its end; see") == 6
    assert "gas-nvt-2i.log" in said.replace("\n", "")
    assert "error: nothing to report" in said


def test_a_report_of_nothing_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--only-report", "--model", MODEL, "--output", str(tmp_path / "typo")]) == 2
    assert "error: nothing to report" in capsys.readouterr().err
    assert main(["reproduce", "--seed", "-1", "--model", MODEL, "--output", str(tmp_path / "typo")]) == 2
    assert "--seed must not be negative, got -1" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()


def test_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"holds no plan\.json"):
        open_plan(tmp_path, SETTINGS)


def test_the_outer_step_is_chosen_for_the_averaged_liquid_alone(tmp_path: Path) -> None:
    settings = replace(SETTINGS, stride=8)
    parts = parts_of("small", ["liquid"], stride=8)
    open_plan(tmp_path, settings, parts)
    runs = Runs(tmp_path, settings, threads=1)
    averaged, *others = ([*runs.command(part), ""] for part in parts)
    assert averaged[averaged.index("--nmts") + 1] == "8"
    assert not any("--nmts" in command for command in others)
    for other in (None, 5):
        with pytest.raises(UserError, match=f"was begun with stride 8, got {other}"):
            open_plan(tmp_path, replace(SETTINGS, stride=other))
    with pytest.raises(UserError, match="--nmts must be at least 1, got 0"):
        parts_of("small", [], stride=0)
    assert "is 4 fs, the published one 5 fs" in figure_remarks("small", 8)["liquid"]
    assert "The outer step of 5 fs, the published one" in figure_remarks("small")["liquid"]


def test_trials_relax_the_smallest_cells_of_ice() -> None:
    ((raw, averaged), (trial, _), (half, _)) = (parts_of("small", ["ice"], f) for f in (1.0, 0.01, 0.5))
    assert len(Runs.cells(raw)) == len(Runs.cells(averaged)) == 9
    assert Runs.cells(trial) == ["096-a", "096-b", "096-c"]
    assert Runs.cells(half) == ["096-a", "096-b", "096-c", "192-a", "192-b"]


@pytest.mark.parametrize(
    ("scale", "systems", "fraction"), [("big", [], 1), ("small", ["steam"], 1), ("small", [], 0)]
)
def test_bad_plans_are_refused(scale: str, systems: list[str], fraction: float) -> None:
    with pytest.raises(UserError):
        parts_of(scale, systems, fraction)


def test_longest_bond_is_found(tmp_path: Path) -> None:
    (tmp_path / "input.xml").write_text(
        "<simulation><output prefix='simulation'>"
        "<properties filename='out'>[ step, conserved ]</properties>"
        "<trajectory filename='pos' format='xyz' cell_units='angstrom'>positions{angstrom}</trajectory></output>"
        "<total_steps>3</total_steps><system><initialize nbeads='1'><file mode='xyz'>init.xyz</file></initialize>"
        "<forces><force forcefield='m'/></forces><motion mode='dynamics'><dynamics mode='nve'>"
        "<timestep units='femtosecond'>500</timestep></dynamics></motion></system></simulation>"
    )
    lines = []
    for step, stretched in enumerate((0.96, 1.1, 1.45, 1.0)):
        lines.append(
            "3\n# CELL(abcABC):   10.0  10.0  10.0  90.0  90.0  90.0  "
            f"Step: {step}  Bead: 0 positions{{angstrom}} cell{{angstrom}}\n"
            f"O 9.9 0.0 0.0\nH {(9.9 + stretched) % 10:.6f} 0.0 0.0\nH 9.66 0.93 0.0"
        )
    (tmp_path / "simulation.pos_0.xyz").write_text("\n".join(lines) + "\n")
    found = longest_bond(tmp_path)
    assert found.longest_bond == pytest.approx(1.45, abs=1e-5)  # across the boundary
    assert found.at == pytest.approx(1.0, rel=1e-5)  # step 2 of 0.5 ps
    assert found.snapshots == 4
    assert not found.whole


def test_cells_that_never_began_are_not_analyzed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "input.xml").write_text(
            (shipped_folder("inputs") / "ice" / "input.xml").read_text()
        )
    (tmp_path / "b" / ".starting").touch()
    assert [run.name for run in find_runs(tmp_path)] == ["a"]


def test_ice_that_was_stopped_before_its_first_step_keeps_its_average(tmp_path: Path) -> None:
    part = Part("ice-2i", "ice", "ice", "2i", None, ("096-a", "096-b"))
    runs = Runs(tmp_path, SETTINGS, threads=1)
    first = runs.command(part)
    folder = runs.folder(part) / "096-a"
    folder.mkdir(parents=True)
    for name in (STARTING, "input.xml", "driver.yaml"):
        (folder / name).touch()
    assert runs.command(part) == first
    assert first[first.index("--average") + 1] == "2i"
    (folder / STARTING).unlink()
    assert runs.command(part)[-1] == "--resume"


def test_ice_is_checked_as_it_was_made(tmp_path: Path) -> None:
    part = Part("ice-raw", "ice", "ice", "none", None, ("a",))
    runs = Runs(tmp_path, SETTINGS, threads=1)
    folder = runs.folder(part) / "a"
    folder.mkdir(parents=True)
    (folder / "input.xml").write_text((shipped_folder("inputs") / "ice" / "input.xml").read_text())
    frames = [
        f"3\n# CELL(abcABC): 5.0 6.0 7.0 90.0 90.0 90.0 Step: {step} Bead: 0 positions{{angstrom}} cell{{angstrom}}\n"
        f"O {0.1 * step} 0.0 0.0\nH 0.96 0.0 0.0\nH -0.24 0.93 0.0\n"
        for step in range(3)
    ]
    (folder / "simulation.pos_0.xyz").write_text("".join(frames))
    (data,) = data_sets(runs, [part])
    (structure,) = data.structures
    assert data.name == "ice"
    assert structure.pbc.all()
    assert np.diag(structure.cell) == pytest.approx([5.0, 6.0, 7.0], rel=1e-6)
    assert structure.positions[0].tolist() == [0.0, 0.0, 0.0]  # before the relaxation
    # relaxations that cannot be analyzed are named, and end no report
    assert _analyze(runs, [part], lambda text, total: lambda n: None) == {}
    assert runs.notes[-1].startswith("ice-raw left out: ")
