"""A pass of PET recorded as a graph of operations, which torch runs without Python.

For a small molecule half of the time of a pass is Python, between operations of a few microseconds. As long as the set
of edges is the same, every evaluation is the same sequence of operations, which is recorded once (0.1 to 0.2 s) and run
from then on. The numbers are bitwise the same, or the recording is not used.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch

Results = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def record(
    function: Callable[[torch.Tensor], Results], vectors: torch.Tensor
) -> Callable[..., Results] | None:
    """``function`` of edge vectors of this shape, recorded; None where torch cannot or the numbers differ."""
    held = [function]  # torch keeps what it has traced; given up at the end, with the graph that it refers to
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            recorded: Callable[..., Results] = torch.jit.trace(
                lambda x: held[0](x), (vectors,), check_trace=False
            )
            # others than those that were recorded, so that a number taken for a constant is seen;
            # the first calls are those in which torch rearranges what it runs
            others = vectors * 1.001
            for _ in range(3):
                found = recorded(others)
            expected = function(others)
        except (RuntimeError, NotImplementedError, TypeError, OSError):
            return None
        finally:
            held.clear()
    same = all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    return recorded if same else None
