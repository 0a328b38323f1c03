"""Language models: the model, its endpoint, its requests and answers, its price."""
