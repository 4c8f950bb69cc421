"""Model folders: ``model.yaml`` (kind of network, architecture, baseline, provenance) and ``weights.safetensors``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from ase.data import atomic_numbers, chemical_symbols
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from ipi_driver.errors import UserError
from ipi_driver.networks.base import EdgeNetwork, NetworkConfig
from ipi_driver.networks.baseline import Baseline
from ipi_driver.networks.kinds import DEFAULT, build_network, network_config
from ipi_driver.whole_file import write_together
from ipi_driver.yaml_file import load_yaml

FORMAT = 1


def save_model(
    folder: Path,
    network: EdgeNetwork,
    baseline: Baseline,
    provenance: dict[str, Any] | None = None,
    double: bool = False,
) -> None:
    """Write a model folder (created if missing); weights are stored in float32, or as they are with ``double``."""
    folder.mkdir(parents=True, exist_ok=True)
    architecture = network.config.model_dump(mode="json")
    architecture["species"] = [chemical_symbols[z] for z in network.config.species]
    pairs: dict[str, list[float]] = {}
    if baseline.pair_coefficients is not None:
        for (a, b), row in zip(baseline.pairs, baseline.pair_coefficients, strict=True):
            pairs[f"{chemical_symbols[a]}-{chemical_symbols[b]}"] = [float(c) for c in row]
    state = {
        k: (v.detach().float() if v.is_floating_point() and not double else v.detach()).cpu().contiguous()
        for k, v in network.state_dict().items()
    }
    weights = save(state)
    content = {
        "format": FORMAT,
        "kind": network.config.kind,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "architecture": architecture,
        "baseline": {
            "atomic_energies": {
                chemical_symbols[z]: float(e)
                for z, e in zip(baseline.species, baseline.atomic_energies, strict=True)
            },
            "pair_coefficients": pairs or None,
            **({"covalent_repulsion": True} if baseline.covalent_repulsion else {}),
        },
        "provenance": provenance or {},
    }
    text = yaml.safe_dump(content, sort_keys=False, width=110)
    # not save_file, whose file others cannot read (mode 600)
    write_together({folder / "weights.safetensors": weights, folder / "model.yaml": text.encode()})


def load_model(folder: Path) -> tuple[EdgeNetwork, Baseline]:
    """Read a model folder.

    Raises
    ------
    UserError
        If a file is missing or does not hold what `save_model` writes.
    """
    folder = Path(folder)
    for file in ("model.yaml", "weights.safetensors"):
        if not (folder / file).is_file():
            raise UserError(f"{folder} is not a model folder: it has no {file}")
    content = _read_description(folder)
    _check_weights(folder / "weights.safetensors", content.get("weights_sha256"))
    with _readable(folder):
        network, baseline = _build(content)
        weights = load_file(folder / "weights.safetensors")
        if any(w.dtype == torch.float64 for w in weights.values()):
            network = network.double()
        network.load_state_dict(weights)
    return network, baseline


def load_without_weights(folder: Path) -> tuple[EdgeNetwork, Baseline]:
    """The network as it is built, and the baseline: of a model folder whose weights stand elsewhere.

    Raises
    ------
    UserError
        If ``model.yaml`` does not hold what `save_model` writes.
    """
    content = _read_description(folder)
    with _readable(folder):
        return _build(content)


def _read_description(folder: Path) -> dict[str, Any]:
    """Content of ``model.yaml``."""
    content = load_yaml(folder / "model.yaml")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(
            f"{folder / 'model.yaml'} must hold `format: {FORMAT}`, and `kind:` with the network's kind"
        )
    return content


def _build(content: dict[str, Any]) -> tuple[EdgeNetwork, Baseline]:
    architecture = dict(content["architecture"])
    species = tuple(atomic_numbers[s] for s in architecture.pop("species"))
    config = network_config(architecture | {"kind": content.get("kind", DEFAULT)}, species)
    return build_network(config), _read_baseline(content["baseline"], config)


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Name the folder in whatever is raised on one that is malformed."""
    try:
        yield
    except UserError as error:
        raise UserError(f"the model folder {folder} cannot be read: {error}") from error
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"the model folder {folder} cannot be read: {type(error).__name__}: {reason}"
        ) from error


def _check_weights(path: Path, digest: Any) -> None:
    """`UserError` where the weights are not those that the model was saved with; older folders have no digest."""
    if digest is not None and hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise UserError(
            f"{path} is damaged: it has another checksum than `weights_sha256` of {path.parent / 'model.yaml'}; copy "
            "the model folder again (after a deliberate change of the weights remove that key)"
        )


def _read_baseline(content: dict[str, Any], config: NetworkConfig) -> Baseline:
    energies = np.array([content["atomic_energies"][chemical_symbols[z]] for z in config.species])
    pairs = content.get("pair_coefficients")
    coefficients = None
    if pairs:
        order = Baseline(config.species, energies).pairs
        coefficients = np.array([pairs[f"{chemical_symbols[a]}-{chemical_symbols[b]}"] for a, b in order])
    repulsion = bool(content.get("covalent_repulsion", False))
    return Baseline(config.species, energies, config.cutoff, coefficients, repulsion)
