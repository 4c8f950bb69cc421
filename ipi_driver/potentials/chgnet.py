"""CHGNet with rotations in one batch: ``chgnet:`` (the weights that its package ships) or ``chgnet:FILE``.

``chgnet:0.3.0`` (the default), ``chgnet:0.2.0`` and ``chgnet:r2scan`` name shipped weights. The graph of a structure,
with its angles, is made once; only the lattice turns, as atoms are given by fractional coordinates. CHGNet is
invariant, so an average is of use as a check alone. Isolated structures and slabs are put into a cell so long that no
image comes within the cutoff. Single precision.

Deng et al., Nature Machine Intelligence 5, 1031 (2023). Needs the package ``chgnet``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.cells import roomy_cell
from ipi_driver.potentials.spec import PotentialSpec
from ipi_driver.structure import FloatArray, RotatedResults, Structure, shift_sign
from ipi_driver.units import GPA


class ChgnetPotential(Potential):
    """Potential of a loaded CHGNet.

    Parameters
    ----------
    model
        ``chgnet.model.CHGNet``.
    name
        For logs.
    """

    takes_device = True

    def __init__(self, model: Any, name: str = "chgnet") -> None:
        self.model = model
        self.name = name
        self.device = str(next(model.parameters()).device)
        self.cutoff = float(model.graph_converter.atom_graph_cutoff)
        self.species = tuple(range(1, 95))
        model.graph_converter.set_isolated_atom_response("ignore")

    @classmethod
    def from_spec(cls, spec: PotentialSpec, device: str = "cpu", dtype: str | None = None) -> ChgnetPotential:
        """From the name of shipped weights or a file."""
        try:
            from chgnet.model import CHGNet
        except ImportError as error:
            raise UserError(f"{spec} needs the package chgnet ({error}): pip install chgnet") from None
        if Path(spec.name).is_file():
            model = CHGNet.from_file(spec.name).to(device)
            return cls(model, Path(spec.name).stem)
        try:
            model = CHGNet.load(model_name=spec.name or "0.3.0", use_device=device, verbose=False)
        except ValueError as error:
            raise UserError(f"{spec}: no such weights and no such file: {error}") from None
        return cls(model, f"chgnet-{spec.name or '0.3.0'}")

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        graphs = [graph for structure in structures for graph in self._graphs(structure, rotations)]
        found = self.model.predict_graph(graphs, task="efs", batch_size=len(graphs))
        found = [found] if isinstance(found, dict) else found
        n = len(rotations)
        energies = np.zeros((len(structures), n))
        virials = np.zeros((len(structures), n, 3, 3))
        forces = []
        for s, structure in enumerate(structures):
            parts = found[s * n : (s + 1) * n]
            scale = structure.n_atoms if self.model.is_intensive else 1
            energies[s] = [scale * float(part["e"]) for part in parts]
            turned = np.array([part["f"] for part in parts], dtype=np.float64)
            forces.append(turned @ rotations)
            stresses = np.array([part["s"] for part in parts], dtype=np.float64) / GPA
            volume = abs(np.linalg.det(roomy_cell(structure, self.cutoff or 0.0)))
            virials[s] = rotations.transpose(0, 2, 1) @ (-volume * stresses) @ rotations
        return RotatedResults(energies, tuple(forces), virials)

    def _graphs(self, structure: Structure, rotations: FloatArray) -> list[Any]:
        """The structure's graph under every rotation."""
        import torch
        from chgnet.graph import CrystalGraph
        from pymatgen.core import Lattice
        from pymatgen.core import Structure as Crystal

        cell = roomy_cell(structure, self.cutoff or 0.0)
        crystal = Crystal(
            Lattice(cell), structure.numbers.tolist(), structure.positions, coords_are_cartesian=True
        )
        graph = self.model.graph_converter(crystal)
        graphs = []
        for rotation in rotations:
            sign = shift_sign(rotation)
            # CHGNet divides the stress by the determinant of the lattice: it must be right-handed
            lattice = torch.tensor(sign * cell @ rotation.T, dtype=torch.float32, requires_grad=True)
            parts = dict(vars(graph))
            parts |= {
                "lattice": lattice,
                "atom_frac_coord": sign * graph.atom_frac_coord.detach(),
                "neighbor_image": sign * graph.neighbor_image,
            }
            parts["atom_frac_coord"].requires_grad_()
            graphs.append(CrystalGraph(**parts))
        return graphs
