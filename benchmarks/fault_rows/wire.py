"""Rows 67 to 75: a false i-PI in front of `ipi-driver serve`, and strange clients beside it."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import ase
import ase.io
import numpy as np

from fault_rows.place import MODEL, PROGRAM, Place, last_line, said
from fault_rows.table import row, together

PATHS = list(filter(None, [os.environ.get("PYTHONPATH")]))
WATER = np.array([[0.1, 0.2, 0.3], [1.06, 0.15, 0.35], [-0.15, 1.1, 0.2]]) / 0.529177


def header(word: str) -> bytes:
    return word.ljust(12).encode()


def init(text: bytes = b"x", size: int | None = None) -> bytes:
    return (
        header("INIT") + np.array([0, len(text) if size is None else size], dtype=np.int32).tobytes() + text
    )


def posdata(positions: np.ndarray = WATER, h: np.ndarray | None = None, n: int | None = None) -> bytes:
    cell = np.eye(3) * 30.0 if h is None else h
    with np.errstate(all="ignore"):
        inverse = np.linalg.pinv(np.nan_to_num(cell)).T
    number = np.int32(len(positions) if n is None else n).tobytes()
    return (
        header("POSDATA")
        + np.concatenate([cell.ravel(), inverse.ravel()]).tobytes()
        + number
        + positions.tobytes()
    )


class FalseIPI:
    """A socket with i-PI's role, and the client in front of it."""

    def __init__(self, place: Place, model: str = MODEL, *words: str) -> None:
        ase.io.write(place.folder / "a.xyz", ase.Atoms("OH2", WATER * 0.529177))
        path = place.folder / "ipi_s"
        path.unlink(missing_ok=True)
        self._address = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.settimeout(600)
        self.process: subprocess.Popen[str] = place.start(
            "serve", model, "--structure", "a.xyz", "-S", f"{place.folder}/ipi_", "--unix", "s", *words
        )
        self.wire, _ = self._listener.accept()
        self.wire.settimeout(600)

    def vanish(self) -> None:
        """i-PI is gone: what it has not read is lost, and nobody listens any more."""
        self._listener.close()
        self._address.unlink()
        self.wire.close()

    def read(self, size: int) -> bytes:
        found = b""
        while len(found) < size and (part := self.wire.recv(size - len(found))):
            found += part
        return found

    def forces(self) -> tuple[float, np.ndarray]:
        """Energy and forces of the answer to GETFORCE."""
        if self.read(12) != header("FORCEREADY"):
            return np.nan, np.zeros((0, 3))
        energy = float(np.frombuffer(self.read(8))[0])
        n = int(np.frombuffer(self.read(4), dtype=np.int32)[0])
        forces = np.frombuffer(self.read(24 * n)).reshape(n, 3)
        self.read(72)
        self.read(int(np.frombuffer(self.read(4), dtype=np.int32)[0]))
        return energy, forces

    def end(self, seconds: float = 600.0) -> tuple[int, str]:
        """Exit status and what the client has printed."""
        try:
            output, _ = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            output, _ = self.process.communicate()
            return 124, output
        finally:
            self.wire.close()
            self._listener.close()
        return self.process.returncode, output


def sent(place: Place, name: str, message: bytes, pattern: str, model: str = MODEL) -> tuple[str, bool]:
    """A message that is refused with status 2 and one line."""
    peer = FalseIPI(place, model)
    with suppress(OSError):  # refused before all of it was read
        peer.wire.sendall(message)
    status, output = peer.end()
    sentence = said(output, pattern)
    good = status == 2 and bool(sentence) and "Traceback" not in output
    return f"{name}: status {status}, {sentence or last_line(output)}", good


def answered(place: Place, name: str, send: Callable[[socket.socket, bytes], None]) -> tuple[str, bool]:
    """The same forces, however the bytes come."""
    peer = FalseIPI(place)
    send(peer.wire, init() + posdata() + header("GETFORCE"))
    _, forces = peer.forces()
    peer.wire.sendall(header("EXIT"))
    status, _ = peer.end()
    good = status == 0 and forces.shape == (3, 3) and bool(np.abs(forces).max() > 0)
    return f"{name}: answered, status {status}", good


def _bytewise(wire: socket.socket, message: bytes) -> None:
    for k in range(len(message)):
        wire.sendall(message[k : k + 1])


def _reset(place: Place) -> tuple[str, bool]:
    """The connection is reset in an evaluation."""
    peer = FalseIPI(place, "ase:faulty.Water?delay=2")
    peer.wire.sendall(init() + posdata() + header("GETFORCE"))
    time.sleep(1)
    peer.vanish()
    status, output = peer.end()
    sentence = said(output, "i-PI closed the connection without EXIT[^\n]{0,30}")
    return f"reset in an evaluation: status {status}, {sentence}", status == 2 and bool(sentence)


@row("67", "all messages in one piece; byte by byte; reset in an evaluation", "right answers, or one line")
def _(place: Place) -> tuple[str, bool]:
    return together(
        [
            answered(place, "one piece", lambda wire, message: wire.sendall(message)),
            answered(place, "byte by byte", _bytewise),
            _reset(place),
        ]
    )


@row("68", "POSDATA before INIT, an HTTP request, NULs, lower case", "one line, status 2")
def _(place: Place) -> tuple[str, bool]:
    strange = {
        "POSDATA first": (posdata(), r"POSDATA arrived out of turn"),
        "HTTP": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", r"unknown message [^:]{5,30}"),
        "NULs": (bytes(4096), r"unknown message [^:]{5,60}"),
        "lower case": (b"status      ", r"unknown message [^:]{5,30}"),
    }
    return together([sent(place, name, *case) for name, case in strange.items()])


