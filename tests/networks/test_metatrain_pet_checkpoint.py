"""Checkpoints of metatrain: versions, wrappers, charge and spin, adapters, and what is refused; needs metatrain."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from random_structures import random_structure
from safetensors.torch import load_file

from ipi_driver.cli import main
from ipi_driver.errors import UserError
from ipi_driver.networks.metatrain_pet.checkpoint import import_checkpoint, load_pet
from ipi_driver.networks.metatrain_pet.kokkos_files import write_kokkos_files
from ipi_driver.potentials import load_potential
from ipi_driver.potentials.network import NetworkPotential

metatrain = pytest.importorskip("metatrain")
import metatrain_models as mtt  # noqa: E402

OLD = {
    path.name.partition("_")[0]: path  # one of each version
    for path in sorted(Path(metatrain.__file__).parent.glob("pet/tests/checkpoints/*.ckpt.gz"))
}
WRAPPED = sorted(Path(metatrain.__file__).parent.glob("llpr/tests/checkpoints/*.ckpt.gz"))[-1:]


def unpacked(path: Path, folder: Path) -> Path:
    (folder / "old.ckpt").write_bytes(gzip.decompress(path.read_bytes()))
    return folder / "old.ckpt"


def assert_follows(path: Path) -> None:
    """The imported model gives metatrain's energies and forces of the same checkpoint."""
    model, found = load_pet(path), import_checkpoint(path)
    rng = np.random.default_rng(0)
    structure = random_structure(n=6)
    numbers = rng.choice(model.atomic_types, 6)
    structure = type(structure)(numbers, structure.positions, structure.cell, structure.pbc)
    energy, forces, _ = mtt.reference(model.double().eval(), structure, found.target)
    result = NetworkPotential(found.network, found.baseline, dtype="float64").predict(structure)
    assert result.energy == pytest.approx(energy, rel=1e-6, abs=1e-6)
    np.testing.assert_allclose(result.forces, forces, atol=1e-6)


@pytest.mark.parametrize("version", OLD)
def test_versions(version: str, tmp_path: Path) -> None:
    assert_follows(unpacked(OLD[version], tmp_path))


@pytest.mark.parametrize("path", WRAPPED, ids=lambda path: path.name)
def test_uncertainty_wrapper(path: Path, tmp_path: Path) -> None:
    assert_follows(unpacked(path, tmp_path))


def test_charge_and_spin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = mtt.random_model({"system_conditioning": True})
    with torch.no_grad():  # metatrain starts with zeros
        model.backend.system_conditioning.project[2].weight.normal_()
    path = mtt.save_checkpoint(model, tmp_path / "model.ckpt")
    structure = random_structure()
    energies = []
    for charge, spin in ((0, 1), (1, 2), (-1, 2)):
        command = ["import-pet", str(path), str(tmp_path / "model"), "--force"]
        assert main([*command, f"--charge={charge}", f"--spin={spin}"]) == 0
        assert f"charge {charge} and spin multiplicity {spin}" in capsys.readouterr().out
        result = load_potential(tmp_path / "model", dtype="float64").predict(structure)
        energy, forces, _ = mtt.reference(model, structure, charge=charge, spin=spin)
        assert result.energy == pytest.approx(energy, rel=1e-10)
        np.testing.assert_allclose(result.forces, forces, atol=1e-10)
        energies.append(energy)
        potential = load_potential(tmp_path / "model")
        assert potential.predict(structure.conditioned(charge, spin)).energy == pytest.approx(
            energy, abs=1e-4
        )
        with pytest.raises(UserError, match=f"imported for charge {charge}, but the structure has charge 2;"):
            potential.predict(structure.conditioned(2, spin))
    assert len({round(e, 4) for e in energies}) == 3
    with pytest.raises(UserError, match="charge values must be in"):
        import_checkpoint(path, charge=20)
    plain = mtt.save_checkpoint(mtt.random_model(), tmp_path / "plain.ckpt")
    with pytest.raises(UserError, match="does not depend on charge and spin"):
        import_checkpoint(plain, charge=1)


