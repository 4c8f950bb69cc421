"""The sockets of an i-PI input against the endpoints of the client."""

from __future__ import annotations

import re
import secrets
import socket
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ipi_driver.client.settings import EndpointSettings
from ipi_driver.errors import UserError
from ipi_driver.ipi_files.edit import Socket, sockets, with_inet, with_name, with_port
from ipi_driver.ipi_files.endpoints import is_monitor
from ipi_driver.runs.changes import Changes

_LOCAL = ("localhost", "127.0.0.1")
SHARED_PREFIX = "/tmp/ipi_"
"""Of the sockets that i-PI opens inside other force fields, whatever prefix it is given."""
_OWN_NAME = re.compile(r"-[0-9a-f]{8}$")


def endpoints_of(text: str) -> list[dict[str, Any]]:
    """An endpoint without average for each socket of an input."""
    return [{found.mode: found.address, "average": "none"} for found in sockets(text)]


def with_addresses(changes: Changes, text: str) -> Changes:
    """The changes with the address of a socket in ``--endpoint`` where its name in the input is given instead."""
    given = [(element.get("name") or "").strip() for element in _parsed(text).iter("ffsocket")]
    found = sockets(text)
    named = {name: s.address for name, s in zip(given, found, strict=False) if given.count(name) == 1}
    words = []
    for word in changes.endpoint or []:
        address, _, average = word.rpartition("=")
        known = address in {socket.address for socket in found}
        words.append(word if known else f"{named.get(address, address)}={average}")
    return replace(changes, endpoint=words or changes.endpoint)


