"""From a configuration to a `Trainer`: data, split, baseline, network."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import yaml
from ase.data import chemical_symbols

from ipi_driver.errors import UserError
from ipi_driver.networks.base import EdgeNetwork, NetworkConfig
from ipi_driver.networks.baseline import Baseline
from ipi_driver.networks.kinds import build_network, network_config
from ipi_driver.networks.storage import load_model, load_without_weights
from ipi_driver.potentials.torch_device import torch_device, torch_dtype
from ipi_driver.shipped import find_shipped
from ipi_driver.structure import Structure
from ipi_driver.training.batch import Sample, make_sample
from ipi_driver.training.checkpoint import FILE, RESULTS, check_resumable, load_checkpoint
from ipi_driver.training.config import BaselineConfig, TrainConfig, changed
from ipi_driver.training.data import LabelledStructure, read_dataset, read_ordered
from ipi_driver.training.data_config import DataConfig
from ipi_driver.training.denoising import pretrain
from ipi_driver.training.energy_zero import energy_errors, shift_to_data
from ipi_driver.training.fit_baseline import fit_baseline
from ipi_driver.training.log_file import cut_rows
from ipi_driver.training.offsets import EnergyOffsets
from ipi_driver.training.similarity import families
from ipi_driver.training.splits import DataOrder, Split, make_split, write_split
from ipi_driver.training.trainer import Trainer
from ipi_driver.training.unlabelled import read_unlabelled

logger = logging.getLogger(__name__)


def read_labelled(
    config: TrainConfig,
) -> tuple[list[LabelledStructure], list[LabelledStructure], Split]:
    """Training and validation structures, and the split; the test part serves to check that it is none of these."""
    data = config.data
    keys = (data.energy_key, data.forces_key, data.stress_key, data.virial_key, data.units)
    structures, order = _read_sets(data)
    related = None
    if data.split == "similarity":
        related = families([item.structure for item in structures], data.similarity_threshold)
    split = make_split(
        len(structures),
        train=data.train,
        validation=None if data.validation_files else data.validation,
        test=None if data.test_files else data.test,
        index_file=data.split_file,
        seed=data.split_seed,
        families=related,
    )
    split = replace(split, data=order)
    train = _take(structures, split.train)
    if data.validation_files:
        # their energies are judged by the zero of all sets, whichever set that is
        zero = next(k for k, part in enumerate(data.parts()) if part.is_zero)
        validation = [replace(item, group=zero) for item in read_dataset(data.validation_files, *keys)]
        _check_distinct(train, validation, "validation_files")
    else:
        validation = _take(structures, split.validation)
    if data.test_files:
        _check_distinct(train, read_dataset(data.test_files, *keys, need_energy=False), "test_files")
    return train, validation, split


def _read_sets(data: DataConfig) -> tuple[list[LabelledStructure], DataOrder]:
    """Structures of all sets in their order, each with the number of its set."""
    structures: list[LabelledStructure] = []
    orders = []
    for group, part in enumerate(data.parts()):
        keys = (data.energy_key, data.forces_key, data.stress_key, data.virial_key, data.units)
        found, order = read_ordered(part.files, *keys, need_energy=not part.forces_only)
        structures += [replace(item, group=group) for item in found]
        orders.append(order)
    return structures, DataOrder.joined(orders, [item.structure for item in structures])


def _check_distinct(train: list[LabelledStructure], others: list[LabelledStructure], key: str) -> None:
    """Files of their own may hold what the others hold; indices of one list are distinct by themselves."""
    seen = {_key(s.structure): k for k, s in enumerate(train)}
    for k, item in enumerate(others):
        if (same := seen.get(_key(item.structure))) is not None:
            raise UserError(
                f"structure {k} of `{key}` is also training structure {same}; expected structures that "
                "the training does not see: leave it out of one of them"
            )


def _key(structure: Structure) -> tuple[bytes, ...]:
    # the atom of a primitive cell is at the origin of them all: the cell counts, where it is periodic
    arrays = (structure.positions, np.where(structure.pbc[:, None], structure.cell, 0.0))
    return structure.numbers.tobytes(), *((array.round(6) + 0.0).tobytes() for array in arrays)


def _take(structures: list[LabelledStructure], indices: np.ndarray) -> list[LabelledStructure]:
    return [structures[int(i)] for i in indices]


def _check_elements(part: str, structures: Sequence[Structure], species: tuple[int, ...]) -> None:
    """Elements that the network has no embedding for would fail at the first step that meets them."""
    for k, structure in enumerate(structures):
        if unknown := sorted(set(structure.numbers.tolist()) - set(species)):
            have = ", ".join(chemical_symbols[z] for z in species)
            raise UserError(
                f"{part} structure {k} holds {chemical_symbols[unknown[0]]}, the model has {have}: leave the structure "
                "out, or name all elements in `species` (what no training structure holds is not learnt)"
            )


def _check_conditions(
    labelled: Sequence[Structure], unlabelled: Sequence[Structure], network: NetworkConfig
) -> None:
    """Charge and spin are no input of a network: all structures have those of its import, or one kind is expected."""
    for name, usual in (("charge", 0), ("spin", 1)):
        known = getattr(network, name, None)
        given = {value for s in (*labelled, *unlabelled) if (value := getattr(s, name)) is not None}
        if known is not None and (others := sorted(given - {known})):
            raise UserError(
                f"the model to start from was imported for {name} {known}, but the data hold structures with {name} "
                f"{others[0]:g}: leave them out, or import it again with --{name} {others[0]:g}"
            )
        found = sorted({usual if (value := getattr(s, name)) is None else value for s in labelled})
        if len(found) > 1:
            logger.warning(
                "the data hold structures with %s %s, on which the network does not depend: it takes them for one kind",
                name,
                ", ".join(f"{value:g}" for value in found),
            )


def _warn_of_unused(config: TrainConfig) -> None:
    """Settings that others leave without effect."""
    key = "stress_key" if config.data.stress_key else "virial_key"
    if config.loss.virial == 0 and (config.data.stress_key or config.data.virial_key):
        logger.warning("`data.%s` is read and not trained on: give `loss.virial` a weight (it is 0)", key)
    if config.start_from is not None and config.baseline != BaselineConfig():
        logger.warning("`start_from` keeps the pair terms of the model: `baseline` is not used")


def _check_offsets(data: DataConfig, train: Sequence[LabelledStructure]) -> None:
    """The energy of an element that only sets with a fitted offset hold could be anything."""
    parts = data.parts()
    known = {z for item in train if parts[item.group].is_zero for z in item.structure.numbers.tolist()}
    for k, item in enumerate(train):
        part = parts[item.group]
        unknown = sorted(set(item.structure.numbers.tolist()) - known)
        if unknown and part.offset == "fit" and not part.forces_only:
            raise UserError(
                f"training structure {k}, of the set {data.names()[item.group]} with `offset: fit`, holds "
                f"{chemical_symbols[unknown[0]]}; expected elements that training structures with `offset: 0` hold, as "
                "the offset cannot be told from the energy of an atom: add some with it to a set with `offset: 0`, or "
                "set `forces_only: true`"
            )


def _check_virials(train: Sequence[LabelledStructure]) -> None:
    """One structure without a virial would take the term of the whole batch away."""
    for k, item in enumerate(train):
        if item.virial is None:
            raise UserError(
                f"training structure {k} has no virial, which `loss.virial` needs of every one: give `data.stress_key` "
                "or `data.virial_key` for extended XYZ, virial.npy for DeePMD (n2p2 has none), or set `loss.virial: 0`"
            )


def _digest(structures: Sequence[LabelledStructure]) -> str:
    """Digest of the labelled structures in their order: a resumed training goes on with the same ones."""
    digest = hashlib.sha256()
    for item in structures:
        s = item.structure
        for array in (s.numbers, s.positions, s.cell, np.float64(item.energy), item.forces):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def start_processes(config: TrainConfig) -> tuple[TrainConfig, int, int]:
    """The configuration of this process, its rank, and the number of processes, more than one under ``torchrun``."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        return config, 0, 1
    backend = "nccl" if config.device.startswith("cuda") else "gloo"
    if backend == "nccl":
        config = changed(config, device=f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(config.device)
    dist.init_process_group(backend)
    return config, dist.get_rank(), world_size


def build_trainer(config: TrainConfig, resume: bool = False, quiet: bool = True) -> Trainer:
    """Everything up to the first step, a pre-training included, whose progress is shown unless ``quiet``.

    Raises
    ------
    UserError
        If the data, the split or the configuration is bad, or the output folder is taken.
    """
    config, rank, world_size = start_processes(config)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.set_float32_matmul_precision("high" if config.tf32 else "highest")
    torch_device(config.device)  # checked before the data are read
    if config.start_from is None:
        config.network_config(config.species_numbers() or (1,))  # so are wrong keys of the architecture
    if resume:
        check_resumable(config.output)
    config.output.mkdir(parents=True, exist_ok=True)
    if not resume:
        _check_free(config.output)
    train, validation, split = read_labelled(config)
    unlabelled = read_unlabelled(config.data.unlabelled_files, config.data.units)
    species = config.species_numbers() or tuple(sorted({int(z) for s in train for z in s.structure.numbers}))
    torch.manual_seed(config.seed)
    network, baseline = _network_and_baseline(config, species, train, resume)
    config.check_augmentation(network.config, f"`start_from` {config.start_from} has")
    # of a model that is gone on from there may be more than the data hold
    species, cutoff = network.config.species, network.config.cutoff
    for part, items in (("validation", validation), ("training", train)):
        _check_elements(part, [item.structure for item in items], species)
    _check_elements("unlabelled", unlabelled, species)
    _check_conditions([item.structure for item in (*train, *validation)], unlabelled, network.config)
    _check_offsets(config.data, train)
    if config.loss.virial > 0:
        _check_virials(train)
    _warn_of_unused(config)
    if config.pretrain is not None and not resume:
        _pretrain(config, network, world_size, quiet)
    shifts: dict[int, float] = {}
    offsets = EnergyOffsets([part.offset == "fit" for part in config.data.parts()])
    if config.start_from is not None and not _is_begun(config, resume):
        device, dtype = torch.device(config.device), torch_dtype(config.dtype)
        baseline, shifts = shift_to_data(_zero(config, train), network, baseline, device, dtype)
    if offsets.fitted.any() and not _is_begun(config, resume):
        errors = energy_errors(train, network if config.start_from is not None else None, baseline)
        offsets.begin([item.group for item in train], errors)

    def samples(items: Sequence[LabelledStructure | Structure]) -> list[Sample]:
        return [_weighed(make_sample(item, species, cutoff, baseline), config) for item in items]

    trainer = Trainer(
        config, network, baseline, samples(train), samples(validation), samples(unlabelled), rank, world_size
    )
    trainer.sets, trainer.offsets = config.data.names(), offsets
    trainer.data_described = [] if split.data is None else split.data.described()
    trainer.data_digest = _digest([*train, *validation])
    trainer.energy_shifts = {chemical_symbols[z]: shift for z, shift in shifts.items()}
    if resume:
        load_checkpoint(trainer)
    if rank == 0:
        cut_rows(config.output / "log.csv", trainer.step)
        write_split(split, config.output / "split.yaml")
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        (config.output / "training.yaml").write_text(text)
    if config.pretrain is not None and not resume:
        trainer.save()  # else the pre-training would be lost until the first evaluation
    return trainer


def _pretrain(config: TrainConfig, network: EdgeNetwork, world_size: int, quiet: bool) -> None:
    """Denoise before the training."""
    assert config.pretrain is not None
    if world_size > 1:
        raise UserError(
            "`pretrain` runs in one process: run it without torchrun, then `start_from` its model"
        )
    structures = read_unlabelled(config.pretrain.files, config.data.units)
    _check_elements("pre-training", structures, network.config.species)
    rest = pretrain(config, network, structures, quiet)
    if not quiet:
        print(
            f"pre-training: {100 * rest:.0f} % of the springs are left on structures kept apart", flush=True
        )


def _zero(config: TrainConfig, train: Sequence[LabelledStructure]) -> list[LabelledStructure]:
    """The structures whose energies are the zero of all."""
    parts = config.data.parts()
    found = [item for item in train if parts[item.group].is_zero]
    if not found:
        raise UserError(
            "no training structure is of a set with `offset: 0` and energies; give more of them, or another split"
        )
    return found


def _weighed(sample: Sample, config: TrainConfig) -> Sample:
    """With the weights of its set."""
    part = config.data.parts()[sample.group]
    return replace(sample, weight=part.weight, energy_weight=float(not part.forces_only))


def _check_free(output: Path) -> None:
    """A model that was imported or copied here would be overwritten, and its log gone on with."""
    if (output / FILE).exists():
        raise UserError(
            f"{output} holds a training already; continue it with --resume or choose another output"
        )
    for name in RESULTS:
        if (output / name).exists():
            raise UserError(
                f"{output} holds a model already ({name}); choose another output, `start_from` goes on from a model"
            )


def _is_begun(config: TrainConfig, resume: bool) -> bool:
    """Whether the output folder holds the network and the baseline to go on with."""
    return resume and (config.output / "model.yaml").is_file()


def _network_and_baseline(
    config: TrainConfig, species: tuple[int, ...], train: list[LabelledStructure], resume: bool
) -> tuple[EdgeNetwork, Baseline]:
    if _is_begun(config, resume):
        # what it was begun from is not needed any more, and may have changed; the weights are those of the checkpoint
        return load_without_weights(config.output)
    if config.start_from is not None:
        network, baseline = load_model(find_shipped("models", config.start_from))
        if set(species) - set(network.config.species):
            raise UserError(f"the data hold elements that {config.start_from} does not know")
        return _grown(network, config), baseline
    network = build_network(config.network_config(species))
    baseline = fit_baseline(
        _zero(config, train),
        network.config.cutoff,
        config.baseline.pair,
        config.baseline.n_gaussians,
        species,
    )
    return network, baseline


def _grown(network: EdgeNetwork, config: TrainConfig) -> EdgeNetwork:
    """The network to start from, with the layers that the configuration has beyond it.

    The heads of added layers give zero, so that the energies are those of the network that it starts from.
    """
    if not config.architecture:
        return network
    given = network.config
    keys = {"kind": given.kind} | given.model_dump(exclude={"species"}) | config.architecture
    if keys["kind"] != given.kind:
        raise UserError(
            f"`start_from` {config.start_from} is of kind {given.kind}, `architecture` asks for kind {keys['kind']}: "
            "leave `architecture` out to take that of the model"
        )
    wanted = network_config(keys, given.species)
    have, want = given.model_dump(), wanted.model_dump()
    grows = given.growing
    differing = sorted(key for key in want if want[key] != have[key] and key not in grows)
    if wrong := [*differing, *(key for key in grows if want[key] < have[key])]:
        key = wrong[0]
        raise UserError(
            f"`start_from` {config.start_from} has {key} {have[key]}, `architecture` asks for {want[key]}: "
            f"only {' and '.join(grows) or 'nothing'} may be larger; leave `architecture` out to take that of the model"
        )
    if want == have:
        return network
    grown = build_network(wanted)
    grown.zero_output()
    grown.load_state_dict(network.state_dict(), strict=False)
    return grown
