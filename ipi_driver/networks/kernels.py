"""Kernels for GPUs, in Triton: attention among the tokens of each atom, and norms of sums, forward and backward.

On a GPU most of the time of a pass goes into moving arrays. The attention of one atom and head is a few thousand
numbers: a kernel reads its queries, keys and values once, in place, and writes the result, where separate operations
gather rows, write scores, read them, write weights, and scatter. The way back computes the weights again instead of
keeping them.

For float32 on CUDA devices, where Triton is installed (it comes with torch there); everything else takes the separate
operations of `attention` and `pet.passes`, whose numbers these kernels give to rounding.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from ipi_driver.networks.blocks import Block

logger = logging.getLogger(__name__)

SWITCH = "IPI_DRIVER_KERNELS"
"""Environment variable; ``off``: the separate operations are used on GPUs, too."""

MOST_ROW = {"ieee": 64, "tf32": 128}
"""Longest row, tokens of an atom, by the precision of products; longer ones take minutes to compile."""

_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@functools.cache
def _work(device: torch.device) -> bool:
    """Whether norms can be compiled and run; if not, the reason is a warning."""
    if os.environ.get(SWITCH) == "off" or find_spec("triton") is None:
        return False

    def trial() -> None:
        two = torch.ones(2, device=device)
        sum_norm(torch.ones(1, 2, device=device), None, two, two, 1e-5)

    return _tried(trial, "kernels for GPUs")


@functools.cache
def _attention_works(device: torch.device, d_head: int, length: int, precision: str) -> bool:
    """The same of attention with rows of this length, which a GPU may have too little memory for."""
    if not _work(device):
        return False

    def trial() -> None:
        starts = torch.tensor([0, length - 1, length - 1], dtype=torch.int32, device=device)
        row = SimpleNamespace(starts=starts, n_nodes=2, row_length=length)
        qkv = torch.zeros(length + 1, 3 * d_head, device=device)
        bias = torch.zeros(2, 1, length, device=device)
        out = attention(qkv, bias, row, 1, precision)  # type: ignore[arg-type]
        attention_backward(out, qkv, bias, row, 1, precision)  # type: ignore[arg-type]

    return _tried(trial, f"attention of rows of {length} tokens in one kernel")


def _tried(trial: Callable[[], None], what: str) -> bool:
    # Triton's errors are of many kinds: no C compiler, no folder to write to, little memory, ...
    try:
        trial()
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        logger.warning(
            "ipi-driver: warning: %s cannot be compiled (%s); separate operations are used, which take up to three "
            "times as long. %s=off silences this.",
            what,
            reason[-1],
            SWITCH,
        )
        return False
    return True


def usable(tokens: torch.Tensor) -> bool:
    """Whether the kernels take this array."""
    return tokens.dtype == torch.float32 and (tokens.is_cuda or _INTERPRETED) and _work(tokens.device)


def attention_usable(tokens: torch.Tensor, d_head: int, block: Block) -> bool:
    """Whether the kernels take the attention of this block."""
    if not usable(tokens) or d_head not in (16, 32, 64, 128) or block.n_nodes == 0:
        return False
    precision, length = _precision(), _row(block.row_length)
    return length <= MOST_ROW[precision] and _attention_works(tokens.device, d_head, length, precision)


def _on(tensor: torch.Tensor) -> AbstractContextManager[object]:
    """Triton starts its programs on the current GPU, which must be that of the arrays."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def _row(length: int) -> int:
    """The power of two that holds a row; products take at least 16."""
    return max(16, 1 << (length - 1).bit_length())


def _precision() -> str:
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):  # since torch 2.9; with it set, the older name raises
        return "tf32" if matmul.fp32_precision == "tf32" else "ieee"
    return "tf32" if matmul.allow_tf32 else "ieee"


def attention(
    qkv: torch.Tensor, bias: torch.Tensor, block: Block, n_heads: int, precision: str | None = None
) -> torch.Tensor:
    """Mixed values (n_tokens, d) of queries, keys and values (n_tokens, 3 d), the scale in the queries.

    Parameters
    ----------
    bias
        (n_heads * n_nodes, 1, row_length), added to the scores, the same for all heads.
    """
    n_tokens, d = qkv.shape[0], qkv.shape[1] // 3
    out = qkv.new_empty(n_tokens, d)
    length = _row(block.row_length)
    with _on(qkv):
        _kernels().attention[(block.n_nodes, n_heads)](
            qkv,
            bias,
            out,
            block.starts,
            block.n_nodes,
            block.row_length,
            D=d // n_heads,
            H=n_heads,
            L=length,
            PRECISION=precision or _precision(),
            num_warps=_warps(length),
        )
    return out


def attention_backward(
    gradient: torch.Tensor,
    qkv: torch.Tensor,
    bias: torch.Tensor,
    block: Block,
    n_heads: int,
    precision: str | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Derivatives by ``qkv``, and by the bias of each head (n_heads * n_nodes, 1, row_length)."""
    d = qkv.shape[1] // 3
    g_qkv = torch.empty_like(qkv)
    g_bias = qkv.new_empty(n_heads * block.n_nodes, 1, block.row_length)
    length = _row(block.row_length)
    with _on(gradient):
        _kernels().attention_backward[(block.n_nodes, n_heads)](
            gradient,
            qkv,
            bias,
            g_qkv,
            g_bias,
            block.starts,
            block.n_nodes,
            block.row_length,
            D=d // n_heads,
            H=n_heads,
            L=length,
            PRECISION=precision or _precision(),
            num_warps=_warps(length),
        )
    return g_qkv, g_bias


def _warps(length: int) -> int:
    return 1 if length <= 16 else 2 if length <= 32 else 4 if length <= 64 else 8


_ROWS = 4
"""Rows of a norm in one program."""


def sum_norm(
    a: torch.Tensor, b: torch.Tensor | None, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Norm of ``a + b``, the sum, written to ``a``, and its means and inverse standard deviations (n_tokens, 1)."""
    n, width = a.shape
    y, mean, inverse_std = torch.empty_like(a), a.new_empty(n, 1), a.new_empty(n, 1)
    if n:
        with _on(a):
            _kernels().sum_norm[(-(-n // _ROWS),)](
                a,
                a if b is None else b,
                y,
                mean,
                inverse_std,
                weight,
                bias,
                n,
                width,
                eps,
                ADD=b is not None,
                W=1 << (width - 1).bit_length(),
                ROWS=_ROWS,
                num_warps=_ROWS,
            )
    return y, a, mean, inverse_std


def norm_backward(
    gradient: torch.Tensor,
    x: torch.Tensor,
    mean: torch.Tensor,
    inverse_std: torch.Tensor,
    weight: torch.Tensor,
    added: torch.Tensor | None,
    before: bool,
) -> torch.Tensor:
    """Derivative by the argument of a norm; ``added`` is added to the gradient (``before``) or to the result."""
    n, width = x.shape
    out = torch.empty_like(x)
    if n:
        with _on(gradient):
            _kernels().norm_backward[(-(-n // _ROWS),)](
                gradient,
                gradient if added is None else added,
                x,
                mean,
                inverse_std,
                weight,
                out,
                n,
                width,
                BEFORE=added is not None and before,
                AFTER=added is not None and not before,
                W=1 << (width - 1).bit_length(),
                ROWS=_ROWS,
                num_warps=_ROWS,
            )
    return out


@functools.cache
def _kernels() -> Any:
    """Compiled at their first use; Triton is imported here."""
    from ipi_driver.networks import triton_kernels

    return triton_kernels
