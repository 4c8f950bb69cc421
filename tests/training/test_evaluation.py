"""`ipi-driver evaluate`: numbers against hand-made errors and exact models, files, command line."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from ipi_driver.cli import main
from ipi_driver.errors import UserError
from ipi_driver.potentials import load_potential
from ipi_driver.rotations import quadrature, quadratures
from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.structure import Prediction, Structure
from ipi_driver.training import evaluation
from ipi_driver.training.data import LabelledStructure
from ipi_driver.training.evaluation import error_metrics, evaluate_model, formula_unit, n_evaluations
from ipi_driver.training.splits import Split, write_split

EMT_SPEC = "ase:ase.calculators.emt.EMT"


def copper_file(folder: Path, n: int = 6) -> Path:
    """Displaced crystals of two sizes labelled by EMT with energy, forces and stress."""
    rng = np.random.default_rng(0)
    frames: list[Atoms] = []
    for k in range(n):
        atoms = bulk("Cu", cubic=True) * ((2, 1, 1) if k % 2 else (1, 1, 1))
        atoms.rattle(0.1, rng=rng)
        calculator = EMT()
        atoms.calc = calculator
        atoms.get_stress()
        labels = {key: calculator.results[key] for key in ("energy", "forces", "stress")}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    ase.io.write(folder / "copper.extxyz", frames)
    return folder / "copper.extxyz"


def water(n: int = 3) -> list[LabelledStructure]:
    rng = np.random.default_rng(1)
    data = []
    for _ in range(n):
        atoms = molecule("H2O")
        atoms.positions += rng.normal(scale=0.05, size=(3, 3))
        data.append(LabelledStructure(Structure.from_atoms(atoms), rng.normal(), rng.normal(size=(3, 3))))
    return data


def test_metrics_of_known_errors() -> None:
    data, predictions = [], []
    for n_units, error in ((2, 0.6), (4, -0.4)):
        numbers = np.array([8, 1, 1] * n_units)
        structure = Structure(numbers, np.arange(9.0 * n_units).reshape(-1, 3))
        forces = np.zeros((3 * n_units, 3))
        virial = np.eye(3)
        data.append(LabelledStructure(structure, -10.0, forces, virial))
        predicted = forces.copy()
        predicted[0, 0], predicted[1, 1] = 0.3, -0.6  # one O, one H component
        predictions.append(Prediction(-10.0 + error, predicted, virial * (1.0 + 3.0 * n_units)))
    m = error_metrics("none", data, predictions, np.array([2.0, 4.0]))
    assert (m.energy_mae, m.energy_rmse) == pytest.approx((0.5, np.sqrt(0.26)))
    assert m.energy_mae_per_atom == pytest.approx((0.1 + 0.4 / 12) / 2)
    assert m.energy_mae_per_unit == pytest.approx((0.3 + 0.1) / 2)
    # per atom the errors are 0.1 and -1/30; their mean 1/30 is taken off each atom
    assert m.energy_offset_per_atom == pytest.approx(1 / 30)
    assert m.shifted_energy_mae == pytest.approx((0.6 - 6 / 30 + 0.4 + 12 / 30) / 2)
    assert m.shifted_energy_mae_per_unit == pytest.approx((0.2 + 0.2) / 2)
    assert m.force_mae == pytest.approx(2 * 0.9 / 54)
    assert m.force_rmse == pytest.approx(np.sqrt(2 * (0.09 + 0.36) / 54))
    assert m.force_max == pytest.approx(0.6)
    assert m.force_mae_by_element == pytest.approx({"H": 2 * 0.6 / 36, "O": 2 * 0.3 / 18})
    assert m.virial_mae_per_atom == pytest.approx(1.0 / 3.0)
    assert m.virial_rmse_per_atom == pytest.approx(np.sqrt(1.0 / 3.0))
    assert m.symmetry_force_mae is None


def test_formula_units() -> None:
    assert formula_unit(Structure.from_atoms(molecule("H2O") * 1)) == ("H2O", 1)
    salt = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    assert formula_unit(Structure.from_atoms(salt)) == ("NaCl", 4)
    mixed = [
        LabelledStructure(Structure.from_atoms(molecule(name)), 0.0, np.zeros((3, 3)))
        for name in ("H2O", "CO2")
    ]
    result = evaluate_model(load_potential(EMT_SPEC), mixed, quadratures(["none"]))
    assert result.formula_unit is None
    assert result.metrics[0].energy_mae_per_unit is None


def test_symmetry_errors_are_those_of_the_averages() -> None:
    """Averages and symmetry errors agree with `RotationalAverage`, structure by structure."""
    potential = load_potential("anisotropic?l=4&amplitude=0.1")
    data = water()
    averages = ["none", "2i", "random-so3"]
    done: list[int] = []
    result = evaluate_model(
        potential, data, quadratures(averages), quadrature("O"), seed=3, progress=done.append
    )
    assert sum(done) == n_evaluations(len(data), quadratures(averages), quadrature("O"))
    reference = [RotationalAverage(potential, "O").predict(d.structure) for d in data]
    for name, metrics, found in zip(averages, result.metrics, result.predictions, strict=True):
        direct = [RotationalAverage(potential, name, seed=3).predict(d.structure) for d in data]
        np.testing.assert_allclose([p.energy for p in found], [p.energy for p in direct], atol=1e-10)
        errors = [np.abs(p.forces - r.forces).mean() for p, r in zip(direct, reference, strict=True)]
        assert metrics.symmetry_force_mae == pytest.approx(np.mean(errors), abs=1e-10)
        labels = [np.abs(p.forces - d.forces).mean() for p, d in zip(direct, data, strict=True)]
        assert metrics.force_mae == pytest.approx(np.mean(labels))
    assert result.metrics[0].symmetry_force_mae > 1e-3  # l = 4 breaks the symmetry


def test_exact_model_with_shifted_energies(tmp_path: Path) -> None:
    """The labelling potential itself: nothing but the shift of the labels is left."""
    from ipi_driver.training.data import read_dataset

    data = read_dataset([copper_file(tmp_path)], stress_key="stress")
    shifted = [replace(d, energy=d.energy - 0.25 * d.structure.n_atoms) for d in data]
    (m,) = evaluate_model(load_potential(EMT_SPEC), shifted, quadratures(["none"]), quadrature("i")).metrics
    assert m.energy_offset_per_atom == pytest.approx(0.25, abs=1e-6)
    assert m.energy_mae_per_atom == pytest.approx(0.25, abs=1e-6)
    assert m.shifted_energy_rmse < 1e-6
    assert m.force_max < 1e-6
    assert m.virial_rmse_per_atom is not None
    assert m.virial_rmse_per_atom < 1e-6
    assert m.symmetry_force_mae == pytest.approx(0.0, abs=1e-9)


def test_noise_of_labels_is_seen_in_their_sums(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Forces that sum to zero say nothing; noise of known size is found, and the error that it leaves."""
    path = copper_file(tmp_path, n=40)
    command = ["evaluate", EMT_SPEC, "--reference", "none"]
    assert main([*command, str(path), "--output", str(tmp_path / "clean")]) == 0
    assert "do not sum to zero" not in capsys.readouterr().out
    frames, rng = ase.io.read(path, ":"), np.random.default_rng(3)
    for atoms in frames:
        atoms.calc.results["forces"] += rng.normal(scale=0.05, size=(len(atoms), 3))
    ase.io.write(tmp_path / "noisy.extxyz", frames)
    assert main([*command, str(tmp_path / "noisy.extxyz"), "--output", str(tmp_path / "noisy")]) == 0
    assert "The force labels do not sum to zero" in capsys.readouterr().out
    content = json.loads((tmp_path / "noisy" / "evaluation.json").read_text())
    assert content["label_noise"] == pytest.approx(0.05, rel=0.15)
    assert content["averages"][0]["force_mae"] == pytest.approx(np.sqrt(2 / np.pi) * 0.05, rel=0.1)