def test_low_rank_adapters_are_merged(tmp_path: Path) -> None:
    from metatrain.pet.modules.finetuning import apply_finetuning_strategy

    model = mtt.random_model()
    before = mtt.reference(model, random_structure())[0]
    model._stale_finetune_targets = []
    strategy = {"method": "lora", "config": {"rank": 2, "alpha": 3.0}, "inherit_heads": {}}
    model = apply_finetuning_strategy(model, strategy, apply_inherit_heads=False)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    energy, forces, _ = mtt.reference(model, random_structure())
    assert abs(energy - before) > 1e-3
    path = mtt.save_checkpoint(model, tmp_path / "model.ckpt")
    checkpoint = torch.load(path, weights_only=False)
    checkpoint["best_model_state_dict"]["finetune_config"] = strategy  # as metatrain's trainer writes it
    torch.save(checkpoint, path)
    found = import_checkpoint(path)
    result = NetworkPotential(found.network, found.baseline, dtype="float64").predict(random_structure())
    assert result.energy == pytest.approx(energy, rel=1e-10)
    np.testing.assert_allclose(result.forces, forces, atol=1e-10)
    write_kokkos_files(path, tmp_path / "kokkos")
    plain = mtt.save_checkpoint(mtt.random_model(), tmp_path / "plain.ckpt")
    write_kokkos_files(plain, tmp_path / "plain")
    names = [load_file(tmp_path / f"{name}.safetensors").keys() for name in ("kokkos", "plain")]
    assert names[0] == names[1]


def test_files_of_pet_kokkos_are_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither of the two; with `--json` the result is printed."""
    path = mtt.save_checkpoint(mtt.random_model(), tmp_path / "model.ckpt")
    words = ["import-pet", str(path), str(tmp_path / "out"), "--kokkos"]
    (tmp_path / "out.safetensors").write_text("mine")
    assert main(words) == 2
    assert "out.safetensors exists already" in capsys.readouterr().err
    assert (tmp_path / "out.safetensors").read_text() == "mine"
    assert main([*words, "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["target"] == "energy"


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = mtt.save_checkpoint(mtt.random_model(targets=("energy/a", "energy/b")), tmp_path / "model.ckpt")
    with pytest.raises(UserError, match="choose one with --target"):
        import_checkpoint(path)
    with pytest.raises(UserError, match="holds no energy 'c'; it holds energy/a, energy/b"):
        import_checkpoint(path, "c")
    checkpoint = torch.load(path, weights_only=False)
    torch.save(checkpoint | {"architecture_name": "soap_bpnn"}, path)
    with pytest.raises(UserError, match="holds the architecture soap_bpnn: only pet"):
        import_checkpoint(path)
    torch.save(checkpoint | {"model_ckpt_version": 99}, path)
    with pytest.raises(UserError, match=r"metatrain cannot load .*version 99"):
        import_checkpoint(path)
    torch.save({"weights": 1}, path)
    with pytest.raises(UserError, match="is no checkpoint of metatrain"):
        import_checkpoint(path)
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be read"):
        import_checkpoint(path)
    with pytest.raises(UserError, match="there is no file"):
        import_checkpoint(tmp_path / "absent.ckpt")
    monkeypatch.setitem(sys.modules, "metatrain.utils.io", None)
    with pytest.raises(UserError, match=r"pip install 'ipi-driver\[metatrain\]'"):
        import_checkpoint(path)


def test_long_range_is_refused(tmp_path: Path) -> None:
    model = mtt.random_model()
    path = mtt.save_checkpoint(model, tmp_path / "model.ckpt")
    checkpoint = torch.load(path, weights_only=False)
    checkpoint["model_data"]["model_hypers"]["long_range"]["enable"] = True
    torch.save(checkpoint, path)
    with pytest.raises(UserError, match="long_range"):
        import_checkpoint(path)
