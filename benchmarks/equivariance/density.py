"""The electron density of one water molecule, learned in one orientation and predicted in three.

    pip install pyscf
    python benchmarks/equivariance/density.py --output benchmarks/equivariance

The label is one vector of density-fitting coefficients (PBE, def2-SVP, fitted to the basis of Weigend). Four models see
it in one orientation: a function of distances (invariant), a network on e3nn (equivariant), a function of coordinates
(unconstrained), and this again with turned copies. The unconstrained ones are used raw, and averaged over rotations
with Wigner matrices (`TensorAverage`). Writes density.png and density.csv: the relative error of the density, in the
norm of its square integral.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pyscf import df, dft, gto
from scipy.spatial.transform import Rotation
from torch import nn

from ipi_driver.neighbors import NeighborList
from ipi_driver.networks.e3nn.config import E3nnConfig
from ipi_driver.networks.e3nn.layers import Linear
from ipi_driver.networks.e3nn.network import E3nnNetwork
from ipi_driver.networks.graph import build_graph
from ipi_driver.report.style import STYLE
from ipi_driver.rotations import TensorAverage
from ipi_driver.structure import FloatArray, Structure
from ipi_driver.wigner import irreps_matrices

WATER = Structure(np.array([8, 1, 1]), np.array([[0.0, 0.0, 0.0], [0.757, 0.587, 0.0], [-0.757, 0.587, 0.0]]))
ANGLES = (0.0, 60.0, 200.0)
"""Degrees about the normal of the molecule, so that it stays in the plane of the figure."""
SYMBOLS = ["O", "H", "H"]

Model = Callable[[Structure], FloatArray]


class FittedDensity:
    """Density-fitting coefficients, in the order of irreps in which p functions are y, z, x."""

    def __init__(self) -> None:
        aux = self.auxiliary(WATER)
        self.degrees = [aux.bas_angular(k) for k in range(aux.nbas) for _ in range(aux.bas_nctr(k))]
        self.irreps = "+".join(f"{degree}{'e' if degree % 2 == 0 else 'o'}" for degree in self.degrees)
        self.owner = [aux.bas_atom(k) for k in range(aux.nbas) for _ in range(aux.bas_nctr(k))]
        order, start = [], 0
        for degree in self.degrees:
            places = np.arange(start, start + 2 * degree + 1)
            order += list(places[[1, 2, 0]] if degree == 1 else places)
            start += 2 * degree + 1
        self.order = np.array(order)  # of the program, to ours
        self.overlap = aux.intor("int1e_ovlp")[np.ix_(self.order, self.order)]

    @staticmethod
    def molecule(structure: Structure) -> gto.Mole:
        atoms = list(zip(SYMBOLS, structure.positions.tolist(), strict=True))
        return gto.M(atom=atoms, basis="def2-svp", verbose=0)

    def auxiliary(self, structure: Structure) -> gto.Mole:
        return df.addons.make_auxmol(self.molecule(structure), "weigend")

    def of(self, structure: Structure) -> FloatArray:
        """Coefficients of the self-consistent density."""
        molecule, aux = self.molecule(structure), self.auxiliary(structure)
        solver = dft.RKS(molecule, xc="pbe").run(conv_tol=1e-10)
        three = df.incore.aux_e2(molecule, aux, intor="int3c2e")
        right = np.einsum("ijp,ij->p", three, solver.make_rdm1())
        return np.linalg.solve(aux.intor("int2c2e"), right)[self.order]

    def values(self, structure: Structure, coefficients: FloatArray, points: FloatArray) -> FloatArray:
        """Density at points (n, 3), Å, in electrons per bohr³."""
        back = np.empty_like(coefficients)
        back[self.order] = coefficients
        return self.auxiliary(structure).eval_gto("GTOval_sph", points / 0.529177210903) @ back

    def error(self, found: FloatArray, true: FloatArray) -> float:
        """Root of the square integral of the difference over that of the density."""
        difference = found - true
        return float(np.sqrt(difference @ self.overlap @ difference / (true @ self.overlap @ true)))


def trained(network: nn.Module, loss: Callable[[], torch.Tensor], steps: int) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        scheduler.step()


def perceptron(n_in: int, n_out: int, width: int) -> nn.Sequential:
    layers = [nn.Linear(n_in, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, n_out)]
    return nn.Sequential(*layers).double()


def distances(structure: Structure) -> FloatArray:
    return np.linalg.norm(structure.positions[[0, 0, 1]] - structure.positions[[1, 2, 2]], axis=1)


def arms(structure: Structure) -> FloatArray:
    return (structure.positions[1:] - structure.positions[0]).ravel()


def of_features(
    features: Callable[[Structure], FloatArray],
    density: FittedDensity,
    label: FloatArray,
    turned: int,
    seed: int,
) -> Model:
    """A function of features of the whole molecule, trained on one orientation, or on ``turned`` random ones."""
    torch.manual_seed(seed)
    rotations = np.eye(3)[None] if turned == 0 else Rotation.random(turned, random_state=seed).as_matrix()
    structures = [WATER.rotated(rotation) for rotation in rotations]
    inputs = torch.from_numpy(np.array([features(s) for s in structures]))
    matrices = irreps_matrices(rotations, density.irreps, "standard")
    labels = torch.from_numpy(matrices @ label)
    network = perceptron(inputs.shape[1], len(label), 128)
    trained(network, lambda: (network(inputs) - labels).square().mean(), 1500 if turned else 300)

    def predict(structure: Structure) -> FloatArray:
        with torch.no_grad():
            return network(torch.from_numpy(features(structure))[None])[0].numpy()

    return predict


class EquivariantNetwork(nn.Module):
    """Features of an e3nn network, and a linear map for each element to the irreps of its basis."""

    def __init__(self, density: FittedDensity) -> None:
        super().__init__()
        largest = max(density.degrees)
        config = E3nnConfig(
            species=(1, 8), cutoff=3.0, l_max=largest, channels=32, product_channels=4, d_radial=8, n_layers=2,
            correlation=2, average_neighbors=2.0,
        )  # fmt: skip
        self.body = E3nnNetwork(config, scalars_last=False)
        self.irreps = [ir for _, ir in config.hidden]
        of_atom = [
            [d for d, atom in zip(density.degrees, density.owner, strict=True) if atom == k] for k in range(3)
        ]
        counts = [[(degrees.count(ir.l), ir) for ir in self.irreps] for degrees in of_atom]
        self.of_atom = of_atom
        self.hydrogen, self.oxygen = Linear(config.hidden, counts[1]), Linear(config.hidden, counts[0])

    def forward(self, structure: Structure) -> torch.Tensor:
        edges = NeighborList(3.0, skin=0.0).edges(structure)
        graph = build_graph([(structure.numbers == 8).astype(np.int64)], [edges])
        features = self.body.features(torch.from_numpy(edges.vectors), graph)[-1]
        found = []
        for k, degrees in enumerate(self.of_atom):
            head = self.oxygen if k == 0 else self.hydrogen
            blocks = {
                ir.l: x[0] for ir, x in zip(self.irreps, head([f[k : k + 1] for f in features]), strict=True)
            }
            used = dict.fromkeys(blocks, 0)
            for degree in degrees:
                found.append(blocks[degree][used[degree]])
                used[degree] += 1
        return torch.cat(found)


def equivariant(density: FittedDensity, label: FloatArray) -> Model:
    torch.manual_seed(0)
    network = EquivariantNetwork(density).double()
    # the harmonics of e3nn have the polar axis y: the program's are those of the structure with its axes renamed
    axes = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).T
    target = torch.from_numpy(label)
    renamed = WATER.rotated(axes)
    trained(network, lambda: (network(renamed) - target).square().mean(), 400)

    def predict(structure: Structure) -> FloatArray:
        with torch.no_grad():
            return network(structure.rotated(axes)).numpy()

    return predict


def averaged(model: Model, density: FittedDensity) -> Model:
    average = TensorAverage(model, density.irreps, "3i", order="standard")
    return lambda structure: average(structure).value


def draw(
    density: FittedDensity, rows: dict[str, list[FloatArray]], errors: dict[str, list[float]], path: Path
) -> None:
    axis = np.linspace(-1.8, 1.8, 121)
    grid = np.stack([*np.meshgrid(axis, axis), np.zeros((121, 121))], axis=-1).reshape(-1, 3)
    levels = np.geomspace(0.005, 1.0, 9)
    with rc_context(STYLE):
        figure = Figure(figsize=(1.15 * len(rows), 4.1), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(len(ANGLES), len(rows), sharex=True, sharey=True)
        for column, (name, found) in enumerate(rows.items()):
            for row, angle in enumerate(ANGLES):
                turned = WATER.rotated(about_z(angle))
                values = density.values(turned, found[row], grid).reshape(121, 121)
                place = panels[row, column]
                place.contour(axis, axis, values, levels=levels, colors="#0072B2", linewidths=0.5)
                place.contour(axis, axis, values, levels=[-0.05, -0.01], colors="#D55E00", linewidths=0.5)
                place.scatter(*turned.positions[:, :2].T, s=[14, 6, 6], color="k", zorder=3)
                place.set_aspect("equal")
                place.set_xticks([])
                place.set_yticks([])
                if row == 0:
                    place.set_title(name, fontsize=6)
                if column == 0:
                    place.set_ylabel(f"{angle:g}°" + (" (trained)" if row == 0 else ""), fontsize=7)
                if column > 0:
                    percent = 100 * errors[name][row]
                    place.set_xlabel(
                        f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %", fontsize=6, labelpad=2
                    )
        figure.savefig(path, dpi=200)


def about_z(angle: float) -> FloatArray:
    return np.asarray(Rotation.from_euler("z", angle, degrees=True).as_matrix())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    density = FittedDensity()
    turned = [WATER.rotated(about_z(angle)) for angle in ANGLES]
    true = [density.of(structure) for structure in turned]
    label = true[0]
    expected = irreps_matrices(np.array([about_z(a) for a in ANGLES]), density.irreps, "standard") @ label
    largest = max(density.error(a, b) for a, b in zip(expected, true, strict=True))
    print(
        f"{len(label)} coefficients; turned by Wigner matrices and computed anew they differ by {largest:.1e}"
    )
    once = of_features(arms, density, label, 0, seed=1)
    often = of_features(arms, density, label, 200, seed=1)
    models: dict[str, Model] = {
        "invariant": of_features(distances, density, label, 0, seed=1),
        "equivariant": equivariant(density, label),
        "unconstrained,\none orientation": once,
        "the same,\naveraged": averaged(once, density),
        "unconstrained,\n200 turned copies": often,
        "the same, \naveraged": averaged(often, density),
    }
    rows = {"true": true} | {name: [model(s) for s in turned] for name, model in models.items()}
    errors = {
        name: [density.error(a, b) for a, b in zip(found, true, strict=True)] for name, found in rows.items()
    }
    args.output.mkdir(parents=True, exist_ok=True)
    with (args.output / "density.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["model", *(f"relative error at {angle:g} degrees" for angle in ANGLES)])
        for name, values in errors.items():
            writer.writerow([name.replace("\n", " "), *(f"{value:.3g}" for value in values)])
            print(f"{name!r:40} " + "  ".join(f"{100 * value:8.3g} %" for value in values))
    draw(density, rows, errors, args.output / "density.png")


if __name__ == "__main__":
    main()
