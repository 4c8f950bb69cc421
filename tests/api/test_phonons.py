"""The how-to on phonons, executed: degenerate modes of a cubic crystal, raw and averaged."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "phonons.md"


@pytest.mark.timeout(900)
@pytest.mark.skipif(not PAGE.is_file(), reason="the documentation is not here")
def test_degenerate_modes_are_split_by_the_raw_model_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert code is not None
    monkeypatch.chdir(tmp_path)  # ASE writes the forces of every displacement
    found: dict[str, Any] = {}
    exec(code.group(1), found)
    groups = np.cumsum([0, 3, 3, 1, 3, 3, 3, 2])  # the second one: acoustic
    raw, averaged = (
        [np.ptp(found[name][start:stop]) for start, stop in pairwise(groups)] for name in ("raw", "averaged")
    )
    optical = [0, 3, 4, 5, 6]
    assert min(raw[k] for k in optical) > 0.01  # meV; 0.017 of the two modes, 0.38 of the first three
    assert max(averaged) < 1e-3
    # and groups lie far apart: that they are groups is no accident of the order
    assert np.diff(found["averaged"][groups[:-1]]).min() > 10.0
