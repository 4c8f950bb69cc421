"""The endpoints that a ``driver.yaml`` lists, as it stands in a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MONITOR = "monitor"
"""Of the force field and the file of a monitor; its endpoint has the name of the first one, and ``-monitor``."""
MONITOR_SUFFIX = f"-{MONITOR}"


def is_monitor(endpoint: Mapping[str, Any]) -> bool:
    """Whether an endpoint is that of a monitor, which takes no part in the dynamics."""
    return str(endpoint.get("unix", "")).endswith(MONITOR_SUFFIX)


def averages(settings: Mapping[str, Any]) -> list[str]:
    """Names of the averages of the endpoints in their order, without that of a monitor."""
    endpoints = [endpoint for endpoint in settings.get("endpoints") or [] if isinstance(endpoint, dict)]
    return [str(endpoint.get("average") or "none") for endpoint in endpoints if not is_monitor(endpoint)]
