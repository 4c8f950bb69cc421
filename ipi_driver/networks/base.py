"""The contract of every network: edge vectors of a batch in, atomic and bond energies out.

    E_s = sum_{i in s} e_i + sum_{(i, j) in s} e_ij,      (e_i), (e_ij) = network(d, graph)

with the edge vectors d (n_edges, 3) in Å. The training, the model folders and `NetworkPotential` know nothing else:
forces and virials are derivatives by the edge vectors, rotations act on the edge vectors alone. A kind of network is a
class of settings with a name, derived from `NetworkConfig`, and a class derived from `EdgeNetwork` that is built from
them; see `ipi_driver.networks.kinds`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import nn

from ipi_driver.neighbors import Edges
from ipi_driver.networks.graph import Graph
from ipi_driver.networks.selection import EdgeSelection, Topologies

GradientFunction = Callable[[torch.Tensor, Graph], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
SelectedGradientFunction = Callable[
    [torch.Tensor, torch.Tensor, Graph], tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
]


class NetworkConfig(BaseModel):
    """What fixes the function of a network apart from its weights; a kind of network adds its own keys.

    Attributes
    ----------
    kind
        Name of the kind, in ``model.yaml`` and under ``architecture`` in a training configuration.
    growing
        Integer keys that a training with ``start_from`` may raise. The networks of such a kind define `zero_output`
        for the parts that are added.
    optimizer
        ``muon`` for a kind whose weights are matrices that are better trained so (where torch has it), else ``adamw``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: ClassVar[str]
    growing: ClassVar[tuple[str, ...]] = ()
    optimizer: ClassVar[str] = "adamw"

    species: tuple[int, ...] = Field(description="atomic numbers, in the order of the embeddings")
    cutoff: float = Field(4.0, gt=0, description="Å")

    @property
    def learns_directions(self) -> bool:
        """Whether the training is to find which directions of the data differ, so that augmentation would hide them."""
        return False

    @field_validator("species")
    @classmethod
    def _distinct(cls, species: tuple[int, ...]) -> tuple[int, ...]:
        if not species or len(set(species)) != len(species):
            raise ValueError(f"`species` must be distinct atomic numbers, got {species}")
        return species


class EdgeNetwork(nn.Module, ABC):
    """A network from edge vectors to energies.

    The state dict holds tensors of floating-point numbers alone, or of integers that the training does not change.

    Attributes
    ----------
    config_class
        Class of its settings.
    config
        Settings, with at least the species and the cutoff.
    options
        Names of the options of an evaluation, see `configure`.
    """

    config_class: ClassVar[type[NetworkConfig]]
    options: ClassVar[tuple[str, ...]] = ()
    config: NetworkConfig

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def forward(self, vectors: torch.Tensor, graph: Graph) -> tuple[torch.Tensor, torch.Tensor]:
        """Atomic energies (n_nodes,) and bond energies (n_edges,), eV, from edge vectors (n_edges, 3), Å.

        The energies are smooth in the edge vectors, and vanish for an edge at the cutoff. Structures of a batch do
        not interact: an energy depends on what is connected to its atom by edges, and on nothing else.
        """

    def gradient_function(self) -> GradientFunction:
        """(edge vectors, graph) -> (atomic energies, bond energies, derivatives (n_edges, 3) of their sum, eV/Å).

        A network may return a faster one than this, which differentiates `forward`. The weights are those of the
        moment of the call.
        """
        return self._differentiated

    def _differentiated(
        self, vectors: torch.Tensor, graph: Graph
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        leaf = vectors.detach().requires_grad_(True)
        atomic, bonds = self(leaf, graph)
        if graph.n_edges == 0:  # lone atoms: nothing to differentiate
            return atomic.detach(), bonds.detach(), torch.zeros_like(leaf)
        # of the sum: bond energies that are zero have no derivative of their own
        (gradient,) = torch.autograd.grad(atomic.sum() + bonds.sum(), leaf)
        return atomic.detach(), bonds.detach(), gradient

    def select_edges(self, edges: Edges, n_atoms: int, topologies: Topologies) -> EdgeSelection | None:
        """Edges and weights from the distances alone, once for all rotations; None where a network has none.

        A network that returns a selection defines `selected_gradient_function`.
        """
        return None

    def selected_gradient_function(self) -> SelectedGradientFunction:
        """As `gradient_function`, of the vectors and weights of selected edges, with derivatives by both."""
        raise NotImplementedError(f"{type(self).__name__} does not select edges")

    @property
    def interaction_range(self) -> float:
        """Å, within which other atoms change the energy of an atom; infinite where the kind does not set it."""
        return math.inf

    @property
    def width(self) -> int:
        """Numbers that the network holds for an edge; from them the potential decides whether threads pay."""
        return 64

    def zero_output(self) -> None:
        """Set weights to zero such that the energy of any structure is zero."""
        raise NotImplementedError(f"{type(self).__name__} does not define zero_output")

    @property
    def directions(self) -> tuple[str, ...]:
        """Irreps, such as 1o, in which it has learned on purpose to depend on the orientation."""
        return ()

    def invariant(self) -> EdgeNetwork | None:
        """The same without what it need not be told of directions, exactly invariant; None where that is all it has."""
        return None

    def penalty(self) -> torch.Tensor | None:
        """Term of the training loss that depends on the weights alone, or None."""
        return None

    def configure(self, options: Mapping[str, str]) -> None:
        """Take the options, of `options`, that a user writes after a model's name: ``MODEL?OPTION=VALUE``.

        Raises
        ------
        UserError
            If a value is not one.
        """
