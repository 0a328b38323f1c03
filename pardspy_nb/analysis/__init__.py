"""After a run: evaluate, compare, vote, diff, plots, `df.parallel`."""
