"""Equivariant networks on e3nn, and relaxed ones that may learn to break the symmetry."""
