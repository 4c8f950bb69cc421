"""YAML files of users, whose mistakes are one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ipi_driver.errors import UserError


def load_yaml(path: Path) -> Any:
    """Content of a YAML file.

    Raises
    ------
    UserError
        If it is not YAML, or not text.
    """
    try:
        return yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
