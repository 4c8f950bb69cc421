"""Rows 35 to 55: full disks, odd files, and the environment of a run."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fault_rows.place import MODEL, PROGRAM, Place, last_line, processes, rows, said, wait_for
from fault_rows.table import row, together


@contextmanager
def tmpfs(folder: Path, size: str, *options: str) -> Iterator[Path]:
    """A file system of its own, for which the script has to run as root."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options]), "none", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"no tmpfs here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _full(place: Place, limit: str, shell: str, pattern: str) -> tuple[str, bool]:
    status, output = place.shell(shell)
    sentence = said(output, pattern)
    return f"{limit}: status {status}, {sentence or last_line(output)}", (
        status == 2 and bool(sentence) and "Traceback" not in output
    )


@row("35, 38", "a disk of 40 kB; files of at most 20 kB", "the cause, status 2")
def _(place: Place) -> tuple[str, bool]:
    run = f"$P run gas-nve --model '{MODEL}' --steps 400 --output"
    with tmpfs(place.folder / "small", "40k") as small:
        full = _full(place, "40 kB", f"{run} {small}/run", r"No space left on device")
    longer = run.replace("--steps 400", "--steps 3000")  # trajectories of more than 20 kB
    return together([full, _full(place, "ulimit -f", f"ulimit -f 20; {longer} run", r"File too large")])


@row(
    "36",
    "a disk that is full in the middle of a run, enlarged, --resume",
    "stops with the cause, goes on, all rows",
)
def _(place: Place) -> tuple[str, bool]:
    def often(text: str) -> str:
        return text.replace("stride='10'", "stride='2'").replace("stride='1000'", "stride='50'")

    place.mine(edit=often)
    with tmpfs(place.folder / "disk", "300k") as disk:
        words = ("run", "mine", "--output", disk / "run")
        status, output = place.run(*words, "--model", MODEL, "--steps", 1600)
        cause, reached = said(output, r"No space left on device"), len(rows(disk / "run"))
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        resumed, output = place.run(*words, "--resume")
        steps = [int(float(line.split()[0])) for line in rows(disk / "run")]
    complete = steps == list(range(0, 1601, 2))
    return f"status {status} at row {reached}: {cause}; resumed: status {resumed}, all rows: {complete}", (
        status == 2 and bool(cause) and resumed == 0 and complete
    )


@row("37", "--output on a read-only file system, a file, a folder that is not empty", "one line each")
def _(place: Place) -> tuple[str, bool]:
    (place.folder / "file").touch()
    (place.folder / "full").mkdir()
    (place.folder / "full" / "mine").touch()
    found = []
    with tmpfs(place.folder / "fixed", "1m", "ro") as fixed:
        for output in (fixed / "run", "file", "full"):
            status, text = place.run("run", "gas-nve", "--model", MODEL, "--steps", 1, "--output", output)
            line = last_line(text)
            found.append((f"status {status}, {line[:60]}", status == 2 and line.startswith("error: ")))
    return together(found)


@row("39", "ulimit -v 500 MB with torch", "the cause, status 2")
def _(place: Place) -> tuple[str, bool]:
    script = "$P new gas-nve mine && ulimit -v 500000 && $P check pet-water-s mine/init.xyz"
    status, output = place.shell(script)
    line = last_line(output)
    return f"status {status}: {line[:110]}", status == 2 and "Traceback" not in output


@row("40, 43", "ulimit -n 32, no HOME, no such TMPDIR; stdout and stderr closed", "the run finishes")
def _(place: Place) -> tuple[str, bool]:
    run = f"run gas-nve --model '{MODEL}' --steps 20 --output"
    found = []
    for name, script in (
        ("few", f"ulimit -n 32; unset HOME; TMPDIR=/nowhere $P {run} few"),
        ("closed", f"$P {run} closed >&- 2>&-"),
    ):
        status, _ = place.shell(script)
        number = len(place.steps(name))
        found.append((f"status {status}, {number} of 3 rows", status == 0 and number == 3))
    return together(found)


@row("41", "2>/dev/full, and 2>&1 | head -1", "the run does not end for it")
def _(place: Place) -> tuple[str, bool]:
    run = f"$P run gas-nve --model '{MODEL}' --steps 400 --output"
    script = f"{run} a 2>/dev/full; echo $?; {run} b 2>&1 | head -1; echo ${{PIPESTATUS[0]}}"
    _, output = place.shell(script)
    numbers = [len(place.steps(name)) for name in "ab"]
    statuses = re.findall(r"^\d+$", output, re.MULTILINE)
    return f"statuses {' and '.join(statuses)}, rows {numbers} of 41", numbers == [41, 41] and statuses[
        0
    ] == "0"


