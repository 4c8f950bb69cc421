"""Bad input and bad luck: one clear line, exit status not 0, no process that hangs."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time

import ase.io
import numpy as np
import pytest
from client_place import ANISOTROPIC, CLIENT, ffsocket, interrupt, wait, wait_for, water

from ipi_driver.cli import main
from ipi_driver.client.endpoint import RETRY_INTERVAL, Endpoint
from ipi_driver.client.settings import EndpointSettings
from ipi_driver.errors import UserError

SICK = """
import time
import numpy as np
from ase.calculators.calculator import Calculator
class Sick(Calculator):
    implemented_properties = ["energy", "forces"]
    def __init__(self, at=3, how="sick", seconds=0.0):
        super().__init__()
        self.at, self.how, self.seconds, self.calls = at, how, seconds, 0
    def calculate(self, atoms, properties, changes):
        super().calculate(atoms, properties, changes)
        self.calls += 1
        x = atoms.positions - atoms.positions.mean(axis=0)
        self.results = {"energy": 0.5 * (x**2).sum(), "forces": -x}
        if self.calls >= self.at:
            if self.how == "sick":
                self.results["forces"] = -x * np.nan
            elif self.how == "raise":
                raise RuntimeError("lost the GPU")
            elif self.how == "sleep" and self.calls == self.at:
                open("asleep", "w").close()
                time.sleep(self.seconds)
