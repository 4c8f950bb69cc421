"""The wire format of i-PI, and nothing else: bytes in, arrays in i-PI's own units out.

i-PI leads, the client answers; every message starts with a header of 12 ASCII characters.

=============  ============================================================================================
i-PI sends     meaning and answer
=============  ============================================================================================
``STATUS``     answered with ``NEEDINIT``, ``READY`` or ``HAVEDATA``
``INIT``       int32 id, int32 length, text; ``batch_size:N`` in the text announces N structures per message
``POSDATA``    h (9 float64, vectors as columns), its inverse (9), int32 n_atoms, positions (3 n_atoms);
               in batches int32 n_atoms, N × (h, inverse), N × positions; with shared memory int32 n_atoms
               and, the first time, six times int32 length and name of a segment
``GETFORCE``   answered with ``FORCEREADY``, energy, int32 n_atoms, forces, virial (9), int32 length, extras;
               in batches the energies, n_atoms, all forces, all virials, then N × (length, extras); with
               shared memory only ``FORCEREADY`` and N × (length, extras)
``EXIT``       the run ends
=============  ============================================================================================

i-PI sends ``POSDATA`` and ``GETFORCE`` in one piece without waiting, so whatever has arrived is read at once:
a socket closed with unread bytes in it, as when this process is killed, would reach i-PI as a reset, which it
mishandles, rather than as an end of connection.
"""

from __future__ import annotations

import contextlib
import math
import re
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ipi_driver.client.shared_memory import SharedSegments
from ipi_driver.errors import UserError
from ipi_driver.structure import FloatArray

HEADER = 12
_FORCEREADY, _READY, _NEEDINIT, _HAVEDATA = (
    word.ljust(HEADER).encode() for word in ("FORCEREADY", "READY", "NEEDINIT", "HAVEDATA")
)
_INT = struct.Struct("=i")


class Disconnected(Exception):
    """The other side closed the connection without ``EXIT``."""


class Request(NamedTuple):
    """One configuration: ``h`` (3, 3), vectors as columns, and ``positions`` (n_atoms, 3), in bohr."""

    h: FloatArray
    positions: FloatArray


class Reply(NamedTuple):
    """Energy (hartree), forces (n_atoms, 3) (hartree/bohr), virial (3, 3) (hartree) and the extras string."""

    energy: float
    forces: FloatArray
    virial: FloatArray
    extras: str


_MOST_TEXT = 1 << 20
"""Bytes of the text of ``INIT``."""
_MOST_ATOMS = 1_000_000
"""Atoms of a message that is read whatever the structure has, for the message that names the difference."""
_MOST_BATCH = 100_000
"""Structures per message."""

Evaluate = Callable[[Sequence[Request]], Sequence[Reply]]


