"""`ipi-driver run` with real i-PI and client processes: it runs to the end, counts, resumes, and cleans up."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from runs_place import MODEL, SLOW, Place, children, error_line, rows, sockets_of, wait_for

from ipi_driver.analysis.dispatch import analyze_folders
from ipi_driver.analysis.result import Options
from ipi_driver.cli import main
from ipi_driver.client.signals import OF_QUEUES
from ipi_driver.ipi_files import edit as xml
from ipi_driver.ipi_files.outputs import Run
from ipi_driver.ipi_files.run_folder import STARTING, RunFolder
from ipi_driver.runs.events import read_events
from ipi_driver.shipped import shipped_folder


def test_multiple_time_stepping_from_start_to_summary(place) -> None:
    """The averaged forces are evaluated once per outer step, and once before the first."""
    status, output, errors = place.run(
        "gas-nvt", "--model", MODEL, "--steps", 12, "--average", "Th", "--seed", 7
    )
    assert status == 0, errors
    folder = place.folder / "runs" / "gas-nvt"
    endpoints = json.loads((folder / "stats.json").read_text())["endpoints"]
    averaged, raw = endpoints["unix gas-nvt-averaged"], endpoints["unix gas-nvt-raw"]
    assert (raw["average"], averaged["average"]) == ("none", "Th")
    assert averaged["evaluations"] == 12 + 1
    assert raw["evaluations"] == 10 * 12 + 1
    # the unrotated frame of Th is the raw result of the same configuration
    assert averaged["frames"] + raw["frames"] == 13 * 23 + 121

    summary = json.loads((folder / "summary.json").read_text())
    assert summary["finished"]
    assert summary["steps"] == summary["total_steps"] == 12
    assert summary["mean_force_spread"] > 0
    assert summary["endpoints"]["unix gas-nvt-averaged"]["evaluations"] == 13
    assert (folder / "summary.png").stat().st_size > 10_000
    assert "13 evaluations" in output
    assert "step 12/12" in errors

    text = (folder / "input.xml").read_text()
    assert re.search(r"<seed>\s*7\s*</seed>", text)
    assert "<!-- outer level: averaged - raw" in text
    # i-PI's own words, and a checkpoint that can be continued by hand
    assert "I-PI reports success" in (folder / "i-pi.log").read_text()
    assert "sockets_prefix='/tmp/ipi_'" in (folder / "RESTART").read_text()
    assert not (folder / ".starting").exists()
    assert not children(folder)

    status, _, errors = place.run("gas-nvt", "--resume")
    assert status == 2
    assert "has done 12 of 12 steps; continue it with a larger --steps" in error_line(errors)


def test_stride_of_the_command_line(place) -> None:
    """An outer step of 2 fs: four raw evaluations in each, and the time that i-PI prints."""
    words = ("gas-nvt", "--model", MODEL, "--average", "D2")
    assert place.run(*words, "--steps", 3, "--stride", 4)[0] == 0
    folder = place.folder / "runs" / "gas-nvt"
    endpoints = json.loads((folder / "stats.json").read_text())["endpoints"]
    assert endpoints["unix gas-nvt-raw"]["evaluations"] == 4 * 3 + 1
    assert endpoints["unix gas-nvt-averaged"]["evaluations"] == 3 + 1
    assert Run(folder).timestep == pytest.approx(2.0)
    status, _, errors = place.run(*words, "--steps", 6, "--nmts", 5, "--resume")
    assert status == 2
    assert "was begun with --nmts 4, got --nmts 5" in error_line(errors)


def test_a_monitor_beside_a_raw_run(place) -> None:
    """The same trajectory as without it; the average at every tenth step alone."""
    words = ("gas-nve", "--model", MODEL, "--steps", 40)
    assert place.run(*words, "--output", "raw")[0] == 0
    monitor = ("--monitor", "Th", "--monitor-stride", 20, "--tolerance", 5, "--json", "--quiet")
    status, output, errors = place.run(*words, *monitor, "--output", "run")
    assert (status, errors) == (0, "")
    folder = place.folder / "run"
    for name in ("simulation.out", "simulation.pos_0.xyz", "simulation.for_0.xyz"):
        assert (folder / name).read_bytes() == (place.folder / "raw" / name).read_bytes()
    summary = json.loads(output)
    counts = summary["endpoints"]["unix gas-nve-model-monitor"]
    assert (counts["evaluations"], counts["frames"]) == (3, 3 * 23)
    values = [
        1e3 * float(x) for x in (folder / "simulation.monitor").read_text().splitlines() if "#" not in x
    ]
    assert len(values) == 3
    assert summary["monitor"] == {
        "mean": pytest.approx(np.mean(values)),
        "largest": pytest.approx(np.max(values)),
    }
    (event,) = read_events(folder)
    assert event["kind"] == "symmetry"
    assert "more than the tolerance of 5 meV/Å: an average is needed here" in event["text"]
    status = json.loads((folder / "status.json").read_text())
    assert (status["state"], status["step"]) == ("finished", 40)


def often(text: str) -> str:
    """Outputs every 5 steps, a checkpoint every 20."""
    return text.replace("stride='10'", "stride='5'").replace("stride='1000'", "stride='20'")


def test_a_run_whose_ipi_or_client_was_killed_comes_to_the_same_files(place) -> None:
    """Outputs beyond the checkpoint are written again, and every number of them is that of one run."""
    place.copy("gas-nve", often)
    words = ("my-gas-nve", "--model", SLOW, "--average", "random", "--steps", 120)
    assert place.run(*words, "--output", "whole")[0] == 0
    names = {path.name for path in (place.folder / "whole").glob("simulation.*")} - {"simulation.chk"}
    assert len(names) == 5

    process, again = place.start(*words, "--output", "again"), place.folder / "again"
    for name, row in (("client", 4), ("i-PI", 9)):
        wait_for(lambda row=row: len(rows(again)) > row)
        os.kill(children(again)[name], signal.SIGKILL)
        if name == "client":
            wait_for(lambda: "restart" in [event["kind"] for event in read_events(again)])
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    for name in names:
        assert (again / name).read_bytes() == (place.folder / "whole" / name).read_bytes(), name
    for who in ("the client", "i-PI"):
        assert re.search(
            rf"{who} was killed by SIGKILL at step \d+ of 120; started again from step \d+", errors
        )
    assert [event["kind"] for event in read_events(again)] == ["restart", "restart"]
    summary = json.loads((again / "summary.json").read_text())
    assert summary["restarts"] == 2
    assert summary["endpoints"]["unix gas-nve-model"]["evaluations"] > 0
    assert re.search("restarts.* 2", output)
    assert not [path for path in again.iterdir() if "kept" in path.name or path.name == ".last-request"]
    assert not list(again.glob("#*"))


MOODY = """
import os, sys
import numpy as np
from slow_water import Water
class Moody(Water):
    calls = 0
    def calculate(self, atoms, properties, changes):
        super().calculate(atoms, properties, changes)
        self.calls += 1
        if not os.path.exists("once"):
            if self.calls == 30:
                open("once", "w").close()
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
        elif os.path.exists("bad.npy"):
            if np.allclose(np.load("bad.npy"), atoms.positions, rtol=0.0, atol=1e-7):
                sys.exit(3)
        elif self.calls == 20:
            np.save("bad.npy", atoms.positions)
            sys.exit(3)
