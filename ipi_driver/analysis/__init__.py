"""From a run folder to all its observables: one module per kind of system."""
