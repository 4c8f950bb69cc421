"""Index arrays of `ipi_driver.networks.graph.Graph` from the neighbor lists of metatomic, compiled by TorchScript."""

from typing import NamedTuple

import torch


class Batch(NamedTuple):
    """Systems side by side: vectors (n_edges, 3) and weights of the edges, species (places), and index arrays."""

    vectors: torch.Tensor
    weights: torch.Tensor
    species: torch.Tensor
    neighbor_species: torch.Tensor
    centers: torch.Tensor
    reverse: torch.Tensor


def _shift_numbers(shifts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Small numbers for the cell shifts (n_edges, 3) and for their negatives, and how many numbers there are."""
    half = 1 << 19  # 20 bits for each component, in one integer
    if shifts.numel() > 0 and int(shifts.abs().max()) >= half:
        raise ValueError("an atom lies too many cells away from its neighbor; wrap the atoms into the cell")
    both = torch.cat([shifts, -shifts]) + half
    packed = (both[:, 0] * (1 << 40)) + (both[:, 1] * (1 << 20)) + both[:, 2]
    distinct, numbers = torch._unique2(packed, sorted=True, return_inverse=True)[:2]
    return numbers[: shifts.shape[0]], numbers[shifts.shape[0] :], distinct.shape[0]


def sorted_edges(
    centers: torch.Tensor, neighbors: torch.Tensor, shifts: torch.Tensor, n_nodes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Order of the edges by center, neighbor and image, and the place of each one's reverse in that order.

    Parameters
    ----------
    centers, neighbors
        (n_edges,) atoms.
    shifts
        (n_edges, 3) cell shifts.
    n_nodes
        Number of atoms.
    """
    numbers, reversed_numbers, n_numbers = _shift_numbers(shifts)
    keys = (centers * n_nodes + neighbors) * n_numbers + numbers
    sorted_keys, order = torch.sort(keys)
    backward = ((neighbors * n_nodes + centers) * n_numbers + reversed_numbers)[order]
    reverse = torch.searchsorted(sorted_keys, backward)
    if sorted_keys.shape[0] > 0:
        reverse = reverse.clamp_max(sorted_keys.shape[0] - 1)
        if not torch.equal(sorted_keys[reverse], backward):
            raise ValueError("the neighbor list has a pair (i, j) without its reverse (j, i)")
    return order, reverse


def select(
    kept: torch.Tensor, centers: torch.Tensor, reverse: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Centers and reverses (n_kept,) of the edges ``kept``, in ascending order; with an edge its reverse is kept."""
    renumbered = torch.zeros_like(centers)
    renumbered[kept] = torch.arange(kept.shape[0], device=kept.device)
    return centers[kept], renumbered[reverse[kept]]


def repeated(index: torch.Tensor, offset: int, copies: int) -> torch.Tensor:
    """``index`` once for each copy, raised by ``offset`` from copy to copy."""
    if copies == 1:
        return index
    offsets = offset * torch.arange(copies, device=index.device)
    return (index + offsets[:, None]).reshape(-1)


def rows(centers: torch.Tensor, n_nodes: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`to_rows` as (n_nodes, row_length), `to_tokens` and `empty_slots` of a `Graph`, from sorted centers."""
    counts = torch.bincount(centers, minlength=n_nodes)
    length = 1 + int(counts.max())
    first = counts.cumsum(0) - counts
    n_edges = centers.shape[0]
    slots = centers * length + 1 + torch.arange(n_edges, device=centers.device) - first[centers]
    to_tokens = torch.cat([torch.arange(n_nodes, device=centers.device) * length, slots])
    to_rows = torch.full((n_nodes * length,), -1, device=centers.device, dtype=torch.int64)
    to_rows[to_tokens] = torch.arange(n_nodes + n_edges, device=centers.device)
    empty = torch.nonzero(to_rows < 0)[:, 0]
    to_rows[empty] = 0
    return to_rows.reshape(n_nodes, length), to_tokens, empty
