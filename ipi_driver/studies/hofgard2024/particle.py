r"""A charged particle in uniform fields: its velocity and charge in, the force :math:`q (E + v \times B)` out.

An equivariant function of the velocity alone can only pull along it. A relaxed convolution with the velocity as its
edge finds a vector :math:`\theta^{1o}` along E and a pseudovector :math:`\theta^{1e}` along B.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from e3nn import o3
from torch import nn

from ipi_driver.neighbors import Edges
from ipi_driver.networks.e3nn.config import E3nnConfig, irreps_up_to
from ipi_driver.networks.e3nn.layers import Convolution, Linear
from ipi_driver.networks.e3nn.network import RadialNetwork
from ipi_driver.networks.e3nn.relaxed import RelaxedFilter
from ipi_driver.networks.graph import Graph, build_graph
from ipi_driver.structure import FloatArray

ELECTRIC = np.array([0.6, 0.8, 0.0])
MAGNETIC = np.array([0.0, -0.6, 0.8])
"""Directions and sizes of the fields, each along two axes."""

_CONFIG = E3nnConfig(species=(1, 2), cutoff=8.0, n_radial=8, d_radial=16, average_neighbors=1.0)
_CHANNELS = 8


@dataclass(frozen=True)
class Particles:
    """Training or test set: velocities (n, 3), charges (n,) of ±1, forces (n, 3)."""

    velocities: FloatArray
    charges: FloatArray
    forces: FloatArray


def draw(n: int, seed: int) -> Particles:
    """Particles with velocities of a length below 2."""
    rng = np.random.default_rng(seed)
    velocities = rng.normal(size=(n, 3))
    velocities *= (2.0 * rng.uniform(0.05, 1.0, size=n) / np.linalg.norm(velocities, axis=1))[:, None]
    charges = rng.choice([-1.0, 1.0], size=n)
    forces = charges[:, None] * (ELECTRIC + np.cross(velocities, MAGNETIC))
    return Particles(velocities, charges, forces)


def _graph(particles: Particles) -> tuple[torch.Tensor, Graph]:
    """Each particle as a pair of nodes, its velocity as the edge from the first to the second."""
    n = len(particles.charges)
    centers = np.arange(2 * n)
    reverse = centers ^ 1
    vectors = np.repeat(particles.velocities, 2, axis=0)
    vectors[1::2] *= -1.0
    species = np.repeat((particles.charges > 0).astype(np.int64), 2)
    return torch.from_numpy(vectors), build_graph([species], [Edges(centers, reverse, reverse, vectors, 0)])


class ParticleNetwork(nn.Module):
    """One convolution, relaxed or not, and a linear map to a force (n, 3)."""

    def __init__(self, relaxed: bool) -> None:
        super().__init__()
        harmonics = irreps_up_to(1, "natural")
        self.relaxed = RelaxedFilter(harmonics, irreps_up_to(1, "both"), 1) if relaxed else None
        filters = harmonics if self.relaxed is None else self.relaxed.irreps
        vector = o3.Irrep("1o")
        self.embedding = nn.Embedding(2, _CHANNELS)
        self.radial = RadialNetwork(_CONFIG)
        hidden = [(_CHANNELS, o3.Irrep("0e"))]
        self.convolution = Convolution(hidden, filters, [vector], _CONFIG.d_radial, 1.0)
        self.out = Linear(self.convolution.hidden_out, [(1, vector)])

    def forward(self, velocities: torch.Tensor, graph: Graph) -> torch.Tensor:
        harmonics = o3.spherical_harmonics([0, 1], velocities, normalize=True, normalization="component")
        relaxed = None if self.relaxed is None else self.relaxed()
        radial = self.radial(velocities.norm(dim=1), graph)
        sent = [self.embedding(graph.species)[:, :, None]]
        neighbors = graph.centers.index_select(0, graph.reverse)
        found = self.convolution(sent, harmonics, relaxed, radial, graph.centers, neighbors)
        forces: torch.Tensor = self.out(found)[0][::2, 0]
        return forces


@dataclass(frozen=True)
class ParticleResult:
    """Result of a training.

    Attributes
    ----------
    relaxed
        Whether the filters were relaxed.
    error
        Mean squared error of the components of the force of particles that the training did not see.
    electric, magnetic
        (3,) unit vectors of the vector and the pseudovector, with the sign that is nearer to the fields; None without
        relaxed weights.
    """

    relaxed: bool
    error: float
    electric: FloatArray | None
    magnetic: FloatArray | None


def learn_fields(relaxed: bool, steps: int = 600, seed: int = 0) -> ParticleResult:
    """Train on 400 particles with L-BFGS, and test on 200 others."""
    torch.manual_seed(seed)
    network = ParticleNetwork(relaxed).double()
    train, test = draw(400, seed), draw(200, seed + 1)
    vectors, graph = _graph(train)
    wanted = torch.from_numpy(train.forces)
    optimizer = torch.optim.LBFGS(
        network.parameters(),
        max_iter=steps,
        history_size=50,
        line_search_fn="strong_wolfe",
        tolerance_change=0.0,
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (network(vectors, graph) - wanted).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    vectors, graph = _graph(test)
    with torch.no_grad():
        error = float((network(vectors, graph) - torch.from_numpy(test.forces)).square().mean())
    if network.relaxed is None:
        return ParticleResult(False, error, None, None)
    weights = {name: w.numpy() for name, w in network.relaxed.weights.by_irrep().items()}
    return ParticleResult(
        True, error, _direction(weights["1o"], ELECTRIC), _direction(weights["1e"], MAGNETIC)
    )


def _direction(vector: FloatArray, field: FloatArray) -> FloatArray:
    """Unit vector; the sign of a weight is free, as another weight multiplies it."""
    return np.asarray(np.sign(vector @ field) * vector / np.linalg.norm(vector))
