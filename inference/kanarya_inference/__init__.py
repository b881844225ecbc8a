"""The model side: features, training, inference server, ml-router."""
