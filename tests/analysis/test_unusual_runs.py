"""Runs with fixed atoms, several kinds of molecules, changing strides, symmetric molecules: right, or left out."""

import re
import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
import synthetic
from ase import Atoms
from ase.build import molecule
from scipy.spatial.transform import Rotation

from ipi_driver.analysis.common import spread_out
from ipi_driver.analysis.dispatch import analyze_folders
from ipi_driver.analysis.pair_curves import add_first_maximum
from ipi_driver.analysis.result import Analysis, Curve, Options
from ipi_driver.analysis.run_statistics import n_molecules
from ipi_driver.ipi_files import Run
from ipi_driver.observables.intramolecular import InternalCoordinates
from ipi_driver.observables.molecules import find_molecules
from ipi_driver.potentials.anisotropic import AnisotropicPotential
from ipi_driver.potentials.base import Potential
from ipi_driver.report.conclusion import conclusion_of
from ipi_driver.report.figures import draw_curves
from ipi_driver.report.layouts import layouts_of
from ipi_driver.rotations import quadratures
from ipi_driver.structure import RotatedResults, Structure
from ipi_driver.units import DALTON, KB


@pytest.fixture(scope="module")
def liquid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.liquid(tmp_path_factory.mktemp("runs") / "liquid", 0)


def analyze(folder: Path, **options: object) -> Analysis:
    (analysis,) = analyze_folders([folder], Options(**({"longest_lag": 2.0, "pair_snapshots": 50} | options)))
    return analysis


def said(analysis: Analysis, *words: str) -> bool:
    return any(all(word in note for word in words) for note in analysis.notes)


def many(name: str, folder: Path, n_snapshots: int = 60, noise: float = 0.0) -> Path:
    """27 molecules of a kind in a cubic cell of 15 Å, turned at random in every snapshot."""
    atoms = molecule(name)
    rng = np.random.default_rng(3)
    grid = 5.0 * np.array(np.unravel_index(np.arange(27), (3, 3, 3))).T
    snapshots = []
    for _ in range(n_snapshots):
        turned = np.einsum("mxy,ky->mkx", Rotation.random(27, rng=rng).as_matrix(), atoms.positions)
        snapshots.append((grid[:, None] + turned + noise * rng.normal(size=turned.shape)).reshape(-1, 3))
    symbols = list(atoms.get_chemical_symbols()) * 27
    return synthetic.write_run(
        folder, {"pos": snapshots}, 100, np.zeros((n_snapshots, 2)), length=15.0, symbols=symbols
    )


@pytest.mark.parametrize("held", ["fixatoms", "fixatoms_dof"])
def test_temperature_of_the_atoms_that_move(tmp_path: Path, held: str) -> None:
    rng = np.random.default_rng(1)
    masses, n = np.tile(synthetic.MASSES, 8), 24
    positions = (
        4.0 * np.array(np.unravel_index(np.arange(8), (2, 2, 2))).T[:, None] + synthetic.WATER
    ).reshape(-1, 3)
    velocities = rng.normal(size=(600, n, 3)) * np.sqrt(KB * 300.0 / (DALTON * masses))[:, None]
    velocities[:, :12] = 0.0
    trajectory = {"pos": [positions] * 600, "vel": list(velocities)}
    folder = synthetic.write_run(tmp_path / "wall", trajectory, 100, np.zeros((600, 2)), length=8.0)
    indices = list(range(12)) if held == "fixatoms" else list(range(36))
    xml = folder / "input.xml"
    xml.write_text(xml.read_text().replace("<dynamics mode", f"<{held}> {indices} </{held}> <dynamics mode"))
    analysis = analyze(folder)
    for element in "OH":
        scalar = analysis.scalars[f"temperature_{element}"]
        assert abs(scalar.value - 300.0) < 4.5 * scalar.error
        assert scalar.error < 15.0
    assert said(analysis, "12 atoms that are free to move")
    xml.write_text(xml.read_text().replace(str(indices), "[ 0, 1 ]").replace("fixatoms>", "fixatoms_dof>"))
    assert said(analyze(folder), "kinetic temperature left out", "single coordinates")


