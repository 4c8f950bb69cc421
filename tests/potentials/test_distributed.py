"""Rotations divided among processes give what one process gives; a process that ends stops the group."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from ipi_driver.ipi_files.outputs import Run
from ipi_driver.runs.execute import ipi_command
from ipi_driver.shipped import shipped_folder

SCRIPT = """
import os, sys
import numpy as np
import ase.build
from ipi_driver.potentials import load_potential
from ipi_driver.potentials.distributed import DistributedPotential
from ipi_driver.rotations import RotationalAverage
from ipi_driver.structure import Structure

raw = load_potential("committee:anisotropic?l=2&amplitude=0.1,anisotropic?l=3e&seed=4")
group = DistributedPotential(raw)
if group.rank:
    if "{mode}" == "die":
        group._send(None)
        os._exit(7)
    if "{mode}" == "fail":
        group.local._evaluate = lambda *_: 1 / 0
    group.follow()
    sys.exit(0)
structures = [Structure.from_atoms(ase.build.molecule(name)) for name in ("H2O", "CH3OH")]
for name in ("none", "i", "T", "2i"):
    for structure in structures:
        one = RotationalAverage(raw, name).predict(structure)
        many = RotationalAverage(group, name).predict(structure)
        assert abs(one.energy - many.energy) < 1e-12, (one.energy, many.energy)
        np.testing.assert_allclose(many.forces, one.forces, atol=1e-12)
        np.testing.assert_allclose(many.virial, one.virial, atol=1e-12)
        assert set(many.extras) == set(one.extras) != set()
        for key, value in one.extras.items():
            np.testing.assert_allclose(many.extras[key], value, atol=1e-12)
together = group.evaluate(structures, RotationalAverage(raw, "T").quadrature.rotations)
alone = raw.evaluate(structures, RotationalAverage(raw, "T").quadrature.rotations)
np.testing.assert_allclose(together.energies, alone.energies, atol=1e-12)
group.close()
print("equal")
"""


def start(tmp_path: Path, mode: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "group.py"
    script.write_text(SCRIPT.replace("{mode}", mode))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def test_the_same_numbers_as_one_process(tmp_path: Path) -> None:
    done = start(tmp_path, "good")
    assert done.returncode == 0, done.stderr
    assert "equal" in done.stdout


def test_a_model_that_fails_in_one_process_ends_the_group(tmp_path: Path) -> None:
    done = start(tmp_path, "fail")
    assert done.returncode != 0
    assert "ZeroDivisionError" in done.stderr


def test_a_process_that_is_lost_ends_the_group(tmp_path: Path) -> None:
    """The other process reports it; torchrun, which may end it before, is not in between."""
    script = tmp_path / "group.py"
    script.write_text(SCRIPT.replace("{mode}", "die"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    first, second = (
        subprocess.Popen(
            [sys.executable, str(script)],
            env={**os.environ, **group, "RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    )
    assert "another process of the group has ended" in first.communicate(timeout=240)[1]
    assert first.returncode != 0
    second.communicate(timeout=240)
    assert second.returncode == 7


def test_a_client_of_two_processes(tmp_path: Path) -> None:
    source = shipped_folder("inputs") / "gas-nve"
    text = (source / "input.xml").read_text()
    text = re.sub(r"<total_steps>[^<]*", "<total_steps> 20 ", text)
    text = re.sub(r"<address>[^<]*", "<address>group", text)
    (tmp_path / "input.xml").write_text(text)
    (tmp_path / "init.xyz").write_text((source / "init.xyz").read_text())
    prefix = tempfile.mkdtemp(prefix="ipi-", dir="/tmp") + "/"
    ipi = subprocess.Popen(
        [ipi_command(), "-S", prefix, "input.xml"], cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = ["-m", "ipi_driver", "serve", "anisotropic?l=2&amplitude=0.05", "--structure", "init.xyz"]
    try:
        done = subprocess.run(
            [*launch, *words, "--unix", "group=T", "-S", prefix, "--stats", "stats.json"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        assert ipi.wait(60) == 0
    finally:
        ipi.kill()
        shutil.rmtree(prefix, ignore_errors=True)
    assert len(Run(tmp_path).properties.steps) == 3  # 0, 10, 20
