"""Packed structures are read as plain ones."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from ipi_driver.errors import UserError
from ipi_driver.ipi_files.packed import unpacked
from ipi_driver.ipi_files.start import read_start
from ipi_driver.ipi_files.structures import read_data_set
from ipi_driver.ipi_files.template import read_template
from ipi_driver.training.unlabelled import read_unlabelled


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_packed_and_plain_structures(ending: str, pack: object, tmp_path: Path) -> None:
    water = molecule("H2O", vacuum=3.0)
    plain = tmp_path / "water.extxyz"
    for _ in range(4):
        water.positions[0, 0] += 0.01
        ase.io.write(plain, water, append=True)
    packed = plain.with_name(f"water.extxyz{ending}")
    packed.write_bytes(pack(plain.read_bytes()))  # type: ignore[operator]
    for read in (lambda path: read_unlabelled([path]), lambda path: read_data_set(path).structures):
        expected, found = read(plain), read(packed)
        assert len(found) == 4
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_array_equal(one.positions, other.positions)
            np.testing.assert_array_equal(one.cell, other.cell)
    with unpacked(packed) as copy:
        assert copy.name == "water.extxyz"
        assert copy.read_bytes() == plain.read_bytes()  # a reader may jump in it
    assert not copy.exists()
    with unpacked(plain) as same:
        assert same == plain


PACKERS = [(".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)]


@pytest.mark.parametrize(("ending", "pack"), PACKERS)
def test_a_packed_trajectory_of_ipi_keeps_its_cell_and_units(
    ending: str, pack: object, tmp_path: Path
) -> None:
    """ASE would read it as an isolated cluster, and its bohr as Å."""
    units = "positions{atomic_unit} cell{angstrom}"
    header = f"# CELL(abcABC): 10.0 11.0 12.0 90.0 90.0 90.0 Step: 5 Bead: 0 {units}"
    snapshot = f"3\n{header}\nO 0 0 0\nH 1.81 0 0\nH -0.45 1.75 0\n"
    packed = tmp_path / f"pos.xyz{ending}"
    packed.write_bytes(pack(snapshot.encode()))  # type: ignore[operator]
    data = read_data_set(packed)
    assert data.steps == (5,)
    for structure in (*data.structures, *read_unlabelled([packed])):
        assert structure.pbc.all()
        assert structure.cell == pytest.approx(np.diag([10.0, 11.0, 12.0]))
        assert structure.positions[1, 0] == pytest.approx(1.81 * 0.529177210903)
    assert read_start(packed, periodic=True).cell.lengths() == pytest.approx([10.0, 11.0, 12.0])
    assert read_template(packed).pbc.all()  # what a client is told of its atoms
    # what the run folder states of its structure holds for its packed trajectories as well
    (tmp_path / "driver.yaml").write_text("pbc: false\n")
    (structure,) = read_data_set(packed).structures
    assert not structure.pbc.any()
    # as a slab, of an ion: charge, multiplicity and open directions are those of the run
    start = molecule("H2O")
    start.set_cell([10.0, 11.0, 12.0])
    start.pbc = [True, True, False]
    ase.io.write(tmp_path / "init.extxyz", start)
    (tmp_path / "driver.yaml").write_text("structure: init.extxyz\ncharge: 1\nspin: 2\n")
    (structure,) = read_data_set(packed).structures
    assert structure.pbc.tolist() == [True, True, False]
    assert (structure.charge, structure.spin) == (1.0, 2)
    assert read_data_set(packed, pbc=True).structures[0].pbc.all()


def test_a_broken_archive_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "water.extxyz.gz"
    broken.write_bytes(gzip.compress(b"3\n\nO 0 0 0\n")[:-6])
    with pytest.raises(UserError, match=r"water\.extxyz\.gz cannot be read"):
        read_unlabelled([broken])
