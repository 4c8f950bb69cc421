"""Raw and rotation-averaged forces of PET with every engine that is installed, in one run.

    python benchmarks/engines.py --molecules 1 64 --output benchmarks/engines.md
    python benchmarks/engines.py --device cuda --dtype float32 --tf32 --molecules 1 64 512

All engines get the published size (d 128, 4 × 2 layers, 4.0 Å cutoff) with random weights, in float32, and the same
configurations of water, each a little displaced from the one before, so that nothing but neighbor lists is reused.
Engines take turns; the table holds the smallest CPU time of the process (all threads together) and the smallest wall
time. On a shared machine only ratios of CPU times mean something.

Peers: ``pip install metatrain metatomic-torch pet-kokkos``; what is missing is left out, which a line reports.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from ase.build import molecule

from ipi_driver.allocator import keep_freed_memory
from ipi_driver.networks.base import EdgeNetwork
from ipi_driver.networks.baseline import Baseline
from ipi_driver.networks.pet import PetConfig, PetNetwork
from ipi_driver.networks.pet.gradients import PetGradients
from ipi_driver.potentials import load_potential
from ipi_driver.potentials.network import NetworkPotential
from ipi_driver.rotations import RotationalAverage, quadrature
from ipi_driver.structure import Structure

ROTATIONS = quadrature("2i").rotations
WARM_UP = 4
"""Evaluations before the first that counts: TorchScript rearranges what it runs."""
Task = Callable[[Structure], object]


def water(n_molecules: int) -> Structure:
    """One molecule, or a box at the density of water with random orientations on a lattice."""
    gas = molecule("H2O")
    if n_molecules == 1:
        return Structure(gas.numbers, gas.positions)
    rng = np.random.default_rng(0)
    side = int(np.ceil(round(n_molecules ** (1 / 3), 6)))
    edge = (n_molecules * 18.015 / 0.6022 / 0.997) ** (1 / 3)
    places = np.stack(np.unravel_index(np.arange(n_molecules), (side,) * 3), axis=1)
    turns = np.linalg.qr(rng.normal(size=(n_molecules, 3, 3)))[0]
    atoms = (gas.positions - gas.positions[0]) @ turns.transpose(0, 2, 1)
    positions = (atoms + ((places + 0.5) * edge / side)[:, None]).reshape(-1, 3)
    positions += rng.normal(scale=0.05, size=positions.shape)
    return Structure(np.tile(gas.numbers, n_molecules), positions, np.eye(3) * edge, True)


@dataclass
class Engine:
    """Name of an engine, and what it offers."""

    name: str
    raw: Task
    averaged: Task | None = None
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def own_engines(device: str, dtype: str) -> list[Engine]:
    """This project, with its own pass backward and with autograd."""
    engines = []
    for name in ("ipi_driver", "ipi_driver, autograd"):
        torch.manual_seed(0)
        network = PetNetwork(PetConfig(species=(1, 8)))
        potential = NetworkPotential(
            network, Baseline((1, 8), np.zeros(2), network.config.cutoff), device=device, dtype=dtype
        )
        if name.endswith("autograd"):
            potential._gradient_function = lambda v, g, of=network: EdgeNetwork.gradient_function(of)(v, g)
        else:
            potential._gradient_function = PetGradients(network, record_after=3)
        engines.append(Engine(name, potential.predict, RotationalAverage(potential, "2i").predict))
    return engines


def peer_network() -> torch.nn.Module:
    """The published size with random weights in metatrain."""
    from metatrain.pet import PET
    from metatrain.utils.architectures import get_default_hypers
    from metatrain.utils.data import DatasetInfo
    from metatrain.utils.data.target_info import get_energy_target_info

    hypers = get_default_hypers("pet")["model"]
    hypers |= {"cutoff": 4.0, "cutoff_width": 0.2, "cutoff_function": "Cosine", "d_pet": 128, "d_node": 128}
    hypers |= {"d_feedforward": 512, "num_heads": 4, "num_attention_layers": 2, "num_gnn_layers": 4}
    hypers |= {"normalization": "LayerNorm", "activation": "SiLU", "transformer_type": "PostLN"}
    hypers |= {"featurizer_type": "residual"}
    target = get_energy_target_info("energy", {"unit": "eV"})
    torch.manual_seed(0)
    return PET(hypers, DatasetInfo("angstrom", [1, 8], {"energy": target})).eval()


def metatomic_engine(folder: Path, device: str) -> Engine:
    """metatrain's PET, exported and loaded by this project; a rotated structure is one more system of a call."""
    peer_network().export().save(str(folder / "pet.pt"))
    potential = load_potential(folder / "pet.pt", device=device)
    return Engine("metatomic PET", potential.predict, RotationalAverage(potential, "2i").predict)


