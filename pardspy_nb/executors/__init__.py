"""Where attempts are made: in this process, or on a cluster."""
