"""metatrain's PET here, through metatomic and in pet-kokkos: the same random weights, side by side in one run.

    OMP_NUM_THREADS=1 python benchmarks/metatrain_pet.py --output benchmarks/metatrain_pet.json

needs metatrain, metatomic-ase and, for its column, pet-kokkos. The model has the shape of UPET-XS (width 128, cutoff
7.5 Å, 8 adaptive neighbors). Times are CPU times, the smallest of repetitions that take turns; every
evaluation has new positions.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", os.environ["OMP_NUM_THREADS"])

import numpy as np
import torch
from averaged_forces import shifted, structures
from metatrain.pet import PET
from metatrain.utils.architectures import get_default_hypers
from metatrain.utils.data import DatasetInfo
from metatrain.utils.data.target_info import get_energy_target_info
from safetensors.torch import save_file

from ipi_driver.cli import main as command
from ipi_driver.potentials import Potential, load_potential
from ipi_driver.rotations.quadrature import quadrature
from ipi_driver.structure import Structure

AVERAGE = "2i"
HYPERS = {
    "cutoff": 7.5,
    "num_neighbors_adaptive": 8,
    "num_attention_layers": 1,
    "d_node": 512,
}
"""UPET-XS; all others are metatrain's defaults."""

Evaluate = Callable[[Structure, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(structure, rotations) -> energies (n_rotations,), forces (n_rotations, n_atoms, 3)."""


def model_of_metatrain() -> PET:
    """A PET with random weights that knows 85 elements, as the published models do."""
    torch.manual_seed(0)
    hypers = get_default_hypers("pet")["model"] | HYPERS
    energy = get_energy_target_info("energy", {"quantity": "energy", "unit": "eV"})
    return PET(hypers, DatasetInfo("angstrom", list(range(1, 86)), {"energy": energy})).eval()


def ours(potential: Potential) -> Evaluate:
    def evaluate(structure: Structure, rotations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from ipi_driver.potentials.chunks import RotationChunks

        results = RotationChunks(potential).evaluate(structure, rotations)
        return results.energies[0], results.forces[0]

    return evaluate


def kokkos(model: PET, folder: Path) -> Evaluate:
    """pet-kokkos reads hyperparameters and weights from two files of its own."""
    import pet_kokkos

    hypers = dict(model.hypers) | {
        "head_dim": model.hypers["d_pet"] // model.hypers["num_heads"],
        "num_readout_layers": 1,
        "num_neighbors_adaptive": float(model.hypers["num_neighbors_adaptive"]),
        "long_range_enabled": False,
    }
    hypers.pop("long_range")
    content = {
        "format_version": 1,
        "architecture": "pet",
        "source_model": "random",
        "target": "energy",
        "hypers": hypers,
        "length_unit": "angstrom",
        "energy_unit": "eV",
        "energy_scale": 1.0,
        "n_species": len(model.atomic_types),
        "atomic_types": list(model.atomic_types),
        "species_to_index": model.backend.species_to_species_index.tolist(),
        "composition_energies": [0.0] * len(model.atomic_types),
    }
    (folder / "kokkos.json").write_text(json.dumps(content))
    weights = {k: v.contiguous() for k, v in model.backend.state_dict().items() if v.is_floating_point()}
    save_file(weights, folder / "kokkos.safetensors")
    calculator = pet_kokkos.Calculator(str(folder / "kokkos"), cache_neighbors=True)

    def evaluate(structure: Structure, rotations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if len(rotations) == 1:
            turned = structure.rotated(rotations[0])
            cell = turned.cell if turned.periodic else None
            found = [calculator.compute(turned.numbers, turned.positions, cell, tuple(turned.pbc))]
        else:
            batch = []
            for rotation in rotations:
                turned = structure.rotated(rotation)
                cell = turned.cell if turned.periodic else None
                batch.append((turned.numbers, turned.positions, cell, tuple(turned.pbc)))
            found = calculator.compute_batch(batch)
        forces = [np.asarray(r["forces"]) @ q for r, q in zip(found, rotations, strict=True)]
        return np.array([r["energy"] for r in found]), np.array(forces)

    return evaluate


def smallest_times(
    codes: dict[str, Evaluate], structure: Structure, rotations: np.ndarray, repeats: int
) -> dict[str, float]:
    """Milliseconds of CPU of each code, the smallest of ``repeats`` rounds in which the codes take turns."""
    rng = np.random.default_rng(1)
    best = dict.fromkeys(codes, np.inf)
    for k in range(repeats + 1):
        for name, evaluate in codes.items():
            configuration = shifted(structure, rng)
            start = time.process_time()
            evaluate(configuration, rotations)
            if k or repeats == 1:  # the first round warms up
                best[name] = min(best[name], 1e3 * (time.process_time() - start))
    return best


def agreement(codes: dict[str, Evaluate], structure: Structure, rotations: np.ndarray) -> dict[str, float]:
    """Largest difference of the forces to those of the first code, over the largest force."""
    (_, first), *others = codes.items()
    _, reference = first(structure, rotations)
    scale = np.abs(reference).max()
    return {name: float(np.abs(f(structure, rotations)[1] - reference).max() / scale) for name, f in others}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument(
        "--skip", nargs="*", default=[], help="cases to leave out, by the start of their names"
    )
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = model_of_metatrain()
        torch.save(model.get_checkpoint(), folder / "model.ckpt")
        command(["import-pet", str(folder / "model.ckpt"), str(folder / "model")])
        model.export().save(folder / "model.pt")
        codes = {
            "ipi-driver": ours(load_potential(folder / "model")),
            "metatomic": ours(load_potential(folder / "model.pt")),
        }
        try:
            codes["pet-kokkos"] = kokkos(model, folder)
        except ImportError:
            print("pet-kokkos is not installed")
        result = compare(codes, args.repeats, args.skip)
    text = json.dumps(result, indent=2)
    print(text)
    if args.output:
        args.output.write_text(text + "\n")


def compare(codes: dict[str, Evaluate], repeats: int, skip: list[str]) -> dict[str, object]:
    systems = structures()
    one, many = np.eye(3)[None], quadrature(AVERAGE).rotations
    cases = {
        "raw, 64 molecules": (systems["64 molecules"], one, repeats),
        "36 rotations, 1 molecule": (systems["1 molecule"], many, repeats),
        "36 rotations, 64 molecules": (systems["64 molecules"], many, 1),
    }
    result: dict[str, object] = {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "unit": "ms of CPU",
    }
    for name, (structure, rotations, rounds) in cases.items():
        if any(name.startswith(s) for s in skip):
            continue
        times = smallest_times(codes, structure, rotations, rounds)
        row: dict[str, object] = {k: round(t, 2) for k, t in times.items()}
        for other in list(times)[1:]:
            row[f"{other} / ipi-driver"] = round(times[other] / times["ipi-driver"], 2)
        if rounds > 1:
            row["largest difference of the forces, relative"] = agreement(codes, structure, rotations)
        result[name] = row
        print(name, row, flush=True)
    return result


if __name__ == "__main__":
    main()
