"""The statistics of the client on a full disk."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from ipi_driver.client.client import write_whole


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "stats.json"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for before in (None, "old"):
        if before is not None:
            write_whole(path, before)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        try:
            with pytest.raises(OSError, match="too large"):
                write_whole(path, 100 * "x")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert [entry.name for entry in tmp_path.iterdir()] == ([] if before is None else ["stats.json"])
    assert path.read_text() == "old"