@row("42", "stdout full", "status 0, a note")
def _(place: Place) -> tuple[str, bool]:
    script = f"$P run gas-nve --model '{MODEL}' --steps 20 --output run >/dev/full"
    status, output = place.shell(script)
    sentence = said(output, r"no summary: [^\n]*")
    return f"status {status}: {sentence}", status == 0 and len(place.steps()) == 3


@row(
    "44",
    "byte-order mark, DOS line ends, blanks, umlauts, %, #, [ in names, a path of 300 characters",
    "finishes",
)
def _(place: Place) -> tuple[str, bool]:
    path = place.mine(folder="a b %20 ü #1 [x]")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    output = place.folder / ("long " * 20).strip() / ("ü" * 60) / ("x" * 100) / "run"
    status, text = place.run("run", path.parent.name, "--model", MODEL, "--steps", 20, "--output", output)
    number = len(rows(output))
    return (
        f"status {status}, {number} of 3 rows {'' if status == 0 else last_line(text)}",
        status == 0 and number == 3,
    )


@row("45", "a file that is not UTF-8", "names it")
def _(place: Place) -> tuple[str, bool]:
    path = place.mine()
    path.write_bytes(path.read_bytes().replace(b"<simulation", b"<!-- \xe9 --><simulation", 1))
    status, output = place.run("run", "mine", "--model", MODEL)
    sentence = said(output, r"input\.xml is not UTF-8 text")
    return f"status {status}: {sentence}", status == 2 and bool(sentence)


@row("46", "XML cut in the middle; empty", "says that it is not complete")
def _(place: Place) -> tuple[str, bool]:
    path, found = place.mine(), []
    text = path.read_text()
    for cut in (len(text) // 2, 0):
        path.write_text(text[:cut])
        status, output = place.run("run", "mine", "--model", MODEL)
        found.append((f"status {status}", status == 2 and "is not complete, well-formed XML" in output))
    return together([*found, ("input.xml is not complete, well-formed XML: ...", True)])


@row("47", "driver.yaml without sense, empty, binary, with a Python tag", "one line each, nothing is run")
def _(place: Place) -> tuple[str, bool]:
    path = place.mine().with_name("driver.yaml")
    contents = {
        "without sense": b"model: [1, {2: 3}]\nendpoints: 5\n",
        "empty": b"",
        "binary": bytes(range(256)),
        "Python tag": b"model: !!python/object/apply:os.system ['touch PWNED']\n",
    }
    found = []
    for name, content in contents.items():
        path.write_bytes(content)
        status, output = place.run("run", "mine", "--output", "run")
        line, pwned = last_line(output), bool(list(place.folder.rglob("PWNED")))
        fine = status == 2 and line.startswith("error: ") and not pwned and "Traceback" not in output
        found.append((f"{name}: status {status}", fine))
    return together(found)


@row("48", "a driver.yaml that refers to itself a billion times", "ends with one line")
def _(place: Place) -> tuple[str, bool]:
    path = place.mine()
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 10)]
    path.with_name("driver.yaml").write_text("\n".join([*lines, "model: *a9"]))
    status, output = place.run("run", "mine", seconds=300)
    return f"status {status}: {output.strip()[:90]} ...", status == 2


@row("49", "XML that refers to itself a billion times; an external entity", "not expanded, one line")
def _(place: Place) -> tuple[str, bool]:
    path = place.mine()
    text, found = path.read_text(), []
    laughs = '<!ENTITY a0 "x">' + "".join(
        f'<!ENTITY a{k} "{"".join([f"&a{k - 1};"] * 10)}">' for k in range(1, 10)
    )
    for name, entities, word in (
        ("laughs", laughs, "&a9;"),
        ("external", '<!ENTITY e SYSTEM "/etc/passwd">', "&e;"),
    ):
        path.write_text(f"<!DOCTYPE simulation [{entities}]>\n" + text.replace(" init.xyz ", word))
        status, output = place.run(
            "run", "mine", "--model", MODEL, "--steps", 1, "--output", "run", seconds=300
        )
        line = last_line(output)
        fine = status == 2 and line.startswith("error: ") and "root:" not in output
        found.append((f"{name}: status {status}, {line[:90]}", fine))
    return together(found)


