"""What the tests of the training share: labelled molecules, a small network, a configuration."""

from __future__ import annotations

from pathlib import Path

import ase
import ase.io
import numpy as np
import yaml
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

ARCHITECTURE = {
    "cutoff": 3.0,
    "cutoff_width": 0.5,
    "d_model": 8,
    "n_heads": 2,
    "d_feedforward": 12,
    "d_head": 8,
    "n_gnn_layers": 2,
    "n_attention_layers": 1,
    "norm": "pre",
    "radial_basis": 6,
}


def labelled_molecules(n: int = 24, seed: int = 0) -> list[ase.Atoms]:
    """Distorted water molecules labelled by ASE's effective medium theory (its numbers serve as any would)."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(n):
        atoms = molecule("H2O")
        atoms.positions += rng.normal(scale=0.06, size=(3, 3))
        atoms.calc = EMT()
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        frames.append(atoms)
    return frames


def write_config(folder: Path, **changes: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    ase.io.write(folder / "data.extxyz", labelled_molecules())
    config = {
        "data": {"files": ["data.extxyz"], "validation": 4, "test": 4},
        "output": "model",
        "architecture": ARCHITECTURE,
        "baseline": {"pair": True, "n_gaussians": 6},
        "epochs": 4,
        "evaluate_every": 2,
        "warmup_steps": 5,
        "batch_size": 4,
        "threads": 1,
    } | changes
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(config))
    return path
