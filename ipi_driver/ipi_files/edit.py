"""Changes to the text of an i-PI input or checkpoint that leave its comments, layout and order as they are.

Elements are found in a copy whose comments are blanked, so that a commented-out element is never taken for a live
one, and replaced in the original. A parser and writer would lose the comments, and i-PI's own checkpoints are not
always well-formed XML.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ipi_driver.errors import UserError
from ipi_driver.ipi_files.input import filled

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_SOCKET = re.compile(
    r"(?P<start><ffsocket\b(?P<attributes>[^>]*?))(?:/>|>(?P<body>.*?)</ffsocket>)", re.DOTALL
)
_START = re.compile(r"<initialize\b[^>]*>.*?(<file\b([^>]*)>([^<]*)</file>)", re.DOTALL)
_IN_WORD = r"[^\s,;:{}\[\]()'\"<>=]"
_WORD = re.compile(f"{_IN_WORD}+")
_CONTENT = re.compile(r">([^<>]+)<")
_INITIALIZE = re.compile(r"<initialize\b[^>]*>(.*?)</initialize>", re.DOTALL)
_TEMPLATE = re.compile(r"<system_template\b[^>]*>(.*?)</system_template>", re.DOTALL)
_PATTERN = re.compile(r"<template\b[^>]*>(.*?)</template>", re.DOTALL)
_INSTANCE = re.compile(r"<instance\b[^>]*>([^<]*)</instance>")
_REPLICA_EXCHANGE = re.compile(
    r"<smotion\b[^>]*?\bmode\s*=\s*['\"]\s*remd\s*['\"][^>]*?(?:/>|>(.*?)</smotion>)", re.DOTALL
)
_DYNAMICS = re.compile(r"<dynamics\b[^>]*>(.*?)</dynamics>", re.DOTALL)
_START_FILE = re.compile(r"<file\b[^>]*>[^<]*</file>")
_CELL = re.compile(r"<cell\b[^>]*?(?:/>|>[^<]*</cell>)")
_SYSTEMS = re.compile(r"<(system_template|system|smotion)\b[^>]*>.*?</\1>", re.DOTALL)
_OUTPUT = re.compile(r"<output\b([^>]*)>(.*?)</output>", re.DOTALL)


@dataclass(frozen=True)
class Socket:
    """One ``<ffsocket>``.

    Attributes
    ----------
    mode
        unix, inet or shm.
    address
        As i-PI and the client spell it: a name, or HOST:PORT.
    """

    mode: str
    address: str

    @property
    def label(self) -> str:
        return f"{self.mode} {self.address}"


def masked(text: str) -> str:
    """The text with every comment replaced by as many blanks."""
    return _COMMENT.sub(lambda found: " " * len(found[0]), text)


def value(text: str, tag: str) -> str | None:
    """Content of the first element ``tag``, stripped; None where there is none."""
    found = _element(tag).search(masked(text))
    return found[2].strip() if found else None


def with_value(text: str, tag: str, content: str | int) -> str | None:
    """The text with the content of the first element ``tag`` replaced; None where there is none."""
    found = _element(tag).search(masked(text))
    if found is None:
        return None
    return f"{text[: found.start(2)]} {content} {text[found.end(2) :]}"


def with_attribute(text: str, tag: str, name: str, content: str) -> str:
    """The text with an attribute of the first element ``tag`` replaced where it has it."""
    found = re.search(rf"<{tag}\b[^>]*?\b{name}\s*=\s*(['\"])(.*?)\1", masked(text), re.DOTALL)
    return text if found is None else text[: found.start(2)] + content + text[found.end(2) :]


def total_steps(text: str, source: Path) -> int:
    """Number of steps that an input or checkpoint asks for.

    Raises
    ------
    UserError
        If there is none (i-PI would then stop after 1000), or it is no number.
    """
    steps = value(text, "total_steps")
    if steps is None or not steps.isdigit():
        got = "none" if steps is None else repr(steps)
        raise UserError(f"{source}: expected <total_steps> N </total_steps>, got {got}; or give --steps N")
    return int(steps)


def steps_done(text: str) -> int:
    """Steps that a checkpoint has done; 0 where it has none, as an input. A line search has a ``<step>``, too."""
    found = value(_SYSTEMS.sub("", masked(text)), "step") or ""
    return int(found) if found.isdigit() else 0


def with_total_steps(text: str, steps: int) -> str:
    """The text with another number of steps, added where it has none."""
    return with_value(text, "total_steps", steps) or _added(text, f"<total_steps> {steps} </total_steps>")


def with_seed(text: str, seed: int) -> str:
    """The text with another seed of i-PI's random numbers, added where it has none."""
    return with_value(text, "seed", seed) or _added(text, f"<prng> <seed> {seed} </seed> </prng>")


def nmts(text: str) -> int | None:
    """Inner steps per outer step of multiple time stepping of two levels; None where there is no such."""
    found = re.fullmatch(r"\[\s*1\s*,\s*(\d+)\s*\]", value(text, "nmts") or "")
    return int(found[1]) if found and int(found[1]) > 0 and value(text, "timestep") else None


