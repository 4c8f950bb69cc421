"""Every average through one client and one run of i-PI, and what i-PI can print of them."""

from __future__ import annotations

import json
from xml.sax.saxutils import escape

import ase.io
import numpy as np
import pytest
from client_place import ANISOTROPIC, ffsocket, wait, water

from ipi_driver.client import ipi_plugin
from ipi_driver.ipi_files.units import BOHR, FORCE
from ipi_driver.potentials.registry import load_potential
from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.rotations.quadrature import quadrature
from ipi_driver.structure import Structure

FIXED = ["none", "i", "2", "2i", "3", "D2", "D2h", "T", "Th", "O", "Oh", "I", "Ih", "lebedev-3"]
RANDOM = ["random", "random-so3", "random-T"]


def test_all_averages_in_one_run(place):
    """The energy of each component in i-PI, against a plain loop over structures rotated one by one."""
    averages = FIXED + RANDOM
    columns = ", ".join(f"pot_component{{electronvolt}}(index={k})" for k in range(len(averages)))
    columns += ", atom_x(atom=0), atom_x(atom=1), atom_x(atom=2)"
    place.input([ffsocket(f"s-{name}") for name in averages], water(), steps=1, columns=columns)
    ipi = place.ipi()
    sockets = [word for name in averages for word in ("--unix", f"s-{name}={name}")]
    client = place.client(
        ANISOTROPIC, "--input", "input.xml", "--seed", "3", "--stats", "stats.json", *sockets
    )
    assert (wait(ipi), wait(client)) == (0, 0), place.log()

    row = place.output()[0]
    # random frames are a function of every bit of the positions: those of i-PI, not those of the file
    structure = Structure(water().numbers, row[-9:].reshape(3, 3) * BOHR)
    potential = load_potential(ANISOTROPIC)
    energies = dict(zip(averages, row[:-9], strict=True))
    for name in FIXED:
        grid = quadrature(name)
        loop = [potential.predict(structure.rotated(rotation)).energy for rotation in grid.rotations]
        assert energies[name] == pytest.approx(grid.weights @ loop, abs=1e-6), name
    for name in RANDOM:
        again = RotationalAverage(potential, name, seed=3).predict(structure).energy
        other = RotationalAverage(potential, name, seed=4).predict(structure).energy
        assert energies[name] == pytest.approx(again, abs=1e-6), name
        assert abs(energies[name] - other) > 1e-4, name
    # degree 4 is removed by I and by 3 (degrees 5 and 4), not by O: not all averages are the same number
    assert energies["I"] == pytest.approx(energies["3"], abs=1e-6)
    assert abs(energies["O"] - energies["I"]) > 1e-4

    counts = json.loads((place.folder / "stats.json").read_text())["endpoints"]
    sharing = [name for name in averages if quadrature(name).identity is not None]
    rotations = sum(counts[f"unix s-{name}"]["frames"] for name in sharing)
    # two configurations; the unrotated orientation of each is computed once for all averages that hold it
    assert rotations == 2 * (1 + sum(len(quadrature(name)) - 1 for name in sharing))


def test_multiple_time_stepping_counts_and_extras(place):
    """Averaged forces once per outer step; the spread printed by i-PI is that of the potential."""
    outputs = (
        "<trajectory stride='1' filename='extras' extra_type='n_frames,energy_spread,energy_raw,net_torque'>"
        " extras_component_raw(1) </trajectory>"
    )
    forces = (
        "<force forcefield='raw'><mts_weights>[-1, 1]</mts_weights></force>"
        "<force forcefield='averaged'><mts_weights>[1, 0]</mts_weights></force>"
    )
    motion = "<timestep units='femtosecond'>5</timestep><nmts>[1, 10]</nmts>"
    columns = "potential{electronvolt}, conserved{electronvolt}"
    place.input(
        [ffsocket("raw"), ffsocket("averaged")],
        water(), steps=4, forces=forces, motion=motion, columns=columns, outputs=outputs,
    )  # fmt: skip
    ipi = place.ipi()
    words = ["--input", "input.xml", "--unix", "raw", "--unix", "averaged=Th", "--stats", "stats.json"]
    client = place.client(ANISOTROPIC, *words)
    assert (wait(ipi), wait(client)) == (0, 0), place.log()

    stats = json.loads((place.folder / "stats.json").read_text())
    raw, averaged = stats["endpoints"]["unix raw"], stats["endpoints"]["unix averaged"]
    assert raw["evaluations"] == 1 + 4 * 10
    assert averaged["evaluations"] == 1 + 4
    # the raw result of the configurations on both sockets is one of the 24 rotations
    assert raw["frames"] + averaged["frames"] == 41 + 5 * 23

    lines = (place.folder / "sim.extras").read_text().splitlines()
    n_rotations, spread, energy_raw, *torque = (float(word) for word in lines[1].split())
    structure = Structure.from_atoms(ase.io.read(place.folder / "init.extxyz"))
    potential = load_potential(ANISOTROPIC)
    expected = RotationalAverage(potential, "Th").predict(structure)
    assert n_rotations == 24
    assert spread == pytest.approx(expected.energy_std, abs=1e-6)
    assert spread > 1e-3
    assert energy_raw == pytest.approx(potential.predict(structure).energy, abs=1e-6)
    masses = water().get_masses()
    arms = structure.positions - masses @ structure.positions / masses.sum()
    np.testing.assert_allclose(torque, np.cross(arms, expected.forces).sum(axis=0), atol=1e-6)
    conserved = place.output()[:, 1]
    assert np.ptp(conserved) < 0.2 * np.ptp(place.output()[:, 0])


def test_forces_agree_with_rotations_in_ipi(place):
    """i-PI's own <ffrotations>, Legendre 2 with inversion, and our 2i: the same energy, forces, virial."""
    parameters = escape(f"{{model: {ANISOTROPIC}, structure: init.extxyz}}")
    theirs = (
        "<ffrotations name='theirs'><grid_order>2</grid_order><grid_mode>legendre</grid_mode>"
        "<inversion>true</inversion><ffdirect name='raw'><pes>custom</pes>"
        f"<pes_path>{ipi_plugin.__file__}</pes_path><parameters>{parameters}</parameters></ffdirect></ffrotations>"
    )
    place.input(
        [theirs, ffsocket("ours")],
        water(),
        forces="<force forcefield='theirs'/><force forcefield='ours' weight='-1'/>",
        columns="pot_component{electronvolt}(index=0), pot_component{electronvolt}(index=1), "
        "atom_f(atom=0), atom_f(atom=1), virial_md, volume",
    )
    ipi = place.ipi()
    client = place.client(ANISOTROPIC, "--structure", "init.extxyz", "--unix", "ours=2i")
    assert (wait(ipi), wait(client)) == (0, 0), place.log() + place.log("ipi")[-2000:]
    row = place.output()[0]
    assert row[0] == pytest.approx(-row[1], rel=1e-7)
    assert abs(row[0]) > 1.0
    np.testing.assert_allclose(row[2:8] * FORCE, 0.0, atol=1e-6)
    np.testing.assert_allclose(row[8:14] * row[14], 0.0, atol=1e-6)
