"""`PotentialSpec`: a potential by kind, name and options, as a user writes it; `parse_potential` makes one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from urllib.parse import parse_qsl

from ipi_driver.errors import UserError


@dataclass(frozen=True)
class PotentialSpec:
    """A potential by kind, name and options.

    Attributes
    ----------
    kind
        Of `ipi_driver.potentials.kinds.potential_kinds`.
    body
        What a user writes for it, without the kind: ``NAME?OPTION=VALUE&...``.
    prefix
        The kind as it is written before the body: ``"ase:"``, or empty where the body implies it (``model.pt``).
    """

    kind: str
    body: str
    prefix: str = ""

    def __str__(self) -> str:
        return self.prefix + self.body

    @property
    def name(self) -> str:
        """The body up to the question mark."""
        return self.body.partition("?")[0]

    @cached_property
    def options(self) -> Mapping[str, str]:
        """Options by name, as text; `UserError` for one that is given twice."""
        query = self.body.partition("?")[2]
        # in a form of a web page a plus is a blank; here it stands in 1e+3 and in file names
        pairs = parse_qsl(query.replace("+", "%2B"), keep_blank_values=True)
        options = dict(pairs)
        if len(options) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f"{self}: the option {twice!r} is given twice; leave one out")
        return options

    def with_options(self, options: Mapping[str, str]) -> PotentialSpec:
        """The same with more options; one that is there already is replaced."""
        if not options:
            return self
        query = "&".join(f"{key}={value}" for key, value in {**self.options, **options}.items())
        return replace(self, body=f"{self.name}?{query}")

    def located(self, folder: Path) -> PotentialSpec:
        """The same with the name, and option values that hold a dot, as absolute paths where they are in ``folder``."""
        if self.body and (folder / self.body).exists():
            return replace(self, body=str((folder / self.body).resolve()))
        name, mark, query = self.body.partition("?")
        if name and (folder / name).exists():
            name = str((folder / name).resolve())
        options = [option.partition("=") for option in query.split("&")]
        located = [
            f"{key}={(folder / value).resolve()}"
            if "." in value and (folder / value).exists()
            else f"{key}{sign}{value}"
            for key, sign, value in options
        ]
        return replace(self, body=name + mark + "&".join(located))


def check_precision(dtype: str | None, device: str) -> None:
    """Raise `UserError` for a precision that this device has not; nothing is loaded."""
    if dtype == "tf32" and not device.startswith("cuda"):
        raise UserError(
            f"--dtype tf32 is for GPUs, got --device {device}: give --device cuda, or leave it out"
        )