def kokkos_engine(folder: Path) -> Engine:
    """pet-kokkos with the same weights: the tensors of metatrain under their names, and the settings as JSON."""
    import pet_kokkos
    from safetensors.torch import save_file

    network = peer_network()
    hypers = dict(network.hypers)
    keys = "d_pet d_head d_node d_feedforward num_heads num_attention_layers num_gnn_layers normalization activation"
    keys += " transformer_type featurizer_type attention_temperature cutoff cutoff_width cutoff_function"
    keys += " num_neighbors_adaptive adaptive_cutoff_method cutoff_width_adaptive system_conditioning"
    settings = {key: hypers[key] for key in keys.split()}
    settings |= {"head_dim": 32, "num_readout_layers": 4, "zbl": False, "long_range_enabled": False}
    settings |= {"max_charge": 10, "max_spin_multiplicity": 10}
    places = [-1] * 120
    places[1], places[8] = 0, 1
    content = {"format_version": 1, "architecture": "pet", "target": "energy", "hypers": settings}
    content |= {"length_unit": "angstrom", "energy_unit": "eV", "energy_scale": 1.0, "n_species": 2}
    content |= {"atomic_types": [1, 8], "species_to_index": places, "composition_energies": [0.0, 0.0]}
    (folder / "pet.json").write_text(json.dumps(content))
    tensors = {
        name.removeprefix("backend."): tensor.detach().float().contiguous()
        for name, tensor in network.state_dict().items()
        if name.startswith("backend.") and tensor.is_floating_point()
    }
    save_file(tensors, folder / "pet.safetensors")
    calculator = pet_kokkos.Calculator(str(folder / "pet"), cache_neighbors=True)

    def arguments(structure: Structure) -> tuple[object, ...]:
        cell = structure.cell if structure.periodic else None
        return structure.numbers, structure.positions, cell, structure.pbc if structure.periodic else None

    def averaged(structure: Structure) -> object:
        return calculator.compute_batch([arguments(structure.rotated(rotation)) for rotation in ROTATIONS])

    return Engine("pet-kokkos", lambda structure: calculator.compute(*arguments(structure)), averaged)


def engines(folder: Path, device: str, dtype: str) -> list[Engine]:
    """All that are installed; reports which are not."""
    found = own_engines(device, dtype)
    peers: dict[str, Callable[[], Engine]] = {
        "metatomic PET": lambda: metatomic_engine(folder, device),
        "pet-kokkos": lambda: kokkos_engine(folder),
    }
    for name, make in peers.items():
        try:
            found.append(make())
        except Exception as error:
            print(
                f"{name} is left out: {type(error).__name__}: {' '.join(str(error).split())[:120]}",
                file=sys.stderr,
            )
    return found


def product_shapes(n_edges: int, n_nodes: int, n_rotations: int) -> list[tuple[int, int, int]]:
    """Rows, inner and outer dimension of the products with the weights of a GNN layer, forward; back as many again."""
    config = PetConfig(species=(1, 8))
    d, f, h = config.d_model, config.d_feedforward, config.d_head
    tokens, edges = (n_edges + n_nodes) * n_rotations, n_edges * n_rotations
    per_layer = [(tokens, d, 3 * d), (tokens, d, d), (tokens, d, f), (tokens, f, d)]
    return per_layer * config.n_attention_layers + [(edges, d, d)] * 2 + [(tokens, d, h), (tokens, h, h)]


def product_operations(n_edges: int, n_nodes: int, n_rotations: int) -> float:
    """Floating-point operations of all products with the weights, forward and back."""
    of_layer = sum(2.0 * a * b * c for a, b, c in product_shapes(n_edges, n_nodes, n_rotations))
    return 2.0 * PetConfig(species=(1, 8)).n_gnn_layers * of_layer


