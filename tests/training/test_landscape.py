"""Loss surfaces and curvatures: against a quadratic form, finite differences and a full Hessian."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from equivariant_place import network_of

from ipi_driver.cli import main
from ipi_driver.networks.baseline import Baseline
from ipi_driver.networks.kinds import build_network, network_config
from ipi_driver.networks.storage import save_model
from ipi_driver.structure import Structure
from ipi_driver.training.batch import make_sample
from ipi_driver.training.data import LabelledStructure
from ipi_driver.training.landscape import ForceLoss, explore, lanczos

BASELINE = Baseline((1, 8), np.zeros(2), 3.5)
TINY = {"cutoff": 3.5, "channels": 4, "product_channels": 2, "d_radial": 4, "d_head": 4, "n_radial": 3}


def samples() -> list:
    water = Structure.from_atoms(molecule("H2O"))
    forces = np.array([[0.1, 0.0, 0.2], [-0.1, 0.05, 0.0], [0.0, -0.05, -0.2]])
    return [make_sample(LabelledStructure(water, 0.1, forces, None), (1, 8), 3.5, BASELINE)]


def pet() -> torch.nn.Module:
    torch.manual_seed(0)
    settings = {
        "d_model": 8,
        "n_heads": 2,
        "d_feedforward": 8,
        "d_head": 8,
        "n_gnn_layers": 1,
        "n_attention_layers": 1,
    }
    return build_network(network_config({"kind": "pet", "cutoff": 3.5, **settings}, (1, 8))).double()


@pytest.mark.parametrize("kind", ["pet", "e3nn"])
def test_gradients_and_products_are_derivatives_of_the_loss(kind: str) -> None:
    network = pet() if kind == "pet" else network_of(**TINY)
    loss = ForceLoss(network, samples())
    before = [p.detach().clone() for p in loss.parameters]
    direction = loss.direction(torch.Generator().manual_seed(1))
    for p, d in zip(loss.parameters, direction.split([p.numel() for p in loss.parameters]), strict=True):
        if p.ndim >= 2:  # filter-normalized: each row as long as that of the weights
            rows = d.reshape(p.shape[0], -1).norm(dim=1)
            assert torch.allclose(rows, p.detach().reshape(p.shape[0], -1).norm(dim=1))
        else:
            assert not d.any()
    h = 1e-4
    slope = (loss.value(h * direction) - loss.value(-h * direction)) / (2 * h)
    assert float(loss.gradient(0.0 * direction) @ direction) == pytest.approx(slope, rel=1e-5, abs=1e-9)
    unit = direction / direction.norm()
    scaled = loss.scale * unit
    values = [loss.value(s * 1e-3 * scaled) for s in (-1.0, 0.0, 1.0)]
    curvature = (values[0] - 2 * values[1] + values[2]) / 1e-6
    assert float(unit @ loss.hessian_product(unit)) == pytest.approx(curvature, rel=1e-3, abs=1e-8)
    assert all(torch.equal(p, b) for p, b in zip(loss.parameters, before, strict=True))


def test_lanczos_finds_the_largest_eigenvalues() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(60, 60))
    matrix = torch.from_numpy(matrix + matrix.T)
    expected = np.linalg.eigvalsh(matrix.numpy())[::-1]
    for seed in (0, 1):
        values, errors = lanczos(lambda v: matrix @ v, 60, 30, seed)
        assert np.abs(values[:2] - expected[:2]).max() <= max(1e-9, errors[:2].max())
        assert errors[0] < 1e-2


def test_explore_repeats_itself_and_agrees_over_seeds() -> None:
    found = [explore(network_of(**TINY), samples(), 0.2, 3, 1, 8, 2, seed) for seed in (0, 0, 7)]
    assert np.array_equal(found[0].surface, found[1].surface)
    assert np.array_equal(found[0].eigenvalues, found[1].eigenvalues)
    assert found[0].surface[1, 1] == pytest.approx(found[0].minimum)
    largest = [(item.eigenvalues[:, 0].mean(), item.residuals[:, 0].max() + 1e-6) for item in found]
    assert largest[0][0] == pytest.approx(largest[2][0], abs=0.05 * largest[0][0] + 3.0 * largest[0][1])


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    atoms = molecule("H2O")
    atoms.calc = SinglePointCalculator(atoms, energy=0.1, forces=np.full((3, 3), 0.1))
    ase.io.write("water.extxyz", [atoms])
    bare = molecule("H2O")
    ase.io.write("bare.extxyz", [bare])
    save_model(tmp_path / "small", network_of(**TINY), BASELINE, double=True)
    words = ["--points", "3", "--lanczos", "3", "--eigenvalues", "1", "--seeds", "2", "--max-structures", "1"]
    assert main(["landscape", "small", "water.extxyz", *words, "--output", "found"]) == 0
    content = json.loads((tmp_path / "found" / "landscape.json").read_text())
    assert np.array(content["models"]["small"]["surface"]).shape == (3, 3)
    assert len(content["models"]["small"]["eigenvalues"]) == 2
    assert (tmp_path / "found" / "landscape.png").stat().st_size > 0
    # a model of the same name stands beside it, and structures are taken from all of the data
    shutil.copytree("small", "other/small")
    for k in (2, 3):
        atoms.calc = SinglePointCalculator(atoms, energy=0.1, forces=np.full((3, 3), 0.1 * k))
        ase.io.write("water.extxyz", [atoms], append=True)
    ase.io.write("ends.extxyz", [ase.io.read("water.extxyz", k) for k in (0, 2)])
    minima = []
    for data in ("water.extxyz", "ends.extxyz"):
        more = ["--beside", "small", "--points", "3", "--lanczos", "0", "--seeds", "1", "--output", "two"]
        assert main(["landscape", "other/small", data, *more]) == 0
        models = json.loads(Path("two/landscape.json").read_text())["models"]
        assert set(models) == {"other/small", "small"}
        minima.append(models["small"]["minimum"])
    assert minima[0] == pytest.approx(minima[1])
    capsys.readouterr()
    for model, data, more, message in (
        ("anisotropic?l=2", "water.extxyz", [], "is of kind anisotropic, whose weights are not known here"),
        ("small", "bare.extxyz", [], "forces"),
        ("small", "water.extxyz", ["--points", "4"], "must be odd and at least 3, got 4"),
        ("small", "water.extxyz", ["--extent", "0"], "must be positive, got 0"),
    ):
        assert main(["landscape", model, data, *words, *more]) == 2
        assert message in capsys.readouterr().err
