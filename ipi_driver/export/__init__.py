"""Networks as metatomic models (``.pt``), raw or averaged over rotations: for LAMMPS, ASE, torch-sim and i-PI."""

from ipi_driver.export.write import export_model

__all__ = ["export_model"]
