"""The potential inside i-PI's own process: ``<ffdirect><pes>custom</pes>`` and ``i-pi-py_driver -m custom``.

i-PI loads this file by its path, which ``ipi-driver pes-path`` prints, and calls the class named below. The
parameters are those of `ipi_driver.client.in_process.InProcess`.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

__DRIVER_NAME__ = "ipi_driver"
__DRIVER_CLASS__ = "InProcessDriver"


class InProcessDriver:
    """Called by i-PI with ``h`` (3, 3), vectors as columns, and positions (n_atoms, 3), in bohr, or lists.

    Parameters
    ----------
    settings
        Of `InProcess`; ``verbosity`` and ``verbose``, which i-PI adds, are ignored.

    Raises
    ------
    UserError
        For a parameter that is unknown, missing or wrong.
    """

    def __init__(self, **settings: Any) -> None:
        from ipi_driver.client.in_process import InProcess

        for key in ("verbosity", "verbose"):
            settings.pop(key, None)
        self._potential = InProcess(**settings)

    def __call__(self, cell: Any, pos: Any) -> Any:
        """(energy, forces, virial, extras) in atomic units, or a list of such for lists."""
        try:
            if isinstance(cell, list):
                return self._potential.evaluate(cell, pos)
            return self._potential.evaluate([cell], [pos])[0]
        except Exception as error:
            if threading.current_thread() is not threading.main_thread():
                _stop_ipi(f"{type(error).__name__}: {error}")
            raise


def _stop_ipi(message: str) -> None:
    """Ask i-PI to end with a RESTART: its main thread does not notice that a thread died, and would wait for ever."""
    module = sys.modules.get("ipi.utils.softexit")
    if module is None or module.softexit.triggered:
        return
    # from a thread of its own: i-PI joins the one that has failed, which holds a lock until it is gone
    options = {"status": "bad", "message": f"ipi_driver: {message}"}
    threading.Thread(target=module.softexit.trigger, kwargs=options, daemon=True).start()
