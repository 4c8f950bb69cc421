"""Several clients of one run, as on several nodes: i-PI listens at an address, and hands out the beads."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from runs_place import rows, wait_for

from ipi_driver.cli import main
from ipi_driver.errors import UserError
from ipi_driver.ipi_files.edit import sockets
from ipi_driver.runs.changes import Changes
from ipi_driver.runs.prepare import find_source, prepare
from ipi_driver.shipped import shipped_folder

MODEL = "ase:slow_water.Water?delay=0.01"
NODES = """#!/bin/sh
# each client gets an address of its own, as if it were another node
echo $$ "$@" >> {folder}/launched
exec "$@"
"""


def four_beads(text: str) -> str:
    text = text.replace("nbeads='1'", "nbeads='4'").replace("stride='1000'", "stride='20'")
    return re.sub("<trajectory[^>]*spread.*?</trajectory>", "", text)


def clients_of(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            here = (entry / "cwd").resolve() == folder.resolve()
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if here and b"serve" in words:
            found.append(int(entry.name))
    return sorted(found)


def test_words_before_the_clients_are_those_of_a_shell(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "gas-nve", "--launch", "srun 'x"])
    assert 'expected words as of a shell, got "srun \'x": No closing quotation' in capsys.readouterr().err


def listeners() -> set[str]:
    """Addresses of IPv4 at which somebody listens, as in /proc/net/tcp."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {words[1] for words in lines if words[3] == "0A"}


def test_clients_at_another_address_share_the_beads(place) -> None:
    """i-PI listens at 127.0.0.2; a client that is killed costs no row; the numbers are those of one client."""
    place.copy("gas-nve", four_beads)
    launch = place.folder / "launch"
    launch.write_text(NODES.format(folder=place.folder))
    launch.chmod(0o755)
    words = ("my-gas-nve", "--model", MODEL, "--steps", 60)
    status, _, errors = place.run(*words, "--output", "one")
    assert status == 0, errors
    run = place.folder / "run"
    process = place.start(
        *words, "--output", "run", "--clients", 2, "--address", "127.0.0.2", "--launch", launch
    )
    wait_for(lambda: len(rows(run)) > 3)
    (socket,) = sockets((run / "input.xml").read_text())
    host, _, port = socket.address.rpartition(":")
    assert (socket.mode, host) == ("inet", "127.0.0.2")
    assert f"0200007F:{int(port):04X}" in listeners()
    assert f"0100007F:{int(port):04X}" not in listeners()
    both = clients_of(run)
    assert len(both) == 2
    os.kill(both[1], signal.SIGKILL)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert "the client was killed by SIGKILL" in errors
    assert "started again from step" in errors
    for path in run.glob("simulation.*_[0-3].xyz"):
        assert path.read_bytes() == (place.folder / "one" / path.name).read_bytes()
    tables = [np.loadtxt(folder / "simulation.out") for folder in (run, place.folder / "one")]
    np.testing.assert_allclose(*tables, rtol=1e-12)  # i-PI sums temperatures after a RESTART in another way
    parts = [json.loads(path.read_text()) for path in run.glob("stats*.json")]
    counts = [part["endpoints"][label]["evaluations"] for part in parts for label in part["endpoints"]]
    assert min(counts) > 20  # each has answered
    assert len((place.folder / "launched").read_text().splitlines()) == 4
    assert not clients_of(run)


def test_an_address_of_another_machine_or_shared_memory(tmp_path: Path) -> None:
    for address, edit, message in (
        ("192.0.2.7", str, "--address 192.0.2.7 is not an address of this machine"),
        ("127.0.0.2", lambda text: text.replace("mode='unix'", "mode='shm'"), "has shared memory"),
    ):
        source = tmp_path / f"in-{address}"
        source.mkdir()
        for path in (shipped_folder("inputs") / "gas-nve").iterdir():
            text = edit(path.read_text())
            (source / path.name).write_text(text.replace("unix:", "shm:") if edit is not str else text)
        changes = Changes(model="anisotropic", address=address)
        with pytest.raises(UserError, match=message):
            prepare(find_source(source, changes), tmp_path / "run", changes)
        assert not (tmp_path / "run").exists()
