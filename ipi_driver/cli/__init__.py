"""The command ``ipi-driver``: one thin module per subcommand, imported only when it is called."""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ipi_driver import __version__
from ipi_driver.allocator import keep_freed_memory
from ipi_driver.cli.printing import printed
from ipi_driver.errors import UserError

# name -> (module with `add_arguments(parser)` and `main(args) -> int`, one-line help)
COMMANDS = {
    "run": ("run", "run a whole i-PI simulation: i-PI and the client together"),
    "status": ("status", "where runs, sets, farms, reproductions and trainings stand"),
    "submit": ("submit", "run one input with many seeds and averages, as a Slurm array or here"),
    "serve": ("serve", "serve a potential to i-PI over sockets"),
    "new": ("new", "copy a shipped input to a folder of your own"),
    "pes-path": ("pes_path", "print the path of the in-process plugin for i-PI's <ffdirect>"),
    "import-pet": ("import_pet", "convert a PET checkpoint, of metatrain or the original code"),
    "export": ("export", "write a network, raw or averaged, as a metatomic model for other codes"),
    "train": ("train", "train a network: PET, equivariant (e3nn), or relaxed"),
    "symmetrize": ("symmetrize", "train a model to reproduce its own rotational average"),
    "evaluate": ("evaluate", "errors of a model on labelled data"),
    "check": ("check", "measure the symmetry error of a model and recommend an average"),
    "symmetry-breaking": ("symmetry_breaking", "what a relaxed network has learned to break"),
    "landscape": ("landscape", "loss surface and curvatures around a trained network"),
    "analyze": ("analyze", "observables, figures and a report from runs"),
    "reproduce": ("reproduce", "the published gas, liquid and ice tests, from runs to one report"),
    "completion": ("completion", "the script with which a shell completes commands and options"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``ipi-driver``; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in argv if not word.startswith("-")), None)
    parser, _ = build_parser(chosen)
    if chosen is not None and chosen not in COMMANDS:
        near = difflib.get_close_matches(chosen, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
        print(f"error: no command {chosen!r}; {hint}", file=sys.stderr)
        return 2
    args = parser.parse_args(argv)
    keep_freed_memory()
    _find_modules_here(argv)
    try:
        command = importlib.import_module(f"ipi_driver.cli.{COMMANDS[args.command][0]}")
        with printed(args):
            status = int(command.main(args))
        if sys.stdout is not None:  # closed, as by `>&-`
            sys.stdout.flush()
        return status
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.status
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:  # disk full, no permission, a file where a folder should be
        names = " -> ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        print(f"error: {error.strerror or error}{': ' if names else ''}{names}", file=sys.stderr)
        return 2
    except ImportError as error:  # a library that is broken, or too large for the memory allowed
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except UnicodeDecodeError as error:
        print(f"error: {_read_file(error)} is not UTF-8 text: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def build_parser(
    chosen: str | None = None, everything: bool = False
) -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser of the command line, and those of its commands.

    The options of the ``chosen`` command are added alone, or of all with ``everything``: the modules of the others
    (torch, matplotlib) need not be imported.
    """
    parser = argparse.ArgumentParser(
        prog="ipi-driver",
        description="Run i-PI with potentials that are not exactly rotation-equivariant.",
        epilog="`ipi-driver COMMAND --help` shows the options and examples of a command.",
    )
    parser.add_argument("--version", action="version", version=f"ipi-driver {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands = {}
    for name, (module, summary) in COMMANDS.items():
        sub = subparsers.add_parser(
            name,
            help=summary,
            description=summary,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            conflict_handler="resolve"
            if name == "submit"
            else "error",  # some options of `run` it has its own way
        )
        commands[name] = sub
        if everything or name == chosen:
            importlib.import_module(f"ipi_driver.cli.{module}").add_arguments(sub)
    return parser, commands


def _find_modules_here(argv: Sequence[str]) -> None:
    """Let ``ase:mycalc.Toy``, given on the command line, be found in ``mycalc.py`` of the current folder.

    The folder comes last on the path, so that none of its files takes the place of another module.
    """
    from ipi_driver.client.settings import modules_here

    for word in argv:
        model = word[word.find("ase:") :] if "ase:" in word else ""
        if model and (folder := modules_here(model, Path())) is not None and str(folder) not in sys.path:
            sys.path.append(str(folder))


def _read_file(error: BaseException) -> str:
    """The file that was read when ``error`` was raised, which the error itself does not name."""
    frame = error.__traceback__
    name = "a file"
    while frame is not None:
        found = frame.tb_frame.f_locals.get("self")
        if isinstance(found, Path):  # in Path.read_text
            name = str(found)
        frame = frame.tb_next
    return name
