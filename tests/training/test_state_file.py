"""The state of a training in a file: everything comes back, and a foreign file is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from training_place import write_config

from ipi_driver.cli import main
from ipi_driver.errors import UserError
from ipi_driver.training.state_file import read_state, write_state


def test_states_of_optimizers_come_back(tmp_path: Path) -> None:
    weights = [torch.nn.Parameter(torch.randn(3, 2)), torch.nn.Parameter(torch.randn(4, dtype=torch.float64))]
    optimizer = torch.optim.AdamW(weights, lr=0.1)
    sum(w.square().sum() for w in weights).backward()
    optimizer.step()
    shared = weights[0].detach()
    state = {"parts": [optimizer.state_dict()], "a": shared, "b": shared[:1], "best": 0.1 + 0.2, "none": None}
    write_state(tmp_path / "state.safetensors", state)
    found = read_state(tmp_path / "state.safetensors")
    assert found["best"] == state["best"]
    assert found["none"] is None
    assert torch.equal(found["b"], shared[:1])
    before, after = state["parts"][0]["state"], found["parts"][0]["state"]
    assert set(before) == set(after) == {0, 1}
    for k, entries in before.items():
        for name, value in entries.items():
            assert torch.equal(after[k][name], value)
            assert after[k][name].dtype == value.dtype
    torch.optim.AdamW(weights, lr=0.5).load_state_dict(found["parts"][0])
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no state")
    save_file({"w": torch.zeros(1)}, tmp_path / "weights.safetensors")
    torch.save({"w": torch.zeros(1)}, tmp_path / "pickle")
    for name in ("text", "weights.safetensors", "pickle"):
        with pytest.raises(UserError, match="holds no state of a training"):
            read_state(tmp_path / name)


def test_a_checkpoint_of_an_older_version_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path)
    (tmp_path / "model").mkdir()
    torch.save({}, tmp_path / "model" / "checkpoint.pt")
    assert main(["train", str(path), "--quiet", "--resume"]) == 2
    assert "`start_from` this folder" in capsys.readouterr().err
