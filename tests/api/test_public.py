"""The names of ``import ipi_driver``, and the examples in the docstrings of the whole package."""

from __future__ import annotations

import doctest
import importlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ase.build
import ase.io
import numpy as np
import pytest

import ipi_driver
from ipi_driver.api.simulation import _changes, run_set
from ipi_driver.cli import main
from ipi_driver.runs.changes import Changes

PACKAGE = Path(ipi_driver.__file__).parent


def modules_with_examples() -> list[str]:
    found = [path for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text()]
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in sorted(found)]
    return [name.removesuffix(".__init__") for name in names]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_in_docstrings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_every_public_name_can_be_imported() -> None:
    for name in ipi_driver.__all__:
        assert getattr(ipi_driver, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ipi_driver.nothing  # noqa: B018


def test_the_import_loads_no_large_library() -> None:
    code = "import ipi_driver, sys; print(sorted({'torch', 'numpy', 'ase', 'matplotlib'} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert printed.stdout.strip() == "[]"


def test_check_finds_what_the_command_finds(tmp_path: Path) -> None:
    water = ase.build.molecule("H2O")
    ase.io.write(tmp_path / "water.xyz", water)
    result = ipi_driver.check("anisotropic", water, averages=["i", "T"], max_degree=2)
    options = ["--average", "i", "--average", "T", "--max-degree", "2", "--output", str(tmp_path / "check")]
    assert main(["check", "anisotropic", str(tmp_path / "water.xyz"), *options]) == 0
    rows = json.loads((tmp_path / "check" / "check.json").read_text())["errors"]
    for row, error in zip(rows, result.errors, strict=True):
        assert row["average"] == error.average
        assert row["force_mae"] == pytest.approx(error.force_mae, rel=1e-6, abs=1e-12)
    assert "Use T (12 evaluations)" in repr(result)


def test_a_run_and_its_analysis(tmp_path: Path) -> None:
    run = ipi_driver.run("gas-nve", output=tmp_path / "run", model="anisotropic", steps=400)
    assert run.outcome.finished
    assert run.summary["steps"] == 400
    analysis = run.analyze()
    assert analysis.kind == "gas"
    page = ipi_driver.analyze([run.folder]).write_report(tmp_path / "report", with_viewer=False)
    assert page.is_file()
    kept = {}
    for name in ("summary.json", "summary.png"):  # replaced as a whole, not written into
        kept[name] = (run.folder / name).read_bytes()
        (tmp_path / name).hardlink_to(run.folder / name)
    again = ipi_driver.run("gas-nve", output=tmp_path / "run", steps=420, resume=True)
    assert {name: (tmp_path / name).read_bytes() for name in kept} == kept
    assert (again.outcome.first_step, again.outcome.steps) == (400, 420)
    itself = ipi_driver.run(run.folder, steps=430, resume=True, restarts=0, refresh=False, quiet=True)
    assert (itself.folder, itself.outcome.steps) == (run.folder, 430)


def test_a_set_of_structures(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    ase.io.write(tmp_path / "cells" / "one.xyz", ase.build.molecule("H2O"))
    options = {"output": tmp_path / "set", "model": "anisotropic", "steps": 20, "quiet": True}
    found = run_set("gas-nve", structures=tmp_path / "cells", **options)
    assert found is not None
    assert found.outcome.states == {"one": "finished"}
    assert found.rows == json.loads((tmp_path / "set" / "summary.json").read_text())
    assert run_set("gas-nve", model="anisotropic") is None


def test_unknown_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(ipi_driver.UserError, match="no option 'step'"):
        ipi_driver.run("gas-nve", output=tmp_path / "run", step=3)
    with pytest.raises(ipi_driver.UserError, match="`restarts` must be a number, 0 or more, got -1"):
        ipi_driver.run("gas-nve", output=tmp_path / "run", restarts=-1)
    with pytest.raises(ipi_driver.UserError, match="--one-core is for one thread, got --threads 2"):
        ipi_driver.run("gas-nve", output=tmp_path / "run", one_core=True, threads=2)
    with pytest.raises(ipi_driver.UserError, match="no option 'skipped'"):
        ipi_driver.analyze(tmp_path, skipped=1.0)
    with pytest.raises(ipi_driver.UserError, match="is empty"):
        ipi_driver.check("anisotropic", [])
    with pytest.raises(ipi_driver.UserError, match="`max_structures` must be at least 1, got 0"):
        ipi_driver.check("anisotropic", ase.build.molecule("H2O"), max_structures=0)


def test_options_of_other_types(tmp_path: Path) -> None:
    """A number for an average and a path for a model are what their texts are."""
    with pytest.raises(ipi_driver.UserError, match=f"{tmp_path}/none"):
        ipi_driver.run("gas-nve", output=tmp_path / "run", average=2, model=tmp_path / "none")
    with pytest.raises(ipi_driver.UserError, match="--monitor none evaluates one rotation"):
        ipi_driver.run("gas-nve", output=tmp_path / "run", average=3, model="anisotropic", monitor="none")


def test_options_as_on_the_command_line() -> None:
    """Whole numbers of numpy, which YAML cannot hold, and a single endpoint."""
    given = {
        "steps": 1e4,
        "seed": np.int64(3),
        "charge": np.float64(1),
        "endpoint": "a=2i",
        "structure": "a.xyz",
    }
    found = _changes(given, None, 3)
    assert found == Changes(steps=10_000, seed=3, charge=1.0, endpoint=["a=2i"], structure=Path("a.xyz"))
    assert {type(found.steps), type(found.seed), type(found.charge)} == {int, float}
    for name, value, message in (
        ("steps", 2.5, "`steps` must be a whole number, got 2.5"),
        ("structure", ase.build.molecule("H2O"), "`structure` must be a file, got Atoms"),
        ("clients", 0, "`clients` must be a number, 1 or more, got 0"),
    ):
        with pytest.raises(ipi_driver.UserError, match=message):
            ipi_driver.run("gas-nve", **{name: value})


def test_serve_in_a_thread(tmp_path: Path) -> None:
    """Where no signals can be handled."""
    ase.io.write(tmp_path / "water.xyz", ase.build.molecule("H2O"))
    with ThreadPoolExecutor(1) as pool:
        served = pool.submit(
            ipi_driver.serve,
            "anisotropic",
            tmp_path / "water.xyz",
            unix="nobody",
            sockets_prefix=f"{tmp_path}/",
            deadline=0.2,
        )
        with pytest.raises(ipi_driver.UserError, match=r"no i-PI at unix nobody .* within 0\.2 s"):
            served.result()


def test_results_print_one_line() -> None:
    water = ipi_driver.Structure.from_atoms(ase.build.molecule("H2O"))
    assert repr(water) == "Structure(H2O, isolated)"
    model = ipi_driver.RotationalAverage(ipi_driver.load_potential("anisotropic"), "Th")
    prediction = model.predict(water)
    assert repr(prediction).startswith(f"Prediction(energy {prediction.energy:.6f} eV, largest force ")
    assert "24 rotations" in repr(prediction)
    assert np.isfinite(prediction.forces).all()