@row(
    "69",
    "a negative size; 2 atoms; NaN; a singular cell; all atoms at one place",
    "one line each, or an answer",
)
def _(place: Place) -> tuple[str, bool]:
    nan, flat = WATER.copy(), np.diag([30.0, 30.0, 0.0])
    nan[1, 1] = np.nan
    cases = {
        "negative size": (init(size=-5), r"negative size \(-5\)"),
        "2 atoms": (init() + posdata(WATER[:2]), r"[^\n]*2 atoms[^\n;]{0,60}"),
        "NaN": (init() + posdata(nan), r"[^\n]*must be finite[^\n;]{0,40}"),
    }
    found = [sent(place, name, *case) for name, case in cases.items()]
    found.append(  # whose cell does not matter, as the structure is isolated
        answered(
            place,
            "singular cell",
            lambda wire, _: wire.sendall(init() + posdata(h=flat) + header("GETFORCE")),
        )
    )
    peer = FalseIPI(place, "pet-water-s")
    peer.wire.sendall(init() + posdata(np.zeros((3, 3))) + header("GETFORCE"))
    status, output = peer.end()
    fine = status == 2 and "Traceback" not in output and last_line(output).startswith("error: ")
    return together([*found, (f"one place: status {status}, {last_line(output)[:90]}", fine)])


@row(
    "70, 71",
    "POSDATA of 10^8 atoms, INIT of 2 GB, batch_size of 5000 digits",
    "refused before memory is taken",
)
def _(place: Place) -> tuple[str, bool]:
    digits = b"batch_size:" + b"9" * 5000
    cases = {
        "10^8 atoms": init() + header("POSDATA") + bytes(144) + np.int32(10**8).tobytes(),
        "INIT of 2 GB": init(b"", size=2 * 10**9),
        "5000 digits": init(digits),
    }
    return together(
        [sent(place, name, message, r"i-PI announces [^\n,]{1,60}") for name, message in cases.items()]
    )


@row("72", "the peer is silent", "waits, as i-PI does; SIGTERM ends it")
def _(place: Place) -> tuple[str, bool]:
    peer = FalseIPI(place)
    peer.wire.sendall(b"STAT")
    time.sleep(3)
    waits = peer.process.poll() is None
    peer.process.terminate()
    status, output = peer.end(60)
    sentence = said(output, r"stopped by SIGTERM")
    return f"waits: {waits}; SIGTERM: status {status}, {sentence}", waits and status in (143, -15) and bool(
        sentence
    )


@row("73", "positions of 1e300", "no SIGFPE")
def _(place: Place) -> tuple[str, bool]:
    peer = FalseIPI(place, "pet-water-s")
    far = WATER.copy()
    far[2] = 1e300
    peer.wire.sendall(init() + posdata(far) + header("GETFORCE") + header("EXIT"))
    status, output = peer.end()
    return f"status {status}: {last_line(output)[:100]}", status in (0, 2) and "Traceback" not in output


@row(
    "74",
    "300 random mutations of a conversation, in one process",
    "an answer or one line; no other error, no hang",
)
def _(place: Place) -> tuple[str, bool]:
    script = f"""
import socket, threading, numpy as np, collections
from fault_rows.wire import init, posdata, header
from ipi_driver import load_potential
from ipi_driver.client.protocol import Connection, Disconnected, Reply, Session
from ipi_driver.errors import UserError
from ipi_driver.structure import Structure
potential = load_potential({MODEL!r})
def evaluate(requests):
    replies = []
    for request in requests:
        if request.positions.shape != (3, 3) or not np.isfinite(request.positions).all():
            raise UserError("not the structure")
        found = potential.predict(Structure(np.array([8, 1, 1]), request.positions, np.zeros((3, 3)),
                                            np.zeros(3, dtype=bool)))
        replies.append(Reply(float(found.energy), found.forces, np.zeros((3, 3)), ""))
    return replies
whole = header("STATUS") + init() + (posdata() + header("GETFORCE") + header("STATUS")) * 2 + header("EXIT")
rng, found = np.random.default_rng(74), collections.Counter()
for _ in range(300):
    message = bytearray(whole)
    for _ in range(rng.integers(1, 4)):
        place, kind = rng.integers(len(message)), rng.integers(3)
        if kind == 0: message[place] = rng.integers(256)
        elif kind == 1: del message[place : place + rng.integers(1, 40)]
        else: message[place:place] = rng.bytes(rng.integers(1, 40))
    here, there = socket.socketpair()
    there.settimeout(20)
    threading.Thread(target=lambda s=there: [0 for _ in iter(lambda: s.recv(65536), b"")], daemon=True).start()
    there.sendall(bytes(message)); there.shutdown(socket.SHUT_WR)
    try:
        with np.errstate(all="ignore"):
            Session(Connection(here), evaluate, n_atoms=3).run()
        found["answered"] += 1
    except UserError: found["one line"] += 1
    except Disconnected: found["end of connection"] += 1
    finally: here.close()
print(dict(found))
"""
    path = place.folder / "mutations.py"
    path.write_text(script)
    done = subprocess.run(
        [PROGRAM[0], str(path)],
        cwd=place.folder,
        env=place.environment(PYTHONPATH=os.pathsep.join([str(Path(__file__).parents[1]), *PATHS])),
        capture_output=True,
        text=True,
        timeout=900,
    )
    return (done.stdout.strip() or last_line(done.stderr)), done.returncode == 0
