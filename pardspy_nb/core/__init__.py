"""The types that all packages share: rows, answers, events, usage, errors, options, time."""