def test_nothing_to_evaluate() -> None:
    with pytest.raises(UserError, match="the data hold no structures"):
        evaluate_model(load_potential(EMT_SPEC), [], quadratures(["none"]))
    with pytest.raises(UserError, match="at least one average"):
        evaluate_model(load_potential(EMT_SPEC), water(), [])


def test_command_writes_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = copper_file(tmp_path)
    write_split(Split(np.array([0, 1, 2]), np.array([3]), np.array([5, 4])), tmp_path / "split.yaml")
    command = [
        "evaluate",
        EMT_SPEC,
        str(data),
        "--indices",
        str(tmp_path / "split.yaml"),
        "--stress-key",
        "stress",
    ]
    command += [
        "--average",
        "none",
        "i",
        "--reference",
        "D2",
        "--output",
        str(tmp_path / "out"),
        "--batch",
        "2",
    ]
    assert main(command) == 0
    shown = capsys.readouterr().out
    for text in (
        "2 structures, test part",
        "energy − offset (meV/atom)",
        "force of Cu",
        "virial",
        "symmetry",
    ):
        assert text in shown
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert [row["average"] for row in content["averages"]] == ["none", "i"]
    assert (content["n_structures"], content["n_train"], content["part"]) == (2, 3, "test")
    assert content["averages"][0]["force_mae"] < 1e-6
    with (tmp_path / "out" / "structures.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["index"] for row in rows] == ["5", "4"]
    assert float(rows[0]["energy_none"]) == pytest.approx(float(rows[0]["energy"]))
    with (tmp_path / "out" / "errors.csv").open() as stream:
        assert [row["n_frames"] for row in csv.DictReader(stream)] == ["1", "2"]
    image = (tmp_path / "out" / "parity.png").read_bytes()
    assert image[:4] == b"\x89PNG"
    assert len(image) > 10_000
    assert content["n_train"] == 3


def test_files_and_relatives_by_themselves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every file gets its own errors, and test structures near a training structure are counted and kept apart."""
    rng = np.random.default_rng(3)
    files = []
    for name, scale in (("one", 1.0), ("two", 1.0), ("three", 1.2)):
        frames = []
        for k in range(4):
            atoms = bulk("Cu", cubic=True)
            atoms.set_cell(atoms.cell * (scale + 0.2 * k), scale_atoms=True)
            atoms.rattle(0.05, rng=rng)
            atoms.calc = EMT()
            labels = {
                "energy": atoms.get_potential_energy(),
                "forces": atoms.get_forces() + 0.01 * len(files),
            }
            atoms.calc = SinglePointCalculator(atoms, **labels)
            frames.append(atoms)
        files.append(tmp_path / f"{name}.extxyz")
        ase.io.write(files[-1], frames)
    # of the first file 0 and 1 are trained on; 4 and 5 of the second are their relatives, 6 is that of none; cell 0 of
    # the third is that of 1
    write_split(Split(np.array([0, 1]), np.array([2]), np.array([4, 5, 6, 11])), tmp_path / "split.yaml")
    command = ["evaluate", EMT_SPEC, *map(str, files), "--indices", str(tmp_path / "split.yaml")]
    assert (
        main([*command, "--reference", "i", "--output", str(tmp_path / "out"), "--units", "ev-angstrom"]) == 0
    )
    shown = capsys.readouterr().out
    assert "two.extxyz: 4 structures, extended XYZ, eV and Å" in shown
    assert "2 of 4 structures lie within 1.5 Å" in " ".join(shown.split())
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert content["with_relatives"] == 2
    counts = {name: part["n_structures"] for name, part in content["parts"].items()}
    assert counts == {
        "two.extxyz": 3,
        "three.extxyz": 1,
        "with a relative in the training": 2,
        "without a relative in the training": 2,
    }
    errors = {name: part["averages"][0]["force_mae"] for name, part in content["parts"].items()}
    assert errors["two.extxyz"] == pytest.approx(0.01, rel=1e-5)
    assert errors["three.extxyz"] == pytest.approx(0.02, rel=1e-5)
    assert errors["without a relative in the training"] == pytest.approx(0.015, rel=1e-5)
    assert content["averages"][0]["force_mae"] == pytest.approx(0.0125, rel=1e-5)
    with (tmp_path / "out" / "structures.csv").open() as stream:
        near = [float(row["nearest_training_structure"]) for row in csv.DictReader(stream)]
    assert [np.isfinite(d) for d in near] == [True, True, False, False]


def test_files_without_energies_and_of_the_same_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Forces are compared all the same; each file has its own row."""
    for name in ("bulk", "slabs"):
        (tmp_path / name).mkdir()
        frames = ase.io.read(copper_file(tmp_path, 3), ":")
        for atoms in frames:
            labels = {"forces": atoms.get_forces() + (0.01 if name == "slabs" else 0.0)}
            if name == "bulk":
                labels["energy"] = atoms.get_potential_energy() + 0.5
            atoms.calc = SinglePointCalculator(atoms, **labels)
        ase.io.write(tmp_path / name / "data.extxyz", frames)
    both = [str(tmp_path / name / "data.extxyz") for name in ("bulk", "slabs")]
    options = ["--reference", "none", "--output", str(tmp_path / "out")]
    assert main(["evaluate", EMT_SPEC, *both, *options]) == 0
    assert "no energies in 3 structures: forces alone" in capsys.readouterr().out
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    (row,) = content["averages"]
    assert row["energy_mae"] == pytest.approx(0.5, abs=1e-4)  # of those that have one
    assert list(content["parts"]) == content["files"] == ["bulk/data.extxyz", "slabs/data.extxyz"]
    bulk_row, slab_row = (part["averages"][0] for part in content["parts"].values())
    assert bulk_row["energy_mae"] == pytest.approx(0.5, abs=1e-4)
    assert slab_row["energy_mae"] is slab_row["shifted_energy_rmse_per_atom"] is None
    assert slab_row["force_mae"] == pytest.approx(0.01, rel=1e-5)
    assert main(["evaluate", EMT_SPEC, both[1], *options]) == 0
    shown = capsys.readouterr().out
    assert "no energies: forces alone" in shown
    assert "energy (meV" not in shown
    with (tmp_path / "out" / "structures.csv").open() as stream:
        assert [row["energy"] for row in csv.DictReader(stream)] == [""] * 3


def test_an_unknown_element_is_found_before_the_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copper_file(tmp_path, 2)
    known = molecule("H2O")
    known.calc = SinglePointCalculator(known, energy=-1.0, forces=np.full((3, 3), 0.1))
    ase.io.write(path, [known, ase.io.read(path, 1)])
    monkeypatch.setattr(evaluation, "evaluate_model", None)
    assert main(["evaluate", "pet-water-s2", str(path), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert (
        "error: structure 1: the model pet-water-s2 knows the elements H, O, but the structure holds Cu"
        in error
    )


def test_virials_that_a_model_does_not_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = copper_file(tmp_path, 2)
    monkeypatch.setattr(EMT, "implemented_properties", ["energy", "forces"])
    command = ["evaluate", EMT_SPEC, str(data), "--reference", "none", "--stress-key", "stress"]
    assert main([*command, "--output", str(tmp_path / "out")]) == 0
    assert "gives no virials: those of the data are not compared" in capsys.readouterr().out


def test_command_without_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = copper_file(tmp_path)
    command = ["evaluate", EMT_SPEC, str(data), "--reference", "none", "--max-structures", "3"]
    assert main([*command, "--output", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "3 structures;" in shown
    assert "symmetry" not in shown
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["n_train"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--part", "test"], "--part test needs the split: add --indices SPLIT"),
        (["--indices", "absent.yaml"], "no split file absent.yaml"),
        (["--max-structures", "0"], "--max-structures must be at least 1, got 0"),
        (["--average", "foo"], "unknown average 'foo'"),
        (["--energy-key", "E"], "no 'E'"),
        (["--reference", "random"], "--reference random is not the mean over rotations"),
    ],
)
def test_bad_options(
    tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", EMT_SPEC, str(copper_file(tmp_path, 2)), *options]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1
