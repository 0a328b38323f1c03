"""Executors make the attempts of a run: in this process, or on a cluster."""
