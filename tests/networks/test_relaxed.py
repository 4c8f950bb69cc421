"""Relaxed weights: equivariant if and only if they are scalar; rotating the input is rotating them back."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from e3nn import o3
from equivariant_place import crystal, graph_of, network_of
from training_place import write_config

from ipi_driver.cli import main
from ipi_driver.errors import UserError
from ipi_driver.networks.baseline import Baseline
from ipi_driver.networks.e3nn.network import E3nnNetwork
from ipi_driver.networks.storage import save_model
from ipi_driver.potentials import load_potential
from ipi_driver.potentials.network import NetworkPotential
from ipi_driver.rotations.augmentation import augmentation_rotations
from ipi_driver.structure import Structure
from ipi_driver.symmetry.degrees import decompose

RELAXED = {"relaxed": {"l_max": 2, "parities": "both"}}


def energy(network: E3nnNetwork, vectors: torch.Tensor, graph: object) -> torch.Tensor:
    return network(vectors, graph)[0].sum()


def set_theta(network: E3nnNetwork, values: dict[str, torch.Tensor]) -> None:
    for weights in network.relaxed_weights:
        parts = [values.get(str(ir), w) for ir, w in weights.by_irrep().items()]
        weights.theta.data = torch.cat(parts)


def random_theta(network: E3nnNetwork, seed: int = 0) -> None:
    torch.manual_seed(seed)
    for weights in network.relaxed_weights:
        weights.theta.data += 0.3 * torch.randn_like(weights.theta)


@pytest.mark.parametrize("parities", ["natural", "both"])
def test_rotating_the_input_is_rotating_the_weights_back(parities: str) -> None:
    network = network_of(parities=parities, **RELAXED)
    random_theta(network)
    vectors, graph = graph_of(crystal())
    before = [weights.theta.data.clone() for weights in network.relaxed_weights]
    for rotation in torch.from_numpy(augmentation_rotations("o3", 6, np.random.default_rng(1))):
        for weights, theta in zip(network.relaxed_weights, before, strict=True):
            weights.theta.data = theta
        turned_input = energy(network, vectors @ rotation.T, graph).item()
        plain = energy(network, vectors, graph).item()
        matrix = torch.block_diag(*[ir.D_from_matrix(rotation) for ir in network.relaxed_weights[0].irreps])
        for weights, theta in zip(network.relaxed_weights, before, strict=True):
            weights.theta.data = matrix.T @ theta
        turned_weights = energy(network, vectors, graph).item()
        assert abs(plain - turned_input) > 1e-5 * abs(plain)
        assert turned_weights == pytest.approx(turned_input, rel=1e-7)


@pytest.mark.parametrize("irrep", ["0o", "1e", "1o", "2e", "2o"])
def test_every_component_that_is_not_scalar_breaks_the_symmetry(irrep: str) -> None:
    network = network_of(parities="both", l_max=1, **RELAXED)
    vectors, graph = graph_of(crystal())
    rotations = torch.from_numpy(augmentation_rotations("o3", 6, np.random.default_rng(1)))
    spread = []
    for value in (0.0, 0.5):
        set_theta(network, {irrep: torch.full((o3.Irrep(irrep).dim,), value, dtype=torch.float64)})
        energies = torch.stack([energy(network, vectors @ r.T, graph) for r in rotations])
        spread.append(float((energies.max() - energies.min()).detach()))
    # a pseudoscalar acts in high order alone: the whole structure must be chiral
    assert spread[0] < 1e-12 < 1e-9 < spread[1]


def test_gradients_reach_weights_that_are_zero() -> None:
    network = network_of(parities="both", l_max=1, **RELAXED)
    vectors, graph = graph_of(crystal())
    energy(network, vectors, graph).backward()
    dims = [ir.dim for ir in network.relaxed_weights[0].irreps]
    for weights in network.relaxed_weights:
        gradient = dict(zip(weights.by_irrep(), weights.theta.grad.split(dims), strict=True))
        for name in ("1o", "2e"):
            assert gradient[name].abs().max() > 1e-6, name
    assert network.penalty().item() == 0.0
    random_theta(network)
    expected = sum(((w.theta**2).sum() - w.theta[0] ** 2).item() for w in network.relaxed_weights)
    assert network.penalty().item() == pytest.approx(0.01 * expected)


def test_dial(tmp_path: Path) -> None:
    """The breaking of a known amount; at zero the network is equivariant, whatever its weights."""
    network = network_of(**RELAXED)
    random_theta(network)
    save_model(tmp_path / "relaxed", network, Baseline((1, 8), np.zeros(2), 3.5), double=True)
    save_model(tmp_path / "plain", network_of(), Baseline((1, 8), np.zeros(2), 3.5))
    rotations = augmentation_rotations("o3", 12, np.random.default_rng(3))
    structure = crystal()

    def spread(words: str) -> float:
        potential = load_potential(f"{tmp_path / 'relaxed'}{words}", dtype="float64")
        return float(np.ptp(potential.evaluate([structure], rotations).energies))

    whole, small, none = spread(""), spread("?theta_scale=1e-3"), spread("?theta_scale=0")
    assert none < 1e-10
    assert 2e-4 * whole < small < 5e-3 * whole
    assert spread("?theta_scale=1") == pytest.approx(whole)
    for words, message in (
        ("relaxed?theta_scale=much", "`theta_scale` must be a number, got 'much'"),
        ("relaxed?theta=1", "unknown option 'theta', expected one of theta_scale"),
        ("plain?theta_scale=0.5", "has none: it is equivariant"),
    ):
        with pytest.raises(UserError, match=message):
            load_potential(f"{tmp_path / words}")


def test_training_finds_the_direction_of_a_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing but the orientation tells the structures apart; the weights turn non-scalar, and the dial removes it."""
    rng = np.random.default_rng(0)
    field = np.array([0.0, 0.0, 0.5])
    charges = np.array([-0.8, 0.4, 0.4])
    frames = []
    for rotation in augmentation_rotations("so3", 24, rng):
        atoms = molecule("H2O")
        atoms.positions = atoms.positions @ rotation.T
        forces = charges[:, None] * field
        atoms.calc = SinglePointCalculator(
            atoms, energy=-float((forces * atoms.positions).sum()), forces=forces
        )
        frames.append(atoms)
    architecture = {
        "kind": "e3nn", "cutoff": 3.0, "l_max": 1, "channels": 8, "product_channels": 4, "d_radial": 8,
        "relaxed": {"l_max": 1, "regularization": 1e-4}, "n_layers": 1,
    }  # fmt: skip
    changes = {"architecture": architecture, "epochs": 120, "evaluate_every": 40, "learning_rate": 2e-2}
    changes |= {"baseline": {"pair": False}, "ema": 0.9, "weight_decay": 0.0}
    path = write_config(tmp_path, **changes)
    ase.io.write(tmp_path / "data.extxyz", frames)
    assert main(["train", str(path), "--quiet"]) == 2
    assert "set `augmentation: none`" in capsys.readouterr().err
    path = write_config(tmp_path, **changes, augmentation="none")
    ase.io.write(tmp_path / "data.extxyz", frames)
    assert main(["train", str(path), "--quiet"]) == 0
    potential = load_potential(tmp_path / "model", dtype="float64")
    found = np.abs(
        [potential.predict(Structure.from_atoms(a)).forces - a.get_forces() for a in frames]
    ).mean()
    assert found < 0.2 * np.abs(charges[:, None] * field).mean()
    theta = potential.network.relaxed_weights[0].by_irrep()["1o"].numpy()
    assert abs(theta[2]) > 10 * np.abs(theta[:2]).max()


