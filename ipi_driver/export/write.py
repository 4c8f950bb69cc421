"""`export_model`: a network of this package to a file of metatomic, compared with the network before it is kept."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ipi_driver import __version__
from ipi_driver.elements import places_in
from ipi_driver.errors import UserError
from ipi_driver.neighbors import NeighborList
from ipi_driver.networks.graph import build_graph
from ipi_driver.potentials.chunks import CPU_EDGES
from ipi_driver.potentials.metatomic import PAIRS_PER_EDGE, MetatomicPotential
from ipi_driver.potentials.network import NetworkPotential
from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.rotations.quadrature import Quadrature
from ipi_driver.structure import Prediction, Structure

# Of the comparison, relative to the largest force, and to the energy of the network.
_TOLERANCES = {"float32": 1e-4, "float64": 1e-9}


def export_model(potential: NetworkPotential | MetatomicPotential, path: Path, grid: Quadrature) -> list[str]:
    """Write a network, or an exported model, as a metatomic model with the average inside.

    Parameters
    ----------
    potential
        In the precision of the export, on the CPU.
    path
        File to write, ``.pt``.
    grid
        The average: rotations that do not depend on the structure.

    Returns
    -------
    list of str
        Outputs of an exported model that the file leaves out: it holds the energy alone.

    Raises
    ------
    UserError
        If metatomic is not installed, the folder of the file is missing, the average is random or has frames of its
        own, the model depends on charge or spin, or torch cannot record the network.
    """
    try:
        from metatomic.torch import AtomisticModel
    except ImportError as error:
        raise UserError(f"export needs metatomic ({error}): pip install 'ipi-driver[metatomic]'") from None
    if not path.parent.is_dir() or path.is_dir():
        what = "is a folder" if path.is_dir() else f"lies in {path.parent}, which is no folder; make it first"
        raise UserError(f"{path} {what}: expected the path of a file")
    if not grid.is_fixed:
        raise UserError(
            f"--average {grid.name}: an exported model has a fixed grid of rotations, such as T, Th or 2i; a "
            "simulation code expects one energy for one structure"
        )
    if isinstance(potential, MetatomicPotential) and potential.with_derivatives() is not None:
        raise UserError(
            f"{potential.name} with `non_conservative`: an exported average holds the energy, and forces are its "
            "derivatives; leave `non_conservative` out"
        )
    examples = _examples(potential)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript, which metatomic is built on
        if isinstance(potential, NetworkPotential):
            module = _module(potential, grid, examples[0])
            model = AtomisticModel(module, *_descriptions(potential, grid, _devices(module)))
        else:
            model = _wrapped(potential, grid)
        part = path.with_name(f".{path.name}.part")
        try:
            model.save(str(part))
            _compare(MetatomicPotential.load(part), RotationalAverage(potential, grid), examples)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    if isinstance(potential, NetworkPotential):
        return []
    return [name for name in potential.model.capabilities().outputs if name != potential.energy]


def _module(potential: NetworkPotential, grid: Quadrature, example: Structure) -> torch.nn.Module:
    from ipi_driver.export.baseline import BaselineModule
    from ipi_driver.export.module import ExportedModule
    from ipi_driver.export.trace import traced

    assert potential.cutoff is not None
    assert potential.species is not None
    places = places_in(potential.species)
    edges = NeighborList(potential.cutoff, 0.0).edges(example)
    vectors = torch.from_numpy(edges.vectors).to(potential.dtype)
    graph = build_graph([places[example.numbers]], [edges])
    try:
        energies, selection = traced(potential.network, vectors, graph)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{potential.name}: torch cannot record this kind of network: {reason}") from error
    return ExportedModule(
        energies,
        selection,
        BaselineModule(potential.baseline),
        places,
        potential.cutoff,
        grid.rotations,
        grid.weights,
        CPU_EDGES,
    ).eval()


def _wrapped(potential: MetatomicPotential, grid: Quadrature) -> Any:
    from metatomic.torch import AtomisticModel, ModelCapabilities, ModelMetadata, ModelOutput

    from ipi_driver.export.wrapper import AveragedModule

    if potential.conditions:
        raise UserError(
            f"{potential.name}: the model depends on {' and '.join(potential.conditions)}, which an exported average "
            "does not ask a simulation code for; use the file here with --average"
        )
    model, given = potential.model, potential.model.capabilities()
    energy = given.outputs[potential.energy]
    about = f"averaged over the {len(grid)} rotations of {grid.name}; exported by ipi-driver {__version__}"
    lists = model.requested_neighbor_lists()
    pairs = PAIRS_PER_EDGE * CPU_EDGES
    module = AveragedModule(model.module, lists, potential.energy, grid.rotations, grid.weights, pairs)
    metadata = ModelMetadata(
        name=f"{potential.name}, average {grid.name}", description=f"{potential.name} {about}"
    )
    capabilities = ModelCapabilities(
        outputs={"energy": ModelOutput(unit=energy.unit, sample_kind=energy.sample_kind, description=about)},
        atomic_types=given.atomic_types,
        interaction_range=given.interaction_range,
        length_unit=given.length_unit,
        supported_devices=given.supported_devices,
        dtype=given.dtype,
    )
    return AtomisticModel(module.eval(), metadata, capabilities)


def _devices(module: torch.nn.Module) -> list[str]:
    from ipi_driver.export.trace import bound_to_device

    bound = any(bound_to_device(part) for part in module.children())
    return ["cpu"] if bound else ["cuda", "cpu"]


def _descriptions(potential: NetworkPotential, grid: Quadrature, devices: list[str]) -> tuple[Any, Any]:
    """Metadata and capabilities."""
    from metatomic.torch import ModelCapabilities, ModelMetadata, ModelOutput

    raw = grid.name == "none"
    about = "raw" if raw else f"averaged over the {len(grid)} rotations of {grid.name}"
    metadata = ModelMetadata(
        name=potential.name if raw else f"{potential.name}, average {grid.name}",
        description=f"{potential.network.config.kind} network, {about}; exported by ipi-driver {__version__}",
    )
    assert potential.species is not None
    capabilities = ModelCapabilities(
        outputs={"energy": ModelOutput(unit="eV", sample_kind="atom", description=f"energy, {about}")},
        atomic_types=list(potential.species),
        interaction_range=potential.network.interaction_range,
        length_unit="angstrom",
        supported_devices=devices,
        dtype=str(potential.dtype).removeprefix("torch."),
    )
    return metadata, capabilities


def _examples(potential: NetworkPotential | MetatomicPotential) -> list[Structure]:
    """Structures of several sizes with the elements of the model: isolated, an atom, a triclinic cell."""
    assert potential.species is not None
    size = min(potential.cutoff or 4.0, 5.0)
    rng = np.random.default_rng(0)
    found = []
    for n in (5, 8, 1):
        grid = np.array([(i, j, k) for i in range(2) for j in range(2) for k in range(2)], dtype=np.float64)[
            :n
        ]
        positions = 0.45 * size * grid + rng.uniform(-0.1, 0.1, (n, 3))
        found.append(Structure(np.resize(potential.species, n), positions))
    cell = 0.9 * size * np.array([[1.0, 0.0, 0.0], [0.2, 1.1, 0.0], [-0.1, 0.3, 0.95]])
    found.append(Structure(found[1].numbers, found[1].positions, cell, np.ones(3, dtype=bool)))
    return found


def _compare(exported: MetatomicPotential, expected: RotationalAverage, structures: list[Structure]) -> None:
    """`UserError` where the exported model gives other numbers than the network."""
    tolerance = _TOLERANCES[str(exported.dtype).removeprefix("torch.")]
    for structure in structures:
        wanted, got = expected.predict(structure), exported.predict(structure)
        size = max(1.0, float(np.abs(wanted.forces).max(initial=0.0)))
        off = max(
            float(np.abs(got.forces - wanted.forces).max(initial=0.0)) / size,
            abs(got.energy - wanted.energy) / max(1.0, abs(wanted.energy)),
            _virial_error(got, wanted),
        )
        if not off < tolerance:
            raise UserError(
                f"{expected.name}: the exported model differs from the network by {off:.1e} for {structure.n_atoms} "
                "atoms: the operations of this kind of network depend on the structure, and cannot be recorded"
            )


def _virial_error(got: Prediction, wanted: Prediction) -> float:
    assert got.virial is not None
    assert wanted.virial is not None
    return float(np.abs(got.virial - wanted.virial).max() / max(1.0, np.abs(wanted.virial).max()))
