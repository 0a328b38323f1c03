"""Modules of other libraries."""