@row(
    "50, 51",
    "outputs named ../../evil; a start file ../secret.xyz",
    "refused, or inside the run folder; copied",
)
def _(place: Place) -> tuple[str, bool]:
    path = place.mine()
    text = path.read_text()
    shutil.copyfile(path.with_name("init.xyz"), place.folder / "secret.xyz")
    path.write_text(text.replace(" init.xyz ", " ../secret.xyz "))
    status, output = place.run("run", "mine", "--model", MODEL, "--steps", 1, "--output", "run")
    copied = status == 0 and (place.folder / "run" / "secret.xyz").is_file()
    path.write_text(text.replace("filename='out'", "filename='../../evil'"))
    evil, output = place.run(
        "run", "mine", "--model", MODEL, "--steps", 1, "--output", "deep/er/run", seconds=400
    )
    outside = [p for p in place.folder.rglob("*evil*") if "run" not in p.parts]
    return (
        f"start file copied: {copied}; outputs: status {evil}, {last_line(output)[:120]}, outside: {bool(outside)}",
        copied and not outside and evil == 2 and "Traceback" not in output,
    )


@row("52", "a second run in the folder of a run, and --resume of it meanwhile", "refused, the first unharmed")
def _(place: Place) -> tuple[str, bool]:
    words = ("run", "gas-nve", "--model", MODEL, "--output", "run")
    first = place.start(*words, "--steps", 10**6)
    wait_for(lambda: len(rows(place.folder / "run")) > 2)
    found = []
    for words_of_second in ((*words, "--steps", 20), ("run", "gas-nve", "--output", "run", "--resume")):
        status, output = place.run(*words_of_second)
        found.append((f"status {status}, {last_line(output)[:70]}", status == 2))
    first.send_signal(signal.SIGTERM)
    first.communicate()
    steps = place.steps()
    regular = steps == list(range(0, 10 * len(steps), 10))
    return together([*found, (f"first: status {first.returncode}, rows regular: {regular}",
                              first.returncode == 130 and regular)])  # fmt: skip


@row("53", "the run folder is deleted in the run", "one line, no process left")
def _(place: Place) -> tuple[str, bool]:
    folder = place.folder / "run"
    process = place.start("run", "gas-nve", "--model", MODEL, "--steps", 10**6, "--output", "run")
    wait_for(lambda: len(rows(folder)) > 2)
    numbers = list(processes(folder).values())
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)  # i-PI may write in between
    try:
        output, _ = process.communicate(timeout=400)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    left = [number for number in numbers if os.path.exists(f"/proc/{number}")]
    line = last_line(output)
    return f"status {process.returncode}, {line[:90]}; processes left: {len(left)}", (
        process.returncode == 2 and not left and "Traceback" not in output
    )


@row("54", "sockets removed before the client has connected", "ends at once")
def _(place: Place) -> tuple[str, bool]:
    run = place.folder / "run"
    process = place.start("run", "gas-nve", "--model", MODEL, "--steps", 10**6, "--output", "run")

    def sockets() -> list[Path]:
        found = []
        for number in processes(run).values():
            try:
                words = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"-S" in words:
                found.append(Path(words[words.index(b"-S") + 1].decode()))
        return [path for path in found if path.is_dir()]

    wait_for(lambda: bool(sockets()))
    shutil.rmtree(sockets()[0])
    try:
        output, _ = process.communicate(timeout=400)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    sentence = said(output, r"where the sockets of the run are, has been removed")
    return f"status {process.returncode}: {sentence}", process.returncode == 2 and bool(sentence)


@row("55", "random.py in the run folder, --resume", "not imported")
def _(place: Place) -> tuple[str, bool]:
    place.nve(steps=20)
    (place.folder / "run" / "random.py").write_text("raise ImportError('shadowed')")
    status, _ = place.run("run", "gas-nve", "--output", "run", "--resume", "--steps", 40)
    number = len(place.steps())
    return f"status {status}, {number} of 5 rows", status == 0 and number == 5


@row("D2", "ase:mycalc.Toy with mycalc.py in the current folder", "found")
def _(place: Place) -> tuple[str, bool]:
    from fault_rows.calculators import CALCULATORS

    (place.folder / "here").mkdir()
    (place.folder / "here" / "mycalc.py").write_text(CALCULATORS.replace("Water", "Toy"))
    done = subprocess.run(
        [*PROGRAM, "run", "gas-nve", "--model", "ase:mycalc.Toy", "--steps", "10", "--output", "run"],
        cwd=place.folder / "here",
        capture_output=True,
        text=True,
    )
    return f"status {done.returncode}", done.returncode == 0
