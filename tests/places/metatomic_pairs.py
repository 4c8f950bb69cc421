"""A small metatomic model for the tests; TorchScript needs it, and what it names, at module level."""

from pathlib import Path
from typing import Dict, List, Optional  # noqa: UP035 - the annotations that metatomic asks for

import torch
from metatensor.torch import Labels, TensorBlock, TensorMap
from metatomic.torch import (
    AtomisticModel,
    ModelCapabilities,
    ModelMetadata,
    ModelOutput,
    NeighborListOptions,
    System,
)


class Pairs(torch.nn.Module):
    """E = sum over pairs of (1 - r/3)^2 (1 + z^2/10): depends on the direction of z."""

    def __init__(self) -> None:
        super().__init__()
        self.options = NeighborListOptions(cutoff=3.0, full_list=False, strict=True)

    def requested_neighbor_lists(self) -> List[NeighborListOptions]:  # noqa: UP006
        return [self.options]

    def forward(
        self,
        systems: List[System],  # noqa: UP006
        outputs: Dict[str, ModelOutput],  # noqa: UP006
        selected_atoms: Optional[Labels] = None,  # noqa: UP045
    ) -> Dict[str, TensorMap]:  # noqa: UP006
        energies: List[torch.Tensor] = []  # noqa: UP006
        for system in systems:
            d = system.get_neighbor_list(self.options).values.reshape(-1, 3)
            r = torch.sqrt((d * d).sum(dim=1))
            energies.append((((1 - r / 3.0) ** 2) * (1 + 0.1 * d[:, 2] ** 2)).sum())
        no_components: List[Labels] = []  # noqa: UP006
        block = TensorBlock(
            values=torch.stack(energies).reshape(-1, 1),
            samples=Labels(["system"], torch.arange(len(systems)).reshape(-1, 1)),
            components=no_components,
            properties=Labels(["energy"], torch.tensor([[0]])),
        )
        return {"energy": TensorMap(Labels(["_"], torch.tensor([[0]])), [block])}


def export_pairs(path: Path, device: str = "cpu", others: tuple[str, ...] = ()) -> Path:
    """Write the model for one kind of device; ``others``: outputs that it announces besides the energy."""
    capabilities = ModelCapabilities(
        outputs={"energy": ModelOutput(unit="eV"), **{name: ModelOutput() for name in others}},
        atomic_types=[1, 8],
        interaction_range=3.0,
        length_unit="angstrom",
        supported_devices=[device],
        dtype="float64",
    )
    AtomisticModel(Pairs().eval(), ModelMetadata(), capabilities).save(str(path))
    return path
