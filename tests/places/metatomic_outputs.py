"""A metatomic model with many outputs, for the tests."""

import warnings
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


def one_block(values: torch.Tensor, samples: Labels, components: List[Labels], name: str) -> TensorMap:  # noqa: UP006
    """A map of one block."""
    properties = Labels([name], torch.arange(values.shape[-1]).reshape(-1, 1))
    return TensorMap(
        Labels(["_"], torch.tensor([[0]])), [TensorBlock(values, samples, components, properties)]
    )


class Outputs(torch.nn.Module):
    """Springs to the center along z: E = sum z²/2 (``energy/soft``), twice that (``energy/hard``).

    Direct forces are -z along z and a constant along x, the direct stress is diag(1, 2, 3) in the turned structure's
    axes. It knows no slabs. Ensemble: E, E + 1, E + 2. Dipole: sum_i (i + 1) r_i. Uncertainty: z² of each atom.
    """

    def __init__(self, force: str = "non_conservative_force") -> None:
        super().__init__()
        self.force = force

    def requested_neighbor_lists(self) -> List[NeighborListOptions]:  # noqa: UP006
        return []

    def forward(
        self,
        systems: List[System],  # noqa: UP006
        outputs: Dict[str, ModelOutput],  # noqa: UP006
        selected_atoms: Optional[Labels] = None,  # noqa: UP045
    ) -> Dict[str, TensorMap]:  # noqa: UP006
        warnings.warn("a model that talks")
        energies: List[torch.Tensor] = []  # noqa: UP006
        forces: List[torch.Tensor] = []  # noqa: UP006
        dipoles: List[torch.Tensor] = []  # noqa: UP006
        uncertainties: List[torch.Tensor] = []  # noqa: UP006
        rows: List[torch.Tensor] = []  # noqa: UP006
        index = 0
        for system in systems:
            assert bool(system.pbc.all()) == bool(system.pbc.any()), "slabs are not known"
            r = system.positions - system.positions.mean(dim=0)
            energies.append(0.5 * (r[:, 2] ** 2).sum())
            force = torch.zeros_like(r)
            force[:, 2] = -r[:, 2]
            force[:, 0] = 0.3
            forces.append(force)
            dipoles.append(((torch.arange(len(r)) + 1.0).to(r.dtype).unsqueeze(1) * r).sum(dim=0))
            uncertainties.append(r[:, 2] ** 2)
            atoms = torch.arange(len(r)).reshape(-1, 1)
            rows.append(torch.cat([torch.full_like(atoms, index), atoms], dim=1))
            index += 1  # noqa: SIM113 - TorchScript
        energy = torch.stack(energies).reshape(-1, 1)
        of_systems = Labels(["system"], torch.arange(len(systems)).reshape(-1, 1))
        of_atoms = Labels(["system", "atom"], torch.cat(rows))
        xyz = [Labels(["xyz"], torch.arange(3).reshape(-1, 1))]
        xyz2 = [
            Labels(["xyz_1"], torch.arange(3).reshape(-1, 1)),
            Labels(["xyz_2"], torch.arange(3).reshape(-1, 1)),
        ]
        none: List[Labels] = []  # noqa: UP006
        result: Dict[str, TensorMap] = {}  # noqa: UP006
        if "energy/soft" in outputs:
            result["energy/soft"] = one_block(energy, of_systems, none, "energy")
        if "energy/hard" in outputs:
            result["energy/hard"] = one_block(2.0 * energy, of_systems, none, "energy")
        if self.force in outputs:
            values = torch.cat(forces).unsqueeze(-1)
            result[self.force] = one_block(values, of_atoms, xyz, "non_conservative_force")
        if "non_conservative_stress" in outputs:
            stress = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=energy.dtype))
            values = stress.repeat(len(systems), 1, 1).unsqueeze(-1)
            result["non_conservative_stress"] = one_block(values, of_systems, xyz2, "non_conservative_stress")
        if "energy_ensemble" in outputs:
            values = energy + torch.arange(3).to(energy.dtype)
            result["energy_ensemble"] = one_block(values, of_systems, none, "energy")
        if "energy_uncertainty" in outputs:
            values = torch.cat(uncertainties).unsqueeze(-1)
            result["energy_uncertainty"] = one_block(values, of_atoms, none, "energy")
        if "mtt::dipole" in outputs:
            values = torch.stack(dipoles).unsqueeze(-1)
            result["mtt::dipole"] = one_block(values, of_systems, xyz, "dipole")
        if "mtt::spherical" in outputs:  # y, z, x of the dipole, twice as two properties, and its square
            vector = torch.stack(dipoles)[:, [1, 2, 0]].unsqueeze(-1)
            scalar = (torch.stack(dipoles) ** 2).sum(dim=1).reshape(-1, 1, 1)
            properties = Labels(["n"], torch.arange(2).reshape(-1, 1))
            result["mtt::spherical"] = TensorMap(
                Labels(["o3_lambda", "o3_sigma"], torch.tensor([[0, 1], [1, 1]])),
                [
                    TensorBlock(
                        scalar,
                        of_systems,
                        [Labels(["o3_mu"], torch.tensor([[0]]))],
                        Labels(["n"], torch.tensor([[0]])),
                    ),
                    TensorBlock(
                        torch.cat([vector, 2.0 * vector], dim=2),
                        of_systems,
                        [Labels(["o3_mu"], torch.tensor([[-1], [0], [1]]))],
                        properties,
                    ),
                ],
            )
        return result


def save(path: Path, outputs: Dict[str, ModelOutput], force: str = "non_conservative_force") -> Path:  # noqa: UP006
    """Export the model with some of its outputs."""
    capabilities = ModelCapabilities(
        outputs=outputs,
        atomic_types=[1, 8],
        interaction_range=0.0,
        length_unit="angstrom",
        supported_devices=["cpu"],
        dtype="float64",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        AtomisticModel(Outputs(force).eval(), ModelMetadata(), capabilities).save(str(path))
    return path