"""
STOPS_WITH_CLIENT = "<exit_on_disconnect>true</exit_on_disconnect>"


@pytest.fixture
def sick(place):
    (place.folder / "sick.py").write_text(SICK)
    return place


def error_line(place, name: str = "client") -> str:
    lines = [line for line in place.log(name).splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, place.log(name)
    assert "Traceback" not in place.log(name)
    return lines[0]


BAD_WORDS = {
    "missing model": (["no-such-model", "--unix", "a"], "no-such-model"),
    "no model": (["--unix", "a"], "no model given"),
    "no endpoint": ([ANISOTROPIC], "no endpoint given"),
    "unknown average": ([ANISOTROPIC, "--unix", "a=2j"], "2j"),
    "bad port": ([ANISOTROPIC, "--inet", "localhost:http"], "HOST:PORT"),
    "same address twice": ([ANISOTROPIC, "--unix", "a", "--unix", "a=2i"], "unix a"),
    "long path": ([ANISOTROPIC, "--unix", "a" * 120], "-S"),
    "no such device": (["ase:ase.calculators.nothing.Nothing", "--unix", "a"], "nothing"),
    "missing structure": ([ANISOTROPIC, "--unix", "a", "--structure", "nowhere.xyz"], "nowhere.xyz"),
    "no i-PI": ([ANISOTROPIC, "--unix", "a", "--deadline", "0.5"], "within 0.5 s"),
    "no folder for the statistics": ([ANISOTROPIC, "--unix", "a", "--stats", "no/s.json"], "no folder no"),
    "no i-PI on the network": ([ANISOTROPIC, "--inet", "127.0.0.1:1", "--deadline", "0.5"], "within 0.5 s"),
}


@pytest.mark.parametrize("case", BAD_WORDS)
def test_bad_arguments(tmp_path, monkeypatch, capsys, case):
    words, expected = BAD_WORDS[case]
    monkeypatch.chdir(tmp_path)
    ase.io.write("init.extxyz", water())
    if "--structure" not in words:
        words = [*words, "--structure", "init.extxyz"]
    assert main(["serve", "--quiet", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert expected in error


def test_no_ipi(place):
    ase.io.write(place.folder / "init.extxyz", water())
    words = ["--structure", "init.extxyz", "--unix", "a", "--deadline", "0.3", "--stats", "s.json"]
    assert wait(place.client(ANISOTROPIC, *words)) == 2
    assert "within 0.3 s" in error_line(place)
    assert "waiting up to 0.3 s" in place.log()
    assert json.loads((place.folder / "s.json").read_text())["model_seconds"] == 0.0


def test_no_deadline(tmp_path):
    """`--deadline 0` waits for i-PI, however late it opens its socket."""
    ended: list[Exception] = []
    settings = EndpointSettings(unix="late")
    endpoint = Endpoint(
        settings, f"{tmp_path}/", 0.0, lambda requests: [], 3, lambda _: False, lambda _: False
    )

    def run() -> None:
        try:
            endpoint.run()
        except UserError as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    with socket.socket(socket.AF_UNIX) as ipi:
        ipi.settimeout(30.0)
        thread.start()
        time.sleep(3.0 * RETRY_INTERVAL)
        ipi.bind(f"{tmp_path}/late")
        ipi.listen()
        try:
            assert not ended
            ipi.accept()[0].close()
        finally:
            endpoint.stop()
            thread.join()
    assert not ended


def test_unknown_yaml_key(place):
    (place.folder / "driver.yaml").write_text("model: a\nendpoint: [{unix: a}]\n")
    assert wait(place.start([*CLIENT, "serve"], "client")) == 2
    line = error_line(place)
    assert "`endpoint`" in line
    assert "did you mean `endpoints`" in line


def test_wrong_number_of_atoms(place):
    place.input([ffsocket("a", extra=STOPS_WITH_CLIENT)], water())
    ase.io.write(place.folder / "two.extxyz", water()[:2])
    ipi = place.ipi()
    assert wait(place.client(ANISOTROPIC, "--structure", "two.extxyz", "--unix", "a")) == 2
    line = error_line(place)
    assert "3 atoms" in line
    assert "has 2" in line
    assert wait(ipi) == 0  # asked to stop, not hung
    assert len(ase.io.read(place.folder / "failed-frame.extxyz")) == 3


def test_element_that_the_model_does_not_know(place):
    atoms = water()
    atoms.symbols[0] = "He"
    place.input([ffsocket("a", extra=STOPS_WITH_CLIENT)], atoms)
    ipi = place.ipi()
    model = "ase:ase.calculators.emt.EMT"
    assert wait(place.client(model, "--input", "input.xml", "--unix", "a")) == 2
    assert "He" in error_line(place)
    assert wait(ipi) == 0


@pytest.mark.parametrize(("how", "reason"), [("sick", "not finite"), ("raise", "lost the GPU")])
def test_model_that_fails_during_the_run(sick, how, reason):
    sick.input([ffsocket(name, extra=STOPS_WITH_CLIENT) for name in "ab"], water(), steps=50)
    ipi = sick.ipi()
    words = ["--input", "input.xml", "--unix", "a", "--unix", "b", "--stats", "s.json"]
    client = sick.client(f"ase:sick.Sick?at=3&how={how}", *words)
    assert wait(client) == 2
    line = error_line(sick)
    assert reason in line
    assert "failed-frame.extxyz" in line
    written = ase.io.read(sick.folder / "failed-frame.extxyz")
    # the third call is that of step 2: the atoms have moved a little from where they started
    np.testing.assert_allclose(written.positions, water().positions, atol=0.1)
    assert (written.symbols == water().symbols).all()
    assert reason in written.info["reason"]
    assert wait(ipi) == 0
    assert "Traceback" not in sick.log("ipi")
    assert json.loads((sick.folder / "s.json").read_text())["endpoints"]["unix a"]["evaluations"] >= 1
    assert 1 <= len(sick.output()) <= 3  # what was computed before is kept


@pytest.mark.parametrize("threaded", ["true", "false"])
def test_model_that_fails_in_the_process_of_ipi(sick, threaded, capsys):
    """In a thread of i-PI's, which would die alone and leave the main one waiting for ever."""
    main(["pes-path"])
    path = capsys.readouterr().out.strip()
    direct = (
        f"<ffdirect name='ff' threaded='{threaded}'><pes>custom</pes><pes_path>{path}</pes_path><parameters>"
        "{model: ase:sick.Sick?at=3&amp;how=sick, structure: init.extxyz}</parameters></ffdirect>"
    )
    sick.input([direct], water(), steps=50)
    wait(sick.ipi())  # whose status is 0 all the same
    assert "not finite" in sick.log("ipi")
    assert (sick.folder / "RESTART").exists() or threaded == "false"


def test_a_socket_that_is_never_opened_ends_no_run(place):
    """A weight of zero or a wrong address: reported once, while the others go on."""
    place.input([ffsocket("a")], water(), steps=2000)
    ipi = place.ipi()
    words = ["--input", "input.xml", "--unix", "a", "--unix", "b", "--deadline", "1"]
    client = place.client(ANISOTROPIC, *words)
    assert (wait(ipi), wait(client)) == (0, 0), place.log()
    assert place.log().count("unix b: i-PI is there, but has not opened this socket in 1 s") == 1


def test_atoms_that_ipi_would_wrap(place):
    """Into a cell that an isolated molecule does not have."""
    path = place.input([ffsocket("a")], water())
    path.write_text(path.read_text().replace("pbc='false'", "pbc='true'"))
    assert wait(place.client(ANISOTROPIC, "--input", "input.xml", "--unix", "a")) == 2
    assert "tears apart a structure that is not periodic in every direction" in error_line(place)


