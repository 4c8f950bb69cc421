"""A metatomic model that depends on charge and spin, for the tests."""

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


class Charged(torch.nn.Module):
    """E = sum_i r_i^2 + 3 q + 5 (2S+1), of atoms around their center."""

    def __init__(self, asked: str = "charge") -> None:
        super().__init__()
        self.asked = asked

    def requested_neighbor_lists(self) -> List[NeighborListOptions]:  # noqa: UP006
        return []

    def requested_inputs(self) -> Dict[str, ModelOutput]:  # noqa: UP006
        if self.asked == "charge":
            return {
                "charge": ModelOutput(unit="e", sample_kind="system"),
                "spin_multiplicity": ModelOutput(unit="", sample_kind="system"),
            }
        return {self.asked: ModelOutput(unit="", sample_kind="atom")}

    def forward(
        self,
        systems: List[System],  # noqa: UP006
        outputs: Dict[str, ModelOutput],  # noqa: UP006
        selected_atoms: Optional[Labels] = None,  # noqa: UP045
    ) -> Dict[str, TensorMap]:  # noqa: UP006
        energies: List[torch.Tensor] = []  # noqa: UP006
        for system in systems:
            r = system.positions - system.positions.mean(dim=0)
            charge = system.get_data("charge").block().values.sum()
            spin = system.get_data("spin_multiplicity").block().values.sum()
            energies.append((r * r).sum() + 3.0 * charge + 5.0 * spin)
        no_components: List[Labels] = []  # noqa: UP006
        block = TensorBlock(
            values=torch.stack(energies).reshape(-1, 1),
            samples=Labels(["system"], torch.arange(len(systems)).reshape(-1, 1)),
            components=no_components,
            properties=Labels(["energy"], torch.tensor([[0]])),
        )
        return {"energy": TensorMap(Labels(["_"], torch.tensor([[0]])), [block])}


def export_charged(path: Path, asked: str = "charge") -> Path:
    """Write the model; ``asked``: an input that it asks for in place of charge and spin."""
    capabilities = ModelCapabilities(
        outputs={"energy": ModelOutput(unit="eV")},
        atomic_types=[1, 8],
        interaction_range=0.0,
        length_unit="angstrom",
        supported_devices=["cpu"],
        dtype="float64",
    )
    AtomisticModel(Charged(asked).eval(), ModelMetadata(), capabilities).save(str(path))
    return path
