"""Every file that i-PI reads or writes: input, xyz, properties, extras, checkpoints, run folders.

Trajectories are streamed snapshot by snapshot, so memory does not grow with their length. Every number leaves this room
in the package's units (Å, eV, fs, dalton, K).
"""

from ipi_driver.ipi_files.extras import iterate_extras
from ipi_driver.ipi_files.outputs import Run, Snapshot
from ipi_driver.ipi_files.properties import PropertyTable, read_properties
from ipi_driver.ipi_files.xyz import TrajectoryFile, TrajectorySnapshot

__all__ = [
    "PropertyTable",
    "Run",
    "Snapshot",
    "TrajectoryFile",
    "TrajectorySnapshot",
    "iterate_extras",
    "read_properties",
]
