"""The words that all packages speak: rows, answers, events, usage, errors, options, time."""
