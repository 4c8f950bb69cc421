"""Binary trajectories of i-PI itself against its xyz files of the same run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ipi_driver.errors import UserError
from ipi_driver.ipi_files import Run
from ipi_driver.ipi_files.binary_trajectory import BinaryTrajectory
from ipi_driver.ipi_files.steps import cut_after, last_step

QUANTITIES = ("positions", "velocities", "momenta", "forces")


@pytest.fixture(scope="module")
def folders(ipi_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same run with xyz and with binary trajectories."""
    place = tmp_path_factory.mktemp("binary")
    text = (ipi_run / "input.xml").read_text()
    text = re.sub("(<trajectory [^>]*)stride='.'>", r"\1stride='2' format='FORMAT'>", text)
    for name in ("xyz", "bin"):
        folder = place / name
        folder.mkdir()
        (folder / "start.xyz").write_text((ipi_run / "start.xyz").read_text())
        (folder / "input.xml").write_text(text.replace("FORMAT", name))
        program = Path(sys.executable).with_name("i-pi")
        subprocess.run([program, "input.xml"], cwd=folder, check=True, capture_output=True, timeout=120)
    return place / "xyz", place / "bin"


def test_the_same_as_in_xyz(folders: tuple[Path, Path]) -> None:
    expected, found = (Run(folder) for folder in folders)
    assert found.symbols == expected.symbols
    assert found.n_snapshots() == expected.n_snapshots() == 11
    steps = []
    for one, other in zip(found.snapshots(QUANTITIES), expected.snapshots(QUANTITIES), strict=True):
        assert one.step == other.step
        # xyz: lengths and angles of five decimals, numbers of six digits
        np.testing.assert_allclose(one.cell, other.cell, atol=2e-4)
        for quantity in QUANTITIES:
            np.testing.assert_allclose(one.values[quantity], other.values[quantity], rtol=5.1e-6, atol=1e-12)
        steps.append(one.step)
    assert steps == list(range(0, 21, 2))
    assert found.notes == []


def test_files_that_are_cut_or_damaged(folders: tuple[Path, Path], tmp_path: Path) -> None:
    content = (folders[1] / "water.x_0.bin").read_bytes()
    size = len(content) // 11
    path = tmp_path / "water.x_0.bin"
    path.write_bytes(content[: 2 * size] + bytes(size) + content[3 * size : -5])
    trajectory = BinaryTrajectory(path)
    assert [snapshot.step for snapshot in trajectory] == [0, 2, 6, 8, 10, 12, 14, 16, 18]
    assert trajectory.notes == [
        "water.x_0.bin: snapshots that are damaged, or repeated by a restart, were left out",
        "water.x_0.bin: last snapshot incomplete",
    ]
    path.write_bytes(content[: size - 1])
    with pytest.raises(UserError, match="no complete snapshot"):
        BinaryTrajectory(path)


@pytest.mark.parametrize("part", [32, 33, 0.5, -24])
def test_a_run_that_was_killed_and_started_again_by_hand(
    folders: tuple[Path, Path], tmp_path: Path, part: float
) -> None:
    """i-PI appends to what it had written of a snapshot: the next ones held numbers of others, or were lost."""
    content = (folders[1] / "water.x_0.bin").read_bytes()
    size = len(content) // 11
    kept = int(part * size) if 0 < part < 1 else int(part) % size
    path = tmp_path / "water.x_0.bin"
    path.write_bytes(content[: 3 * size + kept] + content[3 * size :])
    trajectory = BinaryTrajectory(path)
    found = list(trajectory)
    assert [snapshot.step for snapshot in found] == list(range(0, 21, 2))
    for one, other in zip(found, BinaryTrajectory(folders[1] / "water.x_0.bin"), strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.cell, other.cell)
    assert "damaged" in trajectory.notes[0]
    assert last_step(path) == 20
    assert cut_after(path, 12)
    assert path.read_bytes() == content[: 3 * size + kept] + content[3 * size : 7 * size]
