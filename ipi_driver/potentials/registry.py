"""`load_potential`: from a specification (a string) to a `Potential`.

======================================  =====================================================================
specification                           potential
======================================  =====================================================================
``pet-water-s``, ``path/to/folder``     a model folder: ``model.yaml``, ``weights.safetensors``
``ase:module.Calculator?key=value``     any ASE calculator, constructed with the keywords given
``path/to/model.pt``                    an exported metatomic model
``anisotropic?l=4&amplitude=0.1``       the analytic test potential
======================================  =====================================================================
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl

from ipi_driver.errors import UserError
from ipi_driver.potentials.base import Potential
from ipi_driver.shipped import find_shipped


def load_potential(spec: str | Path, device: str = "cpu", dtype: str | None = None) -> Potential:
    """Make the potential that ``spec`` names (see the table above).

    Parameters
    ----------
    spec
        Shipped model name, model folder, exported ``.pt`` file, ``ase:...`` or ``anisotropic...``.
    device
        Torch device of network potentials.
    dtype
        "float32" or "float64": precision of a network, by default float32; sums are float64 always. Other models have
        one of their own, and None takes it.

    Raises
    ------
    UserError
        If there is no such model, device or precision, or the model has another precision.
    """
    if dtype not in (None, "float32", "float64"):
        raise UserError(f"`dtype` must be float32 or float64, got {dtype!r}")
    text = str(spec)
    name, _, query = text.partition("?")
    # in a form of a web page a plus is a blank; here it stands in 1e+3 and in file names
    options = dict(parse_qsl(query.replace("+", "%2B"), keep_blank_values=True))
    if device != "cpu" and (name.startswith("ase:") or name == "anisotropic"):
        raise UserError(
            f"--device {device} is for models in torch, and {name} is none of them; a calculator may take one as an "
            f"option: {name}?device={device}"
        )
    if dtype is not None and (name.startswith("ase:") or name == "anisotropic"):
        raise UserError(
            f"--dtype {dtype} is for models in torch, and {name} is none of them; a calculator may take a precision as "
            f"an option: {name}?dtype={dtype}"
        )
    # Each kind is imported only when it is asked for: importing torch costs a second that `ase:` need not pay.
    if name.startswith("ase:"):
        from ipi_driver.potentials.ase import AsePotential

        return AsePotential.from_spec(name.removeprefix("ase:"), options)
    if name == "anisotropic":
        from ipi_driver.potentials.anisotropic import AnisotropicPotential

        return AnisotropicPotential.from_options(options)
    if options:
        raise UserError(
            f"{text}: a trained model takes no options after its name, got {query!r}; give --dtype and --device"
        )
    if name.endswith(".pt"):
        from ipi_driver.potentials.metatomic import MetatomicPotential

        return MetatomicPotential.load(name, device=device, dtype=dtype)
    from ipi_driver.potentials.network import NetworkPotential

    return NetworkPotential.load(find_shipped("models", name), device=device, dtype=dtype or "float32")


def load_precise(spec: str | Path, potential: Potential, device: str = "cpu") -> Potential:
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
    name = str(spec).partition("?")[0]
    if name.startswith("ase:") or name == "anisotropic" or name.endswith(".pt"):
        return potential
    return load_potential(spec, device, "float64")
