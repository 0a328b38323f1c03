"""Modules: Predict and its variants, and how any module makes one attempt at a row."""
