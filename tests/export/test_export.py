"""Exported networks in other codes: metatomic's ASE calculator, i-PI's metatomic driver and our own metatomic kind."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
import torch
from ipi.utils.units import unit_to_internal
from metatomic_charged import export_charged
from metatomic_pairs import export_pairs
from random_structures import random_structure

from ipi_driver.cli import main
from ipi_driver.errors import UserError
from ipi_driver.neighbors import NeighborList
from ipi_driver.networks.baseline import Baseline
from ipi_driver.networks.graph import build_graph
from ipi_driver.networks.kinds import build_network, network_config
from ipi_driver.networks.storage import save_model
from ipi_driver.potentials import load_potential
from ipi_driver.potentials.metatomic import MetatomicPotential
from ipi_driver.potentials.network import NetworkPotential
from ipi_driver.potentials.testing import check_potential
from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.rotations.quadrature import quadrature
from ipi_driver.structure import Prediction, Structure

pytest.importorskip("metatomic.torch")
from metatensor.torch import Labels
from metatomic.torch import ModelEvaluationOptions, ModelOutput, load_atomistic_model

from ipi_driver.export import export_model

PET = {"kind": "pet", "d_model": 16, "n_heads": 2, "d_feedforward": 16, "d_head": 8, "n_gnn_layers": 2}
METATRAIN = {"kind": "metatrain-pet", "d_model": 16, "n_heads": 2, "d_node": 24, "d_head": 8}
KINDS = {
    "pet": PET,
    "pet-angles": {**PET, "radial_basis": 5, "angular_basis": 3, "cartesian": False},
    "pet-pre": {**PET, "norm": "pre", "radial_basis": 5, "blend_neighbor_species": True},
    "metatrain": METATRAIN,
    "adaptive": {**METATRAIN, "adaptive_neighbors": 3.0, "featurizer": "residual"},
    "grid": {**METATRAIN, "adaptive_neighbors": 3.0, "adaptive_method": "grid", "norm": "post"},
    "e3nn": {"kind": "e3nn", "channels": 8, "product_channels": 4, "d_radial": 8},
    "relaxed": {"kind": "e3nn", "channels": 8, "product_channels": 4, "relaxed": {"l_max": 1}},
}
STRUCTURES = {
    "isolated": random_structure(n=7, pbc=False, seed=4),
    "triclinic": random_structure(n=9, seed=1),
    "small-cell": random_structure(n=3, box=2.6),
    "atom": Structure([8], [[0.0, 0.0, 0.0]]),
}
"""The second cell is smaller than the cutoff: an atom is a neighbor of its own images."""
RELATIVE = {"float32": 1e-5, "float64": 1e-10}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and metatomic made of it
        yield


def random_potential(kind: str = "pet", dtype: str = "float64", baseline: str = "none") -> NetworkPotential:
    """A network with random weights, also of what starts at zero, and a baseline."""
    torch.manual_seed(3)
    network = build_network(network_config({"cutoff": 3.4, **KINDS[kind]}, (1, 8))).double()
    with torch.no_grad():
        for name, weights in network.named_parameters():
            if weights.ndim == 1:
                weights += (1.0 if "theta" in name else 0.1) * torch.randn_like(weights)
    rng = np.random.default_rng(5)
    return NetworkPotential(
        network,
        Baseline(
            (1, 8),
            np.array([-3.0, -11.0]),
            3.4,
            rng.normal(size=(3, 6)) if baseline == "fitted" else None,
            baseline == "covalent",
        ),
        dtype=dtype,
    )


def atoms_of(structure: Structure) -> ase.Atoms:
    return ase.Atoms(
        numbers=structure.numbers, positions=structure.positions, cell=structure.cell, pbc=structure.pbc
    )


def assert_equal(
    expected: Prediction, energy: float, forces: np.ndarray, virial: np.ndarray, rel: float
) -> None:
    """Equal relative to the largest of each quantity; all terms of the energies are of the order of 1 eV."""
    assert energy == pytest.approx(expected.energy, rel=rel)
    assert expected.virial is not None
    np.testing.assert_allclose(forces, expected.forces, atol=rel * max(1.0, np.abs(expected.forces).max()))
    np.testing.assert_allclose(virial, expected.virial, atol=rel * max(1.0, np.abs(expected.virial).max()))


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_of_network_averaged(kind: str, tmp_path: Path) -> None:
    potential = random_potential(kind, baseline="covalent" if kind == "adaptive" else "fitted")
    export_model(potential, tmp_path / "model.pt", quadrature("T"))
    again = load_potential(str(tmp_path / "model.pt"))
    assert isinstance(again, MetatomicPotential)
    devices = again.model.capabilities().supported_devices
    assert devices == (["cpu"] if kind == "grid" else ["cuda", "cpu"])
    for structure in STRUCTURES.values():
        got, expected = again.predict(structure), RotationalAverage(potential, "T").predict(structure)
        assert got.virial is not None
        assert_equal(expected, got.energy, got.forces, got.virial, 1e-10)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Files of one network by average and precision; the averaged one needs several chunks of rotations."""
    folder = tmp_path_factory.mktemp("exported")
    files = {(a, d): folder / f"{a}-{d}.pt" for a in ("none", "Th") for d in ("float32", "float64")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for (average, dtype), file in files.items():
            export_model(random_potential(dtype=dtype, baseline="fitted"), file, quadrature(average))
    return files


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("average", ["none", "Th"])
def test_ase_calculator_of_metatomic(exported: dict[tuple[str, str], Path], average: str, dtype: str) -> None:
    metatomic_ase = pytest.importorskip("metatomic_ase")
    calculator = metatomic_ase.MetatomicCalculator(str(exported[average, dtype]), check_consistency=True)
    ours = RotationalAverage(random_potential(dtype=dtype, baseline="fitted"), average)
    with torch.jit.optimized_execution(False):
        for name in ("isolated", "triclinic"):
            structure = STRUCTURES[name]
            atoms, expected = atoms_of(structure), ours.predict(structure)
            atoms.calc = calculator
            energy, forces = atoms.get_potential_energy(), atoms.get_forces()
            assert expected.virial is not None
            virial = expected.virial
            if structure.periodic:
                virial = -structure.volume * atoms.get_stress(voigt=False)
                # ASE's stress is symmetric
                expected = replace(expected, virial=0.5 * (expected.virial + expected.virial.T))
            assert_equal(expected, energy, forces, virial, RELATIVE[dtype])


@pytest.mark.parametrize("average", ["none", "Th"])
def test_metatomic_driver_of_ipi(exported: dict[tuple[str, str], Path], average: str, tmp_path: Path) -> None:
    pytest.importorskip("vesin.metatomic")
    from ipi.pes.metatomic import MetatomicDriver

    structure = STRUCTURES["triclinic"]
    # i-PI wants an upper triangular matrix of column vectors
    lower = np.linalg.qr(structure.cell.T)[1].T
    lower *= np.sign(np.diag(lower))[:, None]
    turn = np.linalg.solve(structure.cell, lower)
    structure = Structure(structure.numbers, structure.positions @ turn, lower, structure.pbc)
    ase.io.write(tmp_path / "template.xyz", atoms_of(structure))
    driver = MetatomicDriver(str(tmp_path / "template.xyz"), str(exported[average, "float64"]))
    bohr, hartree, force = (
        unit_to_internal(*unit, 1.0)
        for unit in (("length", "angstrom"), ("energy", "electronvolt"), ("force", "ev/ang"))
    )
    with torch.jit.optimized_execution(False):
        energy, forces, virial, _ = driver(lower.T * bohr, structure.positions * bohr)
    expected = RotationalAverage(random_potential(baseline="fitted"), average).predict(structure)
    assert expected.virial is not None
    expected = replace(expected, virial=0.5 * (expected.virial + expected.virial.T))
    virial = np.asarray(virial) / hartree
    assert_equal(expected, energy / hartree, np.asarray(forces) / force, 0.5 * (virial + virial.T), 1e-10)


def test_conformance_of_the_averaged_model(exported: dict[tuple[str, str], Path]) -> None:
    potential = load_potential(str(exported["Th", "float64"]))
    check_potential(potential, STRUCTURES["isolated"])


@pytest.mark.parametrize("made_of", ["network", "exported-model"])
def test_atomic_energies_and_domains(
    exported: dict[tuple[str, str], Path], made_of: str, tmp_path: Path
) -> None:
    """Atomic energies sum to the energy, derivatives of each included; selected atoms count alone, in two systems."""
    from ipi_driver.potentials.metatomic_systems import Systems

    file = exported["Th", "float64"]
    if made_of == "exported-model":
        potential = load_potential(str(exported["none", "float64"]))
        assert isinstance(potential, MetatomicPotential)
        file = tmp_path / "averaged.pt"
        export_model(potential, file, quadrature("T"))
    model = load_atomistic_model(str(file))
    structures = [STRUCTURES["triclinic"], STRUCTURES["isolated"]]
    maker = Systems(model.requested_neighbor_lists(), (), torch.float64, "cpu")

    def outcome(kind: str, selected: list[list[int]] | None, weights: slice) -> list[torch.Tensor]:
        systems, leaves = [], []
        for structure in structures:
            system, found = maker.system(structure, np.eye(3), maker.pairs(structure))
            systems.append(system)
            leaves += found
        options = ModelEvaluationOptions(
            length_unit="angstrom",
            outputs={"energy": ModelOutput(unit="eV", sample_kind=kind)},
            selected_atoms=None if selected is None else Labels(["system", "atom"], torch.tensor(selected)),
        )
        with torch.jit.optimized_execution(False):
            values = model(systems, options, check_consistency=True)["energy"].block().values[:, 0]
        return [values.detach(), *torch.autograd.grad(values[weights].sum(), leaves)]

    everything = slice(None)
    total, atomic = outcome("system", None, everything), outcome("atom", None, everything)
    n = structures[0].n_atoms
    torch.testing.assert_close(total[0], torch.stack([atomic[0][:n].sum(), atomic[0][n:].sum()]))
    chosen = [[0, 1], [0, 4], [1, 0], [1, 2]]
    places = slice(0, 2)  # of the first system
    some, part = outcome("system", chosen, slice(0, 1)), outcome("atom", chosen, places)
    torch.testing.assert_close(some[0][0], atomic[0][[1, 4]].sum())
    torch.testing.assert_close(some[0][1], atomic[0][[n, n + 2]].sum())
    for one, other in zip(total[1:], atomic[1:], strict=True):
        torch.testing.assert_close(one, other)
    for one, other in zip(some[1:], part[1:], strict=True):
        torch.testing.assert_close(one, other)
    assert part[1].abs().max() > 1e-3
    assert part[3].abs().max() == 0.0  # positions of the second system, which does not count


@pytest.mark.parametrize("average", ["none", "Th"])
def test_a_domain_without_atoms(exported: dict[tuple[str, str], Path], average: str) -> None:
    """As a process of LAMMPS may have in a box with vacuum: no energy, and derivatives that can be asked for."""
    found = load_potential(str(exported[average, "float64"])).predict(Structure([], np.zeros((0, 3))))
    assert (found.energy, found.forces.shape) == (0.0, (0, 3))


@pytest.mark.parametrize("kind", ["pet", "metatrain", "adaptive", "e3nn"])
def test_interaction_range(kind: str) -> None:
    """In a chain, atoms beyond the range change nothing at its end, those of the last cutoff before it do."""
    network = random_potential(kind).network
    chain = np.zeros((12, 3))
    chain[:, 0] = 1.6 * np.arange(12)
    numbers = np.resize([8, 1], 12)
    reach = network.interaction_range
    assert reach < chain[-2, 0]

    def first_energy(moved: np.ndarray) -> float:
        positions = chain.copy()
        positions[moved] += np.random.default_rng(0).uniform(-0.1, 0.1, (moved.sum(), 3))
        edges = NeighborList(3.4, 0.0).edges(Structure(numbers, positions))
        graph = build_graph([(numbers == 8).astype(np.int64)], [edges])
        atomic, bonds = network(torch.from_numpy(edges.vectors), graph)
        return float(atomic[0] + bonds[graph.centers == 0].sum())

    still = first_energy(np.zeros(12, dtype=bool))
    assert first_energy(chain[:, 0] > reach) == pytest.approx(still, abs=1e-12)
    inside = (chain[:, 0] < reach) & (chain[:, 0] > reach - 3.4)
    if kind != "adaptive":  # whose cutoffs are shorter where there are neighbors
        assert abs(first_energy(inside) - still) > 1e-10


@pytest.mark.parametrize("full", [True, False], ids=["full-lists", "half-lists"])
def test_an_exported_model_is_given_an_average(
    exported: dict[tuple[str, str], Path], full: bool, tmp_path: Path
) -> None:
    raw = exported["none", "float64"] if full else export_pairs(tmp_path / "pairs.pt")
    potential = load_potential(str(raw))
    assert isinstance(potential, MetatomicPotential)
    export_model(potential, tmp_path / "averaged.pt", quadrature("Th"))
    again = load_potential(str(tmp_path / "averaged.pt"))
    structures = [STRUCTURES["triclinic"], STRUCTURES["isolated"]]
    together = again.evaluate(structures, np.eye(3)[None])  # two systems of different size in one call
    for k, structure in enumerate(structures):
        got, expected = together.prediction(0, k), RotationalAverage(potential, "Th").predict(structure)
        assert got.virial is not None
        assert_equal(expected, got.energy, got.forces, got.virial, 1e-10)


def test_an_averaged_model_far_from_the_origin(exported: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    """Single precision of positions far away, as of atoms that are not wrapped, is not that of the edges."""
    potential = load_potential(str(exported["none", "float32"]))
    assert isinstance(potential, MetatomicPotential)
    export_model(potential, tmp_path / "averaged.pt", quadrature("D2"))
    averaged, near = load_potential(str(tmp_path / "averaged.pt")), STRUCTURES["isolated"]
    far = replace(near, positions=near.positions + 3000.0)
    for model in (potential, averaged):
        np.testing.assert_allclose(model.predict(far).forces, model.predict(near).forces, atol=1e-4)


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    for average in ("random", "random-T", "ecse"):
        with pytest.raises(UserError, match="fixed grid of rotations"):
            export_model(random_potential(), tmp_path / "model.pt", quadrature(average))
    with pytest.raises(UserError, match=r"lies in .*missing, which is no folder; make it first"):
        export_model(random_potential(), tmp_path / "missing" / "model.pt", quadrature("none"))
    assert not list(tmp_path.iterdir())


def test_nothing_of_an_exported_model_is_dropped_silently(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Charge and spin would not be asked for any more; other outputs are named."""
    charged = load_potential(str(export_charged(tmp_path / "charged.pt")))
    assert isinstance(charged, MetatomicPotential)
    with pytest.raises(UserError, match="depends on charge and spin"):
        export_model(charged, tmp_path / "averaged.pt", quadrature("Th"))
    pairs = export_pairs(tmp_path / "pairs.pt", others=("mtt::dipole",))
    assert main(["export", str(pairs), str(tmp_path / "averaged.pt"), "--average", "T"]) == 0
    assert "the energy alone: mtt::dipole" in capsys.readouterr().err


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    potential = random_potential()
    save_model(tmp_path / "mine", potential.network, potential.baseline)
    out = tmp_path / "mine-T.pt"
    arguments = ["export", str(tmp_path / "mine"), str(out), "--average", "T"]
    assert main(arguments) == 0
    assert "12 rotations inside" in capsys.readouterr().out
    assert main(arguments) == 2
    assert "--force" in capsys.readouterr().err
    for model, message in ((str(out), "is exported already"), ("anisotropic", "only networks")):
        assert main(["export", model, str(tmp_path / "again.pt")]) == 2
        assert message in capsys.readouterr().err
    assert set(tmp_path.iterdir()) == {tmp_path / "mine", out}
