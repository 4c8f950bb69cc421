"""i-PI and the client of a molecule share one core; other runs have others."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from runs_place import SLOW, children, error_line, wait_for

from ipi_driver.runs.cores import core_of_its_own, one_core_suits
from ipi_driver.shipped import shipped_folder

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="the system does not keep processes on cores"
)
ALL = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def cores(folder: Path) -> list[set[int]]:
    """Those on which every thread of the processes of a run may run."""
    return [
        os.sched_getaffinity(int(thread.name))
        for pid in children(folder).values()
        for thread in Path(f"/proc/{pid}/task").iterdir()
    ]


def test_runs_of_a_molecule_at_the_same_time_have_a_core_each(place) -> None:
    words = ("gas-nve", "--model", SLOW, "--steps", 2000)
    for name in ("first", "second"):
        place.start(*words, "--output", name)
    place.start(*words, "--no-one-core", "--output", "free")
    folders = {name: place.folder / name for name in ("first", "second", "free")}
    for folder in folders.values():
        wait_for(lambda folder=folder: (folder / "simulation.out").is_file() and len(children(folder)) == 2)
    found = {name: cores(folder) for name, folder in folders.items()}
    assert all(thread == ALL for thread in found["free"])
    held = [threads[0] for threads in (found["first"], found["second"]) if len(threads[0]) == 1]
    # a machine that has one core for all this has none for the second run
    assert len(held) == min(2, len(ALL))
    assert len(set.union(*held)) == len(held)
    for name in ("first", "second"):
        assert len(found[name]) > 2  # i-PI's thread that polls is among them
        assert all(thread == found[name][0] for thread in found[name])


def test_a_core_is_held_until_the_end_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with core_of_its_own(True) as first:
        assert first in ALL
        with core_of_its_own(True) as second:
            assert second != first
        with core_of_its_own(True) as again:
            assert again == second
    with core_of_its_own(False) as none:
        assert none is None


@pytest.mark.parametrize(
    ("name", "change", "suits"),
    [
        ("gas-nve", "", True),
        ("gas-nve", "threads: 1", True),
        ("gas-nve", "threads: 2", False),
        ("gas-nve", "device: cuda", False),
        ("gas-nvt", "", False),  # two endpoints, one of them averaged
        ("liquid-nvt-raw", "", False),  # 192 atoms
    ],
)
def test_what_is_faster_on_one_core(tmp_path: Path, name: str, change: str, suits: bool) -> None:
    folder = shutil.copytree(shipped_folder("inputs") / name, tmp_path / name)
    with (folder / "driver.yaml").open("a") as file:
        file.write(change + "\n")
    assert one_core_suits(folder) is suits


def test_one_core_and_several_threads_contradict(place) -> None:
    status, _, errors = place.run("gas-nve", "--one-core", "--threads", 2, "--output", "out")
    assert status == 2
    assert "--one-core is for one thread, got --threads 2" in error_line(errors)
    assert not (place.folder / "out").exists()