def test_ipi_killed(place):
    place.input([ffsocket("a"), ffsocket("b")], water(), steps=1000000)
    ipi = place.ipi()
    client = place.client(ANISOTROPIC, "--input", "input.xml", "--unix", "a", "--unix", "b=2i")
    out = place.folder / "sim.out"
    wait_for(lambda: out.exists() and len(out.read_text().splitlines()) > 20)
    ipi.kill()
    assert wait(client, 10) == 2
    assert "killed" in error_line(place)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_client_stopped_by_a_signal(place, number):
    place.input([ffsocket("a", extra=STOPS_WITH_CLIENT)], water(), steps=1000000)
    ipi = place.ipi()
    client = place.client(ANISOTROPIC, "--input", "input.xml", "--unix", "a", "--stats", "s.json")
    out = place.folder / "sim.out"
    wait_for(lambda: out.exists() and len(out.read_text().splitlines()) > 20)
    client.send_signal(number)
    assert wait(client, 10) == 128 + number
    assert json.loads((place.folder / "s.json").read_text())["endpoints"]["unix a"]["evaluations"] > 5
    assert wait(ipi) == 0
    assert "Traceback" not in place.log("ipi")


def test_signal_during_a_long_evaluation(sick):
    """One endpoint is in the model, the other waits for it: both end, and nothing is called a failure."""
    sick.input([ffsocket(name, extra=STOPS_WITH_CLIENT) for name in "ab"], water(), steps=10)
    ipi = sick.ipi()
    model = "ase:sick.Sick?at=2&how=sleep&seconds=60"
    client = sick.client(model, "--input", "input.xml", "--unix", "a", "--unix", "b=i")
    wait_for(lambda: (sick.folder / "asleep").exists())
    time.sleep(0.5)
    interrupt(client)
    assert wait(client, 10) == 128 + signal.SIGTERM
    assert not list(sick.folder.glob("failed-frame*"))
    assert wait(ipi) == 0


def test_connection_dropped_by_a_timeout_of_ipi(sick):
    """i-PI gives up on an evaluation of 3 s after 1 s; the client connects again and has the result ready."""
    sick.input([ffsocket("a", timeout=1.0)], water(), steps=4)
    ipi = sick.ipi()
    model = "ase:sick.Sick?at=3&how=sleep&seconds=3"
    client = sick.client(model, "--input", "input.xml", "--unix", "a", "--stats", "s.json")
    assert (wait(ipi), wait(client)) == (0, 0), sick.log()
    assert "connected again" in sick.log()
    assert len(sick.output()) == 5
    counts = json.loads((sick.folder / "s.json").read_text())["endpoints"]["unix a"]
    assert counts["frames"] == 5
    assert counts["repeated"] >= 1


def test_status_is_answered_while_another_endpoint_evaluates(sick):
    """Two sockets held by the test: one asks for forces that take 3 s, the other for the status."""
    listeners = []
    for name in ("slow", "quick"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(sick.prefix + name)
        listener.listen(1)
        listeners.append(listener)
    ase.io.write(sick.folder / "init.extxyz", water())
    model = "ase:sick.Sick?at=1&how=sleep&seconds=3"
    words = ["--structure", "init.extxyz", "--unix", "slow", "--unix", "quick"]
    client = sick.client(model, *words)
    slow, quick = (listener.accept()[0] for listener in listeners)

    def ask(connection: socket.socket, word: str) -> str:
        connection.sendall(word.ljust(12).encode())
        return connection.recv(12).decode().strip()

    for connection in (slow, quick):
        assert ask(connection, "STATUS") == "NEEDINIT"
        connection.sendall(b"INIT        " + np.array([0, 1], dtype=np.int32).tobytes() + b" ")
        assert ask(connection, "STATUS") == "READY"
    data = np.eye(3).tobytes() * 2 + np.int32(3).tobytes() + np.arange(9.0).tobytes()
    slow.sendall(b"POSDATA     " + data + b"STATUS      ")
    start = time.monotonic()
    for _ in range(10):
        assert ask(quick, "STATUS") == "READY"
    assert time.monotonic() - start < 1.0
    assert slow.recv(12) == b"HAVEDATA    "
    assert time.monotonic() - start > 2.0
    for connection in (slow, quick):
        connection.sendall(b"EXIT        ")
        assert connection.recv(12) == b""  # the client says the end, too
        connection.close()
    for listener in listeners:
        listener.close()
    assert wait(client) == 0
