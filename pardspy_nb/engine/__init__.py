"""The engine: rows and a callable in, events out. Queue, retries, limits, hedging."""
