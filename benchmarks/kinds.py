"""Every kind of potential at a glance: contract, raw and averaged forces, virial, charge, batch, verdict of `check`.

    OMP_NUM_THREADS=1 python benchmarks/kinds.py --output benchmarks/kinds

Writes ``kinds.json`` and the table ``kinds.md``. Kinds whose package is missing are left out of a new table, and kept
of one that is there: each may be run in an environment of its own. CHGNet and SevenNet have the weights that their
packages ship, the others random or analytic ones. Times are CPU times, the least of the repetitions, every evaluation
with new positions. Columns:

- contract: `check_potential` on a molecule and a crystal (tolerance 1e-3, derivatives 3e-2, as of single precision);
- raw - Th: largest difference of a force component (meV/Å), and of an element of the virial (meV), on the crystal;
- charge: what the potential reads of charge and spin;
- 24 / 1: CPU time of the 24 rotations of Th over one raw evaluation, of the molecule; loop / 24: of the 24 one by one
  over the 24 in one call;
- 60 atoms: the same two of the crystal repeated to 54 or 64 atoms;
- check: the average that ``ipi-driver check`` recommends for 1 meV/Å on the molecule.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from ase.build import bulk, molecule

import ipi_driver
from ipi_driver.cli import main as command
from ipi_driver.potentials import Potential, load_potential
from ipi_driver.potentials.chunks import RotationChunks
from ipi_driver.potentials.testing import ConformanceError, check_potential
from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.rotations.quadrature import quadrature
from ipi_driver.structure import Structure

PAIRS_OF_WATER = [[3.6, 0.0, 0.0], [0.4, 3.8, 0.0], [0.1, -0.3, 3.5]]


def water(periodic: bool) -> Structure:
    atoms = molecule("H2O", cell=PAIRS_OF_WATER if periodic else None, pbc=periodic)
    atoms.rattle(0.05, seed=1)
    return Structure.from_atoms(atoms)


def methanol() -> Structure:
    atoms = molecule("CH3OH")
    atoms.rattle(0.03, seed=1)
    return Structure.from_atoms(atoms)


def salt() -> Structure:
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.rattle(0.08, seed=2)
    return Structure.from_atoms(atoms)


def copper(n_atoms: int | None = None) -> Structure:
    atoms = bulk("Cu", "fcc", a=3.7, cubic=True)
    atoms.rattle(0.08, seed=2)
    structure = Structure.from_atoms(atoms)
    if n_atoms is None:
        return structure
    return Structure(structure.numbers[:n_atoms], structure.positions[:n_atoms])


def mace(folder: Path, batched: bool = False) -> str:
    """A small MACE with random weights, as the file that its calculator reads."""
    from mace.modules import MACE, interaction_classes  # isort: skip - lets e3nn 0.4 load its constants
    from e3nn import o3  # isort: skip

    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    block = interaction_classes["RealAgnosticResidualInteractionBlock"]
    model = MACE(
        r_max=4.0, num_bessel=6, num_polynomial_cutoff=5, max_ell=2, interaction_cls=block,
        interaction_cls_first=block, num_interactions=2, num_elements=3, hidden_irreps=o3.Irreps("16x0e + 16x1o"),
        MLP_irreps=o3.Irreps("8x0e"), atomic_energies=np.zeros(3), avg_num_neighbors=6.0, atomic_numbers=[1, 6, 8],
        correlation=2, gate=torch.nn.functional.silu,
    )  # fmt: skip
    torch.save(model, folder / "mace.model")
    torch.set_default_dtype(torch.float32)
    if batched:
        return f"mace:{folder / 'mace.model'}"
    return f"ase:mace.calculators.MACECalculator?model_paths={folder / 'mace.model'}&device=cpu&default_dtype=float64"


def orb(kind: str) -> Potential:
    """A small Orb v3 with random weights (width 64, three layers; the published ones have 256 and five)."""
    from orb_models.forcefield import pretrained
    from orb_models.forcefield.atomic_system import SystemConfig

    from ipi_driver.potentials.orb import OrbPotential

    torch.manual_seed(0)
    model = getattr(pretrained, f"orb_v3_{kind}_architecture")(
        latent_dim=64, base_mlp_hidden_dim=256, head_mlp_hidden_dim=64, num_message_passing_steps=3,
        system_config=SystemConfig(radius=6.0, max_num_neighbors=120), device="cpu",
    )  # fmt: skip
    return OrbPotential(model, f"orb-{kind}")


def metatrain_pet(folder: Path, way: str) -> str:
    """One small PET of metatrain with random weights: exported for metatomic, imported, or converted for pet-kokkos."""
    from metatrain.pet import PET
    from metatrain.utils.architectures import get_default_hypers
    from metatrain.utils.data import DatasetInfo
    from metatrain.utils.data.target_info import get_energy_target_info

    torch.manual_seed(0)
    hypers = get_default_hypers("pet")["model"] | {
        "cutoff": 4.5, "d_pet": 64, "d_node": 128, "d_head": 64, "d_feedforward": 64, "num_heads": 4,
        "num_attention_layers": 1, "system_conditioning": way == "charged",
    }  # fmt: skip
    energy = get_energy_target_info("energy", {"quantity": "energy", "unit": "eV"})
    model = PET(hypers, DatasetInfo("angstrom", [1, 6, 8, 11, 17], {"energy": energy})).eval()
    if way == "charged":  # metatrain starts with zeros
        torch.nn.init.normal_(model.backend.system_conditioning.project[2].weight)
    path = folder / way
    if way in ("exported", "charged"):
        model.export().save(f"{path}.pt")
        return f"{path}.pt"
    torch.save(model.get_checkpoint(), f"{path}.ckpt")
    command(["import-pet", f"{path}.ckpt", str(path), *(["--kokkos"] if way == "kokkos" else [])])
    return f"pet-kokkos:{path}" if way == "kokkos" else str(path)


Maker = Callable[[Path], str | Potential]
CASES: dict[str, tuple[str, Maker, Structure, Structure]] = {
    "anisotropic": ("ase", lambda _: "anisotropic?l=1,2,3e", water(False), water(True)),
    "network: pet-water-s": ("torch", lambda _: "pet-water-s", water(False), water(True)),
    "sum: pet-water-s + anisotropic": (
        "torch",
        lambda _: "sum:pet-water-s+anisotropic",
        water(False),
        water(True),
    ),
    "committee of two PET": (
        "torch",
        lambda _: "committee:pet-water-s,pet-water-m",
        water(False),
        water(True),
    ),
    "metatomic: PET of metatrain": ("metatrain", partial(metatrain_pet, way="exported"), methanol(), salt()),
    "metatomic: PET with charge and spin": (
        "metatrain",
        partial(metatrain_pet, way="charged"),
        methanol(),
        salt(),
    ),
    "network: the same PET, imported": (
        "metatrain",
        partial(metatrain_pet, way="imported"),
        methanol(),
        salt(),
    ),
    "pet-kokkos: the same PET": ("pet_kokkos", partial(metatrain_pet, way="kokkos"), methanol(), salt()),
    "ase: EMT": ("ase", lambda _: "ase:ase.calculators.emt.EMT", copper(3), copper()),
    "chgnet": ("chgnet", lambda _: "chgnet:", methanol(), salt()),
    "ase: CHGNet": (
        "chgnet",
        lambda _: "ase:chgnet.model.dynamics.CHGNetCalculator?use_device=cpu",
        salt(),
        salt(),
    ),
    "ase: SevenNet-0": (
        "sevenn",
        lambda _: "ase:sevenn.calculator.SevenNetCalculator?model=7net-0&device=cpu",
        methanol(),
        salt(),
    ),
    "orb: conservative": ("orb_models", lambda _: orb("conservative"), methanol(), salt()),
    "orb: direct": ("orb_models", lambda _: orb("direct"), methanol(), salt()),
    "ase: MACE": ("mace", mace, methanol(), replace(water(True))),
    "mace": ("mace", lambda folder: mace(folder, batched=True), methanol(), replace(water(True))),
}


def milliseconds(function: Callable[[Structure], object], structure: Structure, repeats: int) -> float:
    """Least CPU time of one call."""
    rng = np.random.default_rng(0)
    best = spent = np.inf
    k = 0
    while k <= repeats or spent < 0.3:  # the first call warms up
        moved = replace(
            structure, positions=structure.positions + 1e-4 * rng.standard_normal((structure.n_atoms, 3))
        )
        start = time.process_time()
        function(moved)
        elapsed = time.process_time() - start
        best, spent, k = (min(best, elapsed), spent + elapsed, k + 1) if k else (best, 0.0, 1)
    return 1e3 * best


def contract(potential: Potential, structures: tuple[Structure, ...]) -> str:
    """ "kept", or the checks that failed."""
    failed: list[str] = []
    for structure in structures:
        try:
            check_potential(potential, structure, 1e-3, 3e-2)
        except ConformanceError as error:
            failed += [part.split(":")[-2].strip() for part in str(error).split(";")]
    return ", ".join(dict.fromkeys(failed)) or "kept"


def batches(potential: Potential, structure: Structure, repeats: int) -> tuple[float, float, float]:
    """One raw evaluation, ms; the 24 rotations of Th together over it; one by one over together."""
    rotations = quadrature("Th").rotations
    one = milliseconds(potential.predict, structure, repeats)
    chunks = RotationChunks(potential)
    many = milliseconds(lambda s: chunks.evaluate(s, rotations), structure, repeats)
    loop = milliseconds(lambda s: [potential.predict(s.rotated(r)) for r in rotations], structure, 1)
    return one, many / one, loop / many


def repeated(crystal: Structure) -> Structure:
    """54 or 64 atoms."""
    times = (2, 2, 2) if crystal.n_atoms == 8 else (4, 2, 2) if crystal.n_atoms == 4 else (3, 3, 2)
    return Structure.from_atoms(crystal.to_atoms().repeat(times))


def row(potential: Potential, gas: Structure, crystal: Structure, repeats: int) -> dict[str, object]:
    """One line of the table."""
    average = RotationalAverage(potential, "Th")
    result = average.predict(crystal)
    raw = potential.predict(crystal)
    virial = None
    if raw.virial is not None and result.virial is not None:
        virial = 1e3 * float(np.abs(raw.virial - result.virial).max())
    one, many, loop = batches(potential, gas, repeats)
    _, many_of_60, loop_of_60 = batches(potential, repeated(crystal), 1)
    found = ipi_driver.check(potential, gas, averages=["i", "D2", "T", "Th"], max_degree=2)
    conditions = potential.conditions
    return {
        "contract": contract(potential, (gas, crystal)),
        "raw - Th, forces": 1e3 * float(np.abs(raw.forces - result.forces).max()),
        "raw - Th, virial": virial,
        "charge": "as the code" if conditions is None else ", ".join(conditions) or "no",
        "raw, ms": one,
        "24 / 1": many,
        "loop / 24": loop,
        "60 atoms: 24 / 1": many_of_60,
        "60 atoms: loop / 24": loop_of_60,
        "check": found.recommendation.average,
        "left, meV/Å": 1e3 * found.recommendation.force_mae,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="*", help="only those whose name contains one of these")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, help="without ending")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    kept = Path(f"{args.output}.json") if args.output else None
    rows = json.loads(kept.read_text()) if kept is not None and kept.is_file() else {}
    with tempfile.TemporaryDirectory() as name:
        for kind, (package, spec, gas, crystal) in CASES.items():
            wanted = not args.kinds or any(word in kind for word in args.kinds)
            if not wanted or importlib.util.find_spec(package) is None:
                continue
            made = spec(Path(name))
            potential = made if isinstance(made, Potential) else load_potential(made)
            rows[kind] = row(potential, gas, crystal, args.repeats)
            print(kind, rows[kind], flush=True)
            if kept is not None:
                kept.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
                kept.with_suffix(".md").write_text(table(rows))
    print(table(rows))


def table(rows: dict[str, dict[str, object]]) -> str:
    """As Markdown."""
    columns = list(max(rows.values(), key=len))
    lines = [f"| kind | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for kind, values in rows.items():
        cells = [
            f"{v:.3g}" if isinstance(v, float) else "none" if v is None else str(v)
            for v in (values.get(column, "") for column in columns)
        ]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
