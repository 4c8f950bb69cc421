"""The shipped gas and liquid inputs: the published settings, and valid on their own, without the launcher."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from ipi_driver.cli import main
from ipi_driver.ipi_files.outputs import Run
from ipi_driver.ipi_files.start import read_start
from ipi_driver.ipi_files.template import read_template
from ipi_driver.runs.execute import ipi_command
from ipi_driver.shipped import shipped_folder
from ipi_driver.structure import FloatArray
from ipi_driver.units import ATOMIC_TIME, SPEED_OF_LIGHT

INPUTS = ("gas-nve", "gas-nvt", "liquid-nvt", "liquid-nvt-raw", "liquid-nvt-random")
MTS = ("gas-nvt", "liquid-nvt")
MODEL = "anisotropic?l=2&amplitude=0.05"


def parse(name: str) -> ElementTree.Element:
    return ElementTree.parse(shipped_folder("inputs") / name / "input.xml").getroot()


def numbers(element: ElementTree.Element | None) -> list[float]:
    assert element is not None
    assert element.text is not None
    return [float(x) for x in re.findall(r"[-+.\de]+", element.text)]


@pytest.mark.parametrize("name", INPUTS)
def test_published_settings(name: str) -> None:
    root = parse(name)
    dynamics = root.find("system/motion/dynamics")
    assert dynamics is not None
    timestep = dynamics.find("timestep")
    assert timestep is not None
    assert timestep.get("units") == "femtosecond"
    assert numbers(timestep) == [5.0 if name in MTS else 0.5]
    assert numbers(root.find("system/ensemble/temperature")) == [300.0]
    assert numbers(root.find("system/initialize/velocities")) == [300.0]
    if name in MTS:
        assert numbers(dynamics.find("nmts")) == [1, 10]
        weights = {f.get("forcefield"): numbers(f.find("mts_weights")) for f in root.iter("force")}
        assert weights == {"raw": [-1, 1], "averaged": [1, 0]}
    thermostat = dynamics.find("thermostat")
    if name == "gas-nve":
        assert (dynamics.get("mode"), thermostat) == ("nve", None)
    elif name != "gas-nvt":
        assert thermostat is not None
        assert (dynamics.get("mode"), thermostat.get("mode")) == ("nvt", "svr")
        assert numbers(thermostat.find("tau")) == [10.0]
    sockets = list(root.iter("ffsocket"))
    assert sockets
    assert all(numbers(socket.find("timeout"))[0] > 0 for socket in sockets)


@pytest.mark.parametrize("name", INPUTS)
def test_a_restart_falls_on_a_step_with_output(name: str) -> None:
    """So that `i-pi RESTART` by hand repeats no frame; and i-PI does not keep its state more often than it has to."""
    root = parse(name)
    output = root.find("output")
    assert output is not None
    strides = [int(element.get("stride", "1")) for element in output]
    assert int(root.get("safe_stride", "1")) == min(strides)


def test_colored_noise_samples_evenly_from_0_4_to_4000_per_cm() -> None:
    """The energy of an oscillator of frequency ω decorrelates in about 2.7/ω over the whole range, and not outside.

    Efficiency κ = 1 / (ω τ), τ the integral of the squared autocorrelation of the position, from the
    eigenvectors of the drift matrix of (q, p, s). White noise keeps κ in a range of one decade only.
    """
    drift = np.array(numbers(parse("gas-nvt").find("system/motion/dynamics/thermostat/A"))).reshape(5, 5)
    assert np.linalg.eigvalsh(drift + drift.T).min() > 0

    def efficiency(wavenumber: float) -> float:
        omega = 2 * np.pi * wavenumber * SPEED_OF_LIGHT * ATOMIC_TIME
        matrix = np.zeros((6, 6))
        matrix[1:, 1:] = drift
        matrix[0, 1], matrix[1, 0] = -1.0, omega**2
        rates, vectors = np.linalg.eig(matrix)
        amplitudes = vectors[0] * np.linalg.inv(vectors)[:, 0]
        tau = (np.outer(amplitudes, amplitudes) / (rates[:, None] + rates)).sum().real
        return float(1 / (omega * tau))

    inside = [efficiency(x) for x in np.geomspace(0.4, 4000, 41)]
    assert min(inside) > 0.3
    assert max(inside) < 0.45
    assert efficiency(0.04) < 0.1
    assert efficiency(40000) < 0.1


@pytest.mark.parametrize("name", INPUTS)
def test_starting_structure(name: str) -> None:
    """The client sees the atoms that i-PI starts from; one molecule isolated, the liquid at 0.997 g/cm3."""
    folder = shipped_folder("inputs") / name
    settings = yaml.safe_load((folder / "driver.yaml").read_text())
    assert settings["model"] == "pet-water-s2"
    client, ipi = read_template(folder / settings["structure"]), read_template(folder / "init.xyz")
    np.testing.assert_array_equal(client.numbers, ipi.numbers)
    assert client.periodic == name.startswith("liquid")
    assert client.n_atoms == (3 if name.startswith("gas") else 192)
    if name.startswith("liquid"):
        for file, n_molecules in (("init.xyz", 64), ("init-512.xyz", 512)):
            atoms = read_start(folder / file, periodic=True)
            assert str(atoms.symbols) == "OH2" * n_molecules
            assert atoms.cell.lengths() == pytest.approx(24.861 * (n_molecules / 512) ** (1 / 3), rel=2e-4)
            molecules = atoms.positions.reshape(-1, 3, 3)
            bonds = np.linalg.norm(nearest(molecules[:, 1:] - molecules[:, :1], atoms.cell[0, 0]), axis=-1)
            assert 0.85 < bonds.min() < bonds.max() < 1.15
            oxygens = np.linalg.norm(
                nearest(molecules[:, None, 0] - molecules[:, 0], atoms.cell[0, 0]), axis=-1
            )
            np.fill_diagonal(oxygens, np.inf)
            assert oxygens.min() > 2.3


def nearest(vectors: FloatArray, edge: float) -> FloatArray:
    """Nearest images of vectors in a cubic box."""
    return vectors - edge * np.round(vectors / edge)


@pytest.fixture
def sockets() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="ipi-", dir="/tmp") as folder:
        yield f"{folder}/"


@pytest.mark.parametrize("name", ["gas-nvt", "liquid-nvt-random"])
def test_by_hand(name: str, tmp_path: Path, sockets: str) -> None:
    """`i-pi input.xml` in one shell and `ipi-driver serve` in the other, in a copy of the folder."""
    folder = tmp_path / "copy"
    assert main(["new", name, str(folder)]) == 0
    text = (folder / "input.xml").read_text()
    n_steps = 2 if name in MTS else 20
    (folder / "input.xml").write_text(
        re.sub(r"<total_steps>.*</total_steps>", f"<total_steps>{n_steps}</total_steps>", text)
    )
    commands = (
        [ipi_command(), "-S", sockets, "input.xml"],
        [sys.executable, "-m", "ipi_driver", "serve", MODEL, "--config", "driver.yaml", "-S", sockets],
    )
    both = [
        subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command in commands
    ]
    try:
        outputs = [process.communicate(timeout=60)[0] for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], outputs
    run = Run(folder)
    assert run.properties.steps[-1] >= (n_steps if name not in MTS else 1)
    assert {"conserved", "temperature", "kinetic_md", "potential", "temperature(O)"} <= set(
        run.properties.columns
    )
    for quantity in ("positions", "velocities", "forces"):
        assert run.has(quantity)
    assert "WARNING" not in outputs[0]


READ = """
import os, sys
from ipi.engine.simulation import Simulation
for folder in sys.argv[1:]:
    os.chdir(folder)
    Simulation.load_from_xml(open("input.xml"), read_only=True)
    print("read", folder)
"""


def test_ipi_reads_every_shipped_input() -> None:
    """Names of elements, attributes and files; `replay` has no trajectory of its own."""
    folders = sorted(
        path.parent for path in shipped_folder("inputs").glob("*/input.xml") if path.parent.name != "replay"
    )
    assert len(folders) >= 6
    command = [sys.executable, "-c", READ, *map(str, folders)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("read /") == len(folders)
