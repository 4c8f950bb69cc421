r"""Potentials made of others: ``sum:A+B`` and ``committee:A,B,C``.

``sum:pet-water-s+ase:my_package.Dispersion`` adds energies, forces and virials: a dispersion, a wall, a field on top of
a model. An extra that an earlier part has, too, is named after its part: ``energy_ensemble_2`` is that of the second.
``committee:A,B,C`` takes the mean of its members; the energies of the members are the extra
``energy_ensemble`` (i-PI prints it with ``extra_type='committee_pot'``), their standard deviation
:math:`\sqrt{\sum_m (E_m - \bar E)^2 / (n-1)}` is ``energy_uncertainty`` (eV), that of the forces (root mean square over
atoms and components) ``forces_uncertainty`` (eV/Å). Extras are averaged over rotations like the energy, member by
member.

Other extras are means, too, where all members have them. Options that are given for the whole (``--extras``,
``options`` of an endpoint in ``driver.yaml``) go to every part whose kind has them.

A part whose own text holds ``+`` or ``,`` stands in parentheses: ``sum:(anisotropic?l=1,2)+pet-water-s``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.spec import PotentialSpec
from ipi_driver.structure import FloatArray, RotatedResults, Structure


class CompositePotential(Potential):
    """What a sum and a committee have in common.

    Parameters
    ----------
    parts
        At least two potentials.

    Raises
    ------
    UserError
        If there are fewer.
    """

    separator: ClassVar[str]
    takes_device = True
    precision = "chosen"
    options = None  # of the parts

    def __init__(self, parts: Sequence[Potential]) -> None:
        if len(parts) < 2:
            raise UserError(
                f"expected at least two potentials separated by {self.separator!r}, got {len(parts)}"
            )
        self.parts = tuple(parts)
        self.name = self.separator.join(part.name for part in parts)
        cutoffs = [part.cutoff for part in parts if part.cutoff is not None]
        self.cutoff = max(cutoffs, default=None)
        known = [set(part.species) for part in parts if part.species is not None]
        self.species = tuple(sorted(set.intersection(*known))) if known else None
        conditions = [part.conditions for part in parts]
        self.conditions = (
            None
            if None in conditions
            else tuple(dict.fromkeys(name for part in conditions for name in part or ()))
        )
        self.device = next((part.device for part in parts if str(part.device) != "cpu"), "cpu")
        self.directions = tuple(dict.fromkeys(name for part in parts for name in part.directions))
        self.warm_up = max(part.warm_up for part in parts)

    def with_derivatives(self) -> Potential | None:
        """The same sum or committee of parts whose forces are derivatives, where those of any part are none."""
        found = [part.with_derivatives() for part in self.parts]
        if not any(found):
            return None
        return type(self)([better or part for better, part in zip(found, self.parts, strict=True)])

    @classmethod
    def from_spec(
        cls, spec: PotentialSpec, device: str = "cpu", dtype: str | None = None
    ) -> CompositePotential:
        """Load every part; a device or precision holds for those that take one."""
        from ipi_driver.potentials.kinds import potential_class
        from ipi_driver.potentials.registry import load_potential, parse_potential

        parts = []
        for text in split(spec.body, cls.separator):
            part = parse_potential(text)
            kind = potential_class(part.kind)
            parts.append(
                load_potential(
                    part,
                    device if kind.takes_device else "cpu",
                    dtype if kind.precision == "chosen" else None,
                )
            )
        return cls(parts)

    @classmethod
    def located(cls, spec: PotentialSpec, folder: Path) -> PotentialSpec:
        """The spec with the paths of every part made absolute."""
        from ipi_driver.potentials.registry import located_potential

        return cls._of_parts(
            spec, [located_potential(text, folder) for text in split(spec.body, cls.separator)]
        )

    @classmethod
    def with_options(cls, spec: PotentialSpec, options: Mapping[str, str]) -> PotentialSpec:
        """The spec with options for every part whose kind has them.

        Raises
        ------
        UserError
            If no part has one.
        """
        from ipi_driver.potentials.kinds import potential_class
        from ipi_driver.potentials.registry import parse_potential

        parts = [parse_potential(text) for text in split(spec.body, cls.separator)]
        for name, value in options.items():
            taken = False
            for k, part in enumerate(parts):
                kind = potential_class(part.kind)
                if issubclass(kind, CompositePotential):
                    with suppress(UserError):
                        parts[k] = kind.with_options(part, {name: value})
                        taken = True
                elif kind.options is not None and name in kind.options:
                    parts[k] = part.with_options({name: value})
                    taken = True
            if not taken:
                raise UserError(
                    f"{spec}: the option {name!r} belongs to no part; write an option behind its part, in parentheses: "
                    f"{spec.prefix}(MODEL?{name}={value}){cls.separator}..."
                )
        return cls._of_parts(spec, parts)

    @classmethod
    def _of_parts(cls, spec: PotentialSpec, parts: Sequence[PotentialSpec]) -> PotentialSpec:
        texts = [str(part) for part in parts]
        return replace(spec, body=cls.separator.join(f"({t})" if cls.separator in t else t for t in texts))

    @classmethod
    def check_spec(cls, spec: PotentialSpec) -> None:
        """Raise `UserError` where a part is not there."""
        from ipi_driver.potentials.registry import check_potential_exists, parse_potential

        for text in split(spec.body, cls.separator):
            check_potential_exists(parse_potential(text))

    def edges_hint(self, structure: Structure) -> int:
        """Edges of the part that has most."""
        return max(part.edges_hint(structure) for part in self.parts)

    def _results(
        self, structures: list[Structure], rotations: FloatArray
    ) -> tuple[list[RotatedResults], list[FloatArray] | None]:
        """Results of every part, and their virials where all have one."""
        found = [part.evaluate(structures, rotations) for part in self.parts]
        virials = [result.virials for result in found if result.virials is not None]
        return found, virials if len(virials) == len(found) else None


class SumPotential(CompositePotential):
    """Sum of potentials."""

    separator = "+"

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        found, virials = self._results(structures, rotations)
        extras: dict[str, tuple[FloatArray, ...]] = {}
        for number, result in enumerate(found, start=1):
            extras |= {
                f"{name}_{number}" if name in extras else name: values
                for name, values in result.extras.items()
            }
        return RotatedResults(
            np.sum([result.energies for result in found], axis=0),
            tuple(np.sum(forces, axis=0) for forces in zip(*(r.forces for r in found), strict=True)),
            None if virials is None else np.sum(virials, axis=0),
            extras,
        )


class CommitteePotential(CompositePotential):
    """Mean of potentials, with their spread."""

    separator = ","

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        found, virials = self._results(structures, rotations)
        energies = np.array([result.energies for result in found])  # (members, structures, rotations)
        forces = [np.array(members) for members in zip(*(r.forces for r in found), strict=True)]
        extras = {
            "energy_ensemble": tuple(energies[:, s].T for s in range(len(structures))),
            "energy_uncertainty": tuple(energies[:, s].std(axis=0, ddof=1) for s in range(len(structures))),
            "forces_uncertainty": tuple(
                np.sqrt(values.var(axis=0, ddof=1).mean(axis=(1, 2))) for values in forces
            ),
        }
        shared = set.intersection(*(set(result.extras) for result in found)) - set(extras)
        for name in sorted(shared):
            members = zip(*(result.extras[name] for result in found), strict=True)
            extras[name] = tuple(np.mean(values, axis=0) for values in members)
        return RotatedResults(
            energies.mean(axis=0),
            tuple(values.mean(axis=0) for values in forces),
            None if virials is None else np.mean(virials, axis=0),
            extras,
        )


def split(text: str, separator: str) -> list[str]:
    """Parts between separators outside parentheses, without the parentheses around a whole part.

    >>> split("(anisotropic?l=1,2),pet-water-s", ",")
    ['anisotropic?l=1,2', 'pet-water-s']

    Raises
    ------
    UserError
        If a part is empty or a parenthesis is not closed.
    """
    parts, depth, start = [], 0, 0
    for k, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == separator and depth == 0:
            parts.append(text[start:k])
            start = k + 1
    parts.append(text[start:])
    parts = [part[1:-1] if part.startswith("(") and part.endswith(")") else part for part in parts]
    if depth or not all(parts):
        raise UserError(f"expected potentials separated by {separator!r}, got {text!r}")
    return parts
