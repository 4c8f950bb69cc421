from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from client_place import Workplace


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    workplace = Workplace(tmp_path)
    yield workplace
    workplace.close()
