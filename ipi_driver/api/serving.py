"""`serve`: a model answers i-PI, from Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ipi_driver.client.client import serve as serve_settings
from ipi_driver.client.settings import make_settings


def serve(
    model: str,
    structure: str | Path,
    *,
    unix: Mapping[str, str] | str | None = None,
    inet: Mapping[str, str] | str | None = None,
    **settings: Any,
) -> int:
    """Answer i-PI on one or several sockets until it ends, as ``ipi-driver serve`` does.

    Parameters
    ----------
    model
        What `load_potential` takes.
    structure
        File with the elements and the periodicity, in i-PI's order of atoms.
    unix, inet
        Addresses of sockets and the average of each, or one address for the raw model: ``{"averaged": "2i"}``,
        ``{"localhost:31415": "Th"}``.
    **settings
        Further keys of ``driver.yaml``.

    Returns
    -------
    int
        Exit status: 0 where i-PI has ended the connection.

    Raises
    ------
    UserError
        If a setting is wrong or the model cannot be loaded.

    Examples
    --------
    >>> ipi_driver.serve("pet-water-s2", "init.xyz", unix={"raw": "none", "averaged": "2i"})  # doctest: +SKIP
    """
    endpoints = []
    for kind, given in (("unix", unix), ("inet", inet)):
        addresses = {given: "none"} if isinstance(given, str) else dict(given or {})
        endpoints += [{kind: address, "average": average} for address, average in addresses.items()]
    values = {"model": model, "structure": Path(structure), "endpoints": endpoints, **settings}
    return serve_settings(make_settings(values, "the call of serve"))