def matrix_products(n_edges: int, n_nodes: int, n_rotations: int, device: str, dtype: torch.dtype) -> Task:
    """The products with the weights alone, in pieces that fit a cache: what no implementation can save on a CPU.

    On a GPU, where the start of each piece costs more than the piece, it is no limit; see `gpu/report.py`.
    """
    config = PetConfig(species=(1, 8))
    shapes = product_shapes(n_edges, n_nodes, n_rotations)
    made = {
        shape: (
            torch.randn(min(shape[0], 1024), shape[1], device=device, dtype=dtype),
            torch.randn(shape[1], shape[2], device=device, dtype=dtype),
        )
        for shape in set(shapes)
    }

    def run(_: Structure) -> None:
        for _ in range(config.n_gnn_layers):
            for shape in shapes:
                x, w = made[shape]
                y = x @ w
                for _ in range(max(1, round(shape[0] / len(x)))):
                    torch.mm(x, w, out=y)
                    torch.mm(y, w.T, out=x)
                x.clamp_(-1.0, 1.0)

    return run


def measure(
    tasks: list[tuple[Engine, Task]], structure: Structure, n_rotations: int, seconds: float, device: str
) -> None:
    """Times of each task as in a run, without other work between its steps; the tasks take turns for ``seconds``."""
    rng = np.random.default_rng(1)
    many = structure.n_atoms * n_rotations
    for _, task in tasks:
        for _ in range(WARM_UP if many < 100 else 3 if many < 5000 else 1):
            task(structure)
    end = time.perf_counter() + seconds
    rounds = 0
    # the first after another engine finds the caches full of its weights, which counts where it is short
    in_a_row = 4 if structure.n_atoms < 100 else 2 if many < 5000 else 1
    while rounds < 2 or (time.perf_counter() < end and rounds < 300):
        for engine, task in tasks:
            for k in range(in_a_row):
                moved = structure.positions + rng.normal(scale=1e-3, size=structure.positions.shape)
                configuration = Structure(structure.numbers, moved, structure.cell, structure.pbc)
                wall, cpu = time.perf_counter(), time.process_time()
                task(configuration)
                if device != "cpu":
                    torch.cuda.synchronize()
                if k or in_a_row == 1:
                    engine.cpu.append(time.process_time() - cpu)
                    engine.wall.append(time.perf_counter() - wall)
        rounds += 1


def row(
    label: str,
    tasks: list[tuple[Engine, Task]],
    structure: Structure,
    n_rotations: int,
    seconds: float,
    device: str,
) -> str:
    """One line of the table."""
    for engine, _ in tasks:
        engine.wall, engine.cpu = [], []
    measure(tasks, structure, n_rotations, seconds, device)
    cells = [f"{1e3 * min(e.cpu):.3g} / {1e3 * min(e.wall):.3g}" for e, _ in tasks]
    return f"| {label} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--molecules", type=int, nargs="+", default=[1, 64])
    parser.add_argument(
        "--average-up-to", type=int, default=1, help="largest number of molecules under 36 rotations"
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="per row, shared by the engines")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--tf32", action="store_true", help="matrix products of float32 in TF32")
    parser.add_argument("--output", type=Path, help="write the table here, too")
    args = parser.parse_args()
    keep_freed_memory()
    torch.backends.cuda.matmul.allow_tf32 = args.tf32
    machine = (
        torch.cuda.get_device_name() if args.device != "cpu" else platform.processor() or platform.machine()
    )
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        found = engines(Path(name), args.device, args.dtype)
        products = Engine("matrix products alone", lambda _: None)
        lines = [
            f"{machine}, torch {torch.__version__}, {torch.get_num_threads()} threads, {args.dtype}"
            f"{', TF32' if args.tf32 else ''}; CPU / wall time in ms",
            "",
            "| work | " + " | ".join(e.name for e in [*found, products]) + " |",
            "|---|" + "---|" * (len(found) + 1),
        ]
        for n in args.molecules:
            structure = water(n)
            n_edges = RotationalAverage(found[0].raw.__self__).edges_hint(structure)
            for label, n_rotations in (("raw", 1), ("36 rotations", 36)):
                if n_rotations > 1 and n > args.average_up_to:
                    continue
                limit = matrix_products(
                    n_edges, structure.n_atoms, n_rotations, args.device, getattr(torch, args.dtype)
                )
                tasks = [(e, e.raw if n_rotations == 1 else e.averaged or e.raw) for e in found]
                lines.append(
                    row(
                        f"{label}, {n} H2O",
                        [*tasks, (products, limit)],
                        structure,
                        n_rotations,
                        args.seconds,
                        args.device,
                    )
                )
                print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    print(text)
    if args.output:
        args.output.write_text(text)


if __name__ == "__main__":
    main()
