"""Importer of original PET checkpoints: a checkpoint written here in the original's layout, and bad folders.

`ORIGINAL_PET` may name a folder with a checkpoint and a `reference.extxyz` made with the original code; without it the
comparison with the original's own numbers is skipped and the layout is tested against an independent evaluation of the
published equations in NumPy.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
import yaml

from ipi_driver.cli import main
from ipi_driver.errors import UserError
from ipi_driver.networks.pet.original import import_original
from ipi_driver.potentials import load_potential
from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.rotations.quadrature import quadrature
from ipi_driver.structure import Structure

D, H, FF, HEAD, CUTOFF, DELTA = 8, 2, 12, 6, 3.0, 0.4

HYPERS = {
    "ACTIVATION": "silu",
    "ADD_TOKEN_FIRST": True,
    "ADD_TOKEN_SECOND": True,
    "AVERAGE_BOND_ENERGIES": False,
    "AVERAGE_POOLING": False,
    "BLEND_NEIGHBOR_SPECIES": False,
    "COMPRESS_MODE": "mlp",
    "CUTOFF_DELTA": DELTA,
    "D_OUTPUT": 1,
    "HEADS_CENTRAL_SPECIFIC": False,
    "HEAD_N_NEURONS": HEAD,
    "K_CUT": None,
    "N_GNN_LAYERS": 2,
    "N_TARGETS": 1,
    "N_TRANS_LAYERS": 1,
    "RESIDUAL_FACTOR": 0.5,
    "R_CUT": CUTOFF,
    "R_EMBEDDING_ACTIVATION": False,
    "TARGET_AGGREGATION": "sum",
    "TARGET_TYPE": "structural",
    "TRANSFORMERS_CENTRAL_SPECIFIC": False,
    "TRANSFORMER_DIM_FEEDFORWARD": FF,
    "TRANSFORMER_D_MODEL": D,
    "TRANSFORMER_N_HEAD": H,
    "TRANSFORMER_TYPE": "PostLN",
    "USE_ADDITIONAL_SCALAR_ATTRIBUTES": False,
    "USE_BOND_ENERGIES": True,
    "USE_LENGTH": True,
    "USE_LONG_RANGE": False,
    "USE_ONLY_LENGTH": False,
}


def _linear(state: dict, name: str, n_in: int, n_out: int, rng: np.random.Generator) -> None:
    state[f"{name}.weight"] = torch.tensor(rng.normal(scale=0.5, size=(n_out, n_in)), dtype=torch.float32)
    state[f"{name}.bias"] = torch.tensor(rng.normal(scale=0.1, size=n_out), dtype=torch.float32)


def write_checkpoint(folder: Path, **changes: object) -> dict[str, np.ndarray]:
    """A random checkpoint in the original's layout, and its tensors."""
    rng = np.random.default_rng(0)
    state: dict[str, torch.Tensor] = {}
    root = "model.pet_model"
    state[f"{root}.embedding.weight"] = torch.tensor(rng.normal(size=(3, D)), dtype=torch.float32)
    for g in range(2):
        layer = f"{root}.gnn_layers.{g}"
        for block in ("trans_layer", "trans.layers.0"):
            _linear(state, f"{layer}.{block}.attention.input_linear", D, 3 * D, rng)
            _linear(state, f"{layer}.{block}.attention.output_linear", D, D, rng)
            for norm in ("norm_attention", "norm_mlp"):
                state[f"{layer}.{block}.{norm}.weight"] = torch.tensor(
                    rng.uniform(0.5, 1.5, D), dtype=torch.float32
                )
                state[f"{layer}.{block}.{norm}.bias"] = torch.tensor(rng.normal(size=D), dtype=torch.float32)
            _linear(state, f"{layer}.{block}.mlp.0", D, FF, rng)
            _linear(state, f"{layer}.{block}.mlp.3", FF, D, rng)
        _linear(state, f"{layer}.r_embedding", 4, D, rng)
        _linear(state, f"{layer}.compress.0", 2 * D, D, rng)
        _linear(state, f"{layer}.compress.2", D, D, rng)
        state[f"{layer}.central_embedder.weight"] = torch.tensor(rng.normal(size=(3, D)), dtype=torch.float32)
        for head in ("heads", "bond_heads"):
            for index, sizes in (("0", (D, HEAD)), ("2", (HEAD, HEAD)), ("4", (HEAD, 1))):
                _linear(state, f"{root}.{head}.{g}.model.nn.{index}", *sizes, rng)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "model_state_dict")
    (folder / "hypers_used.yaml").write_text(yaml.safe_dump({"ARCHITECTURAL_HYPERS": HYPERS | changes}))
    np.save(folder / "all_species.npy", np.array([1, 8]))
    np.save(folder / "self_contributions.npy", np.array([-13.0, -430.0]))
    return {k.removeprefix(root + "."): v.double().numpy() for k, v in state.items()}