"""


def test_an_error_that_a_new_process_heals_and_one_that_comes_again(place) -> None:
    (place.folder / "moody.py").write_text(MOODY)
    status, _, errors = place.run("gas-nve", "--model", "ase:moody.Moody", "--steps", 400, "--output", "run")
    assert status == 2
    line, folder = error_line(errors), place.folder / "run"
    assert "the model failed: it called sys.exit(3)" in line
    assert "it has failed twice on the same configuration: a restart does not help" in line
    first, second = read_events(folder)
    assert "ase: Moody failed on H2O (3 atoms): CUDA error" in first["text"]
    assert "sys.exit(3)" in second["text"]
    failed = ase.io.read(folder / "failed-frame.extxyz", index=-1)
    assert len(failed) == 3
    assert not children(folder)


ANISOTROPIC = "anisotropic?l=4&amplitude=0.1"


def two_systems(text: str) -> str:
    """A second system with a prefix of its own."""
    system = text[text.index("<system>") : text.index("</simulation>")]
    first, second = (often(system.replace("<system>", f"<system prefix='{name}'>")) for name in "AB")
    return often(text).replace(often(system), first + second)


def template(text: str) -> str:
    """The same from i-PI's template, with another temperature and another start for each."""
    system = text[text.index("<system>") : text.index("</simulation>")]
    pattern = system.replace("<system>", "<system prefix='NAME'>").replace("> 300 <", "> TEMP <")
    pattern = often(pattern.replace(" init.xyz ", " start-NAME.xyz "))
    instances = "".join(f"<instance>[ {name}, {t} ]</instance>" for name, t in (("A", 200), ("B", 400)))
    made = f"<labels>[ NAME, TEMP ]</labels>{instances}<template>{pattern}</template>"
    return often(text.replace(system, f"<system_template>{made}</system_template>"))


