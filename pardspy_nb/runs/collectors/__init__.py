"""Where settled rows go, and how a run ended."""
