"""Training of models and their drift reference."""
