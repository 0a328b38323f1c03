"""The embedded model: llama.cpp in a child process, its weights verified by hash."""

from .server import SETTINGS, LocalModel, serve

__all__ = ["SETTINGS", "LocalModel", "serve"]
