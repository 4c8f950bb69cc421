"""Exported metatomic models (``.pt``) as potentials: https://docs.metatensor.org/metatomic.

``model.pt?OPTION=VALUE&...``:

============================  ====================================================================================
option                        meaning
============================  ====================================================================================
``variant=NAME``              the energy ``energy/NAME`` of a model with several (r2scan, pbe, ...)
``non_conservative=forces``   direct forces of the model, without derivatives; no virial (``virial: nan``)
``non_conservative=on``       direct forces and the direct stress
``extras=A,B``                further outputs, averaged like the energy: ``energy_uncertainty``, ``energy_ensemble``,
                              ``mtt::dipole``, ...
============================  ====================================================================================

All rotations of a call are one list of systems, evaluated and differentiated together. The pairs of every
neighbor list the model asks for are found once per structure; only their vectors are turned. Forces and
virials are the derivatives of the energy with respect to positions and to a strain of each system. Direct forces
have their mean over the atoms removed, so that they do not move the center of mass. Direct forces are no
derivatives of the energy: use them in the inner step of multiple time stepping.

Needs the optional packages of ``pip install ipi-driver[metatomic]``.
"""

from __future__ import annotations

import re
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.chunks import out_of_memory
from ipi_driver.potentials.spec import PotentialSpec
from ipi_driver.structure import FloatArray, RotatedResults, Structure

_FORCES = ("non_conservative_force", "non_conservative_forces")
_STRESS = ("non_conservative_stress",)
PAIRS_PER_EDGE = 8
"""Pairs of the neighbor lists that count as one edge in the choice of how many rotations go into a call."""
_warnings_lock = threading.Lock()


