"""How large the symmetry error of a potential is, what it is made of, and which average is enough."""

from ipi_driver.diagnostics.consistency import Consistency, check_consistency
from ipi_driver.diagnostics.degrees import Decomposition, decompose, transmission
from ipi_driver.diagnostics.frames import FramePool
from ipi_driver.diagnostics.recommend import Recommendation, recommend
from ipi_driver.diagnostics.stride import StrideTable, correction_series, stride_table
from ipi_driver.diagnostics.symmetry_error import AverageError, symmetry_errors, time_averages

__all__ = [
    "AverageError",
    "Consistency",
    "Decomposition",
    "FramePool",
    "Recommendation",
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
