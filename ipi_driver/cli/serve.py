"""``ipi-driver serve``: answer i-PI's sockets with a potential, raw and averaged."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from ipi_driver.cli.conditions import add_conditions, add_precision
from ipi_driver.client.settings import make_settings, read_yaml
from ipi_driver.errors import UserError

logger = logging.getLogger(__name__)

CONFIG = "driver.yaml"

EPILOG = """\
One process answers any number of sockets with one copy of the model.
Averages: none; the Euler-angle grids 2, 2i, 3, 3i, ...; i (inversion); the groups D2, D2h, T, Th, O, Oh, I,
Ih; lebedev-L; random, random-so3, random-NAME; ecse (isolated structures).

examples:
  ipi-driver serve pet-water-s2 --structure init.xyz --unix driver
  ipi-driver serve pet-water-s2 --input input.xml --unix raw --unix averaged=2i     # multiple time stepping
  ipi-driver serve model.pt --structure init.xyz --inet cluster01:31415=Th --device cuda
  ipi-driver serve                                   # everything from driver.yaml in this folder
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command; what is not given is taken from ``driver.yaml``, where that is read."""
    parser.epilog = EPILOG
    add = parser.add_argument
    add(
        "model",
        nargs="?",
        help="shipped model, model folder, exported .pt, ase:MODULE.CALCULATOR?KEY=VALUE, ...",
    )
    endpoints = parser.add_argument_group("endpoints (repeat for several)")
    for kind, address, what in (
        ("unix", "NAME", "unix socket, as in <ffsocket mode='unix'> <address>NAME"),
        ("inet", "HOST:PORT", "network socket, as in <ffsocket mode='inet'>"),
        ("shm", "NAME", "unix socket with shared memory, as in <ffsocket mode='shm'>"),
    ):
        endpoints.add_argument(
            f"--{kind}",
            action=_AppendEndpoint,
            dest="endpoints",
            kind=kind,
            metavar=f"{address}[=AVERAGE]",
            help=what,
        )
    add(
        "-S",
        "--sockets-prefix",
        metavar="PREFIX",
        help="prefix of unix sockets, as i-pi -S (default /tmp/ipi_)",
    )
    add(
        "--structure",
        type=Path,
        metavar="FILE",
        help="where elements and pbc come from: any file that ASE reads",
    )
    add("--input", type=Path, metavar="XML", help="the same from i-PI's input or RESTART")
    add(
        "--pbc",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="periodic or isolated, whatever the file states",
    )
    add_conditions(parser)
    add(
        "--extras",
        nargs="+",
        metavar="OUTPUT",
        help="further outputs of a metatomic model, averaged, for extra_type in i-PI: energy_ensemble "
        "(committee_pot), mtt::dipole (dipole), ...",
    )
    add("--device", help="torch device (default cpu)")
    add_precision(parser)
    add("--rotation-batch", type=int, metavar="N", help="rotations per call of the model (default: chosen)")
    add("--seed", type=int, help="seed of random rotations (default 0)")
    add("--deadline", type=float, metavar="SECONDS", help="time to wait for i-PI (default 600; 0: for ever)")
    add("--threads", type=int, help="threads of the model")
    add(
        "--virial",
        choices=("required", "nan"),
        help="if the potential has no virial for a periodic structure: stop (default) or send nan",
    )
    add(
        "--stats", type=Path, metavar="FILE", help="write evaluations, rotations and times as JSON at the end"
    )
    add("--record", type=Path, help=argparse.SUPPRESS)  # for the launcher: the configuration under evaluation
    add(
        "--config",
        type=Path,
        metavar="YAML",
        help=f"settings file, over which options take precedence (default: {CONFIG} in this folder, unless the command "
        "line names both the model and the sockets)",
    )
    add("-q", "--quiet", action="store_true", help="errors only")


class _AppendEndpoint(argparse.Action):
    """``--unix NAME=AVERAGE`` to ``{"unix": NAME, "average": AVERAGE}``."""

    def __init__(self, *args: Any, kind: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kind = kind

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option: str | None = None,
    ) -> None:
        address, _, average = str(values).partition("=")
        endpoint = {self.kind: address, "average": average or "none"}
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or []), endpoint])


def collect_settings(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Settings of the file overridden by those of the command line, and where they come from.

    A ``driver.yaml`` in this folder that nobody has named is read only where the command line leaves out the model or
    the sockets: a complete command is one, wherever it is given.
    """
    given = {
        key: value
        for key, value in vars(args).items()
        if value is not None and key not in ("command", "config", "quiet")
    }
    path = args.config
    if path is None and Path(CONFIG).is_file():
        if "model" in given and "endpoints" in given:
            logger.warning(
                "%s in this folder is not read, as the command line names the model and the sockets; to take charge, "
                "spin, precision, ... from it: --config %s", CONFIG, CONFIG,
            )  # fmt: skip
        else:
            path = Path(CONFIG)
    if path is None:
        values, source = given, "the command line"
    else:
        values, source = {**read_yaml(path), **given}, str(path)
        endpoints = values.get("endpoints")
        own = isinstance(endpoints, list) and all(isinstance(e, dict) and e.get("model") for e in endpoints)
        if "model" in given and endpoints and own:
            raise UserError(
                f"{given['model']} would serve nothing: each endpoint in {path} has a `model` of its own; change that"
            )
        if "structure" in given and "input" not in given:
            values.pop("input", None)
        if "input" in given and "structure" not in given:
            values.pop("structure", None)
    return values, source


def main(args: argparse.Namespace) -> int:
    """Serve until i-PI ends the run; returns the exit status."""
    logging.basicConfig(
        level=logging.WARNING if args.quiet else logging.INFO,
        stream=sys.stderr,
        format="ipi-driver: %(message)s",
    )
    if "structure" in vars(args) and args.structure and args.input:
        raise UserError("give the structure with --structure or with --input, not with both")
    values, source = collect_settings(args)
    settings = make_settings(values, source)
    from ipi_driver.client.client import (
        serve,
    )  # loads ASE and the averages: only once the settings are right

    return serve(settings)