def test_an_isolated_cluster_is_no_liquid_in_the_box_around_it(tmp_path: Path) -> None:
    """i-PI writes a cell for it, too; images in it, and the density in it, are nobody's."""
    folder = many("H2O", tmp_path / "cluster")
    assert "g_OO" in analyze(folder).curves
    (folder / "driver.yaml").write_text("model: m\nendpoints: [{unix: a}]\npbc: false\n")
    analysis = analyze(folder)
    assert not {key for key in analysis.curves if key.startswith(("g_", "cuu_", "msd"))}
    assert not {key for key in analysis.scalars if key.startswith(("g_", "diffusion"))}
    assert "bond_OH" in analysis.scalars
    assert analysis.structure is not None
    assert not analysis.structure.periodic
    assert said(analysis, "isolated cluster", "left out")
    (folder / "driver.yaml").write_text("model: m\nendpoints: [{unix: a}]\nstructure: start.extxyz\n")
    (folder / "start.extxyz").write_text('1\nProperties=species:S:1:pos:R:3 pbc="F F F"\nO 0.0 0.0 0.0\n')
    assert not {key for key in analyze(folder).curves if key.startswith("g_")}


def test_molecules_of_an_isolated_cluster_are_not_joined_through_its_box(tmp_path: Path) -> None:
    """A cluster wider than the 30 Å that i-PI is given: atoms 30 Å apart touch in the box alone."""
    water = molecule("H2O").positions
    positions = np.concatenate([water, water + [15.0, 0.0, 0.0], water + [31.4, 0.0, 0.0]])
    folder = synthetic.write_run(
        tmp_path / "long", {"pos": [positions] * 3}, 100, np.zeros((3, 2)), length=30.0
    )
    (folder / "driver.yaml").write_text("model: m\nendpoints: [{unix: a}]\npbc: false\n")
    assert n_molecules(Run(folder)) == 3


def test_snapshots_are_taken_from_all_of_a_run(tmp_path: Path) -> None:
    """Also of a run that has not a multiple of what is asked for: not the first of them alone."""
    run = Run(many("H2O", tmp_path / "run", n_snapshots=59))  # every 50 fs
    steps = [snapshot.step for snapshot in spread_out(run, 0.0, 30)]
    assert len(steps) == 30
    assert (steps[0], steps[-1]) == (0, 5800)
    steps = [snapshot.step for snapshot in spread_out(run, 2.0, 10)]
    assert len(steps) == 10
    assert (steps[0], steps[-1]) == (4000, 5800)
    assert np.diff(steps).max() <= 300


def test_bonds_of_molecules_whose_atoms_stand_in_another_order(tmp_path: Path) -> None:
    """The hydrogen of OH first, or last: no bond is measured between atoms that are not bonded."""
    methanol = molecule("CH3OH")  # C O H H H H
    (of_oxygen,) = (k for k in range(2, 6) if methanol.get_distance(1, k) < 1.1)
    rest = [k for k in range(2, 6) if k != of_oxygen]
    orders = [[0, 1, of_oxygen, *rest], [0, 1, *rest, of_oxygen]]
    positions = np.concatenate(
        [methanol.positions[order] + [5.0 * k, 0.0, 0.0] for k, order in enumerate(orders)]
    )
    found = find_molecules(Structure(np.array([6, 8, 1, 1, 1, 1] * 2), positions))
    internal = InternalCoordinates(found)
    for _ in range(60):
        internal.add(found.whole(positions, np.zeros((3, 3))))
    expected = {
        "C–O": methanol.get_distance(0, 1),
        "O–H": methanol.get_distance(1, of_oxygen),
        "C–H": np.mean([methanol.get_distance(0, k) for k in rest]),
    }
    lengths = {frozenset(name.split("–")): bond.result(1.0)[1].value for name, bond in internal.bonds.items()}
    assert lengths == {frozenset(n.split("–")): pytest.approx(length) for n, length in expected.items()}


def test_a_dimer_with_a_long_bond_is_analyzed_without_it(tmp_path: Path) -> None:
    positions = np.array([[0.0, 0.0, 0.0], [3.2, 0.0, 0.0]])
    folder = synthetic.write_run(
        tmp_path / "Na2", {"pos": [positions] * 80}, 100, np.zeros((80, 2)), length=30.0, symbols=["Na", "Na"]
    )
    assert said(analyze(folder), "bonds and angles left out", "longer than 3 Å")


