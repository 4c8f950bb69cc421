"""A lock for potentials that keep something between evaluations, so that threads may share them."""

from __future__ import annotations

import threading
from types import TracebackType


class OneAtATime:
    """A context that one thread at a time is in; a copy of it, also by pickle, is a new one.

    >>> import copy
    >>> alone = OneAtATime()
    >>> with alone, copy.deepcopy(alone):
    ...     pass
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[OneAtATime], tuple[()]]:
        return OneAtATime, ()
