"""A network of any kind recorded by torch as a function of tensors, for any number of atoms and edges.

A recording holds the operations of one evaluation; sizes are taken from the arguments at every call. `write` compares
the result with the network on structures of other sizes, so that a network whose operations depend on the size is
refused, not exported wrongly.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ipi_driver.networks.base import EdgeNetwork
from ipi_driver.networks.graph import Graph


class _Energies(nn.Module):
    """The energies of a network from edge vectors, the weights of edges where it selects them, and index arrays."""

    def __init__(self, network: EdgeNetwork) -> None:
        super().__init__()
        self.network = network
        self.selects = hasattr(network, "energies")

    def forward(
        self, vectors: torch.Tensor, weights: torch.Tensor, *index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        graph = graph_of(*index)
        if self.selects:
            return self.network.energies(vectors, weights, graph)  # type: ignore[operator]
        return self.network(vectors, graph)


class _Selection(nn.Module):
    """Which edges a network uses, and their weights, from the lengths of all."""

    def __init__(self, network: EdgeNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, lengths: torch.Tensor, *index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        kept, weights = self.network.select(lengths, graph_of(*index))  # type: ignore[operator]
        return (torch.ones_like(lengths).nonzero()[:, 0] if kept is None else kept), weights


def graph_of(
    species: torch.Tensor,
    neighbor_species: torch.Tensor,
    centers: torch.Tensor,
    reverse: torch.Tensor,
    to_rows: torch.Tensor,
    to_tokens: torch.Tensor,
    empty_slots: torch.Tensor,
) -> Graph:
    """The graph of these arrays; ``to_rows`` is (n_nodes, row_length)."""
    return Graph(
        species=species,
        neighbor_species=neighbor_species,
        centers=centers,
        reverse=reverse,
        to_rows=to_rows.reshape(-1),
        to_tokens=to_tokens,
        empty_slots=empty_slots,
        none=empty_slots[:0],
        row_length=to_rows.shape[1],
    )


def arrays_of(graph: Graph) -> tuple[torch.Tensor, ...]:
    """The arguments of `graph_of`."""
    to_rows = graph.to_rows.view(graph.n_nodes, graph.row_length)
    index = (graph.species, graph.neighbor_species, graph.centers, graph.reverse)
    return (*index, to_rows, graph.to_tokens, graph.empty_slots)


def traced(network: EdgeNetwork, vectors: torch.Tensor, graph: Graph) -> tuple[nn.Module, nn.Module | None]:
    """The recorded energies, and the recorded selection of edges of a network that selects them.

    Parameters
    ----------
    network
        In the precision of the export.
    vectors, graph
        A small example, (n_edges, 3) and its graph.
    """
    selection = None
    weights = vectors.new_ones(len(vectors))
    if hasattr(network, "select"):
        lengths = vectors.norm(dim=1).requires_grad_(True)
        selection = _record(_Selection(network), (lengths, *arrays_of(graph)))
    leaf = vectors.clone().requires_grad_(True)
    energies = _record(_Energies(network), (leaf, weights.requires_grad_(True), *arrays_of(graph)))
    return energies, selection


def bound_to_device(recorded: nn.Module) -> bool:
    """Whether a recording holds the device on which it was made, and runs on no other."""
    return "Device = prim::Constant" in str(getattr(recorded, "inlined_graph", ""))


def _record(module: nn.Module, example: tuple[torch.Tensor, ...]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python values in the recording: what is exported is compared
        trace: Callable[..., Any] = torch.jit.trace
        return trace(module.eval(), example, check_trace=False)
