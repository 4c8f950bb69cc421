"""Settings of all tests: one thread, for the problems are tiny and the processes many."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
