"""Collects a run's settled rows in a destination, and tells how the run ended."""