class Charged(Potential):
    """An anisotropic potential times one plus the charge of the structure."""

    name = "charged"
    conditions = ("charge",)

    def _evaluate(self, structures: list[Structure], rotations: np.ndarray) -> RotatedResults:
        found = AnisotropicPotential().evaluate(structures, rotations)
        factors = [1.0 + (structure.charge or 0.0) for structure in structures]
        energies = found.energies * np.array(factors)[:, None]
        return RotatedResults(
            energies, tuple(f * x for f, x in zip(found.forces, factors, strict=True)), None
        )


def test_a_model_of_the_analysis_gets_the_charge_of_the_run(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    turns = Rotation.random(40, rng=rng).as_matrix()
    positions = list(np.einsum("txy,ky->tkx", turns, synthetic.WATER))
    folder = synthetic.write_run(tmp_path / "gas", {"pos": positions}, 10, np.zeros((40, 2)), length=30.0)
    found = []
    for more in ("", "charge: 2\n", "structure: start.extxyz\n"):
        (folder / "driver.yaml").write_text(f"model: m\nendpoints: [{{unix: a}}]\n{more}")
        (folder / "start.extxyz").write_text(
            '1\nProperties=species:S:1:pos:R:3 charge=-1 pbc="F F F"\nO 0.0 0.0 0.0\n'
        )
        analysis = analyze(folder, model=Charged(), averages=quadratures(["none"]))
        found.append([analysis.scalars[key].value for key in ("torque_none", "orientation_highest")])
    neutral, cation, anion = found
    assert cation[0] == pytest.approx(3.0 * neutral[0])
    assert cation[1] > 1.5 * neutral[1] > 0.0
    assert anion == pytest.approx([0.0, 0.0], abs=1e-9)


def test_relaxation_energy_of_a_mixture_is_that_of_all_its_molecules(tmp_path: Path) -> None:
    water, dioxide = molecule("H2O"), molecule("CO2")
    kinds = [dioxide, water, water, water]
    positions = np.concatenate([kind.positions + [4.0 * k, 0.0, 0.0] for k, kind in enumerate(kinds)])
    symbols = [symbol for kind in kinds for symbol in kind.get_chemical_symbols()]
    energies = np.array([[0.0, -80.0], [0.0, -81.0]])
    for name in "ab":
        synthetic.write_run(
            tmp_path / "set" / name,
            {"pos": [positions, positions]},
            1,
            energies,
            length=16.0,
            symbols=symbols,
            motion="minimize",
        )
    assert analyze(tmp_path / "set").scalars["ice_gain"].value == pytest.approx(-1e3 / 4)


def test_rows_that_change_their_stride_are_no_series(liquid: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(liquid, tmp_path / "strides"))
    path = folder / "simulation.out"
    lines = path.read_text().splitlines(keepends=True)
    header, rows = lines[:4], lines[4:]
    path.write_text("".join(header + rows[:400] + rows[400::20]))
    analysis = analyze(folder)
    assert "drift" not in analysis.scalars
    assert said(analysis, "drift left out", "200 steps apart in one part and 4000 in another")
    # rows that a crash tore out here and there are no other stride
    path.write_text("".join(header + rows[:300] + rows[301:]))
    assert analyze(folder).scalars["drift"].value == pytest.approx(5.0, rel=1e-3)


def test_a_run_that_goes_on_from_a_checkpoint_writes_no_header(liquid: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(liquid, tmp_path / "continued"))
    path = folder / "simulation.out"
    whole = analyze(liquid).scalars["drift"]
    path.write_text("".join(path.read_text().splitlines(keepends=True)[4:]))
    assert analyze(folder).scalars["drift"].value == pytest.approx(whole.value, rel=1e-9)
    xml = folder / "input.xml"
    xml.write_text(xml.read_text().replace("[ step,", "[ step, volume,"))
    assert said(analyze(folder), "drift left out", "not the 5 columns that the input names")


def test_no_relaxation_time_of_what_has_relaxed(tmp_path: Path) -> None:
    fast = synthetic.liquid(tmp_path / "fast", 5, n_snapshots=400, spread=1.2)
    analysis = analyze(fast, fit_start=1.0)
    assert "relaxation" not in analysis.scalars
    assert said(analysis, "dipole autocorrelation left out", "it has decayed before")
    assert analysis.curves["dipole_single"].y[0] == pytest.approx(1.0)


def test_maximum_of_a_pair_correlation_is_that_between_molecules(tmp_path: Path) -> None:
    analysis = analyze(many("CO2", tmp_path / "dioxide", noise=0.02))
    # neighbors are 5 Å apart, O=C=O 2.34 Å
    within = analysis.curves["g_OO"]
    assert within.y[np.abs(within.x - 2.34).argmin()] > 5.0
    assert analysis.scalars["g_OO_place"].value > 3.0
    assert within.scale_from == pytest.approx(1.1 * 2.36 + 0.3, abs=0.15)
    x = np.arange(2.0, 4.0, 0.05)
    empty = Analysis("a", "liquid", "a", "", {})
    add_first_maximum(
        empty, Curve(x, 3.0 - 10.0 * (x - 2.83) ** 2, np.ones_like(x), "", "g"), "g_OO", "g(O–O)"
    )
    assert empty.scalars["g_OO_place"].value == pytest.approx(2.83)
    assert empty.scalars["g_OO_height"].value == pytest.approx(3.0)


def test_no_orientation_where_symmetry_leaves_none(tmp_path: Path) -> None:
    liquid = many("CH4", tmp_path / "methane", noise=0.02)
    analysis = analyze(liquid)
    assert said(analysis, "no orientations", "vector of CH4 vanishes by symmetry", "--vector")
    assert "roughness" not in analysis.scalars
    assert "cuu_longitudinal" not in analysis.curves
    assert "g_CC" in analysis.curves
    atoms = molecule("CH4")
    symbols = atoms.get_chemical_symbols()
    alone = synthetic.write_run(
        tmp_path / "alone",
        {"pos": [atoms.positions] * 50},
        1,
        np.zeros((50, 2)),
        length=20.0,
        symbols=symbols,
    )
    assert said(analyze(alone), "orientational free energy left out", "vanishes by symmetry")


def test_a_velocity_file_without_a_snapshot_costs_its_quantities_alone(liquid: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(liquid, tmp_path / "empty"))
    (folder / "simulation.vel_0.xyz").write_text("")
    analysis = analyze(folder)
    assert "temperature_O" not in analysis.scalars
    assert said(analysis, "kinetic temperature left out", "no complete snapshot")
    assert "diffusion" in analysis.scalars


def test_angular_momentum_in_hbar_at_the_times_of_the_run(tmp_path: Path) -> None:
    folder = synthetic.precessing(tmp_path / "still", rate=0.0, n_snapshots=300)
    analysis = analyze(folder, skip=0.5)
    arms = synthetic.WATER - synthetic.MASSES @ synthetic.WATER / synthetic.MASSES.sum()
    # about the normal of the plane, in SI units
    inertia = float((synthetic.MASSES * (arms**2).sum(axis=1)).sum()) * 1.66053906660e-27 * 1e-20
    assert analysis.curves["L"].y[0] == pytest.approx(inertia * 0.05e15 / 1.054571817e-34, rel=1e-3)
    assert analysis.curves["L"].x[0] == pytest.approx(0.5)
    # the same run, its steps counted on from a checkpoint
    for name in ("pos", "vel"):
        path = folder / f"simulation.{name}_0.xyz"
        text = path.read_text()
        path.write_text(re.sub(r"Step: +(\d+)", lambda step: f"Step: {int(step[1]) + 4000}", text))
    assert analyze(folder).curves["L"].x[0] == pytest.approx(2.0)


def test_heating_and_conserved_quantity_per_molecule(liquid: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(liquid, tmp_path / "walk"))
    rng = np.random.default_rng(9)
    n, spacing, rate = 8000, 5.0, 2e-6  # eV/fs; 62.5 meV per ns and each of 32 molecules
    walk = np.cumsum(rng.normal(size=n) * np.sqrt(2.0 * KB * 300.0 * rate * spacing))
    energies = -1000.0 + walk + rate * spacing * np.arange(n)
    header = folder.joinpath("simulation.out").read_text().splitlines()[:4]
    rows = [f"{10 * k:.8e} {5e-3 * k:.8e} {e:.12e} {0.0:.8e}" for k, e in enumerate(energies)]
    folder.joinpath("simulation.out").write_text("\n".join(header + rows) + "\n")
    analysis = analyze(folder)
    implied = analysis.scalars["dissipation"]
    assert abs(implied.value - 62.5) < 4.5 * implied.error
    assert implied.error < 12.0
    level = analysis.curves["heating_spectrum"]
    assert np.median(level.y) == pytest.approx(62.5, rel=0.3)
    conserved = analysis.curves["conserved"]
    assert conserved.y[-1] == pytest.approx(
        1e3 * (np.interp(conserved.x[-1], 5e-3 * np.arange(n), energies) - energies[0]) / 32
    )


def test_block_lengths_are_times_of_the_run(liquid: Path) -> None:
    """100 ps of snapshots every 0.1 ps, of which pairs use every 16th: blocks and what they cover are in ps."""
    curve = analyze(liquid).curves["g_OO"]
    assert curve.blocks is not None
    assert curve.block_length * len(curve.blocks) == pytest.approx(80.0, rel=0.1)


def test_across_a_slab(tmp_path: Path) -> None:
    """A box of 15 Å of molecules in a cell of 60 Å; the figure is of both sides, and the density of what is there."""
    folder = many("H2O", tmp_path / "slab", noise=0.02)
    path = folder / "simulation.pos_0.xyz"
    cube = "  15.00000   15.00000   15.00000"
    assert cube in path.read_text()
    path.write_text(path.read_text().replace(cube, "  15.00000   15.00000   60.00000"))
    found = analyze(folder)
    density = found.curves["slab_density"]
    total = 1.66053906660 * 27 * 18.015 / 15.0**2
    assert density.y.sum() * (density.x[1] - density.x[0]) == pytest.approx(total, rel=1e-3)
    # three layers of 27 / 3 molecules, 5 Å apart
    for layer in (-5.0, 0.0, 5.0):
        near = np.abs(density.x - layer) < 2.5
        assert density.y[near].sum() / density.y.sum() == pytest.approx(1 / 3, abs=0.03)
    # an oxygen beside the middle of its layer belongs to a molecule that points back
    cosine = found.curves["slab_orientation"].y
    assert np.nanmax(cosine) > 0.3
    assert abs(np.nanmean(cosine)) < 0.1
    assert said(found, "a slab, with", "of vacuum along the cell vector c")
    assert "slab_density" not in analyze(many("H2O", tmp_path / "bulk")).curves
    assert not any("first maximum" in sentence for sentence in conclusion_of([found]))
    (layout,) = (layout for layout in layouts_of([found]) if layout.name == "slab")
    assert len(draw_curves(layout, [found]).axes) == 2


def test_a_slab_without_images(tmp_path: Path) -> None:
    """The cell of i-PI is tight around a structure that the model sees without images along c."""
    folder = many("H2O", tmp_path / "slab", noise=0.02)
    positions = next(iter(Run(folder).snapshots(["positions"]))).positions
    symbols = ["O", "H", "H"] * 27
    atoms = Atoms(symbols, positions, cell=[15.0, 15.0, 15.0], pbc=[True, True, False])
    ase.io.write(folder / "init.extxyz", atoms)
    (folder / "driver.yaml").write_text("model: pet-water-s\nstructure: init.extxyz\n")
    cell = next(iter(Run(folder).snapshots(["positions"]))).cell
    assert cell[:2].tolist() == [[15.0, 0.0, 0.0], [0.0, 15.0, 0.0]]
    assert cell[2, :2].tolist() == [0.0, 0.0]
    assert cell[2, 2] > 100.0
    found = analyze(folder)
    assert "slab_density" in found.curves
    assert said(found, "a slab, with no image along the cell vector c")
    # a molecule of the upper layer has no neighbor above: 5 instead of 6 at 5 Å in a lattice
    number = found.curves["g_OO"]
    volume = 15.0**2 * cell[2, 2]
    shells = (
        4 / 3 * np.pi * np.diff(np.append(number.x - 0.5 * (number.x[1] - number.x[0]), number.x[-1]) ** 3)
    )
    near = number.x < 6.0
    neighbors = (number.y * 26 / volume)[: len(shells)][near[: len(shells)]] @ shells[near[: len(shells)]]
    assert neighbors == pytest.approx((2 * 9 * 5 + 9 * 6) / 27, rel=0.05)
