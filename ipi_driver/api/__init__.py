"""The functions of ``import ipi_driver``: what the commands do, with values in and results out."""
