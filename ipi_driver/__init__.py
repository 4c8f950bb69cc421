"""Force engine that lets non-equivariant machine-learned potentials drive i-PI, with rotational averaging."""

__version__ = "0.1.0"
