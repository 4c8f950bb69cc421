"""The equivariant network: against e3nn's own products and Wigner matrices, smooth at the cutoff, invariant."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from e3nn import o3
from equivariant_place import SMALL, cluster, crystal, graph_of, network_of

from ipi_driver.errors import UserError
from ipi_driver.networks.baseline import Baseline
from ipi_driver.networks.e3nn.config import irreps_up_to
from ipi_driver.networks.e3nn.layers import Product
from ipi_driver.networks.kinds import network_config
from ipi_driver.potentials.network import NetworkPotential
from ipi_driver.rotations.augmentation import augmentation_rotations
from ipi_driver.structure import Structure

KINDS = {
    "default": {},
    "scalars": {"l_max": 0, "correlation": 1},
    "both parities": {"parities": "both", "l_max": 1, "n_layers": 3},
    "relaxed": {"relaxed": {"l_max": 2}, "parities": "both", "l_max": 1},
}


@pytest.mark.parametrize("kind", KINDS)
def test_features_turn_with_the_wigner_matrices(kind: str) -> None:
    network = network_of(**KINDS[kind])
    vectors, graph = graph_of(crystal())
    rotations = augmentation_rotations("o3", 6, np.random.default_rng(0))
    assert {round(np.linalg.det(r)) for r in rotations} == {-1, 1}
    before = network.features(vectors, graph)
    hidden = [network.config.hidden] * (network.config.n_layers - 1)
    for rotation in torch.from_numpy(rotations):
        after = network.features(vectors @ rotation.T, graph)
        for k, irreps in enumerate(hidden):
            for a, b, (_, ir) in zip(before[k], after[k], irreps, strict=True):
                turned = torch.einsum("ij,ncj->nci", ir.D_from_matrix(rotation), a)
                assert a.abs().max() > 1e-3 or ir.p != (-1) ** ir.l  # what is zero always turns rightly
                # e3nn takes Euler angles from the matrix, by an arc cosine: 1e-8
                torch.testing.assert_close(b, turned, atol=1e-7, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_energies_are_invariant_and_forces_their_derivatives(kind: str) -> None:
    potential = NetworkPotential(
        network_of(**KINDS[kind]), Baseline((1, 8), np.zeros(2), 3.5), dtype="float64"
    )
    rotations = augmentation_rotations("o3", 8, np.random.default_rng(5))
    for structure in (cluster(), crystal()):
        found = potential.evaluate([structure], rotations)
        scale = np.abs(found.forces[0]).max()
        assert scale > 1e-3
        assert np.ptp(found.energies) < 1e-10
        assert np.ptp(found.forces[0], axis=0).max() < 1e-9
        h = 1e-4
        for atom, axis in ((0, 0), (1, 2), (3, 1)):
            energies = []
            for sign in (1, -1):
                positions = structure.positions.copy()
                positions[atom, axis] += sign * h
                moved = Structure(structure.numbers, positions, structure.cell, structure.pbc)
                energies.append(potential.predict(moved).energy)
            slope = -(energies[0] - energies[1]) / (2 * h)
            assert slope == pytest.approx(found.forces[0][0, atom, axis], abs=1e-6 * scale)


def test_nothing_jumps_at_the_cutoff() -> None:
    potential = NetworkPotential(network_of(), Baseline((1, 8), np.zeros(2), 3.5), dtype="float64")

    def pair(distance: float) -> tuple[float, float]:
        positions = np.array([[0.0, 0, 0], [0, 0, 0.95], [0, distance, 0]])
        found = potential.predict(
            Structure(np.array([8, 1, 8]), positions, np.zeros((3, 3)), np.zeros(3, dtype=bool))
        )
        return found.energy, float(found.forces[2, 1])

    inside, outside = pair(3.5 - 1e-4), pair(3.5 + 1e-4)
    assert inside[0] == pytest.approx(outside[0], abs=1e-9)
    assert outside[1] == 0.0
    assert abs(inside[1]) < 1e-6 < abs(pair(3.0)[1])


def test_products_are_those_of_e3nn() -> None:
    """Every path by itself against a `TensorProduct` with instructions for this path alone."""
    irreps = irreps_up_to(2, "both")
    product = Product(irreps, irreps, irreps, channels=3).double()
    torch.manual_seed(0)
    a = [torch.randn(5, 3, ir.dim, dtype=torch.float64) for ir in irreps]
    b = [torch.randn(5, 3, ir.dim, dtype=torch.float64) for ir in irreps]
    for ir, found in zip(irreps, product(a, b), strict=True):
        expected = []
        for left, x in zip(irreps, a, strict=True):
            for right, y in zip(irreps, b, strict=True):
                if ir not in left * right:
                    continue
                reference = o3.TensorProduct(
                    [(3, left)], [(3, right)], [(3, ir)], [(0, 0, 0, "uuu", False)],
                    irrep_normalization="component", path_normalization="element",
                ).double()  # fmt: skip
                expected.append(reference(x.flatten(1), y.flatten(1)).view(5, 3, ir.dim))
        # channel by channel, the paths of a channel side by side
        stacked = torch.stack(expected, dim=2).reshape(5, -1, ir.dim)
        torch.testing.assert_close(found, stacked, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"l_max": 9}, "l_max: Input should be less than or equal to 4"),
        ({"parities": "odd"}, "parities: "),
        ({"relaxed": {"l_max": 3}, "l_max": 1}, "must not exceed twice `l_max`"),
        ({"relaxed": {"degree": 3}}, "relaxed.degree"),
        ({"d_model": 3}, "not a key of kind: e3nn"),
    ],
)
def test_bad_settings(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        network_config(SMALL | change, (1, 8))
