"""A potential served to i-PI: over its sockets, and inside its own process."""
