"""The bytes, with i-PI's own socket class on the other side."""

from __future__ import annotations

import json
import resource
import socket
import threading
import time

import numpy as np
import pytest
from ipi.interfaces.sockets import Driver, Status

from ipi_driver.client.protocol import Connection, Disconnected, Reply, Session
from ipi_driver.errors import UserError


class Answers:
    """Made-up results that depend on all that was sent."""

    def __init__(self) -> None:
        self.seen: list = []

    def __call__(self, requests):
        self.seen.extend(requests)
        return [
            Reply(
                float(request.positions.sum()), 2 * request.positions, np.arange(9.0).reshape(3, 3) + request.h,
                json.dumps({"unit": "eV/Å", "value": 1.5}, ensure_ascii=False),
            )
            for request in requests
        ]  # fmt: skip


@pytest.fixture
def pair():
    """i-PI's driver class, and a session that answers it in a thread; errors of the session are kept."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    answers, errors = Answers(), []
    session = Session(Connection(ours), answers)

    def run():
        try:
            session.run()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield theirs, answers, errors, thread
    theirs.close()
    thread.join(5)
    ours.close()
    assert not thread.is_alive()


def request(n_atoms: int, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    h = np.triu(rng.normal(size=(3, 3))) + 5 * np.eye(3)
    return {
        "id": 0, "pars": " ", "pos": rng.normal(size=3 * n_atoms), "active": np.arange(3 * n_atoms),
        "cell": (h, np.linalg.inv(h)), "offset": 0.0,
    }  # fmt: skip


def test_lengths_of_extras_are_bytes(pair):
    """ "Å" is two bytes: a length in characters would shift everything that follows."""
    theirs, answers, errors, thread = pair
    driver = Driver(theirs)
    for seed in (0, 1):
        data = request(5, seed)
        assert driver.get_status() & (Status.NeedsInit if seed == 0 else Status.Ready)
        if seed == 0:
            driver.initialize(0, " ")
            driver.get_status()
        driver.sendpos(data["pos"], data["cell"])
        assert driver.get_status() & Status.HasData
        energy, forces, virial, extras = driver.getforce()
        assert energy == pytest.approx(data["pos"].sum(), rel=1e-14)
        np.testing.assert_array_equal(forces, 2 * data["pos"])
        np.testing.assert_array_equal(virial, np.arange(9.0).reshape(3, 3) + data["cell"][0])
        assert extras["unit"] == "eV/Å"
        np.testing.assert_array_equal(answers.seen[-1].h, data["cell"][0])
    driver.send_msg("exit")
    driver.close()
    thread.join(5)
    assert not thread.is_alive()
    assert errors == []


def test_bytes_in_any_pieces(pair):
    """A message longer than the buffer, delivered in pieces that cut headers and numbers."""
    theirs, answers, _, _ = pair
    positions = np.random.default_rng(0).normal(size=(10000, 3))
    message = (
        b"INIT        " + np.array([3, 5], dtype=np.int32).tobytes() + b"a : 1"
        + b"POSDATA     " + np.eye(3).tobytes() * 2 + np.int32(10000).tobytes() + positions.tobytes()
        + b"GETFORCE    "
    )  # fmt: skip
    sizes = np.random.default_rng(1).integers(1, 20000, size=200)
    start = 0
    for size in [7, 3, 1, 25, *sizes.tolist()]:
        theirs.sendall(message[start : start + size])
        start += size
        if size < 100:
            time.sleep(0.01)
    received = bytearray()
    while len(received) < 12 + 8 + 4 + 240000 + 72:
        received += theirs.recv(1 << 20)
    assert received[:12] == b"FORCEREADY  "
    np.testing.assert_array_equal(np.frombuffer(received, count=30000, offset=24), 2 * positions.reshape(-1))
    np.testing.assert_array_equal(answers.seen[0].positions, positions)


@pytest.mark.parametrize(
    "message",
    [
        b"GETPOSITIONS",
        b"POSDATA     " + bytes(500),
        b"INIT        " + np.array([0, 0], dtype=np.int32).tobytes() + b"GETFORCE    ",
        b"INIT        " + np.array([0, -4], dtype=np.int32).tobytes(),
    ],
)
def test_what_is_not_the_protocol(pair, message):
    theirs, _, errors, thread = pair
    theirs.sendall(message)
    thread.join(5)
    assert [type(error) for error in errors] == [UserError]
    assert "protocol" in str(errors[0])


@pytest.mark.parametrize("message", [b"", b"STATU", b"INIT        " + bytes(3)])
def test_end_of_connection_anywhere(pair, message):
    theirs, _, errors, thread = pair
    theirs.sendall(message)
    theirs.close()
    thread.join(5)
    assert [type(error) for error in errors] == [Disconnected]


def test_whole_request_is_read_before_the_evaluation():
    """A process that is killed while it evaluates leaves no unread byte: i-PI sees an end, not a reset."""
    ours, theirs = socket.socketpair()
    unread = []

    def evaluate(requests):
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            unread.append(ours.recv(1))
        raise UserError("enough")

    header = b"INIT        " + np.array([0, 0], dtype=np.int32).tobytes()
    theirs.sendall(
        header + b"POSDATA     " + bytes(144) + np.int32(1).tobytes() + bytes(24) + b"GETFORCE    "
    )
    with pytest.raises(UserError, match="enough"):
        Session(Connection(ours), evaluate).run()
    assert unread == []
    ours.close()
    theirs.close()


def init(text: bytes) -> bytes:
    return b"INIT        " + np.array([0, len(text)], dtype=np.int32).tobytes() + text


ANNOUNCED = {
    "atoms": (
        init(b"") + b"POSDATA     " + bytes(144) + np.int32(10**8).tobytes(),
        "100000000 atoms, but .* 3",
    ),
    "parameters": (b"INIT        " + np.array([0, 2 * 10**9], dtype=np.int32).tobytes(), "2000000000 bytes"),
    "batch": (init(b"batch_size:1000000000"), "batch_size 1000000000, expected at most"),
    "digits": (init(b"batch_size:" + b"9" * 5000), "batch_size 9{20}, expected at most"),
    "batch of atoms": (
        init(b"batch_size:1000") + b"POSDATA     " + np.int32(10**6).tobytes(),
        "1000000 atoms, but",
    ),
}


@pytest.mark.parametrize("case", ANNOUNCED)
def test_sizes_are_checked_before_memory_is_taken(case: str) -> None:
    message, expected = ANNOUNCED[case]
    ours, theirs = socket.socketpair()
    theirs.sendall(message)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=expected):
        Session(Connection(ours), Answers(), n_atoms=3).run()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB
    ours.close()
    theirs.close()
