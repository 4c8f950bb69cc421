"""MACE models with rotations in one batch: ``mace:FILE``, for several heads ``mace:FILE?head=NAME``.

FILE is what MACE's training and its ``mace_create_...`` commands write, and what its foundation models are distributed
as: a pickle, which can run code when it is loaded. The neighbors of a structure are found once, as they depend on
distances alone; positions and cell are turned, and all rotations are one batch of graphs. MACE is equivariant, so an
average is of use as a check alone. Models that were trained with total charge and spin take those of the structure.

Batatia et al., NeurIPS 35, 11423 (2022). Needs the package ``mace-torch``, which pins an old e3nn; it was seen to work
with newer ones (``pip install --no-deps mace-torch``, then its other requirements).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ipi_driver.elements import places_in
from ipi_driver.errors import UserError
from ipi_driver.neighbors import all_pairs
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.spec import PotentialSpec
from ipi_driver.structure import FloatArray, RotatedResults, Structure

_CONDITIONS = {"total_charge": "charge", "total_spin": "spin"}
"""Names of MACE's graph features, and ours."""


class MacePotential(Potential):
    """Potential of a loaded MACE.

    Parameters
    ----------
    model
        ``mace.modules.MACE`` or another of its models with an energy.
    name
        For logs.
    device
        Torch device.
    dtype
        "float32", "float64", or None for that of the weights.
    head
        One of the model's heads; None where it has one only, or one called default.

    Raises
    ------
    UserError
        If the head is unknown, or the model asks for something that structures do not have.
    """

    takes_device = True
    precision = "chosen"
    options = ("head",)

    def __init__(
        self,
        model: Any,
        name: str = "mace",
        device: str = "cpu",
        dtype: str | None = None,
        head: str | None = None,
    ) -> None:
        from ipi_driver.potentials.torch_device import torch_device, torch_dtype

        self.name = name
        self.device = torch_device(device)
        self.dtype = model.r_max.dtype if dtype is None else torch_dtype(dtype)
        self.model = model.to(self.device, self.dtype).eval().requires_grad_(False)
        self.cutoff = float(model.r_max)
        self.species = tuple(int(z) for z in model.atomic_numbers)
        self._places, self._n_species = places_in(self.species), len(self.species)
        self._head = _head_index(list(getattr(model, "heads", None) or ["Default"]), head, name)
        asked = list(getattr(model, "embedding_specs", None) or {})
        if unknown := [feature for feature in asked if feature not in _CONDITIONS]:
            raise UserError(
                f"{name}: the model asks for {unknown[0]!r}, which structures do not have here; take it through "
                "ase:mace.calculators.MACECalculator"
            )
        self.conditions = tuple(_CONDITIONS[feature] for feature in asked)

    @classmethod
    def from_spec(cls, spec: PotentialSpec, device: str = "cpu", dtype: str | None = None) -> MacePotential:
        """From a file of MACE."""
        cls.check_spec(spec)
        try:
            import mace.modules  # noqa: F401 - the classes of the pickle
        except ImportError as error:
            raise UserError(
                f"{spec} needs the package mace-torch ({error}): pip install mace-torch"
            ) from None
        import pickle

        import torch

        known = (OSError, RuntimeError, ValueError, AttributeError, ImportError, EOFError)
        try:
            model = torch.load(spec.name, map_location="cpu", weights_only=False)
        except (pickle.UnpicklingError, *known) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"{spec}: the file cannot be loaded as a MACE model: {reason}") from error
        if not hasattr(model, "atomic_numbers") or not hasattr(model, "atomic_energies_fn"):
            kind = type(model).__name__
            raise UserError(f"{spec}: expected a MACE model with an energy, got a file that holds a {kind}")
        return cls(model, Path(spec.name).stem, device, dtype, spec.options.get("head"))

    @classmethod
    def check_spec(cls, spec: PotentialSpec) -> None:
        """Raise `UserError` where there is no such file."""
        if not Path(spec.name).is_file():
            raise UserError(f"{spec}: no such file; expected mace:FILE with a model that MACE has written")

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        found = self.model(self._batch(structures, rotations), compute_virials=True)
        n = len(rotations)
        energies = self._numbers(found["energy"]).reshape(len(structures), n)
        virials = self._numbers(found["virials"]).reshape(len(structures), n, 3, 3)
        all_forces, forces, start = self._numbers(found["forces"]), [], 0
        for structure in structures:
            stop = start + n * structure.n_atoms
            forces.append(all_forces[start:stop].reshape(n, structure.n_atoms, 3) @ rotations)
            start = stop
        return RotatedResults(energies, tuple(forces), rotations.transpose(0, 2, 1) @ virials @ rotations)

    def _batch(self, structures: list[Structure], rotations: FloatArray) -> dict[str, Any]:
        """Disjoint graphs of every structure under every rotation, structures first."""
        import torch

        n = len(rotations)
        counts = np.repeat([structure.n_atoms for structure in structures], n)
        starts = np.concatenate([[0], np.cumsum(counts)])
        positions, cells, edges, shifts, species = [], [], [], [], []
        for s, structure in enumerate(structures):
            i, j, images = all_pairs(structure, self.cutoff or 0.0)
            cell = structure.cell if structure.periodic else np.zeros((3, 3))
            positions.append((structure.positions @ rotations.transpose(0, 2, 1)).reshape(-1, 3))
            cells.append((cell @ rotations.transpose(0, 2, 1)).reshape(-1, 3))
            first = starts[s * n : (s + 1) * n, None, None]
            edges.append((np.stack([i, j])[None] + first).transpose(1, 0, 2).reshape(2, -1))
            shifts.append(np.tile(images.astype(np.float64), (n, 1)))
            species.append(np.tile(self._places[structure.numbers], n))
        kinds = torch.from_numpy(np.concatenate(species))

        def real(values: list[FloatArray]) -> Any:
            return torch.from_numpy(np.concatenate(values)).to(self.device, self.dtype)

        lattice = real(shifts)
        pairs = torch.from_numpy(np.concatenate(edges, axis=1)).to(self.device)
        members = torch.from_numpy(np.repeat(np.arange(len(counts)), counts)).to(self.device)
        box = real(cells)
        batch = {
            "positions": real(positions),
            "cell": box,
            "edge_index": pairs,
            "unit_shifts": lattice,
            "shifts": torch.einsum("ea,eab->eb", lattice, box.view(-1, 3, 3)[members[pairs[0]]]),
            "node_attrs": torch.nn.functional.one_hot(kinds, self._n_species).to(self.device, self.dtype),
            "batch": members,
            "ptr": torch.from_numpy(starts).to(self.device),
            "head": torch.full((len(counts),), self._head, device=self.device),
        }
        for feature, name in _CONDITIONS.items():
            if name in (self.conditions or ()):
                neutral = 0.0 if name == "charge" else 1.0
                values = [getattr(structure, name) for structure in structures]
                numbers = np.repeat([neutral if v is None else float(v) for v in values], n)
                batch[feature] = torch.from_numpy(numbers).to(self.device, self.dtype)
        return batch

    @staticmethod
    def _numbers(values: Any) -> FloatArray:
        return np.asarray(values.detach().cpu().double().numpy())


def _head_index(heads: list[str], head: str | None, name: str) -> int:
    """Index of the head; without a name the only one, or the one called default."""
    if head is None:
        if len(heads) == 1:
            return 0
        matching = [k for k, known in enumerate(heads) if known.lower() == "default"]
    else:
        matching = [k for k, known in enumerate(heads) if known == head]
    if not matching:
        wanted = "no head was named" if head is None else f"got {head!r}"
        raise UserError(f"{name}: choose a head with ?head=NAME, one of {', '.join(heads)}; {wanted}")
    return matching[0]
