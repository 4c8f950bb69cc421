"""Orb models with rotations in one batch: ``orb:NAME`` or ``orb:FILE?model=NAME``.

``orb:orb-v3-conservative-inf-omat`` and the other names of orb-models' `ORB_PRETRAINED_MODELS` download their weights
at the first use; ``orb:weights.ckpt?model=orb-v3-direct-20-omat`` takes weights of a file (a fine-tuned model) with the
architecture of that name. The graph of a structure is made once: neighbors depend on distances alone; positions, edge
vectors and cell are turned, and all rotations are one batch.

"conservative" models give derivatives of their energy; "direct" ones predict forces and stress, which are no
derivatives: use them in the inner step of multiple time stepping. The stress of both is symmetric; the virial of an
isolated structure is that of its forces. "direct" models give slabs and wires no virial: their stress is a force for
each area, and a slab has no volume. Models that were trained with charge and spin take those of the structure.

Rhodes et al., "Orb-v3: atomistic simulation at scale", arXiv 2504.06231 (2025). Needs the package ``orb-models``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.neighbors import all_pairs
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.cells import roomy_cell
from ipi_driver.potentials.spec import PotentialSpec
from ipi_driver.structure import FloatArray, RotatedResults, Structure, shift_sign

_VOIGT = [[0, 5, 4], [5, 1, 3], [4, 3, 2]]


class OrbPotential(Potential):
    """Potential of a loaded Orb model.

    Parameters
    ----------
    model
        A ``ConservativeForcefieldRegressor`` or ``DirectForcefieldRegressor`` with its ``system_config``.
    name
        For logs.
    device
        Torch device.
    dtype
        "float32" or "float64".
    """

    takes_device = True
    precision = "chosen"
    options = ("model",)

    def __init__(self, model: Any, name: str = "orb", device: str = "cpu", dtype: str = "float32") -> None:
        from ipi_driver.potentials.torch_device import torch_device, torch_dtype

        self.name = name
        self.device = torch_device(device)
        self.dtype = torch_dtype(dtype)
        self.model = model.to(self.device, self.dtype).eval().requires_grad_(False)
        self.cutoff = float(model.system_config.radius)
        self.conservative = hasattr(model, "grad_forces_name")
        self.conditions = () if model.model.conditioner is None else ("charge", "spin")
        heads = [model.energy_name] if self.conservative else list(model.heads)
        self._energy = next(head for head in heads if head.startswith("energy"))
        if self.conservative:
            self._forces = model.grad_forces_name
            self._stress = model.grad_stress_name if model.has_stress else None
        else:
            self._forces = next(head for head in heads if head.startswith("forces"))
            self._stress = next((head for head in heads if head.startswith("stress")), None)

    @classmethod
    def from_spec(cls, spec: PotentialSpec, device: str = "cpu", dtype: str | None = None) -> OrbPotential:
        """From the name of a published model, or a file of weights and the name of their architecture."""
        try:
            from orb_models.forcefield.pretrained import ORB_PRETRAINED_MODELS
        except ImportError as error:
            raise UserError(
                f"{spec} needs the package orb-models ({error}): pip install orb-models"
            ) from None
        file = Path(spec.name)
        architecture = spec.options.get("model", "" if file.is_file() else spec.name)
        if architecture not in ORB_PRETRAINED_MODELS:
            known = ", ".join(ORB_PRETRAINED_MODELS)
            remedy = f"expected orb:NAME or orb:FILE?model=NAME with NAME one of {known}"
            raise UserError(f"{spec}: no file and no model of this name: {remedy}")
        weights = {"weights_path": str(file)} if file.is_file() else {}
        try:
            model = ORB_PRETRAINED_MODELS[architecture](device="cpu", compile=False, **weights)
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"{spec}: the weights of {architecture} cannot be loaded: {reason}") from error
        return cls(model, file.stem if file.is_file() else architecture, device, dtype or "float32")

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        from orb_models.forcefield.base import batch_graphs

        graphs = [turned for s in structures for turned in self._graphs(s, rotations)]
        found = self.model.predict(batch_graphs(graphs).to(self.device, self.dtype))
        n = len(rotations)
        energies, all_forces = self._numbers(found[self._energy]), self._numbers(found[self._forces])
        forces, virials, start = [], [], 0
        for s, structure in enumerate(structures):
            stop = start + n * structure.n_atoms
            turned = all_forces.reshape(-1, 3)[start:stop].reshape(n, structure.n_atoms, 3)
            forces.append(turned @ rotations)
            start = stop
            if not structure.periodic:
                virials.append(forces[-1].transpose(0, 2, 1) @ structure.positions)
            elif self._stress is not None and (self.conservative or structure.pbc.all()):
                stress = self._numbers(found[self._stress]).reshape(-1, 6)[s * n : (s + 1) * n][:, _VOIGT]
                volume = abs(np.linalg.det(roomy_cell(structure, self.cutoff or 0.0)))
                virials.append(rotations.transpose(0, 2, 1) @ (-volume * stress) @ rotations)
        whole = np.array(virials) if len(virials) == len(structures) else None
        return RotatedResults(energies.reshape(len(structures), n), tuple(forces), whole)

    @staticmethod
    def _numbers(values: Any) -> FloatArray:
        return np.asarray(values.detach().cpu().double().numpy())

    def _graphs(self, structure: Structure, rotations: FloatArray) -> list[Any]:
        """The structure's graph under every rotation, in double precision."""
        import torch

        graph = self._graph(structure)
        graphs = []
        for rotation in rotations:
            turn = torch.from_numpy(np.ascontiguousarray(rotation.T))
            sign = float(shift_sign(rotation))  # the cell stays right-handed
            edges, system = graph.edge_features, graph.system_features
            graphs.append(
                graph._replace(
                    node_features={**graph.node_features, "positions": graph.positions @ turn},
                    edge_features={
                        **edges,
                        "vectors": edges["vectors"] @ turn,
                        "unit_shifts": sign * edges["unit_shifts"],
                    },
                    system_features={**system, "cell": sign * (system["cell"] @ turn)},
                )
            )
        return graphs

    def _graph(self, structure: Structure) -> Any:
        """The graph of a structure, with the neighbors found here: orb-models misses pairs in skewed cells."""
        import torch
        from ase import Atoms
        from orb_models.forcefield.atomic_system import SystemConfig, ase_atoms_to_atom_graphs

        config = self.model.system_config
        if structure.periodic:  # Orb knows no slabs
            cell = roomy_cell(structure, config.radius)
            structure = replace(structure, cell=cell, pbc=np.ones(3, dtype=bool))
        atoms = Atoms(
            numbers=structure.numbers, positions=structure.positions, cell=structure.cell, pbc=structure.pbc
        )
        if self.conditions:
            atoms.info |= {"charge": float(structure.charge or 0.0), "spin": float(structure.spin or 1)}
        kind = {"output_dtype": torch.float64, "graph_construction_dtype": torch.float64, "wrap": False}
        lone = ase_atoms_to_atom_graphs(atoms, SystemConfig(radius=1e-6, max_num_neighbors=1), **kind)
        i, j, shifts = all_pairs(structure, config.radius)
        vectors = structure.positions[j] - structure.positions[i] + shifts @ structure.cell
        nearest = np.lexsort((np.einsum("ij,ij->i", vectors, vectors), i))
        counts = np.bincount(i, minlength=structure.n_atoms)
        place = np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
        kept = nearest[place < config.max_num_neighbors]
        edges = {"vectors": vectors[kept], "unit_shifts": shifts[kept].astype(np.float64)}
        return lone._replace(
            senders=torch.from_numpy(i[kept]),
            receivers=torch.from_numpy(j[kept]),
            n_edge=torch.tensor([len(kept)]),
            edge_features={name: torch.from_numpy(values) for name, values in edges.items()},
            radius=config.radius,
            max_num_neighbors=torch.tensor([config.max_num_neighbors]),
        )
