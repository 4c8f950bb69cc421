"""What the client of a run warns of, in ``client.log``: its launcher shows it too."""

from __future__ import annotations

from pathlib import Path

from ipi_driver.client.client import WARNING

_LINE = f"ipi-driver: {WARNING}"


class ClientWarnings:
    """Warnings that the client writes after this is made, each once.

    Parameters
    ----------
    folder
        The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._log = folder / "client.log"
        self._start = self._log.stat().st_size if self._log.is_file() else 0
        self._seen: set[str] = set()

    def look(self) -> list[str]:
        """Those that are new."""
        if not self._log.is_file():
            return []
        with self._log.open("rb") as log:
            log.seek(self._start)
            lines = [line for line in log.read().splitlines(keepends=True) if line.endswith(b"\n")]
        self._start += sum(len(line) for line in lines)
        found = [line.decode(errors="replace").strip() for line in lines]
        new = [line.removeprefix(_LINE) for line in found if line.startswith(_LINE)]
        new = [text for text in dict.fromkeys(new) if text not in self._seen]
        self._seen.update(new)
        return new
