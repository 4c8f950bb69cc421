"""Make the model folders and reference numbers of this folder with metatrain.

    PYTHONPATH=tests/places python tests/networks/metatrain_fixture/make.py

needs metatrain 2026.4. Each model has random weights, is evaluated by metatrain in double precision, saved as a
checkpoint of metatrain and imported by ``ipi-driver import-pet``.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import metatrain_models as mtt
import numpy as np
from random_structures import random_structure

from ipi_driver.cli import main

TINY = {"d_pet": 8, "d_node": 12, "d_head": 6, "d_feedforward": 8, "num_heads": 2, "num_attention_layers": 1}
MODELS = {
    "feedforward": {**TINY, "num_neighbors_adaptive": 4, "cutoff": 5.0},
    "residual": {
        **TINY,
        "d_node": 8,
        "featurizer_type": "residual",
        "transformer_type": "PostLN",
        "normalization": "LayerNorm",
        "activation": "SiLU",
        "cutoff_function": "Cosine",
    },
}
STRUCTURES = {
    "triclinic": random_structure(),
    "isolated": random_structure(n=5, seed=1, pbc=False),
    "small cell": random_structure(n=3, seed=2, box=2.6),
}


def make(here: Path) -> None:
    reference: dict[str, object] = {
        "structures": {
            name: {
                "numbers": s.numbers.tolist(),
                "positions": s.positions.tolist(),
                "cell": s.cell.tolist(),
                "pbc": s.pbc.tolist(),
            }
            for name, s in STRUCTURES.items()
        }
    }
    for seed, (name, hypers) in enumerate(MODELS.items()):
        model = mtt.random_model(hypers, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = mtt.save_checkpoint(model, Path(folder) / f"{name}.ckpt")
            assert main(["import-pet", str(checkpoint), str(here / name), "--force"]) == 0
        results = {}
        for which, structure in STRUCTURES.items():
            energy, forces, virial = mtt.reference(model, structure)
            results[which] = {
                "energy": energy,
                "forces": np.asarray(forces).tolist(),
                "virial": np.asarray(virial).tolist(),
            }
        reference[name] = results
    (here / "reference.json").write_text(json.dumps(reference, indent=1) + "\n")


if __name__ == "__main__":
    make(Path(__file__).parent)