class MetatomicPotential(Potential):
    """Potential of a loaded metatomic model; `load` makes one from a file.

    Parameters
    ----------
    model
        ``metatomic.torch.AtomisticModel``.
    device
        Torch device.
    name
        For logs.
    variant
        Of the energy, and of direct forces where they have it.
    direct
        "off", "forces" (direct forces, no virial) or "on" (and the direct stress).
    extras
        Names of further outputs.

    Raises
    ------
    UserError
        If the model lacks an output, asks for an input that is not supplied, or does not support the device; if an
        extra is asked for anyway, or two have one name.
    """

    takes_device = True
    precision = "fixed"
    options = ("variant", "non_conservative", "extras")

    def __init__(
        self,
        model: Any,
        device: str = "cpu",
        name: str = "metatomic",
        variant: str | None = None,
        direct: str = "off",
        extras: tuple[str, ...] = (),
    ) -> None:
        import torch
        from metatomic.torch import ModelEvaluationOptions, ModelOutput

        from ipi_driver.potentials.metatomic_outputs import ExtraOutput, direct_name, energy_name
        from ipi_driver.potentials.metatomic_systems import Systems, requested_conditions
        from ipi_driver.potentials.torch_device import torch_device

        capabilities = model.capabilities()
        outputs = list(capabilities.outputs)
        self.name = name if direct == "off" else f"{name}-direct"
        self._derivatives = (device, name, variant)
        self.energy = energy_name(outputs, variant, name)
        self._forces = None if direct == "off" else direct_name(outputs, _FORCES, variant, name)
        self._stress = direct_name(outputs, _STRESS, variant, name) if direct == "on" else None
        if torch_device(device).type not in capabilities.supported_devices:
            supported = ", ".join(capabilities.supported_devices)
            raise UserError(f"{name}: the model supports the devices {supported}, got --device {device}")
        if missing := [extra for extra in extras if extra not in outputs]:
            raise UserError(f"{name}: the model has no output {missing[0]!r}, it has: {', '.join(outputs)}")
        if used := [extra for extra in extras if extra in (self.energy, self._forces, self._stress)]:
            raise UserError(
                f"{name}: extras: {used[0]!r} is an energy, force or stress that the model is evaluated for anyway; "
                "leave it out"
            )
        self.device = device
        # TorchScript observes the first calls of each size and compiles, which takes a second or more. On a CPU the
        # result is not faster than without (no operations are fused there), so that it is left out.
        self._compiles = torch_device(device).type != "cpu"
        self.warm_up = 3 if self._compiles else 1
        self.dtype = getattr(torch, capabilities.dtype)  # fixed when the model was exported
        self.species = tuple(sorted(capabilities.atomic_types))
        self.model = model.to(device)
        self.conditions = requested_conditions(self.model.requested_inputs(use_new_names=True), name)
        lists = self.model.requested_neighbor_lists()
        self.cutoff = max((options.engine_cutoff("angstrom") for options in lists), default=None)
        self._systems = Systems(lists, self.conditions, self.dtype, device)
        self._extras = [ExtraOutput(extra, capabilities.outputs[extra]) for extra in dict.fromkeys(extras)]
        names = [extra.name for extra in self._extras]
        if twice := [extra.output for extra in self._extras if names.count(extra.name) > 1]:
            raise UserError(f"{name}: extras: {' and '.join(twice)} have one name here; ask for one of them")
        asked = {self.energy: ModelOutput(unit="eV", sample_kind="system")}
        if self._forces is not None:
            asked[self._forces] = ModelOutput(unit="eV/angstrom", sample_kind="atom")
        if self._stress is not None:
            asked[self._stress] = ModelOutput(unit="eV/angstrom^3", sample_kind="system")
        asked |= {extra.output: extra.request for extra in self._extras}
        self._options = ModelEvaluationOptions(length_unit="angstrom", outputs=asked)
        self._called = False

    @classmethod
    def from_spec(
        cls, spec: PotentialSpec, device: str = "cpu", dtype: str | None = None
    ) -> MetatomicPotential:
        """From ``path/to/model.pt?variant=...``, see the module."""
        direct = {"true": "on", "yes": "on", "false": "off", "no": "off"}.get(
            value := spec.options.get("non_conservative", "off").lower(), value
        )
        if direct not in ("off", "forces", "on"):
            raise UserError(f"{spec}: `non_conservative` must be off, forces or on, got {value!r}")
        extras = tuple(name.strip() for name in spec.options.get("extras", "").split(",") if name.strip())
        return cls.load(spec.name, device, dtype, spec.options.get("variant"), direct, extras)

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str = "cpu",
        dtype: str | None = None,
        variant: str | None = None,
        direct: str = "off",
        extras: tuple[str, ...] = (),
    ) -> MetatomicPotential:
        """From an exported file; the compiled extensions are looked for in ``extensions/`` beside it.

        The precision is that of the export: ``dtype`` is None or the same.

        Raises
        ------
        UserError
            If metatomic is not installed, the file is missing, it is not an exported model, or has another precision.
        """
        try:
            from metatomic.torch import load_atomistic_model
        except ImportError as error:
            raise UserError(
                f"a model file .pt needs metatomic ({error}): pip install 'ipi-driver[metatomic]'"
            ) from None
        file = Path(path)
        if not file.is_file():
            raise UserError(f"no such model file: {file}")
        extensions = file.parent / "extensions"
        try:
            model = load_atomistic_model(str(file), str(extensions) if extensions.is_dir() else None)
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            if _is_checkpoint(file):
                exported = f"{file.stem}-exported.pt"
                reason = f"it is a checkpoint of a training; export it first: mtt export {file} -o {exported}"
            raise UserError(f"{file} cannot be loaded as an exported metatomic model: {reason}") from error
        fixed = model.capabilities().dtype
        if dtype not in (None, fixed):
            raise UserError(
                f"{file} was exported in {fixed}, which cannot be changed: got --dtype {dtype}; leave it out"
            )
        return cls(model, device, file.stem, variant, direct, extras)

    def with_derivatives(self) -> MetatomicPotential | None:
        """The model with derivatives for forces, where it was loaded with direct ones."""
        return None if self._forces is None else MetatomicPotential(self.model, *self._derivatives)

    def edges_hint(self, structure: Structure) -> int:
        """Work of one rotation in edges; on a CPU an eighth of the pairs, because a call itself costs much.

        Eight molecules of water in an exported UPET-XS: 24 rotations one by one take 1.4 times as long as in eights.
        """
        pairs = super().edges_hint(structure)
        return pairs if self._compiles else max(1, pairs // PAIRS_PER_EDGE)

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        import torch

        try:
            return self._results(structures, rotations)
        except (
            RuntimeError,
            torch.jit.Error,
        ) as error:  # that of TorchScript is a page; its last line is the reason
            if out_of_memory(error):
                raise
            lines = [line for line in str(error).splitlines() if line.strip()]
            reason = lines[-1].strip().removeprefix("RuntimeError: ") if lines else type(error).__name__
            failed = f"{structures[0]!r}" if len(structures) == 1 else f"one of {len(structures)} structures"
            raise UserError(f"the model {self.name} failed on {failed}: {reason}") from error

    def _results(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        import torch

        derivatives = self._forces is None
        systems, leaves = [], []
        for structure in structures:
            pairs = self._systems.pairs(structure)
            for rotation in rotations:
                system, found = self._systems.system(structure, rotation, pairs, derivatives)
                systems.append(system)
                leaves += found
        with torch.set_grad_enabled(derivatives), torch.jit.optimized_execution(self._compiles):
            outputs = self._call(systems)
        energies = outputs[self.energy].block().values.reshape(-1)
        shape = (len(structures), len(rotations))
        if derivatives:
            # the systems do not interact: one backward pass of the sum gives the derivatives of each
            gradients = torch.autograd.grad(energies.sum(), leaves)
            turned = [g.detach().cpu().to(torch.float64).numpy() for g in gradients]
            # the strain multiplies row vectors from the right: it is the transpose of dE/dstrain
            forces = [-gradient for gradient in turned[0::2]]
            virials: FloatArray | None = -np.array(turned[1::2]).transpose(0, 2, 1).reshape(*shape, 3, 3)
        else:
            forces = self._direct_forces(outputs, structures, len(rotations))
            virials = self._direct_virials(outputs, structures, rotations, forces)
        n = len(rotations)
        if virials is not None:
            virials = rotations.transpose(0, 2, 1) @ virials @ rotations
        return RotatedResults(
            energies.detach().cpu().to(torch.float64).numpy().reshape(shape),
            tuple(np.array(forces[s * n : (s + 1) * n]) @ rotations for s in range(len(structures))),
            virials,
            {e.name: tuple(e.values(outputs[e.output], structures, rotations)) for e in self._extras},
        )

    def _call(self, systems: list[Any]) -> Any:
        """The model's outputs; what it warns of at the first call is shown once and not again."""
        if self._called:
            return self.model(systems, self._options, check_consistency=False)
        with _warnings_lock:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                outputs = self.model(systems, self._options, check_consistency=False)
            for message, category in {str(w.message): w.category for w in caught}.items():
                warnings.warn(f"{self.name}: {message}", category, stacklevel=2)
                warnings.filterwarnings("ignore", re.escape(message))
        self._called = True
        return outputs

    def _direct_forces(self, outputs: Any, structures: list[Structure], n_rotations: int) -> list[FloatArray]:
        """Direct forces of each system, without their mean over the atoms."""
        values = outputs[self._forces].block().values.detach().cpu().double().numpy().reshape(-1, 3)
        counts = np.repeat([structure.n_atoms for structure in structures], n_rotations)
        parts = np.split(values, np.cumsum(counts)[:-1])
        return [part - part.mean(axis=0) for part in parts]

    def _direct_virials(
        self, outputs: Any, structures: list[Structure], rotations: FloatArray, forces: list[FloatArray]
    ) -> FloatArray | None:
        """Virials from the direct stress, of isolated structures from the forces; None without both."""
        n = len(rotations)
        found = np.zeros((len(structures), n, 3, 3))
        for s, structure in enumerate(structures):
            if not structure.periodic:
                relative = structure.positions - structure.positions.mean(axis=0)
                for k, rotation in enumerate(rotations):
                    found[s, k] = forces[s * n + k].T @ (relative @ rotation.T)
            elif self._stress is None or not structure.pbc.all():
                return None
            else:
                stress = outputs[self._stress].block().values.detach().cpu().double().numpy()
                stress = stress.reshape(len(structures), n, 3, 3)[s]
                found[s] = -0.5 * structure.volume * (stress + stress.transpose(0, 2, 1))
        return found


def _is_checkpoint(file: Path) -> bool:
    """Whether the file holds the training state of metatrain, whatever it is called."""
    import zipfile

    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
        return any(b"architecture_name" in archive.read(name) for name in pickles)
