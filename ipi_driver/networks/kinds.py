"""Kinds of networks by name: those of this package, those of others, and how to add one.

Another package adds a kind by an entry point of the group ``ipi_driver.networks`` that names its network class,

    [project.entry-points."ipi_driver.networks"]
    behler = "my_package.behler:BehlerNetwork"

a script by `register_network`. The class derives from `EdgeNetwork`, is constructed from its settings alone, and names
their class in ``config_class``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import ValidationError

from ipi_driver.errors import UserError
from ipi_driver.networks.base import EdgeNetwork, NetworkConfig
from ipi_driver.yaml_file import first_problem

logger = logging.getLogger(__name__)

GROUP = "ipi_driver.networks"
DEFAULT = "pet"

_OWN = {
    "pet": "ipi_driver.networks.pet.network:PetNetwork",
    "metatrain-pet": "ipi_driver.networks.metatrain_pet.network:MetatrainPetNetwork",
    "e3nn": "ipi_driver.networks.e3nn.network:E3nnNetwork",
}
_registered: dict[str, type[EdgeNetwork]] = {}


def register_network(network_class: type[EdgeNetwork]) -> type[EdgeNetwork]:
    """Make a kind known in this process; usable as a decorator of the class.

    Parameters
    ----------
    network_class
        A class whose ``config_class`` is a `NetworkConfig` with a ``kind``.

    Raises
    ------
    UserError
        If another class has this name.
    """
    kind = network_class.config_class.kind
    known = _registered.get(kind)
    if kind in _OWN or (known is not None and known is not network_class):
        raise UserError(f"the network kind {kind!r} exists already; give the new one another name")
    _registered[kind] = network_class
    return network_class


def _external() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def network_kinds() -> list[str]:
    """Names of all kinds, the default first."""
    return list(dict.fromkeys([DEFAULT, *_OWN, *sorted({*_registered, *_external()})]))


def network_class(kind: str) -> type[EdgeNetwork]:
    """The class of a kind; its settings are ``config_class``.

    Raises
    ------
    UserError
        If there is no such kind, or its package cannot be imported.
    """
    if kind in _OWN:
        module, _, name = _OWN[kind].partition(":")
        try:
            found: type[EdgeNetwork] = getattr(import_module(module), name)
        except ImportError as error:
            raise UserError(
                f"the network kind {kind!r} needs another package ({error}): pip install 'ipi-driver[{kind}]'"
            ) from error
        return found
    if kind in _registered:
        return _registered[kind]
    point = _external().get(kind)
    if point is None:
        raise UserError(f"no network kind {kind!r}; there are {', '.join(network_kinds())}")
    try:
        loaded: type[EdgeNetwork] = point.load()
    except (ImportError, AttributeError) as error:
        raise UserError(f"the network kind {kind!r} ({point.value}) cannot be imported: {error}") from error
    return loaded


def settings_by_kind() -> dict[str, type[NetworkConfig]]:
    """The class of settings of every kind whose package can be imported."""
    found = {}
    for kind in network_kinds():
        try:
            found[kind] = network_class(kind).config_class
        except UserError as error:
            logger.warning("%s", error)
    return found


def network_config(architecture: Mapping[str, Any], species: tuple[int, ...]) -> NetworkConfig:
    """Settings from the keys of ``architecture``, of which ``kind`` names the kind.

    Raises
    ------
    UserError
        If a key is unknown or out of range; one that another kind has is named with that kind.
    """
    keys = dict(architecture)
    kind = str(keys.pop("kind", DEFAULT))
    config_class = network_class(kind).config_class
    foreign = [key for key in keys if key not in config_class.model_fields]
    if foreign:
        having = [name for name, fields in settings_by_kind().items() if foreign[0] in fields.model_fields]
        hint = f"; it is a key of kind: {' and '.join(having)}" if having else ""
        raise UserError(
            f"`architecture`: {foreign[0]}: not a key of kind: {kind} (got {keys[foreign[0]]!r}){hint}"
        )
    try:
        return config_class(species=species, **keys)
    except (ValidationError, TypeError) as error:
        raise UserError(f"`architecture`: {first_problem(error)}") from error


def build_network(config: NetworkConfig) -> EdgeNetwork:
    """A network with random weights."""
    return network_class(config.kind)(config)
