r"""Any metatomic model averaged over rotations, as a metatomic model: for models that are no networks of this package.

As `ipi_driver.export.module`, with positions and cell in place of edge vectors: each batch of turned systems is
differentiated at once, and the energy that is returned is :math:`\bar E + \sum g \cdot (x - x')`, with x the
positions and cell vectors, g the derivatives, and x' the same numbers without a derivative.
"""

# The annotations of TorchScript are evaluated when the module is compiled: no `from __future__ import annotations`.
from typing import Dict, List, Optional  # noqa: UP035 - metatomic compares these annotations with its own

import torch
from metatensor.torch import Labels, TensorBlock, TensorMap
from metatomic.torch import ModelOutput, NeighborListOptions, System
from torch import nn

from ipi_driver.structure import FloatArray


class AveragedModule(nn.Module):
    """The energy of a metatomic model, averaged.

    Parameters
    ----------
    inner
        ``AtomisticModel.module`` of the model.
    lists
        Neighbour lists that it asks for.
    energy
        Name of its energy, which the averaged model has as ``energy``.
    rotations, weights
        (n_rotations, 3, 3) and (n_rotations,).
    pairs_per_call
        Pairs × rotations that are evaluated together.
    """

    rotations: torch.Tensor
    weights: torch.Tensor

    def __init__(
        self,
        inner: nn.Module,
        lists: list[NeighborListOptions],
        energy: str,
        rotations: FloatArray,
        weights: FloatArray,
        pairs_per_call: int,
    ) -> None:
        super().__init__()
        self.inner = inner
        self.energy = energy
        self.pairs_per_call = pairs_per_call
        self.lists = [NeighborListOptions(o.cutoff, o.full_list, o.strict) for o in lists]
        self.register_buffer("rotations", torch.from_numpy(rotations.copy()))
        self.register_buffer("weights", torch.from_numpy(weights.copy()))

    def requested_neighbor_lists(self) -> List[NeighborListOptions]:  # noqa: UP006
        """Those of the model."""
        return self.lists

    def forward(
        self,
        systems: List[System],  # noqa: UP006
        outputs: Dict[str, ModelOutput],  # noqa: UP006
        selected_atoms: Optional[Labels] = None,  # noqa: UP045 - a class of TorchScript has no `|`
    ) -> Dict[str, TensorMap]:  # noqa: UP006
        """The energy, of each system or of each atom, in the unit of the model."""
        results: Dict[str, TensorMap] = {}  # noqa: UP006
        if "energy" not in outputs:
            return results
        per_atom = outputs["energy"].sample_kind == "atom"
        n_pairs, leaves = 0, False
        for system in systems:
            for options in self.lists:
                n_pairs += system.get_neighbor_list(options).samples.values.shape[0]
            leaves = leaves or system.positions.requires_grad or system.cell.requires_grad
        explicit = leaves and not per_atom
        chunk = max(1, self.pairs_per_call // max(1, n_pairs))
        by_positions = [torch.zeros_like(system.positions) for system in systems]
        by_cells = [torch.zeros_like(system.cell) for system in systems]
        total = torch.zeros(0, dtype=torch.float64, device=systems[0].positions.device)
        first = torch.jit.annotate(Optional[TensorBlock], None)  # noqa: UP045
        for start in range(0, self.weights.shape[0], chunk):
            stop = min(start + chunk, self.weights.shape[0])
            block, positions, cells = self.evaluate(systems, selected_atoms, per_atom, start, stop, explicit)
            # samples are sorted by system, systems by rotation
            weights = self.weights[start:stop]
            energies = torch.matmul(weights, block.values.to(torch.float64).reshape(stop - start, -1))
            if explicit:
                found = torch.autograd.grad([energies.sum()], positions + cells, allow_unused=True)
                n = len(positions)
                for k in range(n):
                    of_positions, of_cell = found[k], found[n + k]
                    if of_positions is not None:
                        by_positions[k % len(systems)] += of_positions
                    if of_cell is not None:
                        by_cells[k % len(systems)] += of_cell
                energies = energies.detach()
            total = energies if start == 0 else total + energies
            if start == 0:
                first = block
        assert first is not None
        n_samples = total.shape[0]
        samples = first.samples.values[:n_samples]
        if explicit:
            shifts = [
                ((s.positions - s.positions.detach()) * by_positions[k]).sum()
                + ((s.cell - s.cell.detach()) * by_cells[k]).sum()
                for k, s in enumerate(systems)
            ]
            total = total + torch.stack(shifts).to(torch.float64)[samples[:, 0].to(torch.int64)]
        no_components: List[Labels] = []  # noqa: UP006
        zero = torch.zeros((1, 1), dtype=torch.int32, device=total.device)
        block = TensorBlock(
            values=total.reshape(-1, 1).to(systems[0].positions.dtype),
            samples=Labels(first.samples.names, samples),
            components=no_components,
            properties=Labels(["energy"], zero),
        )
        results["energy"] = TensorMap(Labels(["_"], zero), [block])
        return results

    def evaluate(
        self,
        systems: List[System],  # noqa: UP006
        selected_atoms: Optional[Labels],  # noqa: UP045
        per_atom: bool,
        start: int,
        stop: int,
        explicit: bool,
    ) -> tuple[TensorBlock, List[torch.Tensor], List[torch.Tensor]]:  # noqa: UP006
        """The model's energies in the rotations from ``start`` to ``stop``, and the leaves of their derivatives."""
        turned: List[System] = []  # noqa: UP006
        positions: List[torch.Tensor] = []  # noqa: UP006
        cells: List[torch.Tensor] = []  # noqa: UP006
        for k in range(start, stop):
            for system in systems:
                x, cell = system.positions, system.cell
                if explicit:
                    x, cell = x.detach().requires_grad_(True), cell.detach().requires_grad_(True)
                positions.append(x)
                cells.append(cell)
                turned.append(self.rotated(system, x, cell, self.rotations[k]))
        labels = selected_atoms
        if selected_atoms is not None:
            values = selected_atoms.values
            copies = []
            for k in range(stop - start):
                copies.append(torch.stack([values[:, 0] + k * len(systems), values[:, 1]], dim=1))
            labels = Labels(["system", "atom"], torch.cat(copies))
        kind = "atom" if per_atom else "system"
        outputs = self.inner(turned, {self.energy: ModelOutput(sample_kind=kind)}, labels)
        return outputs[self.energy].block(), positions, cells

    def rotated(self, system: System, x: torch.Tensor, cell: torch.Tensor, rotation: torch.Tensor) -> System:
        """A system turned with its neighbor lists; the cell stays right-handed, -cell spans the same lattice."""
        matrix = rotation.to(x.dtype).t()
        sign = 1 if bool(torch.linalg.det(rotation) > 0) else -1
        x, cell = x @ matrix, sign * (cell @ matrix)
        turned = System(types=system.types, positions=x, cell=cell, pbc=system.pbc)
        for options in self.lists:
            given = system.get_neighbor_list(options)
            samples = given.samples.values.clone()
            samples[:, 2:] = sign * samples[:, 2:]
            i, j = samples[:, 0].to(torch.int64), samples[:, 1].to(torch.int64)
            moving = x[j] - x[i] + samples[:, 2:].to(x.dtype) @ cell
            # the numbers of the list: differences of positions far from the origin have lost digits
            vectors = given.values.reshape(-1, 3).detach() @ matrix + (moving - moving.detach())
            block = TensorBlock(
                values=vectors.reshape(-1, 3, 1),
                samples=Labels(given.samples.names, samples),
                components=given.components,
                properties=given.properties,
            )
            turned.add_neighbor_list(options, block)
        for name in system.known_data():
            turned.add_data(name, system.get_data(name))
        return turned