@pytest.mark.parametrize("edit", [two_systems, template])
def test_several_systems_are_seen_and_resumed(edit, place) -> None:
    """i-PI puts the prefix of the system before the name: A_simulation.out."""
    mine = place.copy("gas-nve", edit)
    for name in "AB":
        shutil.copyfile(mine / "init.xyz", mine / f"start-{name}.xyz")
    words = ("my-gas-nve", "--model", ANISOTROPIC, "--steps", 30, "--output", "run")
    status, _, errors = place.run(*words)
    assert status == 0, errors
    assert "step 30/30" in errors
    summary = json.loads((place.folder / "run" / "summary.json").read_text())
    assert list(summary["systems"]) == ["A", "B"]
    assert (place.folder / "run" / "summary.png").is_file()
    analyses = analyze_folders([place.folder / "run"], Options())
    assert [analysis.label for analysis in analyses] == ["run:A (none)", "run:B (none)"]
    whole = resumed_from_step_20(place, place.folder / "run", "?_simulation.*")
    assert len(whole) == 2 * 5


def replica_exchange(text: str) -> str:
    """Two systems at one temperature, which are exchanged at each step."""
    exchange = "<smotion mode='remd'><remd><stride> 1 </stride></remd></smotion></simulation>"
    return two_systems(text).replace("</simulation>", exchange)


def test_the_swaps_of_replica_exchange_are_resumed(place) -> None:
    """Each step with one row in the file of the swaps, which i-PI writes beside its other outputs."""
    place.copy("gas-nve", replica_exchange)
    status, _, errors = place.run("my-gas-nve", "--model", ANISOTROPIC, "--steps", 30, "--output", "run")
    assert status == 0, errors
    swaps = (place.folder / "run" / "simulation.remd_idx").read_text().splitlines()
    assert [int(row.split()[0]) for row in swaps] == list(range(30))
    assert "simulation.remd_idx" in resumed_from_step_20(place, place.folder / "run", "*simulation.[!c]*")


def test_the_outputs_of_an_input_without_any_are_cut(place) -> None:
    """i-PI has outputs and checkpoints of its own for it, which are seen and resumed as any others."""
    place.copy("gas-nve", lambda text: re.sub(r"<output.*?</output>", "", text, flags=re.DOTALL))
    words = ("my-gas-nve", "--model", MODEL, "--output", "run")
    status, _, errors = place.run(*words, "--steps", 1100)
    assert status == 0, errors
    assert "step 1100/1100" in errors
    folder = place.folder / "run"
    whole = (folder / "i-pi.md").read_text()
    (folder / "RESTART").unlink()
    assert max(RunFolder(folder).checkpoints()) == 1000
    status, _, errors = place.run("my-gas-nve", "--resume", "--output", "run")
    assert status == 0, errors
    assert (folder / "i-pi.md").read_text() == whole
    found = re.findall(r"Step:\s+(\d+)", (folder / "i-pi.pos_0.xyz").read_text())
    assert list(map(int, found)) == list(range(0, 1101, 100))


