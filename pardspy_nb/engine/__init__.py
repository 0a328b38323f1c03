"""The engine: it takes rows and a callable, and emits events. Queue, retries, limits, hedging."""
