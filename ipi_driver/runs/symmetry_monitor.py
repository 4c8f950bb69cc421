"""A raw run beside which an average is evaluated now and then: the symmetry error along its own trajectory.

The average becomes a force of weight zero, which i-PI computes at the steps alone at which it is printed; the dynamics
is that of the run without it. Every ``stride`` steps the standard deviation of the forces over the rotations is written
to ``simulation.monitor``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ipi_driver.client.settings import MonitorSettings
from ipi_driver.errors import UserError
from ipi_driver.ipi_files import edit as xml
from ipi_driver.ipi_files.endpoints import MONITOR, MONITOR_SUFFIX, is_monitor
from ipi_driver.ipi_files.input import read_input
from ipi_driver.ipi_files.run_folder import RunFolder
from ipi_driver.units import MILLI

_TAIL = 1 << 14
_OUTPUT = re.compile(rf"<trajectory stride='(\d+)' filename='{MONITOR}'")


def monitor_settings(settings: dict[str, Any], source: Path) -> MonitorSettings | None:
    """The monitor that ``driver.yaml`` or the command line asks for.

    Raises
    ------
    UserError
        If its average has one rotation only, which shows nothing.
    """
    given = settings.get(MONITOR)
    if given is None:
        return None
    monitor = given if isinstance(given, MonitorSettings) else MonitorSettings.model_validate(given)
    if len(monitor.quadrature) == 1:
        raise UserError(
            f"{source}: --monitor {monitor.average} evaluates one rotation, whose spread is zero; give a grid or a "
            "group, such as Th"
        )
    return monitor


def with_monitor(
    text: str, endpoints: list[dict[str, Any]], monitor: MonitorSettings, source: Path
) -> tuple[str, list[dict[str, Any]]]:
    """The input with the force of weight zero, its socket and its output, and the endpoints with the one for it.

    Raises
    ------
    UserError
        If the input has several systems or beads, or no place for them.
    """
    settings = read_input(source)
    if len(settings.systems) > 1 or settings.n_beads > 1:
        raise UserError(f"{source}: --monitor is for one system of one bead")
    if any(map(is_monitor, endpoints)) and _OUTPUT.search(
        xml.masked(text)
    ):  # of a folder that was prepared before
        return _changed(text, endpoints, monitor)
    address = f"{xml.sockets(text)[0].address.replace(':', '-')}{MONITOR_SUFFIX}"
    pbc = str(settings.wraps[0]).lower()
    socket = (
        f"<ffsocket name='{MONITOR}' mode='unix' pbc='{pbc}'> <address>{address}</address> "
        "<latency>1e-3</latency> <timeout>600</timeout> <exit_on_disconnect>true</exit_on_disconnect> </ffsocket>\n  "
    )
    output = (
        f"  <trajectory stride='{monitor.stride}' filename='{MONITOR}' extra_type='forces_spread'> "
        f"extras_component_raw({len(settings.forces)}) </trajectory>\n  "
    )
    force = f"  <force forcefield='{MONITOR}' weight='0'/>\n    "
    for place, words in (("</forces>", force), ("<system", socket), ("</output>", output)):
        found = xml.masked(text).find(place)
        if found < 0:
            raise UserError(f"{source}: --monitor needs {place.removesuffix('>')}> in the input")
        text = text[:found] + words + text[found:]
    return text, [*endpoints, {"unix": address, "average": monitor.average}]


def _changed(
    text: str, endpoints: list[dict[str, Any]], monitor: MonitorSettings
) -> tuple[str, list[dict[str, Any]]]:
    """Input and endpoints that have a monitor, with another average and stride of it."""
    if (found := _OUTPUT.search(xml.masked(text))) is not None:
        text = f"{text[: found.start(1)]}{monitor.stride}{text[found.end(1) :]}"
    return text, [{**e, "average": monitor.average} if is_monitor(e) else e for e in endpoints]


class SymmetryMonitor:
    """Looks at what the monitor of a running simulation has written.

    Parameters
    ----------
    folder
        The run folder.
    tolerance
        Of the standard deviation of the forces, meV/Å.
    """

    def __init__(self, folder: Path, tolerance: float) -> None:
        self._folder, self._tolerance = folder, tolerance
        self._warned = False

    def look(self) -> str | None:
        """A warning, once, where the last standard deviation is above the tolerance."""
        if self._warned or (last := last_std(self._folder)) is None or last <= self._tolerance:
            return None
        self._warned = True
        return (
            f"the forces of the raw model deviate by {last:.3g} meV/Å between orientations, more than the tolerance of "
            f"{self._tolerance:g} meV/Å: an average is needed here (see `ipi-driver check`)"
        )


def last_std(folder: Path) -> float | None:
    """Last standard deviation of the forces that the monitor has written, meV/Å; None where there is none."""
    run = RunFolder(folder)
    for output in run.input.outputs:
        if not output.stem.endswith(MONITOR):
            continue
        for path in run.files_of(output):
            with path.open("rb") as stream:
                stream.seek(max(0, path.stat().st_size - _TAIL))
                lines = [line for line in stream.read().splitlines(keepends=True) if line.endswith(b"\n")]
            for line in reversed(lines):
                try:
                    return MILLI * float(line.strip(b" []\n"))
                except ValueError:
                    continue
    return None
