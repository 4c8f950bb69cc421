"""`load_potential`: from what a user writes to a `Potential`.

======================================  =====================================================================
written                                 potential
======================================  =====================================================================
``pet-water-s``, ``path/to/folder``     a model folder with ``model.yaml`` and ``weights.safetensors``
``path/to/model.pt``                    an exported metatomic model
``ase:module.Calculator?key=value``     any ASE calculator, constructed with the keywords given
``anisotropic?l=4&amplitude=0.1``       the analytic test potential
``field?electric=X,Y,Z&charges=...``     fixed charges in a uniform electric field
``sum:A+B``, ``committee:A,B,C``        a sum of potentials, the mean of potentials with their spread
``chgnet:``, ``orb:``, ``mace:``, ...      models of other packages, whose rotations are one batch
``KIND:NAME?OPTION=VALUE&...``          any other kind, see `ipi_driver.potentials.kinds`
======================================  =====================================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ipi_driver.errors import UserError
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.kinds import potential_class, potential_kinds
from ipi_driver.potentials.spec import PotentialSpec, check_precision
from ipi_driver.shipped import find_shipped


def parse_potential(text: str | Path | PotentialSpec) -> PotentialSpec:
    """What a user writes for a model, as kind, name and options.

    >>> spec = parse_potential("ase:ase.calculators.emt.EMT?asap_cutoff=true")
    >>> spec.kind, spec.name, dict(spec.options)
    ('ase', 'ase.calculators.emt.EMT', {'asap_cutoff': 'true'})
    >>> parse_potential("pet-water-s").kind, parse_potential("models/model.pt").kind
    ('network', 'metatomic')

    Raises
    ------
    UserError
        If there is no such kind, or the file is a checkpoint that must be exported first.
    """
    if isinstance(text, PotentialSpec):
        return text
    written = str(text)
    kind, colon, body = written.partition(":")
    bare = written.partition("?")[0]
    # a folder that happens to be called like a kind is a model only if it holds one
    of_kind = bare in potential_kinds() and not (Path(bare) / "model.yaml").exists()
    if of_kind or not Path(bare).exists():
        if colon and re.fullmatch(r"[a-z][a-z0-9_-]*", kind):
            if kind not in potential_kinds():
                potential_class(kind)  # raises: no such kind
            return PotentialSpec(kind, body, f"{kind}:")
        if bare in potential_kinds():
            return PotentialSpec(bare, written[len(bare) :], bare)
    if bare.endswith(".ckpt"):
        raise UserError(
            f"{bare} is a checkpoint of a training, expected a model to run; of metatrain it is exported by: "
            f"mtt export {bare} -o {Path(bare).stem}.pt (or a PET imported by: ipi-driver import-pet {bare} ...)"
        )
    return PotentialSpec("metatomic" if bare.endswith(".pt") else "network", written)


def located_potential(text: str | Path | PotentialSpec, folder: Path) -> PotentialSpec:
    """A potential with the paths that exist in ``folder`` made absolute."""
    written = str(text)
    if not Path(written).is_absolute() and (folder / written).exists():
        return parse_potential(folder / written).located(folder)
    spec = parse_potential(text)
    return potential_class(spec.kind).located(spec, folder) if spec.prefix else spec.located(folder)


def with_options(spec: PotentialSpec, options: Mapping[str, str]) -> PotentialSpec:
    """A potential with more options; those of a sum go to its parts.

    >>> str(with_options(parse_potential("sum:(anisotropic?l=3)+field"), {"amplitude": "0.1"}))
    'sum:anisotropic?l=3&amplitude=0.1+field'
    """
    if not options or not spec.prefix:
        return spec.with_options(options)
    return potential_class(spec.kind).with_options(spec, options)


def check_potential_exists(spec: PotentialSpec) -> None:
    """Raise `UserError` where the file, folder or shipped name of a potential is not there; nothing is loaded."""
    if spec.kind == "network":
        find_shipped("models", spec.name)
    elif spec.kind == "metatomic":
        if not Path(spec.name).is_file():
            raise UserError(f"no such model file: {spec.name}")
    else:
        potential_class(spec.kind).check_spec(spec)


def load_potential(
    spec: str | Path | PotentialSpec, device: str = "cpu", dtype: str | None = None
) -> Potential:
    """Make the potential that ``spec`` names (see the table above).

    Parameters
    ----------
    spec
        Shipped model name, model folder, exported ``.pt`` file, ``ase:...``, ``anisotropic...``, ...
    device
        Torch device of network potentials.
    dtype
        "float32", "float64" or "tf32": precision of a network, by default float32; sums are float64 always. "tf32" is
        float32 with products of matrices in TF32 (10 binary digits), for networks of this package on GPUs.
        Other models have a precision of their own, and None takes it.

    Raises
    ------
    UserError
        If there is no such model, device or precision, or the model has another precision or no such option.
    """
    if dtype not in (None, "float32", "float64", "tf32"):
        raise UserError(f"`dtype` must be float32, float64 or tf32, got {dtype!r}")
    check_precision(dtype, device)
    parsed = parse_potential(spec)
    if dtype == "tf32" and parsed.kind != "network":
        raise UserError(
            f"--dtype tf32 is for networks of this package, and {parsed} is none of them; leave it out"
        )
    kind = potential_class(parsed.kind)
    what = f"{parsed.prefix}{parsed.name}"
    for option, value, taken in (
        ("device", None if device == "cpu" else device, kind.takes_device),
        ("dtype", dtype, kind.precision != "none"),
    ):
        if value is not None and not taken:
            remedy = (
                f"; a calculator may take it as an option: {what}?{option}={value}"
                if kind.options is None
                else "; leave it out"
            )
            raise UserError(f"--{option} {value} is for models in torch, and {what} is none of them{remedy}")
    if kind.options is not None and (unknown := sorted(set(parsed.options) - set(kind.options))):
        known = "it takes none; --dtype and --device are options of the command"
        if kind.options:
            known = f"expected one of {', '.join(kind.options)}"
        raise UserError(f"{parsed}: unknown option {unknown[0]!r}, {known}")
    return kind.from_spec(parsed, device, dtype)


def load_precise(spec: str | Path | PotentialSpec, potential: Potential, device: str = "cpu") -> Potential:
    """The potential in float64 where its precision can be chosen, else the one that is there.

    Parameters
    ----------
    spec, device
        As of `load_potential`.
    potential
        What was loaded from them.

    Raises
    ------
    UserError
        As `load_potential`.
    """
    parsed = parse_potential(spec)
    if potential_class(parsed.kind).precision != "chosen":
        return potential
    return load_potential(parsed, device, "float64")
