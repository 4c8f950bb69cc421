"""YAML files of users, whose mistakes are one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

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


def first_problem(error: Exception) -> str:
    """The first of the problems that pydantic found, in one line: where, what was expected, what was got."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if not where:  # of the whole: what it got is all of it
        return str(first["msg"]).removeprefix("Value error, ")
    return f"{where}: {first['msg']} (got {first.get('input')!r})"