class Connection:
    """A connected socket with exact reads.

    Parameters
    ----------
    sock
        Blocking stream socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = memoryview(bytearray(1 << 16))
        self._start = self._end = 0

    def read(self, size: int) -> memoryview:
        """Exactly ``size`` bytes, valid until the next call.

        Raises
        ------
        Disconnected
            If the connection ends before.
        """
        if self._start == self._end:
            self._start = self._end = 0
        if self._start + size > len(self._buffer):
            kept = bytes(self._buffer[self._start : self._end])
            if size > len(self._buffer):
                self._buffer = memoryview(bytearray(2 * size))
            self._buffer[: len(kept)] = kept
            self._start, self._end = 0, len(kept)
        while self._end - self._start < size:
            try:
                received = self._sock.recv_into(self._buffer[self._end :])
            except OSError as error:
                raise Disconnected(str(error)) from error
            if received == 0:
                raise Disconnected("end of connection")
            self._end += received
        self._start += size
        return self._buffer[self._start - size : self._start]

    def read_int(self) -> int:
        """One int32."""
        return int(_INT.unpack(self.read(4))[0])

    def read_size(self) -> int:
        """One int32 with the number of what follows."""
        value = self.read_int()
        if value < 0:
            raise UserError(
                f"i-PI sent a negative size ({value}): not the i-PI protocol, or another version of it"
            )
        return value

    def read_doubles(self, *shape: int) -> FloatArray:
        """A fresh float64 array of this shape."""
        return np.frombuffer(bytearray(self.read(8 * math.prod(shape))), dtype=np.float64).reshape(shape)

    def send(self, message: bytes) -> None:
        """All of ``message``, in one piece.

        Raises
        ------
        Disconnected
            If the connection is closed.
        """
        try:
            self._sock.sendall(message)
        except OSError as error:
            raise Disconnected(str(error)) from error

    def interrupt(self) -> None:
        """End the connection from another thread; a thread that reads it sees its end."""
        with contextlib.suppress(OSError):  # already closed by i-PI
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self, patience: float = 2.0) -> None:
        """End the sending, read what i-PI still sends for ``patience`` seconds, and close."""
        deadline = time.monotonic() + patience
        try:
            self._sock.shutdown(socket.SHUT_WR)
            while (left := deadline - time.monotonic()) > 0:
                self._sock.settimeout(left)
                if not self._sock.recv(1 << 16):
                    break
        except OSError:
            pass  # a reset or a timeout: there is nothing left to read
        finally:
            self._sock.close()


class Session:
    """The conversation over one connection, from the handshake to ``EXIT``.

    Parameters
    ----------
    connection
        To i-PI.
    evaluate
        From requests (as many as i-PI's ``batch_size``) to as many replies, all finite.
    shared_memory
        Whether i-PI's ``<ffsocket mode='shm'>`` is on the other side; the messages do not show it.

    n_atoms
        Of the structure given: before memory is taken for it, the size that a message announces must be like it.

    Attributes
    ----------
    ends_silently
        Whether the server is ASE's, which closes its connection without ``EXIT``.
    got_message
        Whether anything has arrived.
    working
        Whether a request has been received and not yet been answered.
    """

    def __init__(
        self,
        connection: Connection,
        evaluate: Evaluate,
        shared_memory: bool = False,
        n_atoms: int | None = None,
    ) -> None:
        self.got_message = False
        self.ends_silently = False
        self.working = False
        self._connection = connection
        self._evaluate = evaluate
        self._segments = SharedSegments() if shared_memory else None
        self._n_atoms = n_atoms
        self._batch_size = 0  # 0: no INIT yet
        self._replies: Sequence[Reply] | None = None

    def run(self) -> None:
        """Answer until i-PI sends ``EXIT``.

        Raises
        ------
        Disconnected
            If the connection ends without it.
        UserError
            If the bytes are not i-PI's protocol.
        """
        try:
            while self._answer():
                pass
        finally:
            if self._segments is not None:
                self._segments.close()

    def _answer(self) -> bool:
        """Handle one message; False after ``EXIT``."""
        header = bytes(self._connection.read(HEADER))
        self.got_message = True
        word = header.rstrip()
        if word == b"STATUS":
            ready = _READY if self._batch_size else _NEEDINIT
            self._connection.send(ready if self._replies is None else _HAVEDATA)
        elif word == b"POSDATA":
            self._check_order(word, self._batch_size > 0)
            self.working = True
            self._replies = self._evaluate(self._read_requests())
        elif word == b"GETFORCE":
            self._check_order(word, self._replies is not None)
            self._send_replies(self._replies or ())
            self._replies = None
            self.working = False
        elif word == b"INIT":
            self._read_init()
        elif word == b"EXIT":
            return False
        else:
            raise UserError(f"unknown message {header!r}: not the i-PI protocol, or another version of it")
        return True

    @staticmethod
    def _check_order(word: bytes, allowed: bool) -> None:
        if not allowed:
            raise UserError(
                f"{word.decode()} arrived out of turn: not the i-PI protocol, or another version of it"
            )

    def _read_init(self) -> None:
        self._connection.read_int()  # the replica's index, which does not matter here
        size = self._connection.read_size()
        if size > _MOST_TEXT:
            raise UserError(
                f"i-PI announces {size} bytes of parameters, expected at most {_MOST_TEXT}: not the i-PI protocol, or "
                "another version of it"
            )
        text = bytes(self._connection.read(size)).decode("utf-8", errors="replace")
        self.ends_silently = text == "\0"  # what ASE's server sends for no parameters, and i-PI never does
        match = re.search(r"(?:^|,)\s*batch_size\s*:\s*(\d+)", text)
        if match and (len(match.group(1)) > 12 or int(match.group(1)) > _MOST_BATCH):
            raise UserError(
                f"i-PI announces batch_size {match.group(1)[:20]}, expected at most {_MOST_BATCH} structures a message"
            )
        self._batch_size = max(1, int(match.group(1))) if match else 1

    def _read_n_atoms(self) -> int:
        """The number of atoms that follows; one that differs much from the structure's is refused at once."""
        n_atoms = self._connection.read_size()
        if (
            self._n_atoms is not None
            and n_atoms != self._n_atoms
            and n_atoms * self._batch_size > _MOST_ATOMS
        ):
            raise UserError(
                f"i-PI announces {n_atoms} atoms, but the structure given has {self._n_atoms}; give the file that i-PI "
                "starts from (--structure FILE or --input input.xml)"
            )
        return n_atoms

    def _read_requests(self) -> list[Request]:
        wire, n = self._connection, self._batch_size
        if self._segments is not None:
            n_atoms = self._read_n_atoms()
            if not self._segments.attached:
                names = [bytes(wire.read(wire.read_size())).decode() for _ in SharedSegments.KINDS]
                self._segments.attach(names, n, n_atoms)
            return [Request(h, positions) for h, positions in self._segments.configurations()]
        if n > 1:
            n_atoms = self._read_n_atoms()
            cells = wire.read_doubles(n, 2, 3, 3)
            positions = wire.read_doubles(n, n_atoms, 3)
            return [Request(cells[i, 0], positions[i]) for i in range(n)]
        h = wire.read_doubles(2, 3, 3)[0]
        return [Request(h, wire.read_doubles(self._read_n_atoms(), 3))]

    def _send_replies(self, replies: Sequence[Reply]) -> None:
        extras = [reply.extras.encode() for reply in replies]
        parts = [_FORCEREADY]
        if self._segments is not None:
            self._segments.store(replies)
        else:
            parts.append(struct.pack(f"={len(replies)}d", *(reply.energy for reply in replies)))
            parts.append(_INT.pack(len(replies[0].forces)))
            parts.extend(np.asarray(reply.forces, dtype=np.float64).tobytes() for reply in replies)
            parts.extend(np.asarray(reply.virial, dtype=np.float64).tobytes() for reply in replies)
        for text in extras:
            parts.extend((_INT.pack(len(text)), text))
        self._connection.send(b"".join(parts))