def published_energy(w: dict[str, np.ndarray], numbers: np.ndarray, positions: np.ndarray) -> float:
    """The equations of PET, atom by atom and token by token, for an isolated molecule."""

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return w[f"{name}.weight"] @ x + w[f"{name}.bias"]

    def silu(x: np.ndarray) -> np.ndarray:
        return x / (1 + np.exp(-x))

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def head(name: str, x: np.ndarray) -> float:
        return float(linear(f"{name}.nn.4", silu(linear(f"{name}.nn.2", silu(linear(f"{name}.nn.0", x)))))[0])

    species = {1: 0, 8: 1}
    n = len(numbers)
    vector = {(i, j): positions[j] - positions[i] for i in range(n) for j in range(n) if i != j}
    edges = {e: np.linalg.norm(v) for e, v in vector.items() if np.linalg.norm(v) < CUTOFF}
    fc = {
        e: 1.0 if r < CUTOFF - DELTA else 0.5 + 0.5 * np.cos(np.pi * (r - CUTOFF + DELTA) / DELTA)
        for e, r in edges.items()
    }
    messages = {(i, j): w["embedding.weight"][species[numbers[j]]] for i, j in edges}
    total = 0.0
    for g in range(2):
        layer = f"gnn_layers.{g}"
        output: dict[tuple[int, int], np.ndarray] = {}
        for i in range(n):
            mine = [e for e in edges if e[0] == i]
            tokens = [w[f"{layer}.central_embedder.weight"][species[numbers[i]]]]
            for e in mine:
                embedded = linear(f"{layer}.r_embedding", np.append(vector[e], edges[e]))
                merged = silu(linear(f"{layer}.compress.0", np.concatenate([embedded, messages[e]])))
                tokens.append(linear(f"{layer}.compress.2", merged))
            factors = np.array([1.0] + [fc[e] for e in mine])
            block = f"{layer}.trans.layers.0"
            qkv = [linear(f"{block}.attention.input_linear", t).reshape(3, H, D // H) for t in tokens]
            new = []
            for a, token in enumerate(tokens):
                mixed = []
                for h in range(H):
                    scores = np.array([qkv[a][0, h] @ other[1, h] for other in qkv]) / np.sqrt(D // H)
                    weights = np.exp(scores) * factors
                    mixed.append(
                        sum(p * other[2, h] for p, other in zip(weights / weights.sum(), qkv, strict=True))
                    )
                attended = linear(f"{block}.attention.output_linear", np.concatenate(mixed))
                token = norm(f"{block}.norm_attention", token + attended)
                grown = linear(f"{block}.mlp.3", silu(linear(f"{block}.mlp.0", token)))
                new.append(norm(f"{block}.norm_mlp", token + grown))
            total += head(f"heads.{g}.model", new[0])
            for e, token in zip(mine, new[1:], strict=True):
                output[e] = token
                total += fc[e] * head(f"bond_heads.{g}.model", token)
        messages = {(i, j): 0.5 * (messages[i, j] + output[j, i]) for i, j in edges}
    return total


def test_imported_checkpoint_follows_the_published_equations(tmp_path: Path) -> None:
    weights = write_checkpoint(tmp_path / "checkpoint")
    assert main(["import-pet", str(tmp_path / "checkpoint"), str(tmp_path / "model")]) == 0
    potential = load_potential(tmp_path / "model", dtype="float64")
    numbers = np.array([8, 1, 1, 8, 1])
    positions = np.array(
        [[0.0, 0.0, 0.0], [0.9, 0.1, 0.2], [-0.3, 0.9, 0.0], [0.2, -0.4, 2.72], [2.9, 0.2, 0.3]]
    )
    expected = published_energy(weights, numbers, positions) - 2 * 430.0 - 3 * 13.0
    lengths = np.linalg.norm(positions[:, None] - positions, axis=-1)
    assert ((lengths > CUTOFF - DELTA) & (lengths < CUTOFF)).any()  # the cutoff function is at work
    assert potential.predict(Structure(numbers, positions)).energy == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"USE_LONG_RANGE": True}, "USE_LONG_RANGE: True is not built here"),
        ({"USE_ADDITIONAL_SCALAR_ATTRIBUTES": True}, "USE_ADDITIONAL_SCALAR_ATTRIBUTES"),
        ({"HEADS_CENTRAL_SPECIFIC": True}, "HEADS_CENTRAL_SPECIFIC"),
        ({"TRANSFORMERS_CENTRAL_SPECIFIC": True}, "TRANSFORMERS_CENTRAL_SPECIFIC"),
        ({"D_OUTPUT": 3}, "D_OUTPUT: 3"),
        ({"ACTIVATION": "gelu"}, "hypers_used.yaml: activation: .*got 'gelu'"),
        ({"TRANSFORMER_D_MODEL": 16}, "do not fit hypers_used.yaml"),
    ],
)
def test_what_is_not_built_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    write_checkpoint(tmp_path, **change)
    with pytest.raises(UserError, match=message):
        import_original(tmp_path)


