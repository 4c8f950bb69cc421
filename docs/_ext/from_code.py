"""Directives that print what the code knows: ``settings-table`` (keys of a pydantic model) and ``command-pages``."""

from __future__ import annotations

import argparse
import importlib
import os
from typing import Any, get_args, get_origin

from docutils import nodes
from docutils.parsers.rst import Directive
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from ipi_driver.cli import COMMANDS


def _models(kind: Any) -> list[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [model for inner in get_args(kind) for model in _models(inner)]


def _type(kind: Any) -> str:
    if kind is type(None):
        return "null"
    if get_origin(kind) is None:
        return getattr(kind, "__name__", str(kind)).replace("NoneType", "null")
    arguments = get_args(kind)
    origin = getattr(get_origin(kind), "__name__", str(get_origin(kind)))
    if origin == "Literal":
        return " or ".join(repr(argument) for argument in arguments)
    if origin in ("Union", "UnionType"):
        return " or ".join(_type(argument) for argument in arguments)
    if origin == "Annotated":
        return _type(arguments[0])
    return f"{origin} of {', '.join(_type(a) for a in arguments if a is not Ellipsis)}"


def _rows(model: type[BaseModel], prefix: str = "") -> list[tuple[str, str, str, str]]:
    rows = []
    for name, field in model.model_fields.items():
        inner = _models(field.annotation)
        if inner:
            for each in inner:
                lists = "list" in str(field.annotation)
                rows += _rows(each, f"{prefix}{name}{'[]' if lists else ''}.")
            continue
        default = "required" if field.is_required() else _default(field)
        rows.append((prefix + name, _type(field.annotation), default, field.description or ""))
    return rows


def _default(field: Any) -> str:
    value = field.default
    if value is PydanticUndefined:
        value = field.default_factory() if field.default_factory else ""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


class SettingsTable(Directive):
    """The keys of ``module.Model``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module, _, name = self.arguments[0].rpartition(".")
        rows = _rows(getattr(importlib.import_module(module), name))
        table, group = nodes.table(), nodes.tgroup(cols=4)
        table += group
        for width in (24, 24, 14, 50):
            group += nodes.colspec(colwidth=width)
        head, body = nodes.thead(), nodes.tbody()
        head += self._row(("key", "type", "default", "meaning"), literal=False)
        for row in rows:
            body += self._row(row)
        group += head
        group += body
        return [table]

    @staticmethod
    def _row(cells: tuple[str, ...], literal: bool = True) -> nodes.row:
        row = nodes.row()
        for number, cell in enumerate(cells):
            entry, paragraph = nodes.entry(), nodes.paragraph()
            code = literal and number in (0, 2) and cell
            paragraph += nodes.literal(text=cell) if code else nodes.Text(cell)
            entry += paragraph
            row += entry
        return row


class CommandPages(Directive):
    """The help text of every command, one section each."""

    def run(self) -> list[nodes.Node]:
        os.environ["COLUMNS"] = "100"
        found: list[nodes.Node] = []
        for name, (module, summary) in COMMANDS.items():
            parser = argparse.ArgumentParser(
                prog=f"ipi-driver {name}",
                description=summary,
                formatter_class=argparse.RawDescriptionHelpFormatter,
                conflict_handler="resolve",
            )
            importlib.import_module(f"ipi_driver.cli.{module}").add_arguments(parser)
            section = nodes.section(ids=[f"ipi-driver-{name}"])
            section += nodes.title(text=f"ipi-driver {name}")
            section += nodes.literal_block(text=parser.format_help(), language="text")
            found.append(section)
        return found


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("settings-table", SettingsTable)
    app.add_directive("command-pages", CommandPages)
    return {"parallel_read_safe": True}
