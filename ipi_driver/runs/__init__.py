"""i-PI and the client as one job: prepare, execute, resume, watch, end."""
