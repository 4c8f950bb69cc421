"""Every unit conversion of the package (CODATA 2018); no other module holds a conversion factor.

Inside the package: Å, eV, fs, atomic mass unit. i-PI: bohr, hartree, atomic time, electron mass.
"""

BOHR = 0.529177210903
"""Å per bohr."""

HARTREE = 27.211386245988
"""eV per hartree."""

ATOMIC_TIME = 0.02418884326585747
"""fs per atomic unit of time."""

ELECTRON_MASS = 5.48579909065e-4
"""Atomic mass units (dalton) per electron mass."""

FORCE = HARTREE / BOHR
"""eV/Å per hartree/bohr."""

KB = 8.617333262e-5
"""Boltzmann constant, eV/K."""

HBAR = 0.6582119569
"""Reduced Planck constant, eV fs."""

SPEED_OF_LIGHT = 2.99792458e-5
"""Speed of light, cm/fs: a wavenumber in cm-1 is a frequency in 1/fs divided by it."""

DALTON = 103.642696562
"""eV fs² / Å² per dalton: kinetic energy in eV = 0.5 * DALTON * m * v² with m in dalton, v in Å/fs."""

GPA = 160.21766208
"""GPa per eV/Å³."""

COULOMB = 14.3996454784
"""e² / (4 π ε0) in eV Å."""
