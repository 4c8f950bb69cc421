"""Force engine that lets non-equivariant machine-learned potentials drive i-PI, with controlled rotational averaging."""

__version__ = "0.1.0"
