"""Species and pbc from every kind of file that i-PI can start from."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from client_place import copper, water

from ipi_driver.errors import UserError
from ipi_driver.ipi_files.template import read_template

CELL = "# CELL(abcABC): 15 15 15 90 90 90 Step: 0 Bead: 0 positions{angstrom} cell{angstrom}"


def ipi_xyz(path: Path, comment: str = CELL, symbols: str = "O D T") -> Path:
    rows = [f"{symbol} {k}.0 0.0 0.0" for k, symbol in enumerate(symbols.split())]
    path.write_text("\n".join([str(len(rows)), comment, *rows]) + "\n")
    return path


def input_xml(path: Path, *files: str) -> Path:
    systems = "".join(f"<system><initialize nbeads='1'>{text}</initialize></system>" for text in files)
    path.write_text(f"<simulation><total_steps>1</total_steps>{systems}</simulation>")
    return path


def test_extended_xyz_says_whether_it_is_isolated(tmp_path):
    for atoms in (water(), copper()):
        ase.io.write(tmp_path / "a.extxyz", atoms)
        template = read_template(tmp_path / "a.extxyz")
        assert template.numbers.tolist() == atoms.numbers.tolist()
        assert template.periodic == atoms.pbc.any()
    assert not read_template(tmp_path / "a.extxyz", pbc=False).periodic


def test_xyz_of_ipi(tmp_path):
    """ASE would take the comment for properties, and the file as not periodic."""
    template = read_template(ipi_xyz(tmp_path / "a.xyz"))
    assert template.numbers.tolist() == [8, 1, 1]
    assert template.pbc.all()
    assert not read_template(ipi_xyz(tmp_path / "b.xyz", CELL + ' pbc="F F F"')).periodic


@pytest.mark.parametrize(("mode", "name"), [("xyz", "a.xyz"), ("pdb", "a.pdb"), ("ase", "a.extxyz")])
def test_input_of_ipi(tmp_path, mode, name):
    (tmp_path / "data").mkdir()
    if mode == "xyz":
        ipi_xyz(tmp_path / "data" / name, symbols="Cu Cu Cu Cu")
    else:
        ase.io.write(tmp_path / "data" / name, copper())
    template = read_template(input_xml(tmp_path / "in.xml", f"<file mode='{mode}'> data/{name} </file>"))
    assert template.numbers.tolist() == [29] * 4
    assert template.pbc.all()


def test_checkpoint_of_ipi(tmp_path):
    checkpoint = tmp_path / "RESTART"
    checkpoint.write_text(
        "<!-- made by i-PI --><simulation><system><beads natoms='3' nbeads='1'>"
        "<names shape='(3)'> [ O, H,\n H ] </names></beads></system></simulation>"
    )
    assert read_template(checkpoint).numbers.tolist() == [8, 1, 1]
    through_input = input_xml(tmp_path / "in.xml", "<file mode='chk'>RESTART</file>")
    assert read_template(through_input).numbers.tolist() == [8, 1, 1]


def test_what_cannot_be_read_is_said(tmp_path):
    ipi_xyz(tmp_path / "a.xyz")
    ipi_xyz(tmp_path / "b.xyz", symbols="O H")
    file = "<file mode='xyz'>{}</file>".format
    cases = {
        "no structure file": tmp_path / "missing.xyz",
        "unknown element 'Qq'": ipi_xyz(tmp_path / "q.xyz", symbols="Qq"),
        "different atoms": input_xml(tmp_path / "two.xml", file("a.xyz"), file("b.xyz")),
        "there is no file": input_xml(tmp_path / "gone.xml", file("gone.xyz")),
        "no atoms in": input_xml(tmp_path / "none.xml", "<velocities mode='thermal'>300</velocities>"),
        "not well-formed XML": tmp_path / "broken.xml",
        "announces 5 atoms": tmp_path / "short.xyz",
        "cannot read a structure": tmp_path / "notes.txt",
    }
    (tmp_path / "broken.xml").write_text("<simulation>")
    (tmp_path / "short.xyz").write_text("5\n" + CELL + "\nO 0 0 0\n")
    (tmp_path / "notes.txt").write_text("nothing here\n")
    for expected, path in cases.items():
        with pytest.raises(UserError, match=expected):
            read_template(path)


def test_same_atoms_in_all_systems_of_an_input(tmp_path):
    ipi_xyz(tmp_path / "a.xyz")
    path = input_xml(tmp_path / "in.xml", *["<file mode='xyz'>a.xyz</file>"] * 2)
    np.testing.assert_array_equal(read_template(path).numbers, [8, 1, 1])


def test_systems_that_ipi_makes_of_a_template(tmp_path):
    """The file of each is a label, which its instance replaces."""
    text = (
        "<simulation><system_template><labels>[ START ]</labels><instance>[ a.xyz ]</instance>"
        "<instance>[ b.xyz ]</instance><template><system><initialize><file mode='xyz'> START </file></initialize>"
        "</system></template></system_template></simulation>"
    )
    (tmp_path / "in.xml").write_text(text)
    for name in "ab":
        ipi_xyz(tmp_path / f"{name}.xyz")
    np.testing.assert_array_equal(read_template(tmp_path / "in.xml").numbers, [8, 1, 1])
    ipi_xyz(tmp_path / "b.xyz", symbols="O H")
    with pytest.raises(UserError, match="different atoms"):
        read_template(tmp_path / "in.xml")
