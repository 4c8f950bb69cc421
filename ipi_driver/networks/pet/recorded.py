"""A pass of PET recorded as a graph of operations, which runs without Python.

For a small molecule half of the time of a pass is Python, between operations of a few microseconds. As long as the set
of edges is the same, every evaluation is the same sequence of operations, which is recorded once (0.1 to 0.2 s) and run
from then on: by torch's own graph executor on a CPU, as a CUDA graph on a GPU, where the start of each operation costs
more than many of them take. The numbers are the same, bitwise on a CPU and to rounding on a GPU, whose libraries may
choose other products for a recording; else the recording is not used.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch

Results = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Pass = Callable[[torch.Tensor], Results]

_ERRORS = (RuntimeError, NotImplementedError, TypeError, OSError)


def record(function: Pass, vectors: torch.Tensor) -> Pass | None:
    """``function`` of edge vectors of this shape, recorded; None where torch cannot or the numbers differ."""
    # others than those that are recorded, so that a number taken for a constant is seen
    others = vectors * 1.001
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            recorded = _capture(function, vectors) if vectors.is_cuda else _trace(function, vectors)
            for _ in range(3):  # the first calls are those in which torch rearranges what it runs
                found = recorded(others)
            expected = function(others)
        except _ERRORS:
            return None
    return recorded if all(map(_same, found, expected)) else None


def _same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    if torch.equal(found, expected) or not found.is_cuda:
        return torch.equal(found, expected)
    rounding = 64.0 * torch.finfo(expected.dtype).eps * float(expected.abs().max())
    return bool((found - expected).abs().max() <= rounding)


def _trace(function: Pass, vectors: torch.Tensor) -> Pass:
    held = [function]  # torch keeps what it has traced; given up at the end, with the graph that it refers to
    try:
        recorded: Pass = torch.jit.trace(lambda x: held[0](x), (vectors,), check_trace=False)
    finally:
        held.clear()
    return recorded


class _CudaGraph:
    """A pass as a CUDA graph: one call starts all its operations. It keeps ``function`` and all that it refers to."""

    def __init__(self, function: Pass, vectors: torch.Tensor) -> None:
        self.function, self.argument = function, vectors.clone()
        stream = torch.cuda.Stream(vectors.device)
        stream.wait_stream(torch.cuda.current_stream(vectors.device))
        with torch.cuda.stream(stream):
            for _ in range(
                2
            ):  # libraries take their workspaces in the first call, which a capture does not allow
                function(self.argument)
        torch.cuda.current_stream(vectors.device).wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.results = function(self.argument)

    def __call__(self, vectors: torch.Tensor) -> Results:
        self.argument.copy_(vectors)
        self.graph.replay()
        atomic, bonds, derivatives = self.results  # which the next replay overwrites
        return atomic.clone(), bonds.clone(), derivatives.clone()


def _capture(function: Pass, vectors: torch.Tensor) -> Pass:
    with torch.cuda.device(vectors.device):
        return _CudaGraph(function, vectors)
