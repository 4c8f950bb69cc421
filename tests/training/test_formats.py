"""Forms of labelled data, recognized by content; the files are written here by hand, from arrays."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from training_place import write_config

from ipi_driver.errors import UserError
from ipi_driver.training.config import load_config
from ipi_driver.training.data import LabelledStructure, read_dataset, read_ordered
from ipi_driver.training.setup import build_trainer

BOHR, HARTREE = 0.529177210903, 27.211386245988  # CODATA 2018
N = 4
SYMBOLS = ["O", "H", "H", "O", "H", "H"]


class Arrays:
    """Two molecules in a triclinic cell, four times, with made-up labels, in eV and Å."""

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        water = molecule("H2O").positions
        both = np.concatenate([water, water + [2.8, 0.4, 0.3]])
        self.positions = both + rng.normal(scale=0.05, size=(N, 6, 3))
        self.cells = np.array([[7.0, 0.0, 0.0], [0.6, 6.5, 0.0], [0.2, -0.3, 6.8]]) + rng.normal(
            scale=0.1, size=(N, 3, 3)
        )
        self.energies = rng.normal(-900.0, 1.0, size=N)
        self.forces = rng.normal(scale=0.9, size=(N, 6, 3))
        self.virials = rng.normal(scale=2.0, size=(N, 3, 3))


ARRAYS = Arrays()


def check(data: list[LabelledStructure], periodic: bool = True, rtol: float = 1e-9) -> None:
    assert len(data) == N
    for k, item in enumerate(data):
        assert item.structure.numbers.tolist() == [8, 1, 1, 8, 1, 1]
        assert item.structure.pbc.tolist() == [periodic] * 3
        np.testing.assert_allclose(item.structure.positions, ARRAYS.positions[k], rtol=rtol, atol=1e-9)
        np.testing.assert_allclose(item.structure.cell, periodic * ARRAYS.cells[k], rtol=rtol, atol=1e-9)
        np.testing.assert_allclose(item.energy, ARRAYS.energies[k], rtol=rtol)
        np.testing.assert_allclose(item.forces, ARRAYS.forces[k], rtol=rtol, atol=1e-9)


def row(values: np.ndarray) -> str:
    return " ".join(f"{x:.14g}" for x in np.ravel(values))


def extxyz(length: float, energy: float, names: tuple[str, str], digits: int = 14) -> str:
    """Extended XYZ with lengths and energies divided by their units."""
    lines = []
    for k in range(N):
        lines.append(str(len(SYMBOLS)))
        lines.append(
            f'Lattice="{row(ARRAYS.cells[k] / length)}" Properties=species:S:1:pos:R:3:{names[1]}:R:3 '
            f'{names[0]}={ARRAYS.energies[k] / energy:.14g} pbc="T T T"'
        )
        for a, symbol in enumerate(SYMBOLS):
            force = ARRAYS.forces[k, a] * length / energy
            lines.append(f"{symbol} {row(ARRAYS.positions[k, a] / length)} {row(force)}")
    return "\n".join(lines) + "\n"


def n2p2(length: float = BOHR, energy: float = HARTREE, lattice: bool = True) -> str:
    lines = ["# made by hand", ""]
    for k in range(N):
        lines += ["begin", "comment a structure"]
        lines += [f"lattice {row(vector)}" for vector in ARRAYS.cells[k] / length] if lattice else []
        for a, symbol in enumerate(SYMBOLS):
            force = row(ARRAYS.forces[k, a] * length / energy)
            lines.append(f"atom {row(ARRAYS.positions[k, a] / length)} {symbol} 0.0 0.0 {force}")
        lines += [f"energy {ARRAYS.energies[k] / energy:.14g}", "charge 0.0", "end"]
    return "\n".join(lines) + "\n"


def deepmd(folder: Path, text: bool = False, mixed: bool = False) -> None:
    """Two sets with three and one snapshots, or raw text."""
    folder.mkdir(parents=True)
    types = [1, 0, 0, 1, 0, 0]
    (folder / "type_map.raw").write_text("H\nO\n")
    (folder / "type.raw").write_text("\n".join(map(str, [0] * 6 if mixed else types)))
    arrays = {
        "coord": ARRAYS.positions.reshape(N, -1),
        "force": ARRAYS.forces.reshape(N, -1),
        "box": ARRAYS.cells.reshape(N, 9),
        "virial": ARRAYS.virials.reshape(N, 9),
        "energy": ARRAYS.energies,
    }
    for name, array in arrays.items():
        if text:
            (folder / f"{name}.raw").write_text("\n".join(row(x) for x in array) + "\n")
            continue
        for number, part in enumerate((slice(0, 3), slice(3, 4))):
            place = folder / f"set.{number:03d}"
            place.mkdir(exist_ok=True)
            np.save(place / f"{name}.npy", array[part])
            if mixed:
                np.save(place / "real_atom_types.npy", np.tile(types, (len(array[part]), 1)))


NATIVE, PLAIN = ("TotEnergy", "force"), ("energy", "forces")


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (extxyz(1.0, 1.0, PLAIN), "extended XYZ, eV and Å"),
        (extxyz(BOHR, HARTREE, NATIVE), "extended XYZ with TotEnergy and force, bohr and hartree"),
        (extxyz(1.0, 1.0, NATIVE), "extended XYZ with TotEnergy and force, eV and Å (by its distances)"),
        (n2p2(), "n2p2 input.data, bohr and hartree"),
        (n2p2(1.0, 1.0), "n2p2 input.data, eV and Å (by its distances)"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress, bz2.compress])
def test_text_of_every_form(tmp_path: Path, text: str, form: str, pack: Callable[[bytes], bytes]) -> None:
    """The name of the file says nothing."""
    path = tmp_path / "some-data"
    path.write_bytes(pack(text.encode()))
    data, order = read_ordered([path])
    check(data)
    assert order.forms == (form,)


def test_units_that_the_user_has_chosen_win(tmp_path: Path) -> None:
    path = tmp_path / "data.xyz"
    path.write_text(extxyz(1.0, 1.0, NATIVE))
    check(read_dataset([path], units="ev-angstrom"))
    with pytest.raises(UserError, match="set units: ev-angstrom"):
        read_dataset([path], units="atomic")


def test_n2p2_without_a_lattice(tmp_path: Path) -> None:
    path = tmp_path / "input.data"
    path.write_text(n2p2(lattice=False))
    check(read_dataset([path]), periodic=False)


@pytest.mark.parametrize("kind", ["npy", "raw", "mixed"])
def test_deepmd_folders(tmp_path: Path, kind: str) -> None:
    deepmd(tmp_path / "system", text=kind == "raw", mixed=kind == "mixed")
    data = read_dataset([tmp_path / "system"])
    check(data)
    for item, virial in zip(data, ARRAYS.virials, strict=True):
        np.testing.assert_allclose(item.virial, virial)


def test_virials_in_the_loss_are_those_that_the_data_have(tmp_path: Path) -> None:
    """DeePMD needs no key for them; one structure without would take the term away from its whole batch."""
    deepmd(tmp_path / "system")
    (tmp_path / "input.data").write_text(n2p2())
    data = {"files": ["system"], "validation": 1, "test": 0}
    path = write_config(tmp_path, data=data, loss={"virial": 1.0})
    trainer = build_trainer(load_config(path))
    assert all(sample.virial is not None for sample in trainer.train_samples)
    path = write_config(tmp_path, data=data | {"files": ["system", "input.data"]}, loss={"virial": 1.0})
    with pytest.raises(UserError, match=r"training structure \d has no virial, which `loss\.virial` needs"):
        build_trainer(load_config(path))


def test_folder_of_deepmd_systems(tmp_path: Path) -> None:
    deepmd(tmp_path / "all" / "a")
    deepmd(tmp_path / "all" / "deeper" / "b")
    (tmp_path / "all" / "deeper" / "b" / "nopbc").touch()
    data = read_dataset([tmp_path / "all"])
    check(data[:N])
    check(data[N:], periodic=False)


def test_forms_together_count_in_the_order_of_the_files(tmp_path: Path) -> None:
    deepmd(tmp_path / "system")
    (tmp_path / "input.data").write_text(n2p2())
    data, order = read_ordered([tmp_path / "system", tmp_path / "input.data"])
    check(data[:N])
    check(data[N:])
    assert order.counts == (N, N)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("begin\n", "start\n", "expected the number of atoms"),
        ("end\n", "", "structure 0 (line 15): unknown keyword 'begin'"),
        ("energy", "enrgy", "structure 0 (line 13): unknown keyword 'enrgy'"),
        (" O ", " Oo ", "structure 0 (line 7): unknown element 'Oo'"),
        (
            " 0.0 0.0 ",
            " ",
            "structure 0 (line 7): `atom` needs x y z element charge n fx fy fz, got 7 values",
        ),
        ("lattice", "comment", "structure 0: expected three `lattice` lines or none, got 2"),
    ],
)
def test_bad_n2p2_files_give_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "input.data"
    path.write_text(n2p2().replace("# made by hand\n\n", "").replace(old, new, 1))
    if old in (" O ", " 0.0 0.0 "):
        message = message.replace("line 7", "line 6")
    message = message.replace("line 13", "line 12").replace("line 15", "line 14")
    with pytest.raises(UserError) as error:
        read_dataset([path])
    assert message in str(error.value)
    assert str(path) in str(error.value)


def _drop(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _save(name: str, array: object) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / name, np.asarray(array))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_drop("type.raw"), "is a folder without type.raw"),
        (_drop("type_map.raw"), "has no type_map.raw"),
        (_drop("set.000/coord.npy"), "has no coord.npy or coord.raw"),
        (_drop("set.000/energy.npy"), "has no energy.npy or energy.raw"),
        (_drop("set.000/box.npy"), "has no box.npy or box.raw"),
        (
            _save("set.000/force.npy", np.ones((3, 15))),
            "must have 18 numbers per snapshot, got shape (3, 15)",
        ),
        (_save("set.000/force.npy", np.ones((2, 18))), "force has 2 snapshots, coord has 3"),
        (_save("set.000/energy.npy", [1.0, np.nan, 1.0]), "energy.npy must be finite"),
        (_save("set.000/energy.npy", ["a", "b", "c"]), "must hold numbers"),
        (lambda f: (f / "type.raw").write_text("1 0 0 2 0 0"), "type 2 is not in type_map.raw"),
        (lambda f: (f / "type_map.raw").write_text("H OO"), "unknown element 'OO'"),
        (lambda f: (f / "set.000" / "coord.npy").write_bytes(b"no"), "cannot be read"),
    ],
)
def test_bad_deepmd_folders_give_one_line(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    deepmd(tmp_path / "system")
    spoil(tmp_path / "system")
    with pytest.raises(UserError) as error:
        read_dataset([tmp_path / "system"])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_broken_archives(tmp_path: Path) -> None:
    path = tmp_path / "data.gz"
    plain = extxyz(1.0, 1.0, PLAIN).encode()
    packed = bytearray(gzip.compress(plain))
    packed[40] ^= 0xFF
    for content in (gzip.compress(plain)[:-30], bytes(packed), bz2.compress(plain)[:-30]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="cannot be unpacked"):
            read_dataset([path])


def test_energies_are_needed_unless_said(tmp_path: Path) -> None:
    path = tmp_path / "data.xyz"
    path.write_text(extxyz(1.0, 1.0, ("other", "forces")))
    with pytest.raises(UserError, match="no 'energy'"):
        read_dataset([path])
    data = read_dataset([path], need_energy=False)
    assert all(np.isnan(item.energy) for item in data)
    np.testing.assert_allclose(data[2].forces, ARRAYS.forces[2])
