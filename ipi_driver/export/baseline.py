"""The baseline of a model as a module of torch, differentiable and compiled by TorchScript; formulas: `Baseline`."""

# The annotations of TorchScript are those of `typing`, evaluated when the module is compiled.
import numpy as np
import torch
from ase.data import covalent_radii
from torch import nn

from ipi_driver.elements import N_NUMBERS
from ipi_driver.networks.baseline import ZBL_AMPLITUDES, ZBL_DECAYS, ZBL_LENGTH, Baseline
from ipi_driver.units import COULOMB


class BaselineModule(nn.Module):
    """Atomic energies and pair terms of a `Baseline`, in float64.

    Parameters
    ----------
    baseline
        Its numbers are taken as they are now.
    """

    energies: torch.Tensor
    coefficients: torch.Tensor
    centers: torch.Tensor
    places: torch.Tensor
    radii: torch.Tensor
    amplitudes: torch.Tensor
    decays: torch.Tensor

    def __init__(self, baseline: Baseline) -> None:
        super().__init__()
        energies = np.zeros(N_NUMBERS)
        energies[list(baseline.species)] = baseline.atomic_energies
        n_gaussians = 0 if baseline.pair_coefficients is None else baseline.pair_coefficients.shape[1]
        coefficients = np.zeros((1, n_gaussians))
        centers, self.width = np.zeros(n_gaussians), 1.0
        places = np.zeros((N_NUMBERS, N_NUMBERS), dtype=np.int64)
        if baseline.pair_coefficients is not None:
            coefficients = baseline.pair_coefficients
            centers, self.width = baseline.grid(n_gaussians)
            for k, (a, b) in enumerate(baseline.pairs):
                places[a, b] = places[b, a] = k
        self.has_pairs = baseline.has_pairs
        self.fitted = baseline.pair_coefficients is not None
        self.covalent = baseline.covalent_repulsion
        self.cutoff = float(baseline.cutoff)
        self.coulomb, self.length = float(COULOMB), float(ZBL_LENGTH)
        for name, array in (
            ("energies", energies),
            ("coefficients", coefficients),
            ("centers", centers),
            ("places", places),
            ("radii", np.asarray(covalent_radii[:N_NUMBERS], dtype=np.float64)),
            ("amplitudes", ZBL_AMPLITUDES),
            ("decays", ZBL_DECAYS),
        ):
            # copies: the arrays of the baseline are not to be shared with the module
            self.register_buffer(name, torch.from_numpy(np.array(array)))

    def atomic(self, numbers: torch.Tensor) -> torch.Tensor:
        """(n_atoms,) energies of free atoms, eV."""
        return self.energies[numbers]

    def pairs(self, vectors: torch.Tensor, z_i: torch.Tensor, z_j: torch.Tensor) -> torch.Tensor:
        """(n_edges,) half the energy of each pair, eV, from vectors (n_edges, 3), Å, and the elements (n_edges,)."""
        r = vectors.to(torch.float64).square().sum(1).sqrt()
        energies = torch.zeros_like(r)
        if self.covalent:
            energies = energies + self.covalent_zbl(r, z_i, z_j)
        if self.fitted:
            energies = energies + self.zbl(r, z_i, z_j)[0] * self.smooth_step(r, 0.0, self.cutoff)
            gaussians = torch.exp(-0.5 * ((r[:, None] - self.centers) / self.width).square())
            basis = gaussians * self.smooth_step(r, self.cutoff - 1.0, self.cutoff)[:, None]
            energies = energies + (self.coefficients[self.places[z_i, z_j]] * basis).sum(1)
        return 0.5 * energies

    def smooth_step(self, r: torch.Tensor, start: float, stop: float) -> torch.Tensor:
        """1 below ``start``, 0 above ``stop``."""
        x = ((r - start) / (stop - start)).clamp(0.0, 1.0)
        return 1.0 - x * x * x * (10.0 - 15.0 * x + 6.0 * x * x)

    def zbl(
        self, r: torch.Tensor, z_i: torch.Tensor, z_j: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Screened nuclear repulsion, eV, and its first and second derivatives."""
        a, b = z_i.to(torch.float64), z_j.to(torch.float64)
        length = self.length / (a**0.23 + b**0.23)
        exponentials = self.amplitudes * torch.exp(-self.decays * (r / length)[:, None])
        screening = exponentials.sum(1)
        slope = -(exponentials * self.decays).sum(1) / length
        curvature = (exponentials * self.decays.square()).sum(1) / length.square()
        prefactor = self.coulomb * a * b / r
        first = prefactor * (slope - screening / r)
        second = prefactor * (curvature - 2.0 * slope / r + 2.0 * screening / r.square())
        return prefactor * screening, first, second

    def covalent_zbl(self, r: torch.Tensor, z_i: torch.Tensor, z_j: torch.Tensor) -> torch.Tensor:
        """`zbl` shifted and bent such that it and two derivatives vanish at the sum of the covalent radii."""
        end = self.radii[z_i] + self.radii[z_j]
        value, first, second = self.zbl(end, z_i, z_j)
        a = (-3.0 * first + end * second) / end.square()
        b = (2.0 * first - end * second) / (end * end * end)
        c = -value + end * first / 2.0 - end.square() * second / 12.0
        energy = self.zbl(r, z_i, z_j)[0] + a / 3.0 * r**3 + b / 4.0 * r**4 + c
        return torch.where(r <= end, energy, torch.zeros_like(energy))
