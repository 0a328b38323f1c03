"""Language models: which model, where it is, what a request looks like, what it costs."""
