"""Every unit conversion of the package (CODATA 2018); no other module holds a conversion factor.

Inside the package: Å, eV, fs, dalton. What is exchanged with i-PI is converted by `ipi_driver.ipi_files.units`, with
i-PI's own constants.
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

GPA = 160.2176634
"""GPa per eV/Å³."""

COULOMB = 14.3996454784
"""e² / (4 π ε0) in eV Å."""

VELOCITY = BOHR / ATOMIC_TIME
"""Å/fs per atomic unit of velocity."""

MOMENTUM = ELECTRON_MASS * VELOCITY
"""Dalton Å/fs per atomic unit of momentum."""

MILLIPASCAL_SECOND = 1.0e3 / GPA
"""eV fs/Å³ per mPa s (1 mPa s = 1e3 GPa fs)."""

G_PER_CM3 = 1.66053906660
"""g/cm³ per dalton/Å³."""

MILLI = 1.0e3
"""meV per eV, and the like: for what is shown to people."""

FS_PER_PS = 1.0e3
"""fs per ps."""

FS_PER_NS = 1.0e6
"""fs per ns."""
