"""Modules: Predict and its kin, and how any module makes one attempt at a row."""
