"""The monitor of a raw run, where its folder is an input itself; without processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ipi_driver.errors import UserError
from ipi_driver.ipi_files import edit as xml
from ipi_driver.ipi_files.endpoints import averages
from ipi_driver.ipi_files.run_folder import RunFolder
from ipi_driver.runs.changes import Changes
from ipi_driver.runs.prepare import find_source, prepare
from ipi_driver.runs.resume import go_on
from ipi_driver.shipped import shipped_folder


def prepared(source: str | Path, output: Path, **changes: Any) -> RunFolder:
    given = Changes(**changes)
    prepare(find_source(source, given), output, given)
    return RunFolder(output)


def strides(run: RunFolder) -> list[int]:
    return [output.stride for output in run.input.outputs if output.stem.endswith("monitor")]


def test_the_folder_of_a_run_with_a_monitor_is_an_input(tmp_path: Path) -> None:
    """Its monitor takes another average and stride; the average of the run is not taken for that of the monitor."""
    first = prepared("gas-nve", tmp_path / "a", model="anisotropic", monitor="Th")
    assert [e["average"] for e in first.settings["endpoints"]] == ["none", "Th"]
    other = prepared(first.path, tmp_path / "b", monitor="2i", monitor_stride=10)
    assert [e["average"] for e in other.settings["endpoints"]] == ["none", "2i"]
    assert (strides(first), strides(other)) == ([200], [10])
    averaged = prepared(first.path, tmp_path / "c", average="2i")
    assert averages(averaged.settings) == ["2i"]
    assert [e["average"] for e in averaged.settings["endpoints"]] == ["2i", "Th"]


def test_a_run_with_a_monitor_that_begins_anew(tmp_path: Path) -> None:
    """Its network socket has another port then, and one monitor stays one."""
    text = (shipped_folder("inputs") / "gas-nve" / "input.xml").read_text()
    text = text.replace("mode='unix'", "mode='inet'").replace("gas-nve-model", "localhost")
    (tmp_path / "input.xml").write_text(text.replace("</address>", "</address> <port> 31415 </port>"))
    (tmp_path / "init.xyz").write_text((shipped_folder("inputs") / "gas-nve" / "init.xyz").read_text())
    given = {"model": "anisotropic", "pbc": False, "monitor": "Th"}
    run = prepared(tmp_path / "input.xml", tmp_path / "run", **given)
    go_on(run, Changes(), print)
    assert len(run.settings["endpoints"]) == len(xml.sockets(run.input_text)) == 2
    assert strides(run) == [200]
    with pytest.raises(UserError, match="--address and --monitor do not go together"):
        prepared(tmp_path / "input.xml", tmp_path / "other", address="localhost", **given)
