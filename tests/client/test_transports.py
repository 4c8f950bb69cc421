"""i-PI, driven through every transport, sees what ASE gives directly: energy, force and virial, triclinic."""

from __future__ import annotations

import socket
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.calculators.emt import EMT as EmtCalculator
from client_place import ANISOTROPIC, EMT, PY_DRIVER, copper, ffsocket, wait, wait_for, water

from ipi_driver.cli import main
from ipi_driver.potentials.registry import load_potential
from ipi_driver.structure import Structure

PRESSURE = 27.211386245988 / 0.529177210903**3
"""eV/Å³ per hartree/bohr³ (i-PI's own gigapascal is off by 3e-5)."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def check_first_row(place, beads: int = 1) -> None:
    """The row of step 0 against ASE's own calculator on the starting structure.

    All beads start there; i-PI prints the mean of their energies and forces, and the sum of their virials.
    """
    atoms = ase.io.read(place.folder / "init.extxyz")
    atoms.calc = EmtCalculator()
    row = place.output()[0]
    # i-PI's Å and eV differ from CODATA by some 1e-8; the energy is a small difference of large terms
    assert row[0] == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
    np.testing.assert_allclose(row[1:4], atoms.get_forces()[1], atol=1e-5)
    xx, yy, zz, yz, xz, xy = -atoms.get_stress()
    np.testing.assert_allclose(row[4:10] * PRESSURE / beads, [xx, yy, zz, xy, xz, yz], atol=1e-6)
    assert np.ptp(row[4:10] * PRESSURE) > 0.01


SOCKETS = {
    "unix": ("unix", "", 1),
    "inet": ("inet", "", 1),
    "shm": ("shm", "", 1),
    "batch": ("unix", "<batch_size>2</batch_size>", 3),  # three beads: the second batch is padded
    "shm-batch": ("shm", "<batch_size>2</batch_size>", 3),
    "unix-separate-messages": ("unix", "<consolidate_messages>false</consolidate_messages>", 1),
}


@pytest.mark.parametrize("transport", SOCKETS)
def test_socket(place, transport):
    mode, extra, beads = SOCKETS[transport]
    address = f"127.0.0.1:{free_port()}" if mode == "inet" else "emt"
    place.input([ffsocket(address, mode, "ff", extra)], copper(), steps=2, beads=beads)
    ipi = place.ipi()
    client = place.client(EMT, "--input", "input.xml", f"--{mode}", address)
    assert (wait(ipi), wait(client)) == (0, 0), place.log()
    assert len(place.output()) == 3
    check_first_row(place, beads)


@pytest.mark.parametrize("batch", ["", "<batch_size>2</batch_size>"])
def test_ffdirect(place, capsys, batch):
    assert main(["pes-path"]) == 0
    path = capsys.readouterr().out.strip()
    parameters = f"{{model: {EMT}, structure: init.extxyz, average: none}}"
    beads = 2 if batch else 1
    direct = (
        f"<ffdirect name='ff'><pes>custom</pes><pes_path>{path}</pes_path>{batch}"
        f"<parameters>{parameters}</parameters></ffdirect>"
    )
    place.input([direct], copper(), steps=2, beads=beads)
    assert wait(place.ipi()) == 0, place.log("ipi")
    check_first_row(place, beads)


def test_the_driver_of_ipi_takes_the_plugin(place, capsys):
    main(["pes-path"])
    path = capsys.readouterr().out.strip()
    place.input([ffsocket("emt")], copper(), steps=2)
    ipi = place.ipi()
    options = f"model={EMT},structure=init.extxyz"
    driver = [PY_DRIVER, "-u", "-a", "emt", "-S", place.prefix, "-m", "custom", "-P", path, "-o", options]
    wait_for(lambda: Path(place.prefix, "emt").exists())  # i-PI's own client does not wait for the socket
    client = place.start(driver, "client")
    assert wait(client) == 0, place.log()
    assert wait(ipi) == 0, place.log("ipi")
    check_first_row(place)


def test_a_failing_plugin_stops_ipi(place, capsys):
    main(["pes-path"])
    path = capsys.readouterr().out.strip()
    parameters = f"{{model: {EMT}, structure: init.extxyz, avrage: 2i}}"
    direct = (
        f"<ffdirect name='ff'><pes>custom</pes><pes_path>{path}</pes_path>"
        f"<parameters>{parameters}</parameters></ffdirect>"
    )
    place.input([direct], copper())
    assert wait(place.ipi()) != 0
    assert "avrage" in place.log("ipi")


def test_virial_of_a_potential_that_is_not_invariant(place):
    """Element (a, b) of i-PI's virial belongs to the deformation h' = (1 + strain) h of its cell.

    The virial of an anisotropic potential is not symmetric, so a transposition would be seen.
    """
    atoms = copper()
    atoms.numbers[:2] = 1
    place.input(
        [ffsocket("a")], atoms, columns="virial_md, volume{angstrom3}", motion="<timestep>0.01</timestep>"
    )
    ipi = place.ipi()
    client = place.client(ANISOTROPIC, "--input", "input.xml", "--unix", "a")
    assert (wait(ipi), wait(client)) == (0, 0), place.log()
    row = place.output()[0]
    virial = row[:6] * PRESSURE * row[6]

    potential = load_potential(ANISOTROPIC)

    def derivative(a: int, b: int, strain: float = 1e-5) -> float:
        energies = []
        for sign in (+1, -1):
            deformation = np.eye(3)
            deformation[a, b] += sign * strain
            h, q = deformation @ np.array(atoms.cell).T, deformation @ atoms.positions.T
            energies.append(potential.predict(Structure(atoms.numbers, q.T, h.T, atoms.pbc)).energy)
        return (energies[0] - energies[1]) / (2 * strain)

    for column, (a, b) in enumerate([(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]):
        assert virial[column] == pytest.approx(-derivative(a, b), abs=1e-5)
    assert abs(derivative(0, 1) - derivative(1, 0)) > 0.01


def test_missing_virial_is_an_error_or_nan(place):
    place.folder.joinpath("springs.py").write_text(SPRINGS)
    place.input([ffsocket("one", extra="<exit_on_disconnect>true</exit_on_disconnect>")], copper(), steps=1)
    ipi = place.ipi()
    client = place.client("ase:springs.Springs", "--input", "input.xml", "--unix", "one")
    assert wait(client) == 2
    assert "virial" in place.log()
    assert "--virial nan" in place.log()
    wait(ipi)
    place.input([ffsocket("two")], copper(), steps=1)
    ipi = place.ipi()
    client = place.client("ase:springs.Springs", "--input", "input.xml", "--unix", "two", "--virial", "nan")
    assert (wait(ipi), wait(client)) == (0, 0), place.log()
    assert np.isnan(place.output()[0, 4])
    assert np.isfinite(place.output()[:, :4]).all()


SPRINGS = """
from ase.calculators.calculator import Calculator
class Springs(Calculator):
    implemented_properties = ["energy", "forces"]
    def calculate(self, atoms, properties, changes):
        super().calculate(atoms, properties, changes)
        x = atoms.positions
        self.results = {"energy": 0.5 * (x**2).sum(), "forces": -x}
"""


def test_isolated_molecule_in_a_box(place):
    """pbc="F F F" in the file: the model sees no images, although i-PI has a small cell."""
    atoms = water()
    atoms.set_cell([3.0, 3.0, 3.0])
    place.input([ffsocket("mol")], atoms, steps=1)
    ipi = place.ipi()
    client = place.client(ANISOTROPIC, "--input", "input.xml", "--unix", "mol")
    assert (wait(ipi), wait(client)) == (0, 0), place.log()
    assert "isolated" in place.log()
    potential = load_potential(ANISOTROPIC)
    alone = potential.predict(Structure.from_atoms(water())).energy
    atoms.pbc = True
    crowded = potential.predict(Structure.from_atoms(atoms)).energy
    assert abs(alone - crowded) > 0.01
    assert place.output()[0, 0] == pytest.approx(alone, abs=1e-6)
