"""Rows 56 to 66: --resume of damaged run folders."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from fault_rows.place import MODEL, Place, last_line, said, same_outputs
from fault_rows.table import SHARED, row, together


def _often(text: str) -> str:
    return text.replace("stride='10'", "stride='5'").replace("stride='1000'", "stride='20'")


def _made(steps: int) -> Path:
    def make(place: Place) -> None:
        place.mine(edit=_often)
        status, output = place.run("run", "mine", "--model", MODEL, "--steps", steps, "--output", "run")
        if status != 0:
            raise RuntimeError(output)

    return SHARED.get(f"of-{steps}", make)


def _base(place: Place) -> Path:
    """A copy of a run of 30 steps whose checkpoints are those of step 30 (RESTART) and 20; and its input."""
    made = _made(30)
    shutil.rmtree(place.folder / "run", ignore_errors=True)
    shutil.copytree(made / "run", place.folder / "run")
    shutil.copytree(made / "mine", place.folder / "mine", dirs_exist_ok=True)
    (place.folder / "run" / ".begun-from").unlink(missing_ok=True)  # it names the place of the first
    return place.folder / "run"


def _resumed(place: Place) -> tuple[int, str, bool]:
    """Status, output, and whether the files are those of an undisturbed run of 50 steps."""
    status, output = place.run("run", "mine", "--output", "run", "--resume", "--steps", 50)
    return status, output, same_outputs(place.folder / "run", _made(50) / "run")


def _first_block(text: str) -> str:
    return "\0" * 512 + text[512:]


def _letter(text: str) -> str:
    return re.sub(r"(<q shape[^[]*\[\s*-?\d\.\d\d)\d", r"\1x", text)


CHECKPOINTS: dict[str, Callable[[str], str]] = {
    "first block zeroed": _first_block,
    "a letter in a number": _letter,
    "<beads> lost": lambda text: re.sub("<beads.*</beads>", "", text, flags=re.DOTALL),
    "a NaN": lambda text: re.sub(r"(<p shape[^[]*\[\s*)[-\d.e+]+", r"\1nan", text),
    "<step> huge": lambda text: re.sub(r"<step>\d+", "<step>99999999999", text),
    "<step> negative": lambda text: re.sub(r"<step>\d+", "<step>-5", text),
    "<natoms> 4": lambda text: re.sub(r"natoms=(['\"])3", r"natoms=\g<1>4", text),
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
}


@row(
    "56, 58 to 60",
    f"RESTART damaged in {len(CHECKPOINTS)} ways",
    "older checkpoint, nothing deleted, same files",
)
def _(place: Place) -> tuple[str, bool]:
    found = []
    for name, damage in CHECKPOINTS.items():
        base = _base(place)
        (base / "RESTART").write_text(damage((base / "RESTART").read_text()))
        status, output, same = _resumed(place)
        good = status == 0 and same and "is damaged" in output and "of step 20" in output
        found.append((f"{name}: {'goes on from step 20' if good else last_line(output)}", good))
    text, good = together(found)
    return text + ("; all identical to the undisturbed run" if good else ""), good


@row("57", "RESTART and checkpoint cut", "begins anew, old outputs set aside, same files")
def _(place: Place) -> tuple[str, bool]:
    base = _base(place)
    for name in ("RESTART", "simulation.chk"):
        (base / name).write_bytes((base / name).read_bytes()[:700])
    status, output, same = _resumed(place)
    aside = len(list(base.glob("#simulation*#0#")))
    sentence = said(output, "begins anew from step 0")
    return (
        f"status {status}, {sentence}; {aside} old files kept; identical: {same}",
        status == 0 and same and aside > 3,
    )


@row("58b", "a checkpoint that only i-PI finds wrong", "the one before is taken by itself")
def _(place: Place) -> tuple[str, bool]:
    path = _base(place) / "RESTART"
    path.write_text(path.read_text().replace("<dynamics", "<dynamics nonsense='1'", 1))
    status, output, same = _resumed(place)
    sentence = said(output, r"i-PI makes no step from the checkpoint of step \d+")
    return f"{sentence}; status {status}, identical: {same}", status == 0 and same and bool(sentence)


@row("61, 62", "simulation.out lost, trajectory cut", "the gap is reported")
def _(place: Place) -> tuple[str, bool]:
    base = _base(place)
    (base / "simulation.out").unlink()
    path = base / "simulation.pos_0.xyz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    status, output, _ = _resumed(place)
    sentences = [
        said(output, r"simulation\.out is not there: its \d+ rows"),
        said(output, r"\d+ frames are missing"),
    ]
    return f"status {status}: {'; '.join(sentences)}", status == 0 and all(sentences)


@row("63, 64", "zero bytes at the end of .xyz and .out", "no frame lost")
def _(place: Place) -> tuple[str, bool]:
    base = _base(place)
    for name in ("simulation.pos_0.xyz", "simulation.out"):
        with (base / name).open("ab") as file:
            file.write(bytes(4096))
    status, _, same = _resumed(place)
    frames = re.findall(r"Step:\s+(\d+)", (base / "simulation.pos_0.xyz").read_text())
    return f"status {status}, {len(frames)} of 11 frames, identical: {same}", status == 0 and same


@row("65", "a row with a word in .out", "no traceback")
def _(place: Place) -> tuple[str, bool]:
    path = _base(place) / "simulation.out"
    lines = path.read_text().splitlines(keepends=True)
    lines[-3] = re.sub(r"\d", "x", lines[-3])
    path.write_text("".join(lines))
    status, output = place.run("run", "mine", "--output", "run", "--resume", "--steps", 50)
    return f"status {status}", status == 0 and "Traceback" not in output


@row("66", "input.xml missing; empty; driver.yaml empty; the structure lost", "one line each")
def _(place: Place) -> tuple[str, bool]:
    found = []
    for name, path, content in (
        ("no input.xml", "input.xml", None),
        ("empty input.xml", "input.xml", ""),
        ("empty driver.yaml", "driver.yaml", ""),
        ("no structure", "init.xyz", None),
    ):
        base = _base(place)
        if content is None:
            (base / path).unlink()
        else:
            (base / path).write_text(content)
        status, output, _ = _resumed(place)
        line = last_line(output)
        fine = status == 2 and line.startswith("error: ") and "Traceback" not in output
        found.append((f"{name}: status {status}, {line[:80]}", fine or (path == "init.xyz" and status == 0)))
    return together(found)


@row("66a", ".begun-from garbage, an EXIT file left, RESTART is a folder", "goes on, same files")
def _(place: Place) -> tuple[str, bool]:
    base = _base(place)
    (base / ".begun-from").write_bytes(bytes(range(200)))
    (base / "EXIT").touch()
    (base / "RESTART").rename(base / "RESTART.old")
    (base / "RESTART").mkdir()
    status, output, same = _resumed(place)
    return f"status {status}, identical: {same} {'' if same else last_line(output)}", status == 0 and same


@row("66b", "continue.xml is a link to nowhere", "goes on, or one line")
def _(place: Place) -> tuple[str, bool]:
    base = _base(place)
    (base / "continue.xml").unlink(missing_ok=True)
    (base / "continue.xml").symlink_to("/nowhere/at/all.xml")
    status, output, same = _resumed(place)
    line = last_line(output)
    fine = (status == 0 and same) or (status == 2 and line.startswith("error: "))
    return (
        f"status {status}, identical: {same} {'' if same else line[:100]}",
        fine and "Traceback" not in output,
    )
