r"""Any ASE calculator as a potential: one `ase.Atoms`, positions and cell turned, per rotation.

The virial is :math:`-V\sigma` for a periodic structure and, exactly,

.. math::  \Xi_{ab} = \sum_i F_{ia} r_{ib}

for an isolated one, which needs no stress from the calculator.
"""

from __future__ import annotations

import importlib
import inspect
import math
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator, PropertyNotImplementedError

from ipi_driver.errors import UserError
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.cells import right_handed
from ipi_driver.potentials.chunks import out_of_memory
from ipi_driver.potentials.one_at_a_time import OneAtATime
from ipi_driver.potentials.spec import PotentialSpec
from ipi_driver.structure import FloatArray, RotatedResults, Structure


class AsePotential(Potential):
    """Potential of an ASE calculator.

    Parameters
    ----------
    calculator
        Must give energy and forces; stress where periodic structures need a virial.
    name
        For logs; the calculator's class name where None.
    """

    options = None  # keywords of the calculator

    def __init__(self, calculator: Any, name: str | None = None) -> None:
        self.calculator = calculator
        self.conditions = None  # the atoms have charge and spin, for calculators that read them
        self._last_conditions: tuple[float | None, int | None] = (None, None)
        self._alone = OneAtATime()  # a calculator keeps the atoms that it is at
        self.name = name or type(calculator).__name__
        implemented = getattr(calculator, "implemented_properties", ())
        self._free_energy = "free_energy" in implemented
        self._stress = "stress" in implemented

    @classmethod
    def from_spec(cls, spec: PotentialSpec, device: str = "cpu", dtype: str | None = None) -> AsePotential:
        """From ``module.Class``, or a function annotated to return a calculator, and its keywords as text.

        Raises
        ------
        UserError
            If it cannot be imported, is no calculator, or does not take these keywords.
        """
        path = spec.name
        module_name, _, attribute = path.rpartition(".")
        if not module_name:
            raise UserError(f"ase: expected module.Class, such as ase.calculators.emt.EMT, got {path!r}")
        try:
            factory = getattr(importlib.import_module(module_name), attribute)
        except (ImportError, AttributeError) as error:
            raise UserError(f"ase: cannot import {path!r}: {error}; is its package installed?") from None
        _check_kind(path, factory)
        keywords = {key: parse_value(text) for key, text in spec.options.items()}
        try:
            calculator = factory(**keywords)
        except (TypeError, ValueError, NotImplementedError) as error:
            shown = ", ".join(f"{key}={value!r}" for key, value in keywords.items())
            raise UserError(f"ase: {path}({shown}) failed: {error}") from error
        if not hasattr(calculator, "get_property"):
            raise UserError(f"ase: {path} is not an ASE calculator (it has no `get_property`)")
        return cls(calculator, attribute)

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        with self._alone:
            return self._evaluate_alone(structures, rotations)

    def _evaluate_alone(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        n_rotations = len(rotations)
        energies = np.zeros((len(structures), n_rotations))
        forces = tuple(np.zeros((n_rotations, s.n_atoms, 3)) for s in structures)
        virials = np.zeros((len(structures), n_rotations, 3, 3))
        complete = True
        for s, structure in enumerate(structures):
            self._forget_other_conditions(structure)
            for k, rotation in enumerate(rotations):
                energy, turned_forces, virial = self._one(_turned(structure, rotation))
                energies[s, k] = energy
                forces[s][k] = turned_forces @ rotation
                if virial is None:
                    complete = False
                else:
                    virials[s, k] = rotation.T @ virial @ rotation
        return RotatedResults(energies, forces, virials if complete else None)

    def _forget_other_conditions(self, structure: Structure) -> None:
        """Drop the calculator's kept result where charge or spin change: it compares positions alone."""
        conditions = (structure.charge, structure.spin)
        if conditions != self._last_conditions and hasattr(self.calculator, "reset"):
            self.calculator.reset()
        self._last_conditions = conditions

    def _one(self, atoms: ase.Atoms) -> tuple[float, FloatArray, FloatArray | None]:
        """Energy, forces and virial of ``atoms`` as they are oriented."""
        # copies: some calculators hand out the arrays that they overwrite at the next call
        name = "free_energy" if self._free_energy else "energy"
        energy = float(self._array(name, atoms, ()))
        forces = self._array("forces", atoms, (len(atoms), 3))
        if not atoms.pbc.any():
            return energy, forces, forces.T @ (atoms.positions - atoms.positions.mean(axis=0))
        if not self._stress or atoms.cell.rank < 3:
            return energy, forces, None
        try:
            stress = np.asarray(self._property("stress", atoms), dtype=np.float64)
        except PropertyNotImplementedError:
            return energy, forces, None
        if stress.shape == (6,):
            xx, yy, zz, yz, xz, xy = stress
            stress = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        return energy, forces, -atoms.get_volume() * stress.reshape(3, 3)

    def _array(self, name: str, atoms: ase.Atoms, shape: tuple[int, ...]) -> FloatArray:
        """A copy of what the calculator gives, which must be real numbers of this shape."""
        given = self._property(name, atoms)
        try:
            values = np.array(given)
            numbers = values.astype(np.float64) if values.dtype.kind in "fiub" else None
        except (TypeError, ValueError):
            numbers = None
        if numbers is None or (numbers.shape != shape and (shape or numbers.size != 1)):
            got = type(given).__name__ if numbers is None else f"shape {numbers.shape}"
            if isinstance(given, np.ndarray) and numbers is None:
                got = f"numbers of type {given.dtype}"
            expected = f"shape {shape}" if shape else "one number"
            raise UserError(f"ase: {self.name} gives {name} of {got}, expected real numbers of {expected}")
        return numbers.reshape(shape)

    def _property(self, name: str, atoms: ase.Atoms) -> Any:
        """A property of the calculator; its errors are raised again in one line."""
        try:
            return self.calculator.get_property(name, atoms)
        except PropertyNotImplementedError:
            if name == "stress":
                raise
            raise UserError(
                f"ase: {self.name} gives no {name}; expected a calculator of energies and forces"
            ) from None
        except Exception as error:  # calculators raise anything
            if out_of_memory(error):
                raise
            reason = " ".join(str(error).split())
            if not reason or not isinstance(error, (RuntimeError, ValueError)):
                reason = f"{type(error).__name__}: {reason}"
            size = f"{len(atoms)} atom{'s' if len(atoms) > 1 else ''}"
            formula = atoms.get_chemical_formula()
            raise UserError(f"ase: {self.name} failed on {formula} ({size}): {reason}") from error


def _turned(structure: Structure, rotation: FloatArray) -> ase.Atoms:
    """The turned atoms in a right-handed cell, with charge and spin where calculators look for them.

    Some calculators refuse a left-handed cell, some take its volume < 0. Some read ``charge`` and ``spin`` in ``info``,
    others (TBLite) the sum of the initial charges and that of the initial magnetic moments, 2S.
    """
    atoms = structure.rotated(rotation).to_atoms()
    atoms.set_cell(right_handed(np.array(atoms.cell)))
    share = np.full(len(atoms), 1.0 / max(1, len(atoms)))
    if structure.charge is not None:
        atoms.set_initial_charges(structure.charge * share)
    if structure.spin is not None:
        atoms.set_initial_magnetic_moments((structure.spin - 1) * share)
    return atoms


def _check_kind(path: str, factory: Any) -> None:
    """`UserError` unless ``factory`` is a calculator class, or a function annotated to return one.

    Anything else of any module, ``subprocess.getoutput``, would be called with the arguments of a ``driver.yaml``.
    """
    if isinstance(factory, type):
        good = issubclass(factory, BaseCalculator) or hasattr(factory, "get_property")
    else:
        try:
            returned = inspect.signature(factory).return_annotation
        except (TypeError, ValueError):
            returned = None
        named = returned if isinstance(returned, str) else getattr(returned, "__name__", "")
        good = named.split("[")[0].endswith("Calculator") or hasattr(returned, "get_property")
    if not good:
        raise UserError(
            f"ase: {path} is not an ASE calculator: expected a class of calculators, or a function annotated to return "
            "one (`def make(...) -> Calculator:`)"
        )


def parse_value(text: str) -> Any:
    """Integer, finite float, true/false or none where ``text`` is one; otherwise the text, without quotes around it."""
    lowered = text.strip().lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    if lowered == "none":
        return None
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if math.isfinite(number) else text  # "nan" and "inf" are names, too
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text
