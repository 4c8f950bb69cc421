"""Rows of the table of faults, by theme; `benchmarks/faults.py` runs them."""
