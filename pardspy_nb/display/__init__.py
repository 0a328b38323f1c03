"""What people see: progress state, panel, bar, summary, HTML."""
