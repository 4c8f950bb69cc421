"""One endpoint of the client: a thread that connects to a socket of i-PI and answers it.

A thread that waits for i-PI or for the model holds no lock that the others need, so every endpoint goes on
answering ``STATUS`` while another one's evaluation runs.
"""

from __future__ import annotations

import logging
import math
import socket
import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum

from ipi_driver.client.protocol import Connection, Disconnected, Reply, Request, Session
from ipi_driver.client.settings import EndpointSettings
from ipi_driver.errors import UserError

logger = logging.getLogger(__name__)

RETRY_INTERVAL = 0.1
"""Seconds between attempts to connect."""

GRACE = 2.0
"""Seconds for which a connection that was dropped during a request is tried again."""

MAX_DROPS = 3
"""Connections dropped one after the other without an answer delivered."""


class State(Enum):
    """Where an endpoint stands."""

    WAITING = "not connected yet"
    CONNECTED = "connected"
    EXIT = "ended by EXIT"
    LOST = "connection lost"


class Endpoint:
    """Connects, answers, and connects again where that makes sense.

    Parameters
    ----------
    settings
        Address and average.
    prefix
        Of unix socket paths, as i-PI's ``-S``.
    deadline
        Seconds to wait for i-PI at the start; 0: for ever.
    evaluate
        From requests to replies.
    n_atoms
        Of the structure given.
    others_live, others_begun
        Return whether any other endpoint is connected, and whether any has been.

    Attributes
    ----------
    state
        See `State`; after `run`, how it ended.
    finished
        Whether `run` has returned.
    """

    def __init__(
        self,
        settings: EndpointSettings,
        prefix: str,
        deadline: float,
        evaluate: Callable[[Sequence[Request]], Sequence[Reply]],
        n_atoms: int,
        others_live: Callable[[Endpoint], bool],
        others_begun: Callable[[Endpoint], bool],
    ) -> None:
        self.settings = settings
        self.state = State.WAITING
        self._path = settings.unix_path(prefix)
        self._deadline = deadline
        self._evaluate = evaluate
        self._n_atoms = n_atoms
        self._others_live = others_live
        self._others_begun = others_begun
        self._stop = threading.Event()
        self._connection: Connection | None = None
        self._answered = 0
        self.finished = False

    @property
    def address(self) -> str:
        """Path or HOST:PORT of the socket, for messages."""
        return self._path or str(self.settings.inet)

    def stop(self) -> None:
        """End from another thread: no more attempts, and the connection is shut down."""
        self._stop.set()
        connection = self._connection
        if connection is not None:
            connection.interrupt()

    def run(self) -> None:
        """Serve until i-PI ends the run or `stop` is called.

        Raises
        ------
        UserError
            If i-PI is not there within the deadline, breaks the protocol, or drops the connection repeatedly.
        """
        drops = 0
        connection = self._connect_first()
        while connection is not None:
            answered = self._answered
            dropped_after = self._converse(connection)
            connection = None
            if self._stop.is_set():
                return
            drops = 0 if self._answered > answered or dropped_after is None else drops + 1
            if drops >= MAX_DROPS:
                raise UserError(
                    f"i-PI dropped {self.settings.label} {drops} times during an evaluation; the last had "
                    f"run for {dropped_after:.1f} s: raise the <timeout> of this <ffsocket>"
                )
            connection = self._connect_again(GRACE if dropped_after is not None else 0.0)

    def _converse(self, connection: Connection) -> float | None:
        """Answer over one connection; seconds into the evaluation if i-PI ended it during one, else None."""
        self._connection = connection
        before, self.state = self.state, State.CONNECTED
        if self._stop.is_set():  # set before the connection could be seen from outside
            connection.interrupt()
        started = time.monotonic()

        def evaluate(requests: Sequence[Request]) -> Sequence[Reply]:
            nonlocal started
            started = time.monotonic()
            replies = self._evaluate(requests)
            self._answered += 1
            return replies

        session = Session(connection, evaluate, self.settings.shm is not None, self._n_atoms)
        try:
            session.run()
            self.state = State.EXIT
            logger.info("%s: i-PI sent EXIT", self.settings.label)
        except Disconnected as lost:
            # at the end of a run i-PI closes new connections without a message: the state before stays valid
            self.state = before if before is State.EXIT and not session.got_message else State.LOST
            if session.ends_silently and not session.working and self._answered:
                self.state = State.EXIT
            if not self._stop.is_set():
                logger.info("%s: i-PI closed the connection (%s)", self.settings.label, lost)
        finally:
            self._connection = None
            connection.close()
        if session.working:
            self._answered -= 1
            return time.monotonic() - started
        return None

    def _connect_first(self) -> Connection | None:
        """Wait for i-PI; None if stopped, or if the run ended on the other endpoints."""
        end = time.monotonic() + (self._deadline or math.inf)
        announced = warned = False
        while not self._stop.is_set():
            try:
                return self._connect()
            except OSError as error:
                if time.monotonic() >= end and self._others_begun(self):
                    # a force of weight zero, or a wrong address: no reason to end a run that goes well
                    if not warned:
                        logger.warning(
                            "%s: i-PI is there, but has not opened this socket in %g s: compare <address>, <port>",
                            self.settings.label, self._deadline,
                        )  # fmt: skip
                    warned = True
                elif time.monotonic() >= end:
                    raise UserError(
                        f"no i-PI at {self.settings.label} ({self.address}) within {self._deadline:g} s "
                        f"({error.strerror or error}); start i-pi, check <address> and "
                        "<port> in its input and -S, or raise --deadline"
                    ) from None
                if not announced:
                    limit = f" up to {self._deadline:g} s" if self._deadline else ""
                    logger.info("%s: waiting%s for i-PI", self.settings.label, limit)
                    announced = True
            self._stop.wait(RETRY_INTERVAL)
        return None

    def _connect_again(self, grace: float) -> Connection | None:
        """Try for ``grace`` seconds, and for as long as other endpoints live."""
        end = time.monotonic() + grace
        while not self._stop.wait(RETRY_INTERVAL) and (time.monotonic() < end or self._others_live(self)):
            try:
                connection = self._connect()
            except OSError:
                continue
            logger.info("%s: connected again", self.settings.label)
            return connection
        return None

    def _connect(self) -> Connection:
        if self._path is not None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.connect(self._path)
            except OSError:
                sock.close()
                raise
        else:
            host, _, port = str(self.settings.inet).rpartition(":")
            sock = socket.create_connection((host, int(port)), timeout=10.0)
            sock.settimeout(None)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return Connection(sock)