def with_nmts(text: str, count: int, source: Path) -> str:
    """The text with another number of inner steps per outer step in every system; the inner step stays as it is.

    Raises
    ------
    UserError
        If the input, or one of its systems, has no multiple time stepping of two levels.
    """
    places = [found.span(1) for found in _DYNAMICS.finditer(masked(text))] or [(0, len(text))]
    for start, end in reversed(places):
        part = text[start:end]
        old, levels, step = nmts(part), value(part, "nmts"), value(part, "timestep")
        if old is None:
            got = "no <nmts>" if levels is None else f"<nmts> {levels} </nmts>"
            raise UserError(
                f"{source}: --nmts needs multiple time stepping of two levels, <nmts> [ 1, N ] </nmts>, got {got}"
            )
        try:
            outer = float(step or "nan") / old * count
        except ValueError:  # a label of a template
            raise UserError(f"{source}: --nmts needs a <timestep> that is a number, got {step}") from None
        part = with_value(part, "nmts", f"[ 1, {count} ]") or part
        part = with_value(part, "timestep", f"{outer:.12g}") or part
        place = masked(part).index("<timestep")
        # a comment of XML holds no two dashes
        comment = f"<!-- nmts {count} on the command line: other comments may name another outer step -->"
        part = f"{part[:place]}{comment} {part[place:]}"
        text = f"{text[:start]}{part}{text[end:]}"
    return text


def sockets(text: str) -> list[Socket]:
    """The sockets that i-PI will open, in the order of the input."""
    found = []
    for element in _SOCKET.finditer(masked(text)):
        mode = re.search(r"\bmode\s*=\s*['\"]\s*(\w+)", element["attributes"])
        body = element["body"] or ""
        address = value(body, "address") or "localhost"
        kind = mode[1] if mode else "inet"
        if kind == "inet":
            address += f":{value(body, 'port') or 65535}"
        found.append(Socket(kind, address))
    return found


def with_port(text: str, old: Socket, port: int, host: str | None = None) -> str:
    """The text with another port (and host) for the network socket ``old``, added where i-PI takes its default."""
    for element in _SOCKET.finditer(masked(text)):
        if sockets(element[0]) == [old]:
            changed = _with_child(text[element.start() : element.end()], "port", port)
            if host is not None:
                changed = _with_child(changed, "address", host)
            return text[: element.start()] + changed + text[element.end() :]
    return text


def with_name(text: str, old: Socket, address: str) -> str:
    """The text with another address for the unix socket ``old``."""
    for element in _SOCKET.finditer(masked(text)):
        if sockets(element[0]) == [old]:
            changed = _with_child(text[element.start() : element.end()], "address", address)
            return text[: element.start()] + changed + text[element.end() :]
    return text


def with_inet(text: str, old: Socket, host: str, port: int) -> str:
    """The text with a network socket in place of the unix socket ``old``."""
    for element in _SOCKET.finditer(masked(text)):
        if sockets(element[0]) != [old]:
            continue
        changed = with_attribute(text[element.start() : element.end()], "ffsocket", "mode", "inet")
        changed = _with_child(_with_child(changed, "address", host), "port", port)
        return text[: element.start()] + changed + text[element.end() :]
    return text


def _with_child(element: str, tag: str, content: str | int) -> str:
    """The ``<ffsocket>`` with the content of a child replaced, added where i-PI takes its default."""
    if (changed := with_value(element, tag, content)) is not None:
        return changed
    found = _SOCKET.fullmatch(masked(element))
    assert found is not None
    start, body = element[: found.end("start")], found.span("body")
    rest = "" if found["body"] is None else element[body[0] : body[1]]
    return f"{start}><{tag}> {content} </{tag}>{rest}</ffsocket>"


def start_file(text: str) -> str | None:
    """Name of the file that ``<initialize>`` takes the positions from; in a template it may be a label."""
    found = _START.search(masked(text))
    return found[3].strip() if found else None


def start_files(text: str) -> list[str]:
    """Names of the files that the systems take their positions from, one for each that has one."""
    bodies = _INITIALIZE.findall(_with_systems(masked(text)))
    found = [re.search(r"<file\b[^>]*>([^<]*)</file>", body) for body in bodies]
    return [name[1].strip() for name in found if name]


def start_mode(text: str) -> str:
    """Format of the file that ``<initialize>`` takes the positions from."""
    found = _START.search(masked(text))
    return _attribute(found[2], "mode", "chk") if found else ""


def initial_files(text: str) -> list[str]:
    """Names of all files that ``<initialize>`` takes anything from, in the order of the input."""
    names = []
    for body in _INITIALIZE.findall(_with_systems(masked(text))):
        for tag, attributes, content in re.findall(r"<(\w+)\b([^>]*)>([^<]*)</", body):
            if tag == "file" or _attribute(attributes, "mode", "") in ("xyz", "pdb", "ase", "chk"):
                names.append(content.strip())
    return names


def _with_systems(text: str) -> str:
    """The text with the systems that i-PI makes of each <system_template> in its place."""

    def made(template: re.Match[str]) -> str:
        pattern, labels = "".join(_PATTERN.findall(template[1])), value(template[1], "labels") or ""
        return "".join(filled(pattern, labels, instance) for instance in _INSTANCE.findall(template[1]))

    return _TEMPLATE.sub(made, text)


