"""The threads that a user has configured are those of the process, whatever was evaluated before."""

from __future__ import annotations

from collections.abc import Iterator

import ase.build
import numpy as np
import pytest
import torch

from ipi_driver.potentials import load_potential
from ipi_driver.structure import Structure


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_a_small_molecule_leaves_the_threads_as_they_were() -> None:
    potential = load_potential("pet-water-s")
    molecule = Structure.from_atoms(ase.build.molecule("H2O"))
    potential.evaluate([molecule], np.eye(3)[None])
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)  # a user's own choice is not undone either
    potential.evaluate([molecule], np.eye(3)[None])
    assert torch.get_num_threads() == 1