def _parsed(text: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError:  # reported by `check_complete`
        return ElementTree.Element("simulation")


def check_endpoints(text: str, endpoints: Sequence[EndpointSettings], source: Path) -> None:
    """Raise unless every socket of the input has its endpoint, and the other way round.

    i-PI would wait for ever for a client on a socket that nobody answers.
    """
    check_has_socket(text, source)
    opened = {found.label for found in sockets(text)}
    answered = {endpoint.label for endpoint in endpoints}
    if missing := sorted(opened - answered):
        raise UserError(
            f"{source} opens the socket `{missing[0]}`, which no endpoint of driver.yaml answers; it has: "
            f"{', '.join(sorted(answered))}"
        )
    if missing := sorted(answered - opened):
        raise UserError(
            f"driver.yaml answers the socket `{missing[0]}`, which {source} does not open; it opens: "
            f"{', '.join(sorted(opened))}"
        )


def check_has_socket(text: str, source: Path) -> None:
    """Raise where an input is not complete, or opens no socket."""
    check_complete(text, source)
    if not sockets(text):
        raise UserError(
            f"{source} has no <ffsocket> for a client to answer: run it with i-pi alone, or put an <ffsocket> in the "
            "place of its force field. A model answers within i-PI through <ffdirect>: `ipi-driver pes-path --help`"
        )


def check_complete(text: str, source: Path) -> None:
    """Raise where an input is cut or empty, or opens shared memory inside another force field."""
    try:
        ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise UserError(
            f"{source} is not complete, well-formed XML: {error}; compare it with its original"
        ) from None
    for inside in nested_sockets(text):
        if inside.mode == "shm":
            raise UserError(
                f"{source}: the socket `{inside.label}` lies inside another force field, where i-PI opens shared "
                "memory at its shared prefix only; use mode='unix'"
            )


def nested_sockets(text: str) -> list[Socket]:
    """The sockets inside another force field, as ``<ffcommittee>``, in the order of the input."""
    root = _parsed(text)
    forces = (element for element in root.iter() if element.tag.startswith("ff"))
    inside = {id(socket) for force in forces for socket in force.iterfind(".//ffsocket")}
    pairs = zip(root.iter("ffsocket"), sockets(text), strict=False)
    return [socket for element, socket in pairs if id(element) in inside]


def with_own_names(text: str, endpoints: Sequence[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Input and endpoints with a name of its own for each nested unix socket, so that runs never meet.

    i-PI opens these at a prefix that all runs share (`shared_sockets`).
    """
    changed = [dict(endpoint) for endpoint in endpoints]
    for found in nested_sockets(text):
        if found.mode != "unix":
            continue
        address = f"{_OWN_NAME.sub('', found.address)}-{secrets.token_hex(4)}"
        text = with_name(text, found, address)
        for endpoint in changed:
            if endpoint.get("unix") == found.address:
                endpoint["unix"] = address
    return text, changed


@contextmanager
def shared_sockets(text: Callable[[], str], folder: Path) -> Iterator[Callable[[], None]]:
    """Links in the private folder of a run to the sockets that i-PI opens elsewhere.

    i-PI gives its private prefix to its own ``<ffsocket>``, not to those inside ``<ffcommittee>`` and the like, which
    it opens at ``/tmp/ipi_ADDRESS``. The client finds them through a link. Yields a function that empties the folder,
    and makes the links anew, for i-PI to start in. ``text`` returns the input, whose names are others after a start
    anew.
    """
    targets: dict[Path, None] = {}

    def renew() -> None:
        links = {
            folder / found.address: Path(f"{SHARED_PREFIX}{found.address}")
            for found in nested_sockets(text())
            if found.mode == "unix"
        }
        targets.update(dict.fromkeys(links.values()))
        # i-PI that was killed leaves its socket, and no other can open it then
        for path in [*folder.iterdir(), *filter(Path.is_socket, targets)]:
            path.unlink(missing_ok=True)
        for link, target in links.items():
            link.symlink_to(target)

    try:
        yield renew
    finally:
        for path in filter(Path.is_socket, targets):
            path.unlink(missing_ok=True)


def foreign_hosts(text: str) -> list[str]:
    """Hosts of network sockets that i-PI cannot open on this machine."""
    hosts = dict.fromkeys(found.address.rpartition(":")[0] for found in sockets(text) if found.mode == "inet")
    return [host for host in hosts if host not in _LOCAL and not _can_open(host)]


def foreign_note(text: str) -> str:
    """What `with_free_ports` will do about hosts of other machines; empty where there are none."""
    hosts = foreign_hosts(text)
    return (
        f"{', '.join(hosts)}: not an address of this machine; i-PI and the client use localhost"
        if hosts
        else ""
    )


def with_free_ports(text: str, endpoints: Sequence[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Input and endpoints with every network port of this machine replaced by a free one, so that runs never meet.

    A host of another machine is replaced by ``localhost``: i-PI and the client run here.
    """
    changed = [dict(endpoint) for endpoint in endpoints]
    foreign = foreign_hosts(text)
    for found in sockets(text):
        host = found.address.rpartition(":")[0]
        if found.mode != "inet" or host not in (*_LOCAL, *foreign):
            continue
        new = "localhost" if host in foreign else host
        port = _free_port(new)
        text = with_port(text, found, port, new)
        for endpoint in changed:
            if endpoint.get("inet") == found.address:
                endpoint["inet"] = Socket("inet", f"{new}:{port}").address
    return text, changed


def with_address(
    text: str, endpoints: Sequence[dict[str, Any]], host: str
) -> tuple[str, list[dict[str, Any]]]:
    """Input and endpoints with a network socket of ``host``, at a free port, in place of each socket: for other nodes.

    Raises
    ------
    UserError
        If the host is no address of this machine, where i-PI opens its sockets, a socket has shared memory, or the run
        has a monitor.
    """
    if not _can_open(host):
        raise UserError(
            f"--address {host} is not an address of this machine, where i-PI listens; give the name or the address of "
            "a network that the other nodes reach (hostname -I prints them)"
        )
    if any(map(is_monitor, endpoints)):  # known by the name of its socket
        raise UserError("--address and --monitor do not go together; leave out one of them")
    changed = [dict(endpoint) for endpoint in endpoints]
    for found in sockets(text):
        if found.mode == "shm":
            raise UserError(
                f"--address: {found.label} has shared memory, which other nodes do not reach; use mode='unix'"
            )
        port = _free_port(host)
        text = (
            with_port(text, found, port, host) if found.mode == "inet" else with_inet(text, found, host, port)
        )
        for place, endpoint in enumerate(changed):
            if endpoint.get(found.mode) == found.address:
                rest = {key: value for key, value in endpoint.items() if key != found.mode}
                changed[place] = {"inet": Socket("inet", f"{host}:{port}").address, **rest}
    return text, changed


def _can_open(host: str) -> bool:
    try:
        with socket.socket() as probe:
            probe.bind((host, 0))
    except OSError:  # an address of another machine, or a name that nobody knows
        return False
    return True


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