def test_symmetry_breaking_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    network = network_of(**RELAXED)
    set_theta(network, {"1o": torch.tensor([0.0, 0.3, 0.4], dtype=torch.float64)})
    save_model(tmp_path / "field", network, Baseline((1, 8), np.zeros(2), 3.5), double=True)
    save_model(tmp_path / "plain", network_of(), Baseline((1, 8), np.zeros(2), 3.5))
    assert main(["symmetry-breaking", "field?theta_scale=0.1"]) == 0
    printed = capsys.readouterr().out
    assert "breaks the symmetry 0.05; largest group that leaves it: C∞v along" in printed
    assert (tmp_path / "breaking-field-theta_scale-0.1" / "signals.png").stat().st_size > 0
    found = json.loads((tmp_path / "breaking-field-theta_scale-0.1" / "breaking.json").read_text())
    axis = np.abs(found["layers"]["layer 1"]["axis"])
    np.testing.assert_allclose(axis, [0.0, 0.6, 0.8], atol=1e-6)
    for model, message in (
        ("plain", "has no relaxed weights (kind e3nn)"),
        ("pet-water-s", "has no relaxed weights (kind pet)"),
        ("anisotropic?l=1", "has no relaxed weights (kind AnisotropicPotential)"),
    ):
        assert main(["symmetry-breaking", model]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(("irrep", "place"), [("1o", (1, 1)), ("2e", (2, 0)), ("1e", (1, 0))])
def test_the_check_finds_the_degrees_of_the_dial(irrep: str, place: tuple[int, int]) -> None:
    """Turned down, the energy is linear in the weights: it has their degree and parity, and no other."""
    network = network_of(parities="both", l_max=1, **RELAXED)
    torch.manual_seed(1)
    set_theta(network, {irrep: torch.randn(o3.Irrep(irrep).dim, dtype=torch.float64)})
    network.configure({"theta_scale": "1e-4"})
    potential = NetworkPotential(network, Baseline((1, 8), np.zeros(2), 3.5), dtype="float64")
    found = decompose(potential, crystal(), max_degree=2)
    others = found.energy.copy()
    others[place] = 0.0
    assert others.max() < 0.01 * found.energy[place]
    assert found.energy_rest < 0.01 * found.energy[place]


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"kind": "e3nn", "d_model": 8}, "d_model: not a key of kind: e3nn"),
        ({"kind": "pet", "l_max": 2}, "it is a key of kind: e3nn"),
        ({"kind": "e3nn", "l_max": 1, "relaxed": {"l_max": 3}}, "hold no higher degree than 2, got 3"),
        ({"kind": "e3nn", "relaxed": {"parities": "odd"}}, "relaxed.parities"),
        ({"kind": "mace"}, "no network kind 'mace'"),
    ],
)
def test_bad_architectures_are_one_line_before_the_data_are_read(
    architecture: dict[str, object], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path, architecture=architecture, augmentation="none")
    (tmp_path / "data.extxyz").write_text("no structures\n")
    assert main(["train", str(path), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_what_is_equivariant_or_broken_on_purpose_is_not_symmetrized(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = network_of(**RELAXED)
    set_theta(network, {"1o": torch.tensor([0.0, 0.3, 0.4], dtype=torch.float64)})
    save_model(tmp_path / "field", network, Baseline((1, 8), np.zeros(2), 3.5), double=True)
    save_model(tmp_path / "plain", network_of(), Baseline((1, 8), np.zeros(2), 3.5))
    ase.io.write(tmp_path / "water.extxyz", [molecule("H2O") for _ in range(5)])
    for model, message in (("plain", "is equivariant already"), ("field", "on purpose (relaxed weights 1o)")):
        words = [
            "symmetrize",
            str(tmp_path / model),
            str(tmp_path / "water.extxyz"),
            "--output",
            str(tmp_path / "new"),
        ]
        assert main(words) == 2
        assert message in capsys.readouterr().err