def checkpoint_names(text: str) -> list[str]:
    """Names of the checkpoints that i-PI writes, without the number of those that it does not overwrite."""
    names = ["RESTART"]
    outputs = _OUTPUT.findall(masked(text))
    for attributes, body in outputs:
        prefix = _attribute(attributes, "prefix", "i-pi")
        for found in re.findall(r"<checkpoint\b([^>]*)>", body):
            name = _attribute(found, "filename", "restart")
            names.append(f"{prefix}.{name}" if prefix else name)
    return names if outputs else [*names, "i-pi.checkpoint"]


def swap_names(text: str) -> list[str]:
    """Names of the files to which i-PI writes the swaps of replica exchange."""
    blank = masked(text)
    names = [value(body, "swapfile") or "remd_idx" for body in _REPLICA_EXCHANGE.findall(blank)]
    prefixes = [_attribute(attributes, "prefix", "i-pi") for attributes, _ in _OUTPUT.findall(blank)] or [
        "i-pi"
    ]
    return [f"{prefix}.{name}" if prefix else name for prefix in prefixes for name in names]


def is_replay(text: str) -> bool:
    """Whether i-PI goes through the snapshots of a file instead of moving atoms."""
    return re.search(r"<motion\b[^>]*mode\s*=\s*['\"]\s*replay", masked(text)) is not None


def with_start_file(text: str, name: str) -> str:
    """The text with all systems starting from the i-PI xyz file ``name``, whose comment holds the units.

    A ``<cell>`` beside the file goes with it: for i-PI it would take the place of that of the new one.
    """
    blank, has_file = masked(text), False
    for body in reversed(list(_INITIALIZE.finditer(blank))):
        file = _START_FILE.search(blank, *body.span(1))
        if file is None:
            continue
        has_file = True
        places = [(file.span(), f"<file mode='xyz'> {name} </file>")]
        places += [(cell.span(), "") for cell in _CELL.finditer(blank, *body.span(1))]
        for (start, end), new in sorted(places, reverse=True):
            text = text[:start] + new + text[end:]
    if not has_file:
        raise UserError(
            "--structure replaces the <file> of <initialize>, and the input has none: edit it there"
        )
    return text


def files_named(text: str, folder: Path) -> list[Path]:
    """Files of ``folder`` that the text names anywhere outside comments, relative to it."""
    return [path for path in all_files_named(text, folder) if ".." not in path.parts]


def all_files_named(text: str, folder: Path) -> list[Path]:
    """Existing files that the text names outside comments, as paths relative to ``folder``; ``../a`` is included.

    A name is a word, or the whole text of an element, which may hold spaces.
    """
    blank = masked(text)
    blank += _with_systems(blank)  # a label may be a part of a name
    names = [found[1].strip() for found in _CONTENT.finditer(blank)] + _WORD.findall(blank)
    # arrays of numbers are longer than a name can be
    short = [name for name in dict.fromkeys(names) if name and max(map(len, name.split("/"))) < 256]
    return [Path(name) for name in short if not Path(name).is_absolute() and (folder / name).is_file()]


def with_files_inside(text: str, folder: Path) -> tuple[str, dict[str, Path]]:
    """The text with every path that leads out of ``folder`` (``../init.xyz``) replaced by a name inside it.

    Returns
    -------
    tuple of (str, dict)
        The text, and the files by their new names.
    """
    inside: dict[str, Path] = {}
    for path in all_files_named(text, folder):
        if ".." in path.parts:
            name = path.name
            while name in inside or (folder / name).exists():
                name = f"other-{name}"
            inside[name] = folder / path
            renamed = with_renamed_file(text, str(path), name)
            if renamed == text:  # a label of a template is part of it
                raise UserError(
                    f"{path} lies outside the folder of the input, under a name that cannot be changed there: copy the "
                    "file into that folder"
                )
            text = renamed
    return text, inside


def with_renamed_file(text: str, old: str, new: str) -> str:
    """The text with another name for a file wherever it is named outside comments."""
    found = re.finditer(rf"(?<!{_IN_WORD}){re.escape(old)}(?!{_IN_WORD})", masked(text))
    for place in reversed(list(found)):
        text = text[: place.start()] + new + text[place.end() :]
    return text


def _attribute(attributes: str, name: str, default: str) -> str:
    found = re.search(rf"\b{name}\s*=\s*(['\"])(.*?)\1", attributes, re.DOTALL)
    return found[2].strip() if found else default


def _element(tag: str) -> re.Pattern[str]:
    return re.compile(rf"(<{tag}\b[^>]*>)([^<]*)(</{tag}>)")


def _added(text: str, element: str) -> str:
    """The text with an element put at the start of ``<simulation>``."""
    found = re.search(r"<simulation\b[^>]*>", masked(text))
    if found is None:
        raise UserError("expected an i-PI input, got a file without <simulation>")
    return f"{text[: found.end()]}\n  {element}{text[found.end() :]}"