def test_a_run_that_does_not_print_its_steps_keeps_what_it_wrote(place) -> None:
    place.copy("gas-nve", lambda text: text.replace("[ step,", "[").replace("stride='10'", "stride='1'"))
    process = place.start("my-gas-nve", "--model", MODEL, "--steps", 1000000, "--output", "run")
    folder = place.folder / "run"
    wait_for(lambda: len(rows(folder)) > 20 and not (folder / STARTING).exists())
    for running in (process.pid, *children(folder).values()):
        os.kill(running, signal.SIGKILL)
    process.communicate(timeout=60)
    wait_for(lambda: not children(folder))
    for path in RunFolder(folder).checkpoints().values():
        path.unlink()
    written = (folder / "simulation.out").read_bytes()
    status, _, errors = place.run("my-gas-nve", "--resume", "--steps", 2, "--output", "run")
    assert status == 0, errors
    assert (folder / "#simulation.out#0#").read_bytes() == written
    assert (folder / "#i-pi.log#0#").exists()


def test_files_and_modules_that_a_model_names_are_found(place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to where the command is given, although the client runs in the run folder."""
    (place.folder / "lib").mkdir()
    (place.folder / "lib" / "from_file.py").write_text(
        "from slow_water import Water\ndef make(file) -> Water:\n    return Water(delay=float(open(file).read()))\n"
    )
    (place.folder / "my.model").write_text("0.001")
    monkeypatch.setenv("PYTHONPATH", "lib")
    named = Place(place.folder)  # with that path
    model = "ase:from_file.make?file=my.model"
    status, _, errors = named.run("gas-nve", "--model", model, "--steps", 10, "--output", "run")
    named.close()
    assert status == 0, errors
    assert f"file={place.folder / 'my.model'}" in (place.folder / "run" / "driver.yaml").read_text()


def every_format(text: str) -> str:
    """Trajectories in every format of i-PI besides xyz, of a bead and of the centroid."""
    made = "".join(
        f"<trajectory filename='{name}' stride='5' format='{name}'> {quantity} </trajectory>"
        for name, quantity in (("pdb", "positions"), ("ase", "x_centroid"), ("bin", "velocities"))
    )
    return often(text).replace("</output>", f"{made}</output>", 1)


def test_trajectories_of_every_format_are_resumed(place) -> None:
    place.copy("gas-nve", every_format)
    assert place.run("my-gas-nve", "--model", ANISOTROPIC, "--steps", 30, "--output", "run")[0] == 0
    names = resumed_from_step_20(place, place.folder / "run", "simulation.[!c]*")
    assert {"simulation.ase.extxyz", "simulation.bin_0.bin", "simulation.pdb_0.pdb", "simulation.out"} < set(
        names
    )


def resumed_from_step_20(place, folder: Path, pattern: str) -> list[str]:
    """Continue a finished run from its last checkpoint but one; its outputs must become what they were."""
    whole = {path.name: path.read_bytes() for path in folder.glob(pattern)}
    (folder / "RESTART").unlink()
    assert max(RunFolder(folder).checkpoints()) == 20
    status, _, errors = place.run("my-gas-nve", "--resume", "--output", folder)
    assert status == 0, errors
    assert "not cut" not in errors
    for name, content in whole.items():
        assert (folder / name).read_bytes() == content, name
    return sorted(whole)


def test_a_start_from_the_checkpoint_of_another_run(place) -> None:
    """The run goes on from its own checkpoint, and that of the other run stays, which has done more steps."""
    assert place.run("gas-nve", "--model", MODEL, "--steps", 30, "--output", "other")[0] == 0
    mine = place.copy(
        "gas-nve",
        lambda text: often(text).replace(
            "<file mode='xyz' units='angstrom'> init.xyz", "<file mode='chk'> init.chk"
        ),
    )
    start = (place.folder / "other" / "RESTART").read_bytes()
    (mine / "init.chk").write_bytes(start)
    assert RunFolder(place.folder / "other").checkpoints().keys() == {30}
    assert place.run("my-gas-nve", "--model", MODEL, "--steps", 10, "--output", "run")[0] == 0
    status, _, errors = place.run("run", "--resume", "--steps", 15)
    assert status == 0, errors
    assert [int(float(row.split()[0])) for row in rows(place.folder / "run")] == [0, 5, 10, 15]
    assert (place.folder / "run" / "init.chk").read_bytes() == start
    assert (mine / "init.chk").read_bytes() == start


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_interruption_leaves_nothing_behind(number: signal.Signals, place) -> None:
    process = place.start("gas-nve", "--model", MODEL, "--steps", 1000000, "--output", "run")
    folder = place.folder / "run"
    wait_for(lambda: len(rows(folder)) > 3)
    sockets = sockets_of(children(folder)["i-PI"])
    assert sockets.is_dir()
    if number in OF_QUEUES:  # which may send them to every process of a job
        for running in children(folder).values():
            os.kill(running, signal.SIGUSR2)
            os.kill(running, number)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert f"interrupted by {number.name}; continue with: ipi-driver run gas-nve" in errors
    assert not children(folder)
    assert not sockets.exists()
    # the RESTART stands where the outputs end
    done = int(re.search(r"<step>(\d+)</step>", (folder / "RESTART").read_text())[1])
    assert f"{done} of 1000000" in output
    assert done // 10 * 10 == int(float(rows(folder)[-1].split()[0]))


def test_a_run_under_nohup_outlives_the_terminal(place) -> None:
    command = [
        "nohup",
        sys.executable,
        "-m",
        "ipi_driver",
        "run",
        "gas-nve",
        "--model",
        MODEL,
        "--output",
        "run",
    ]
    process = subprocess.Popen(
        [*command, "--steps", "400"],
        cwd=place.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    folder = place.folder / "run"
    wait_for(lambda: len(rows(folder)) > 1)
    process.send_signal(signal.SIGHUP)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert len(rows(folder)) == 41


def test_a_closed_terminal_stops_the_runs_of_a_reproduction(tmp_path: Path) -> None:
    """They are in sessions of their own, which no terminal ends."""
    words = ("reproduce", "gas", "--model", MODEL, "--jobs", "1", "--no-viewer", "--output", "out")
    process = subprocess.Popen(
        [sys.executable, "-m", "ipi_driver", *words], cwd=tmp_path, stderr=subprocess.PIPE
    )
    folder = tmp_path / "out" / "runs" / "gas-nve-raw"
    wait_for(lambda: (folder / "simulation.out").is_file() and len(rows(folder)) > 1)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert not children(folder)
    assert RunFolder(folder).checkpoints()


@pytest.mark.parametrize("seen", [True, False], ids=["later", "before-it-saw-a-step"])
def test_a_killed_launcher_leaves_no_process(seen: bool, place) -> None:
    """i-PI is told by the kernel, writes its RESTART, and tells the client."""
    process = place.start("gas-nve", "--model", MODEL, "--steps", 1000000, "--output", "run")
    folder = place.folder / "run"
    if not seen:
        wait_for(lambda: "client" in children(folder))
        process.send_signal(signal.SIGSTOP)
    wait_for(lambda: len(rows(folder)) > 3 and (folder / ".starting").exists() is not seen)
    sockets = sockets_of(children(folder)["i-PI"])
    process.kill()
    process.communicate(timeout=60)
    wait_for(lambda: not children(folder))
    assert not list(sockets.iterdir())
    sockets.rmdir()
    status, _, errors = place.run("gas-nve", "--output", "run", "--resume", "--steps", 1)
    assert status == 2
    assert "has done" in error_line(errors)


def test_interruption_before_the_first_step_leaves_a_folder_that_can_be_used(place) -> None:
    process = place.start("gas-nve", "--model", "ase:slow_water.Water?delay=60", "--output", "run")
    folder = place.folder / "run"
    wait_for(lambda: "client" in children(folder) and "Handshaking was" in (folder / "i-pi.log").read_text())
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted by SIGTERM before the first step" in error_line(errors)
    assert not children(folder)
    assert main(["run", "gas-nve", "--output", str(folder), "--model", "absent"]) == 2
    assert (folder / "input.xml").is_file()  # nothing is thrown away for a command that is wrong
    settings = (folder / "driver.yaml").read_text()
    (folder / "driver.yaml").write_text(re.sub("model: .*", f"model: {MODEL}", settings))
    status, _, errors = place.run("gas-nve", "--output", "run", "--resume", "--steps", 10)
    assert status == 0, errors
    assert "begins anew from step 0" in errors
    assert [int(float(row.split()[0])) for row in rows(folder)] == [0, 10]


def test_a_run_killed_before_its_first_checkpoint_is_resumed_from_the_start(place) -> None:
    process = place.start("gas-nve", "--model", SLOW, "--seed", 5, "--output", "run", "--restarts", 0)
    folder = place.folder / "run"
    wait_for(lambda: len(rows(folder)) > 1 and not (folder / ".starting").exists())
    os.kill(children(folder)["i-PI"], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert "continue with --resume" in error_line(errors)
    assert not max(RunFolder(folder).checkpoints(), default=0)
    before = (folder / "simulation.out").read_text()
    (folder / "random.py").write_text("raise ImportError('a file of the run is no module')")
    status, _, errors = place.run("run", "--resume", "--steps", 10)
    assert status == 0, errors
    assert "begins anew from step 0" in errors
    assert [int(float(row.split()[0])) for row in rows(folder)] == [0, 10]
    assert rows(folder)[0] in before  # with the same seed
    assert (folder / "#simulation.out#0#").read_text() == before


def test_files_with_spaces_and_outside_the_input(place) -> None:
    """The run folder holds all that i-PI and the client read."""
    mine = place.copy("gas-nve", lambda text: text.replace(" init.xyz ", " ../common/my init.xyz "))
    common = place.folder / "common"
    common.mkdir()
    (mine / "init.xyz").rename(common / "my init.xyz")
    (mine / "structure.extxyz").rename(common / "structure.extxyz")
    settings = mine / "driver.yaml"
    settings.write_text(settings.read_text().replace("structure.extxyz", "../common/structure.extxyz"))
    before = sorted(place.folder.rglob("*.*xyz"))
    status, _, errors = place.run("my-gas-nve", "--model", ANISOTROPIC, "--steps", 10, "--output", "a/b")
    assert status == 0, errors
    folder = place.folder / "a" / "b"
    assert (folder / "my init.xyz").read_bytes() == (common / "my init.xyz").read_bytes()
    assert "> my init.xyz <" in (folder / "input.xml").read_text()
    assert [path for path in sorted(place.folder.rglob("*.*xyz")) if folder not in path.parents] == before


def inet(text: str) -> str:
    """Over the network instead of a unix socket, and stopped by a command."""
    text = text.replace("mode='unix'", "mode='inet'")
    return text.replace("<address>gas-nve-model</address>", "<address>localhost</address><port>31415</port>")


def test_two_runs_at_once_and_a_killed_client(place) -> None:
    """One over the network without a driver.yaml, the other killed in the middle."""
    mine = place.copy("gas-nve", inet)
    (mine / "driver.yaml").unlink()
    (mine / "input.xml").rename(mine / "over-network.xml")
    words = ("gas-nve", "--model", MODEL, "--steps", 1000000, "--restarts", 0)
    process = place.start(*words, "--output", "run")
    other = place.start(mine / "over-network.xml", "--model", MODEL, "--steps", 1000000)
    folder, second = place.folder / "run", place.folder / "runs" / "over-network"
    wait_for(lambda: len(rows(folder)) > 3 and len(rows(second)) > 3)

    wait_for(lambda: max(RunFolder(folder).checkpoints(), default=0) > 0)
    status, _, errors = place.run("gas-nve", "--output", "run", "--resume")
    assert status == 2
    assert "another ipi-driver runs in" in error_line(errors)
    done = len(rows(folder))
    wait_for(lambda: len(rows(folder)) > done)

    os.kill(children(folder)["client"], signal.SIGKILL)
    (second / "EXIT").touch()
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 2, errors
    assert "the client was killed by SIGKILL at step" in error_line(errors)
    assert "i-PI was stopped; continue with --resume" in error_line(errors)
    steps = [int(float(row.split()[0])) for row in rows(folder)]
    assert steps == list(range(0, steps[-1] + 1, steps[1]))  # the refused --resume has cut off nothing

    output, errors = other.communicate(timeout=60)
    assert other.returncode == 1, errors
    assert "an EXIT file was found; continue with" in errors
    assert "stopped: an EXIT file was found" in output
    assert "<port>31415" not in (second / "input.xml").read_text()
    port = xml.sockets((second / "input.xml").read_text())
    done = max(RunFolder(second).checkpoints())
    with socket.create_server(tuple(port[0].address.split(":")[:1]) + (int(port[0].address.split(":")[1]),)):
        status, _, errors = place.run("over-network", "--resume", "--output", second, "--steps", done + 20)
    assert status == 0, errors
    assert xml.sockets((second / "input.xml").read_text()) != port
    assert not children(folder)
    assert not children(second)


def test_ipi_that_fails_at_the_start_and_the_same_command_again(place) -> None:
    mine = place.copy(
        "gas-nve", lambda text: text.replace("<fixcom>", "<fixmom>").replace("/fixcom", "/fixmom")
    )
    status, _, errors = place.run("my-gas-nve", "--model", MODEL, "--steps", 3)
    assert status == 2
    assert "i-PI failed before the first step" in error_line(errors)
    assert "fixmom" in error_line(errors)
    folder = place.folder / "runs" / "my-gas-nve"
    assert not children(folder)
    (mine / "input.xml").write_text((mine / "input.xml").read_text().replace("fixmom", "fixcom"))
    status, _, errors = place.run("my-gas-nve", "--model", MODEL, "--steps", 30)
    assert status == 0, errors


def test_a_run_folder_corrected_after_a_failed_start_is_run_in_place(place) -> None:
    """The corrected input is used, and no file of the folder is lost."""
    place.copy("gas-nve", lambda text: text.replace("<fixcom>", "<fixmom>").replace("/fixcom", "/fixmom"))
    assert place.run("my-gas-nve", "--model", MODEL, "--output", "runs/mine")[0] == 2
    folder = place.folder / "runs" / "mine"
    (folder / "notes.txt").write_text("mine")
    start = (folder / "init.xyz").read_text()
    (folder / "input.xml").write_text((folder / "input.xml").read_text().replace("fixmom", "fixcom"))
    (folder / "driver.yaml").write_text((folder / "driver.yaml").read_text() + "seed: 7\n")
    status, _, errors = place.run("runs/mine", "--steps", 20)
    assert status == 0, errors
    assert [int(float(row.split()[0])) for row in rows(folder)] == [0, 10, 20]
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "init.xyz").read_text() == start
    assert "seed: 7" in (folder / "driver.yaml").read_text()
    assert not list(folder.glob("#*"))


def test_a_model_that_does_not_know_an_element(place) -> None:
    """The client ends at the start; i-PI, which waits for it, is stopped."""
    ase.io.write(place.folder / "he.xyz", ase.Atoms("He2", [[0, 0, 0], [0, 0, 3]], cell=[8, 8, 8], pbc=True))
    model = "ase:ase.calculators.emt.EMT"
    status, _, errors = place.run(
        "liquid-nvt-raw", "--model", model, "--structure", "he.xyz", "--output", "run"
    )
    assert status == 2
    assert "the client failed (" in error_line(errors)
    assert "He" in error_line(errors)
    assert "before the first step" in error_line(errors)
    assert not children(place.folder / "run")


def test_new_copies_a_template(tmp_path: Path) -> None:
    assert main(["new", "gas-nve", str(tmp_path / "mine")]) == 0
    assert (tmp_path / "mine" / "input.xml").is_file()
    assert main(["new", "gas-nve", str(tmp_path / "mine")]) == 2


def test_new_needs_an_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given in (shipped_folder("inputs") / "gas-nve" / "input.xml", tmp_path):
        assert main(["new", str(given), str(tmp_path / "mine")]) == 2
        assert "is no input: expected a folder with input.xml" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()


BAD = {
    "unknown input": (["no-such-input"], "not one of the shipped"),
    "no input": (["taken"], "is not an input folder"),
    "missing model": (["gas-nvt", "--model", "no-such-model"], "no model 'no-such-model'"),
    "unknown average": (["gas-nvt", "--model", MODEL, "--average", "2x"], "unknown average '2x'"),
    "no steps": (["gas-nvt", "--model", MODEL, "--steps", "0"], "`--steps` must be a positive number"),
    "no stride": (["gas-nvt", "--model", MODEL, "--stride", "0"], "`--nmts` must be a positive number"),
    "one level": (["gas-nve", "--model", MODEL, "--stride", "8"], "--nmts needs multiple time stepping"),
    "seed": (["gas-nvt", "--model", MODEL, "--seed", "-1"], "`--seed` must be zero or a positive number"),
    "structure": (["gas-nvt", "--model", MODEL, "--structure", "absent.xyz"], "no structure file absent.xyz"),
    "nothing to resume": (["gas-nvt", "--model", MODEL, "--resume"], "nothing to resume"),
    "existing folder": (["gas-nvt", "--model", MODEL, "--output", "taken"], "is not empty"),
    "trajectory of another program": (
        [
            "replay",
            "--model",
            MODEL,
            "--structure",
            str(shipped_folder("inputs") / "gas-nve" / "structure.extxyz"),
        ],
        "is no xyz file of i-PI",
    ),
    "no trajectory": (["replay", "--model", MODEL], "which is not there; give --structure FILE"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_writes_nothing(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words, message = BAD[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    assert main(["run", *words]) == 2
    captured = capsys.readouterr().err
    assert message in captured
    assert len(captured.strip().splitlines()) == 1
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "taken"]


def test_own_structure_in_a_left_handed_triclinic_cell(place) -> None:
    """The client and i-PI see the same distances, though i-PI turns the cell."""
    cell = [[0.0, 9.0, 0.5], [8.5, 0.0, 0.0], [1.0, 2.0, 10.0]]
    atoms = ase.Atoms("OH2", [[8.9, 8.8, 0.1], [9.7, 9.3, 0.1], [8.2, 9.4, 0.2]], cell=cell, pbc=True)
    ase.io.write(place.folder / "mine.xyz", atoms, format="extxyz")
    status, _, errors = place.run("liquid-nvt-raw", "--model", MODEL, "--steps", 2, "--structure", "mine.xyz")
    assert status == 0, errors
    folder = place.folder / "runs" / "liquid-nvt-raw"
    frame = next(iter(Run(folder).snapshots(["positions"])))
    started = ase.Atoms("OH2", frame.positions, cell=frame.cell, pbc=True)
    np.testing.assert_allclose(
        started.get_all_distances(mic=True), atoms.get_all_distances(mic=True), atol=2e-4
    )
    assert started.get_volume() == pytest.approx(atoms.get_volume(), rel=1e-5)
