"""How large the symmetry error of a potential is, what it is made of, and which average is enough."""

from ipi_driver.rotations.pool import RotationPool
from ipi_driver.rotations.transmission import transmission
from ipi_driver.symmetry.consistency import Consistency, check_consistency
from ipi_driver.symmetry.degrees import Decomposition, decompose
from ipi_driver.symmetry.errors import AverageError, symmetry_errors, time_averages
from ipi_driver.symmetry.outer_step import StrideTable, correction_series, stride_table
from ipi_driver.symmetry.recommend import Recommendation, recommend

__all__ = [
    "AverageError",
    "Consistency",
    "Decomposition",
    "Recommendation",
    "RotationPool",
    "StrideTable",
    "check_consistency",
    "correction_series",
    "decompose",
    "recommend",
    "stride_table",
    "symmetry_errors",
    "time_averages",
    "transmission",
]
