"""Tables in and out: inputs become rows, settled rows become frames and files."""
