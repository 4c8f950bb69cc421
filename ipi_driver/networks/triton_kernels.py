"""The Triton programs of `ipi_driver.networks.kernels`, which describes their arguments."""

# A kernel is compiled, not run as Python: annotations and names follow what Triton reads.
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def _row_of(starts, n_nodes, node, L: tl.constexpr):
    """Tokens in the row of an atom: the atom, then its edges; and which slots are used."""
    first = tl.load(starts + node)
    n_edges = tl.load(starts + node + 1) - first
    slots = tl.arange(0, L)
    tokens = tl.where(slots == 0, node, n_nodes + first + slots - 1).to(tl.int64)
    return slots, tokens, slots <= n_edges


@triton.jit(do_not_specialize=["n_nodes", "row_length"])
def attention(
    qkv,
    bias,
    out,
    starts,
    n_nodes,
    row_length,
    D: tl.constexpr,
    H: tl.constexpr,
    L: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One atom and head."""
    node, head = tl.program_id(0), tl.program_id(1)
    slots, tokens, used = _row_of(starts, n_nodes, node, L)
    places = tokens[:, None] * (3 * H * D) + head * D + tl.arange(0, D)[None, :]
    mask = used[:, None]
    q = tl.load(qkv + places, mask=mask, other=0.0)
    k = tl.load(qkv + places + H * D, mask=mask, other=0.0)
    v = tl.load(qkv + places + 2 * H * D, mask=mask, other=0.0)
    added = tl.load(bias + node.to(tl.int64) * row_length + slots, mask=used, other=float("-inf"))
    scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) + added[None, :]
    weights = tl.exp(scores - tl.max(scores, 1)[:, None])
    weights = weights / tl.sum(weights, 1)[:, None]
    mixed = tl.dot(weights, v, input_precision=PRECISION)
    to = tokens[:, None] * (H * D) + head * D + tl.arange(0, D)[None, :]
    tl.store(out + to, mixed, mask=mask)


@triton.jit(do_not_specialize=["n_nodes", "row_length"])
def attention_backward(
    gradient,
    qkv,
    bias,
    g_qkv,
    g_bias,
    starts,
    n_nodes,
    row_length,
    D: tl.constexpr,
    H: tl.constexpr,
    L: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One atom and head; the weights are computed again."""
    node, head = tl.program_id(0), tl.program_id(1)
    slots, tokens, used = _row_of(starts, n_nodes, node, L)
    d = tl.arange(0, D)[None, :]
    places = tokens[:, None] * (3 * H * D) + head * D + d
    mask = used[:, None]
    q = tl.load(qkv + places, mask=mask, other=0.0)
    k = tl.load(qkv + places + H * D, mask=mask, other=0.0)
    v = tl.load(qkv + places + 2 * H * D, mask=mask, other=0.0)
    g = tl.load(gradient + tokens[:, None] * (H * D) + head * D + d, mask=mask, other=0.0)
    added = tl.load(bias + node.to(tl.int64) * row_length + slots, mask=used, other=float("-inf"))
    scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) + added[None, :]
    weights = tl.exp(scores - tl.max(scores, 1)[:, None])
    weights = weights / tl.sum(weights, 1)[:, None]
    g_v = tl.dot(tl.trans(weights), g, input_precision=PRECISION)
    tl.store(g_qkv + places + 2 * H * D, g_v, mask=mask)
    g_weights = tl.dot(g, tl.trans(v), input_precision=PRECISION)
    g_scores = weights * (g_weights - tl.sum(weights * g_weights, 1)[:, None])
    tl.store(g_qkv + places, tl.dot(g_scores, k, input_precision=PRECISION), mask=mask)
    g_k = tl.dot(tl.trans(g_scores), q, input_precision=PRECISION)
    tl.store(g_qkv + places + H * D, g_k, mask=mask)
    row = (head * n_nodes + node).to(tl.int64) * row_length
    tl.store(g_bias + row + slots, tl.sum(g_scores, 0), mask=slots < row_length)


@triton.jit(do_not_specialize=["n"])
def sum_norm(
    a,
    b,
    y,
    mean,
    inverse_std,
    weight,
    bias,
    n,
    width,
    eps,
    ADD: tl.constexpr,
    W: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Some rows."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, W)
    inside = columns[None, :] < width
    mask = (rows[:, None] < n) & inside
    places = rows[:, None] * width + columns[None, :]
    x = tl.load(a + places, mask=mask, other=0.0)
    if ADD:
        x += tl.load(b + places, mask=mask, other=0.0)
        tl.store(a + places, x, mask=mask)
    average = tl.sum(x, 1) / width
    off = tl.where(inside, x - average[:, None], 0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(off * off, 1) / width + eps)
    factors = tl.load(weight + columns, mask=columns < width, other=0.0)
    offsets = tl.load(bias + columns, mask=columns < width, other=0.0)
    tl.store(y + places, off * inverse[:, None] * factors[None, :] + offsets[None, :], mask=mask)
    tl.store(mean + rows, average, mask=rows < n)
    tl.store(inverse_std + rows, inverse, mask=rows < n)


@triton.jit(do_not_specialize=["n"])
def norm_backward(
    gradient,
    added,
    x,
    mean,
    inverse_std,
    weight,
    out,
    n,
    width,
    BEFORE: tl.constexpr,
    AFTER: tl.constexpr,
    W: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Some rows."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, W)
    inside = columns[None, :] < width
    mask = (rows[:, None] < n) & inside
    places = rows[:, None] * width + columns[None, :]
    g = tl.load(gradient + places, mask=mask, other=0.0)
    if BEFORE:
        g += tl.load(added + places, mask=mask, other=0.0)
    factors = tl.load(weight + columns, mask=columns < width, other=0.0)
    average = tl.load(mean + rows, mask=rows < n, other=0.0)
    inverse = tl.load(inverse_std + rows, mask=rows < n, other=0.0)
    normed = tl.load(x + places, mask=mask, other=0.0) - average[:, None]
    normed = tl.where(inside, normed * inverse[:, None], 0.0)
    g = g * factors[None, :]
    along_one = tl.sum(g, 1) / width
    along_normed = tl.sum(g * normed, 1) / width
    result = (g - along_one[:, None] - normed * along_normed[:, None]) * inverse[:, None]
    if AFTER:
        result += tl.load(added + places, mask=mask, other=0.0)
    tl.store(out + places, result, mask=mask)
