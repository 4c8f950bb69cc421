r"""The loss around a trained minimum: a surface along two random directions, and the largest curvatures.

The loss is the mean squared error of the forces, in (eV/Å)², as a function of the weights w. Directions are
filter-normalized: random, with the norm of each row of each weight matrix set to that of the weights there, biases left
alone, so that networks whose layers have other scales can be compared (Li et al., NeurIPS 2018),

.. math:: L(a, b) = L(w + a\, d_1 + b\, d_2) .

The largest eigenvalues of the Hessian H follow from Lanczos' method, which needs products with H alone,

.. math:: H v = \frac{\nabla L(w + \epsilon v) - \nabla L(w - \epsilon v)}{2 \epsilon},

with exact gradients. They are of the Hessian in the same scale, :math:`D H D` with D the norm of the row that a weight
belongs to divided by the root of its length: a unit step then changes a row by a random vector as long as the row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from ipi_driver.errors import UserError
from ipi_driver.networks.base import EdgeNetwork
from ipi_driver.potentials.chunks import groups
from ipi_driver.structure import FloatArray
from ipi_driver.training.batch import Batch, Sample, collate
from ipi_driver.training.losses import accumulate_gradients, forces_from_gradients, structure_energies

Progress = Callable[[int], object]

_EDGES = 8000
"""Most edges of small structures that are evaluated together."""

_STEP = 1e-4
"""Length of the displacement in a product with the Hessian, in units of the scaled weights."""


@dataclass(frozen=True, eq=False)
class Landscape:
    """Loss and curvature around the minimum of one network.

    Attributes
    ----------
    steps
        (n,) values of a and b; the minimum is at 0.
    surface
        (n, n) loss at (a, b), (eV/Å)².
    eigenvalues
        (n_seeds, k) largest eigenvalues of the scaled Hessian, (eV/Å)², the largest first, from other start vectors.
    residuals
        (n_seeds, k) bounds of their errors by Lanczos' residual.
    rise
        (n_seeds,) mean rise of the loss at the distance of `radius` along other pairs of directions.
    radius
        Distance in units of the directions.
    n_structures
        Of the loss.
    """

    steps: FloatArray
    surface: FloatArray
    eigenvalues: FloatArray
    residuals: FloatArray
    rise: FloatArray
    radius: float
    n_structures: int

    @property
    def minimum(self) -> float:
        """Loss of the weights themselves."""
        middle = len(self.steps) // 2
        return float(self.surface[middle, middle])


class ForceLoss:
    """Mean squared force error of a network on samples, as a function of displacements of its weights.

    Parameters
    ----------
    network
        In double precision; its weights are put back after each evaluation.
    samples
        Labelled.
    """

    def __init__(self, network: EdgeNetwork, samples: Sequence[Sample]) -> None:
        self.network = network
        self.samples = list(samples)
        self.parameters = [p for p in network.parameters() if p.requires_grad and p.numel()]
        if not self.parameters:
            raise UserError("the network has no weights that a training would change")
        self.n_components = 3 * sum(sample.n_atoms for sample in samples)
        self.scale = torch.cat([_row_norms(p.detach()).reshape(-1) for p in self.parameters])
        self._weights = [p.detach().clone() for p in self.parameters]

    def direction(self, generator: torch.Generator) -> torch.Tensor:
        """A filter-normalized direction, (n_weights,): each row as long as that of the weights."""
        parts = []
        for p in self.parameters:
            drawn = torch.randn(p.shape, dtype=p.dtype, generator=generator)
            if p.ndim < 2:
                parts.append(torch.zeros(p.numel(), dtype=p.dtype))
                continue
            rows = drawn.reshape(p.shape[0], -1)
            norms = p.detach().reshape(p.shape[0], -1).norm(dim=1, keepdim=True)
            parts.append((rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-30) * norms).reshape(-1))
        return torch.cat(parts)

    def value(self, displacement: torch.Tensor) -> float:
        """Loss of the displaced weights, (eV/Å)²."""
        total = 0.0
        with self._displaced(displacement):
            for batch in self._batches():
                leaf = batch.vectors.requires_grad_(True)
                (gradients,) = torch.autograd.grad(structure_energies(self.network, leaf, batch).sum(), leaf)
                assert batch.forces is not None
                total += float((forces_from_gradients(gradients, batch) - batch.forces).square().sum())
        return total / self.n_components

    def gradient(self, displacement: torch.Tensor) -> torch.Tensor:
        """(n_weights,) exact gradient of the loss at the displaced weights."""

        def loss(energies: torch.Tensor, gradients: torch.Tensor, batch: Batch) -> torch.Tensor:
            assert batch.forces is not None
            return (forces_from_gradients(gradients, batch) - batch.forces).square().sum() / self.n_components

        with self._displaced(displacement):
            self.network.zero_grad()
            for batch in self._batches():
                accumulate_gradients(self.network, batch, loss, None)
            found = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
            flat = torch.cat([g.reshape(-1) for g in found])
            self.network.zero_grad()
        return flat

    def hessian_product(self, vector: torch.Tensor) -> torch.Tensor:
        """(n_weights,) product of the scaled Hessian with a vector of length one."""
        step = _STEP * self.scale * vector
        return self.scale * (self.gradient(step) - self.gradient(-step)) / (2.0 * _STEP)

    def _batches(self) -> Iterator[Batch]:
        weight = self.parameters[0]
        sizes = [len(sample.edges.centers) for sample in self.samples]
        for part in groups(sizes, _EDGES):
            samples = self.samples[part]
            rotations = np.tile(np.eye(3), (len(samples), 1, 1))
            yield collate(samples, rotations, weight.device, weight.dtype)

    @contextmanager
    def _displaced(self, displacement: torch.Tensor) -> Iterator[None]:
        start = 0
        for p, weight in zip(self.parameters, self._weights, strict=True):
            p.data = weight + displacement[start : start + p.numel()].reshape(p.shape)
            start += p.numel()
        try:
            yield
        finally:
            for p, weight in zip(self.parameters, self._weights, strict=True):
                p.data = weight.clone()


def _row_norms(weights: torch.Tensor) -> torch.Tensor:
    """Norm of the row of each weight over the root of the row's length; zero for biases."""
    if weights.ndim < 2:
        return torch.zeros_like(weights)
    rows = weights.reshape(weights.shape[0], -1)
    return (rows.norm(dim=1, keepdim=True) / rows.shape[1] ** 0.5).expand_as(rows).reshape(weights.shape)


