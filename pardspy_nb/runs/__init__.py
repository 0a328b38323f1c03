"""A run: a table in, a frame out."""