def test_missing_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import-pet", str(tmp_path), str(tmp_path / "out")]) == 2
    assert "it has no hypers_used.yaml" in capsys.readouterr().err
    write_checkpoint(tmp_path)
    hypers = (tmp_path / "hypers_used.yaml").read_text()
    for text, message in (("[1", "is not valid YAML"), ("a: 1", "section ARCHITECTURAL_HYPERS")):
        (tmp_path / "hypers_used.yaml").write_text(text)
        with pytest.raises(UserError, match=message):
            import_original(tmp_path)
    (tmp_path / "hypers_used.yaml").write_text(hypers)
    species = (tmp_path / "all_species.npy").read_bytes()
    (tmp_path / "all_species.npy").write_bytes(b"nothing")
    with pytest.raises(UserError, match="an array in"):
        import_original(tmp_path)
    (tmp_path / "all_species.npy").write_bytes(species)
    (tmp_path / "model_state_dict").write_bytes(b"not a pickle")
    with pytest.raises(UserError, match="cannot be read as a state dict"):
        import_original(tmp_path)


@pytest.mark.skipif(
    "ORIGINAL_PET" not in os.environ, reason="ORIGINAL_PET names no checkpoint of the original code"
)
@pytest.mark.parametrize("average", ["none", "i", "2", "2i", "3"])
def test_original_numbers(average: str, tmp_path: Path) -> None:
    """1e-5 of the energy, 1e-5 eV/Å + 1e-5 of each force: the single precision of the reference.

    The original multiplies edge vectors from the right, x' = x R, hence the inverted grids.
    """
    folder = Path(os.environ["ORIGINAL_PET"])
    assert main(["import-pet", str(folder), str(tmp_path / "model")]) == 0
    potential = load_potential(tmp_path / "model", dtype="float64")
    self_energies = dict(
        zip(np.load(folder / "all_species.npy"), np.load(folder / "self_contributions.npy"), strict=True)
    )
    grid = quadrature(average)
    inverted = replace(grid, rotations=grid.rotations.transpose(0, 2, 1).copy())
    for atoms in ase.io.read(folder / "reference.extxyz", ":"):
        result = RotationalAverage(potential, inverted).predict(Structure.from_atoms(atoms))
        energy = result.energy - sum(self_energies[z] for z in atoms.numbers)
        assert energy == pytest.approx(atoms.info[f"energy_{average}"], rel=1e-5)
        forces = atoms.arrays[f"forces_{average}"]
        np.testing.assert_allclose(result.forces, forces, atol=1e-5, rtol=1e-5)