def explore(
    network: EdgeNetwork,
    samples: Sequence[Sample],
    extent: float = 0.5,
    n_points: int = 11,
    n_eigenvalues: int = 3,
    n_lanczos: int = 12,
    n_seeds: int = 3,
    seed: int = 0,
    progress: Progress = lambda done: None,
) -> Landscape:
    """Surface, curvatures and their spread over seeds.

    Parameters
    ----------
    network, samples
        As of `ForceLoss`.
    extent
        Largest a and b.
    n_points
        Along each direction, odd.
    n_eigenvalues, n_lanczos
        Eigenvalues wanted, and steps of Lanczos' method; 0 steps leave the curvatures out.
    n_seeds, seed
        Start vectors and pairs of directions, and the first seed.
    progress
        Receives the number of units of work done, of `work_of`.

    Raises
    ------
    UserError
        If a number is out of range.
    """
    if not extent > 0.0:
        raise UserError(f"the extent of the surface must be positive, got {extent:g}")
    if n_points < 3 or n_points % 2 == 0:
        raise UserError(f"the points along a direction must be odd and at least 3, got {n_points}")
    if n_lanczos and not 1 <= n_eigenvalues <= n_lanczos:
        raise UserError(f"the eigenvalues must be 1 to the number of steps, {n_lanczos}, got {n_eigenvalues}")
    if n_seeds < 1:
        raise UserError(f"at least one seed is needed, got {n_seeds}")
    loss = ForceLoss(network, samples)
    steps = np.linspace(-extent, extent, n_points)
    generator = torch.Generator().manual_seed(seed)
    first, second = loss.direction(generator), loss.direction(generator)
    surface = np.empty((n_points, n_points))
    for i, a in enumerate(steps):
        for j, b in enumerate(steps):
            surface[i, j] = loss.value(a * first + b * second)
            progress(1)
    middle = surface[n_points // 2, n_points // 2]
    rises = []
    for k in range(n_seeds):
        generator = torch.Generator().manual_seed(seed + 1 + k)
        direction = loss.direction(generator)
        rises.append(np.mean([loss.value(s * extent * direction) for s in (1.0, -1.0)]) - middle)
        progress(2)
    found = [
        lanczos(loss.hessian_product, len(loss.scale), n_lanczos, seed + k, progress, loss.scale > 0)
        for k in range(n_seeds if n_lanczos else 0)
    ]
    n_found = min((len(values[:n_eigenvalues]) for values, _ in found), default=0)
    eigenvalues = np.array([values[:n_found] for values, _ in found]).reshape(len(found), n_found)
    residuals = np.array([errors[:n_found] for _, errors in found]).reshape(len(found), n_found)
    return Landscape(steps, surface, eigenvalues, residuals, np.array(rises), extent, len(samples))


def work_of(n_points: int, n_lanczos: int, n_seeds: int) -> int:
    """Units of work of `explore`: evaluations, and two for each gradient."""
    return n_points**2 + 2 * n_seeds + 4 * n_lanczos * n_seeds


def lanczos(
    product: Callable[[torch.Tensor], torch.Tensor],
    dimension: int,
    n_steps: int,
    seed: int = 0,
    progress: Progress = lambda done: None,
    free: torch.Tensor | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Largest eigenvalues of a symmetric matrix and bounds of their errors, the largest first.

    Parameters
    ----------
    product
        Matrix times vector (dimension,), float64.
    dimension, n_steps
        Of the matrix, and products.
    seed
        Of the start vector.
    progress
        Receives 4 after each product.
    free
        (dimension,) where the start vector is not zero; None: everywhere.

    Examples
    --------
    >>> matrix = torch.diag(torch.arange(1.0, 51.0, dtype=torch.float64))
    >>> values, errors = lanczos(lambda v: matrix @ v, 50, 40)
    >>> values[:2].round(3).tolist(), bool(errors[0] < 1e-3)
    ([50.0, 49.0], True)
    """
    vector = torch.randn(dimension, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    if free is not None:
        vector = vector * free
    basis = [vector / vector.norm()]
    diagonal: list[float] = []
    off: list[float] = []
    for _ in range(n_steps):
        image = product(basis[-1])
        diagonal.append(float(image @ basis[-1]))
        stacked = torch.stack(basis)
        for _ in range(2):  # twice is enough: the basis stays orthogonal to rounding
            image = image - stacked.T @ (stacked @ image)
        length = float(image.norm())
        off.append(length)
        progress(4)
        if length < 1e-12 * max(1.0, abs(diagonal[0])):
            break
        basis.append(image / length)
    n = len(diagonal)
    matrix = np.diag(diagonal) + np.diag(off[: n - 1], 1) + np.diag(off[: n - 1], -1)
    values, vectors = np.linalg.eigh(matrix)
    errors = np.abs(off[n - 1] * vectors[-1])
    order = np.argsort(values)[::-1]
    return values[order], errors[order]
