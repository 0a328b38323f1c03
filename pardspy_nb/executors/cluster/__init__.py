"""Runs over the worker processes of a Dask cluster."""
