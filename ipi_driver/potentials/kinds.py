"""Kinds of potentials by name: those of this package, those of others, and how to add one.

Another package adds a kind by an entry point of the group ``ipi_driver.potentials`` that names its class,

    [project.entry-points."ipi_driver.potentials"]
    morse = "my_package.morse:MorsePotential"

a script by `register_potential`. The class derives from `Potential` and makes an object from what a user writes in
its method `Potential.from_spec`. Then ``morse:NAME?OPTION=VALUE`` stands wherever a model does: ``serve``, ``run``,
``check``, ``driver.yaml``, `load_potential`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from ipi_driver.errors import UserError
from ipi_driver.potentials.base import Potential

GROUP = "ipi_driver.potentials"

_ROOM = "ipi_driver.potentials"
OWN = {
    "network": f"{_ROOM}.network:NetworkPotential",
    "metatomic": f"{_ROOM}.metatomic:MetatomicPotential",
    "ase": f"{_ROOM}.ase:AsePotential",
    "anisotropic": f"{_ROOM}.anisotropic:AnisotropicPotential",
    "field": f"{_ROOM}.field:FieldPotential",
    "sum": f"{_ROOM}.composite:SumPotential",
    "committee": f"{_ROOM}.composite:CommitteePotential",
    "chgnet": f"{_ROOM}.chgnet:ChgnetPotential",
    "pet-kokkos": f"{_ROOM}.kokkos:KokkosPotential",
    "orb": f"{_ROOM}.orb:OrbPotential",
    "mace": f"{_ROOM}.mace:MacePotential",
}
"""The kinds of this package, found also where it runs without being installed."""

_registered: dict[str, type[Potential]] = {}


def register_potential(kind: str, potential_class: type[Potential]) -> None:
    """Make a kind known in this process.

    Parameters
    ----------
    kind
        What a user writes before the colon.
    potential_class
        Derived from `Potential`, with its own `Potential.from_spec`.

    Raises
    ------
    UserError
        If another class has this name.
    """
    known = _registered.get(kind)
    if kind in OWN or (known is not None and known is not potential_class):
        raise UserError(f"the kind of potential {kind!r} exists already; give the new one another name")
    _registered[kind] = potential_class


def _external() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in OWN}


def potential_kinds() -> list[str]:
    """Names of all kinds."""
    return [*OWN, *sorted({*_registered, *_external()})]


def potential_class(kind: str) -> type[Potential]:
    """The class of a kind, which is imported only here: importing torch costs a second that ``ase:`` need not pay.

    Raises
    ------
    UserError
        If there is no such kind, or its package cannot be imported.
    """
    if kind in OWN:
        module, _, name = OWN[kind].partition(":")
        own: type[Potential] = getattr(import_module(module), name)
        return own
    if kind in _registered:
        return _registered[kind]
    point = _external().get(kind)
    if point is None:
        raise UserError(
            f"no kind of potential {kind!r}; there are {', '.join(potential_kinds())}; another needs its package "
            "installed"
        )
    try:
        found: type[Potential] = point.load()
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"the kind of potential {kind!r} ({point.value}) cannot be imported: {error}"
        ) from error
    return found
